//! Where the time of a step goes: a timer of its phases, one a thread.
//!
//! Off unless [`start`] was called on the thread, and then two clock readings a phase. Code that ends
//! a phase of work calls [`end_phase`], which books the time since the last end to that phase; so every
//! moment belongs to exactly one phase and nothing is counted twice.

use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Instant;

/// A kind of work within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Rows to token batches, and all that belongs to no other phase.
    Data,
    /// Embedding and layers, forward.
    Forward,
    /// The product with the vocabulary, forward and backward, and the loss.
    Head,
    /// Layers and embedding, backward; gradients added up.
    Backward,
    /// Norm of the gradients, clipping, update of the weights.
    Optimizer,
    /// Prompts into the cache.
    Prefill,
    /// One token for each row in flight, head included.
    Decode,
    /// Tokens drawn from logits.
    Draw,
    /// Rows of the cache rearranged.
    Cache,
}

/// Seconds by the wall clock and of this process's processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// By the wall clock.
    pub wall: f64,
    /// Of all processors together, user and system.
    pub cpu: f64,
}

impl AddAssign for Seconds {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// Time by phase.
pub type PhaseTimes = BTreeMap<Phase, Seconds>;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: Instant,
    cpu: f64,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self {
            wall: Instant::now(),
            cpu: process_cpu_secs(),
        }
    }

    /// From this moment to now.
    pub fn elapsed(&self) -> Seconds {
        Self::now().since(self)
    }

    fn since(&self, earlier: &Self) -> Seconds {
        Seconds {
            wall: (self.wall - earlier.wall).as_secs_f64(),
            cpu: self.cpu - earlier.cpu,
        }
    }
}

thread_local! {
    static TIMER: RefCell<Option<(Moment, PhaseTimes)>> = const { RefCell::new(None) };
}

/// Starts (or starts anew) the timer of this thread.
pub fn start() {
    TIMER.set(Some((Moment::now(), PhaseTimes::new())));
}

/// Books the time since the last phase ended to `phase`; nothing if the timer is off.
pub fn end_phase(phase: Phase) {
    TIMER.with_borrow_mut(|timer| {
        if let Some((last, times)) = timer {
            let now = Moment::now();
            *times.entry(phase).or_default() += now.since(last);
            *last = now;
        }
    });
}

/// Stops the timer of this thread and hands out its times; none if it was off.
pub fn stop() -> PhaseTimes {
    TIMER.take().map(|(_, times)| times).unwrap_or_default()
}

/// Processor seconds of this process so far, all threads, user and system; 0 where the system does
/// not say.
#[cfg(unix)]
fn process_cpu_secs() -> f64 {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).map_or(0.0, |now| std::time::Duration::from(now).as_secs_f64())
}

/// Processor seconds of this process so far; 0: this system does not say.
#[cfg(not(unix))]
fn process_cpu_secs() -> f64 {
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_together_are_the_time_since_the_start() {
        let begin = Moment::now();
        start();
        std::thread::sleep(std::time::Duration::from_millis(20));
        end_phase(Phase::Forward);
        std::thread::sleep(std::time::Duration::from_millis(5));
        end_phase(Phase::Head);
        end_phase(Phase::Forward);
        let times = stop();
        let whole = begin.elapsed().wall;
        assert_eq!(times.len(), 2);
        assert!(times[&Phase::Forward].wall >= 0.02 && times[&Phase::Head].wall >= 0.005);
        let sum: f64 = times.values().map(|s| s.wall).sum();
        assert!(sum <= whole, "{sum} of {whole}");
    }

    #[test]
    fn a_timer_that_was_not_started_counts_nothing() {
        end_phase(Phase::Data);
        assert!(stop().is_empty());
    }
}
