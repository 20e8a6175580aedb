//! Time that is given to a sweep, and what is still worth starting in it.

use crate::base::Timestamp;
use crate::plan::StageKind;
use crate::runner::attempt::RunningAttempt;
use crate::runner::graph::Graph;
use std::collections::BTreeMap;

/// So long before its time is up a sweep is told to stop, ms: what is at work then saves its state after
/// the step at hand.
const CLOSING_MILLIS: i64 = 15_000;

/// When to stop, and how fast runs have been so far.
#[derive(Debug)]
pub(crate) struct Limits {
    /// At this time all is to have ended.
    until: Option<Timestamp>,
    /// Time that attempts may be at work, all together, ms.
    budget_millis: Option<i64>,
    /// Time that attempts which have ended were at work, ms.
    spent_millis: i64,
    /// Estimated operations of finished runs, and the ms that they took.
    speed: (f64, i64),
}

impl Limits {
    pub(crate) fn new(until: Option<Timestamp>, budget_millis: Option<i64>) -> Self {
        Self {
            until,
            budget_millis,
            spent_millis: 0,
            speed: (0.0, 0),
        }
    }

    /// An attempt has ended after so long; `flops` if it finished its run.
    pub(crate) fn note(&mut self, millis: i64, flops: Option<f64>) {
        self.spent_millis += millis.max(0);
        if let Some(flops) = flops {
            self.speed.0 += flops;
            self.speed.1 += millis.max(1);
        }
    }

    /// Time that attempts were at work, all together, ms.
    pub(crate) fn spent_millis(&self) -> i64 {
        self.spent_millis
    }

    /// For how long work may go on, ms; nothing: as long as it takes.
    pub(crate) fn left_millis(
        &self,
        running: &BTreeMap<usize, RunningAttempt>,
        (now, elapsed): (Timestamp, i64),
    ) -> Option<i64> {
        let until = self.until.map(|until| until.0.saturating_sub(now.0));
        let budget = self.budget_millis.map(|budget| {
            // What waits at a scheduler spends nothing.
            let begun = running.values().filter(|attempt| attempt.waits.is_none());
            let at_work: Vec<i64> = begun.map(|attempt| elapsed - attempt.began).collect();
            let left = budget - self.spent_millis - at_work.iter().sum::<i64>();
            // All that are at work spend it together.
            left / i64::try_from(at_work.len().max(1)).unwrap_or(i64::MAX)
        });
        let left = [until, budget].into_iter().flatten().min()?;
        Some(left.saturating_sub(CLOSING_MILLIS))
    }

    /// Whether a run is worth starting with so much time left: one that saves its state always is, others
    /// if they will end in it, by the speed of those before.
    pub(crate) fn admits(&self, graph: &Graph<'_>, at: usize, left_millis: Option<i64>) -> bool {
        let Some(left) = left_millis else {
            return true;
        };
        let planned = graph.planned(at);
        let saves = matches!(planned.kind, StageKind::Sft | StageKind::Dpo);
        let (flops, millis) = self.speed;
        if saves || flops <= 0.0 {
            return left > 0;
        }
        planned.estimate.flops * millis as f64 / flops <= left as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Handle;
    use crate::plan::RunId;
    use crate::queue::RunState;
    use crate::rundir::RunDir;
    use crate::store::testing::grid;
    use std::path::Path;

    #[test]
    fn what_cannot_end_in_time_is_not_started_and_what_saves_its_state_is() {
        let (_, plan) = grid(&[0.1], &[10], &[1]);
        let graph = Graph::new(&plan, vec![RunState::Ready; 3]);
        let now = Timestamp(1_000_000);
        let none = BTreeMap::new();
        let mut limits = Limits::new(Some(now.plus_millis(75_000)), None);
        let left = limits.left_millis(&none, (now, 0));
        assert_eq!(left, Some(60_000));
        // Nothing is known of its speed.
        assert!(limits.admits(&graph, 2, left));
        // A run of a million operations took 30 s, one is estimated at as many.
        limits.note(30_000, Some(1e6));
        assert!(limits.admits(&graph, 2, left));
        assert!(!limits.admits(&graph, 2, Some(29_000)));
        assert!(limits.admits(&graph, 1, Some(29_000)));
        assert!(!limits.admits(&graph, 1, Some(0)));
        assert!(Limits::new(None, None).admits(&graph, 2, None));
    }

    #[test]
    fn a_budget_counts_all_that_has_been_at_work() {
        let now = Timestamp(0);
        let mut limits = Limits::new(Some(Timestamp(3_600_000)), Some(100_000));
        limits.note(40_000, None);
        assert_eq!(limits.spent_millis(), 40_000);
        assert_eq!(limits.left_millis(&BTreeMap::new(), (now, 0)), Some(45_000));
    }

    #[test]
    fn what_waits_at_a_scheduler_takes_no_part_of_a_budget() {
        let now = Timestamp(0);
        let limits = Limits::new(None, Some(100_000));
        let run = RunDir::new(Path::new("project"), &RunId("a".repeat(64)));
        let attempt = || RunningAttempt::new(1, Handle("1".to_owned()), 0, run.attempt(1), now);
        let mut waits = attempt();
        assert!(waits.wait_in_queue("Priority", now));
        let running = BTreeMap::from([(0, attempt()), (1, waits)]);
        assert_eq!(limits.left_millis(&running, (now, 10_000)), Some(75_000));
    }
}
