//! How long the rest of a sweep will take.

use crate::plan::RunId;
use std::collections::BTreeMap;
use std::time::Instant;

/// The rest by planned operations: runs differ by orders of magnitude.
#[derive(Debug)]
pub struct WorkLeft {
    begun: Instant,
    /// Planned operations of each run that is not done.
    todo: BTreeMap<RunId, f64>,
    /// Done since the beginning by finished runs.
    finished: f64,
    /// The share of each run at work that was done when it first reported, and that is done now: what
    /// an earlier session did took none of this one's time.
    shares: BTreeMap<RunId, (f64, f64)>,
}

impl WorkLeft {
    /// `todo` are the planned operations of each run that is not done, or was done since the beginning and is told with
    /// [`WorkLeft::end`].
    pub fn new(todo: BTreeMap<RunId, f64>) -> Self {
        Self {
            begun: Instant::now(),
            todo,
            finished: 0.0,
            shares: BTreeMap::new(),
        }
    }

    /// `done` of `total` units of `run` are done; a total of 0 is not known.
    pub fn report(&mut self, run: &RunId, done: u64, total: u64) {
        let share = match total {
            0 => 0.0,
            _ => (done as f64 / total as f64).min(1.0),
        };
        let (first, now) = self.shares.entry(run.clone()).or_insert((share, share));
        // An attempt that begins anew falls behind where the one before it began.
        *first = first.min(share);
        *now = share;
    }

    /// `run` will do nothing more.
    pub fn end(&mut self, run: &RunId, worked: bool) {
        let first = self.shares.remove(run).map_or(0.0, |(first, _)| first);
        let work = self.todo.remove(run).unwrap_or_default();
        self.finished += if worked { (1.0 - first) * work } else { 0.0 };
    }

    /// Seconds since the beginning.
    pub fn elapsed(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Seconds left if work goes on as in the `elapsed` ones; none before there is anything to go by.
    pub fn secs(&self, elapsed: f64) -> Option<f64> {
        let (mut done, mut rest) = (self.finished, 0.0);
        for (run, work) in &self.todo {
            let (first, now) = self.shares.get(run).copied().unwrap_or_default();
            done += (now - first) * work;
            rest += (1.0 - now) * work;
        }
        (done > 0.0).then(|| elapsed * rest.max(0.0) / done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str) -> RunId {
        RunId(name.to_owned())
    }

    #[test]
    fn the_rest_is_told_by_planned_work_and_not_by_runs() {
        let todo = [("a", 1.0), ("b", 98.0), ("c", 1.0)];
        let mut left = WorkLeft::new(todo.map(|(name, work)| (run(name), work)).into());
        assert_eq!(left.secs(5.0), None);
        left.end(&run("a"), true);
        assert_eq!(left.secs(2.0), Some(198.0));
        left.report(&run("b"), 0, 4);
        left.report(&run("b"), 2, 4);
        assert_eq!(left.secs(100.0), Some(100.0));
        left.end(&run("b"), true);
        left.end(&run("c"), false);
        assert_eq!(left.secs(100.0), Some(0.0));
    }

    // Ten hours, of which an earlier session did nine: half an hour for each twentieth.
    #[test]
    fn what_an_earlier_session_did_took_no_time_of_this_one() {
        let (a, b) = (run("a"), run("b"));
        let mut left = WorkLeft::new(BTreeMap::from([(a.clone(), 10.0)]));
        left.report(&a, 18, 20);
        assert_eq!(left.secs(60.0), None);
        left.report(&a, 19, 20);
        let secs = left.secs(1800.0).unwrap();
        assert!((secs - 1800.0).abs() < 1e-6, "{secs}");
        left.todo.insert(b.clone(), 1.0);
        left.end(&a, true);
        let secs = left.secs(3600.0).unwrap();
        assert!((secs - 3600.0).abs() < 1e-6, "{secs}");
        // A crash loses what was done since the last saved state.
        left.report(&b, 2, 4);
        left.report(&b, 1, 4);
        let secs = left.secs(3600.0).unwrap();
        assert!((secs - 2700.0).abs() < 1e-6, "{secs}");
    }

    #[test]
    fn work_of_unknown_length_is_not_done_before_its_end() {
        let mut left = WorkLeft::new(BTreeMap::from([(run("a"), 1.0), (run("b"), 1.0)]));
        left.report(&run("a"), 500, 0);
        assert_eq!(left.secs(10.0), None);
        left.end(&run("a"), true);
        assert_eq!(left.secs(10.0), Some(10.0));
    }
}
