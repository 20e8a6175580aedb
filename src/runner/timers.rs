//! When the parts of a turn are due.

use crate::base::Timestamp;

/// A moment that comes again at even intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Every {
    millis: i64,
    next: Timestamp,
}

impl Every {
    pub(crate) fn millis(millis: i64) -> Self {
        Self {
            millis,
            next: Timestamp(i64::MIN),
        }
    }

    /// Whether it is time again; true the first time.
    pub(crate) fn due(&mut self, now: Timestamp) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.plus_millis(self.millis);
        }
        due
    }
}

/// The intervals of the loop, and its last turn.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Reading of attempts' journals, as often as the backend allows.
    pub(crate) journals: Every,
    /// Reading of heartbeats and extending of leases: several looks at each beat, and one write to
    /// the store a second however many attempts there are.
    pub(crate) heartbeats: Every,
    /// Asking the store what others did: a cancellation is felt at once.
    pub(crate) sync: Every,
    /// Looking for attempts of dead runners: costs a lock test for each live attempt of others.
    pub(crate) reclaim: Every,
    last_turn: Timestamp,
}

/// A loop that was away for so long was itself suspended, ms: hardly any turn takes as long, and it is
/// well below [`crate::rundir::SILENCE_MILLIS`], after which attempts would be killed for it.
const SUSPENDED_MILLIS: i64 = 20_000;

impl Timers {
    pub(crate) fn new(now: Timestamp, journal_millis: i64) -> Self {
        Self {
            journals: Every::millis(journal_millis),
            heartbeats: Every::millis(1_000),
            sync: Every::millis(250),
            reclaim: Every::millis(1_000),
            last_turn: now,
        }
    }

    /// Notes a turn; whether the machine slept since the last one.
    pub(crate) fn slept(&mut self, now: Timestamp) -> bool {
        let before = std::mem::replace(&mut self.last_turn, now);
        now.0.saturating_sub(before.0) > SUSPENDED_MILLIS
    }
}
