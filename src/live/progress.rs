//! How far an attempt is, as its journal says.

use crate::base::{Clock as _, SystemClock, Timestamp};
use crate::rundir::{AttemptDir, AttemptEvent, JournalReader};
use serde::Serialize;
use std::path::PathBuf;
use std::time::SystemTime;

/// More losses than this are kept thinned: no curve of one line shows more.
const MOST_LOSSES: usize = 4096;

/// How far an attempt is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// What is counted: `steps`, `pairs`, `rows`, …; empty before work has begun.
    pub unit: String,
    /// Units done, those of earlier attempts included.
    pub done: u64,
    /// Units in all; 0 if that is not known.
    pub total: u64,
    /// Units that an earlier attempt did.
    pub from: u64,
    /// The last loss of training.
    pub loss: Option<f64>,
    /// The losses so far, evenly thinned where they are many.
    pub losses: Vec<f64>,
    /// Tokens that this attempt trained on.
    pub tokens: f64,
    /// When it last said something.
    pub at: Option<Timestamp>,
}

impl Progress {
    /// Tokens a second since `started`.
    pub fn tokens_per_sec(&self, started: Timestamp) -> Option<f64> {
        let secs = self.at?.secs_since(started);
        (self.tokens > 0.0 && secs > 0.0).then(|| self.tokens / secs)
    }

    /// Seconds left if the rest goes on as since `started`.
    pub fn secs_left(&self, started: Timestamp, now: Timestamp) -> Option<f64> {
        let secs = self.at?.secs_since(started);
        let own = self.done.checked_sub(self.from).filter(|own| *own > 0)?;
        let rest = self.total.checked_sub(self.done)?;
        let waited = self.at.map_or(0.0, |at| now.secs_since(at));
        (secs > 0.0).then(|| (secs * rest as f64 / own as f64 - waited).max(0.0))
    }
}

/// Reads an attempt's journal as it grows.
#[derive(Debug)]
pub struct Tail {
    journal: JournalReader,
    path: PathBuf,
    progress: Progress,
    /// One of so many losses is kept.
    stride: u64,
    losses_seen: u64,
    /// Tokens of the run before this attempt's first step.
    tokens_before: Option<f64>,
}

impl Tail {
    /// A reader at the beginning of the attempt's journal, which need not be there yet.
    pub fn new(dir: &AttemptDir) -> Self {
        Self {
            journal: JournalReader::new(dir.events()),
            path: dir.events(),
            progress: Progress::default(),
            stride: 1,
            losses_seen: 0,
            tokens_before: None,
        }
    }

    /// Reads what is new. A journal that cannot be read leaves what was known.
    pub fn read_on(&mut self) -> &Progress {
        let events = self.journal.read_new().unwrap_or_default();
        if !events.is_empty() {
            let written = self.path.metadata().and_then(|meta| meta.modified());
            let written = written.ok().and_then(timestamp);
            self.progress.at = Some(written.unwrap_or_else(|| SystemClock.now()));
        }
        events.iter().for_each(|event| self.take(event));
        &self.progress
    }

    fn take(&mut self, event: &AttemptEvent) {
        let progress = &mut self.progress;
        match event {
            AttemptEvent::Begin { unit, total } => {
                (progress.unit, progress.total) = (unit.clone(), *total);
            }
            AttemptEvent::Progress { done } => progress.done = *done,
            AttemptEvent::Resumed { step } => (progress.from, progress.done) = (*step, *step),
            AttemptEvent::Step { step, metrics } => {
                if progress.unit == "steps" {
                    progress.done = progress.done.max(*step);
                }
                if let Some(tokens) = metrics.get("num_tokens") {
                    self.count(*tokens);
                }
                if let Some(loss) = metrics.get("loss") {
                    self.keep(*loss);
                }
            }
            _ => {}
        }
    }

    /// `tokens` are those of the run so far, earlier attempts included.
    fn count(&mut self, tokens: f64) {
        // What the first step of an attempt that resumed took is not told apart from what came before.
        let fresh = self.progress.from == 0;
        let first = if fresh { 0.0 } else { tokens };
        let before = *self.tokens_before.get_or_insert(first);
        self.progress.tokens = tokens - before;
    }

    fn keep(&mut self, loss: f64) {
        self.progress.loss = Some(loss);
        if self.losses_seen.is_multiple_of(self.stride) {
            self.progress.losses.push(loss);
        }
        self.losses_seen += 1;
        if self.progress.losses.len() > MOST_LOSSES {
            let mut index = 0;
            self.progress.losses.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
        }
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RunId;
    use crate::rundir::{Journal, RunDir};

    fn step(step: u64, loss: f64, tokens: f64) -> AttemptEvent {
        let metrics = [("loss", loss), ("num_tokens", tokens)];
        AttemptEvent::Step {
            step,
            metrics: metrics.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }

    fn begin(total: u64) -> AttemptEvent {
        let unit = "steps".to_owned();
        AttemptEvent::Begin { unit, total }
    }

    #[test]
    fn a_tail_follows_an_attempt_while_it_writes() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::new(root.path(), &RunId("ab".repeat(32))).attempt(1);
        let mut tail = Tail::new(&dir);
        assert_eq!(*tail.read_on(), Progress::default());
        let mut journal = Journal::create(&dir.events()).unwrap();
        journal.append(&begin(10)).unwrap();
        journal.append(&step(1, 2.0, 100.0)).unwrap();
        tail.read_on();
        journal.append(&step(2, 1.5, 200.0)).unwrap();
        let progress = tail.read_on();
        let seen = (progress.done, progress.total, progress.loss);
        assert_eq!(seen, (2, 10, Some(1.5)));
        assert_eq!(progress.losses, [2.0, 1.5]);
        let at = progress.at.unwrap();
        let started = at.plus_millis(-4000);
        assert_eq!(progress.tokens_per_sec(started), Some(50.0));
        assert_eq!(progress.secs_left(started, at), Some(16.0));
        assert_eq!(
            progress.secs_left(started, at.plus_millis(6000)),
            Some(10.0)
        );
    }

    #[test]
    fn what_an_earlier_attempt_did_took_none_of_this_ones_time() {
        let mut tail = Tail::new(&RunDir::new(&PathBuf::new(), &RunId("ab".repeat(32))).attempt(2));
        for event in [
            begin(10),
            AttemptEvent::Resumed { step: 6 },
            step(7, 1.0, 700.0),
            step(8, 1.0, 800.0),
        ] {
            tail.take(&event);
        }
        tail.progress.at = Some(Timestamp(4000));
        let left = tail.progress.secs_left(Timestamp(0), Timestamp(4000));
        assert_eq!(left, Some(4.0));
        assert_eq!(tail.progress.tokens_per_sec(Timestamp(0)), Some(25.0));
    }

    #[test]
    fn many_losses_are_thinned_evenly() {
        let mut tail = Tail::new(&RunDir::new(&PathBuf::new(), &RunId("ab".repeat(32))).attempt(1));
        for index in 0..20_000 {
            tail.keep(f64::from(index));
        }
        let losses = &tail.progress.losses;
        assert!(losses.len() <= MOST_LOSSES, "{}", losses.len());
        assert_eq!(tail.progress.loss, Some(19_999.0));
        let evenly: Vec<f64> = (0..losses.len()).map(|i| (i * 8) as f64).collect();
        assert_eq!(*losses, evenly);
    }
}
