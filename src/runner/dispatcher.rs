//! The loop itself. Each turn looks at everything once; nothing in it waits but its last line.

use crate::backend::StopSignal;
use crate::base::Timestamp;
use crate::plan::RunId;
use crate::queue::{AttemptEnd, RunState};
use crate::rundir::RunDir;
use crate::runner::error::RunnerError;
use crate::runner::events::{Reporter, RunnerEvent, SweepSummary};
use crate::runner::job::{Every, Node, Rim, SweepJob, look_at_folders, nodes};
use crate::runner::live::{Live, StopReason};
use crate::runner::owner::Owner;
use crate::runner::publisher::Publisher;
use crate::store::{StepRecord, recorded_steps};
use std::collections::BTreeMap;

/// How often attempts' files are read, ms.
const TAIL_MILLIS: i64 = 100;
/// How often heartbeats are read and leases extended, ms.
const BEAT_MILLIS: i64 = 1_000;
/// How often the store is asked for what others did, ms.
const SYNC_MILLIS: i64 = 250;
/// How often attempts of dead runners are looked for, ms.
const RECLAIM_MILLIS: i64 = 1_000;
/// A loop that was away for so long was itself suspended, ms.
const SUSPENDED_MILLIS: i64 = 20_000;
/// Shortest and longest wait of a turn, ms.
const WAIT_MILLIS: (i64, i64) = (2, 150);

/// Registers a sweep and carries its runs out until all are done, nothing more can be done, or a
/// stop is asked for.
///
/// Call it on a thread that lives as long as the attempts: on Linux children end with the thread
/// that started them.
///
/// # Errors
/// The store, a run's folder or the backend cannot be used. Attempts at work are stopped then and
/// their runs are ready again.
pub fn run_sweep<'r>(
    job: &'r SweepJob<'_>,
    rim: Rim<'r>,
    reporter: &'r mut dyn Reporter,
) -> Result<SweepSummary, RunnerError> {
    let mut dispatcher = Dispatcher::begin(job, rim, reporter)?;
    let worked = dispatcher.work();
    if worked.is_err() {
        dispatcher.abandon();
    }
    worked?;
    dispatcher.finish()
}

pub(super) struct Dispatcher<'a, 'r> {
    pub(super) job: &'a SweepJob<'a>,
    pub(super) rim: Rim<'r>,
    pub(super) reporter: Option<&'r mut dyn Reporter>,
    pub(super) owner: Owner,
    pub(super) publisher: Publisher,
    pub(super) nodes: Vec<Node>,
    pub(super) ids: Vec<RunId>,
    pub(super) places: BTreeMap<RunId, usize>,
    pub(super) states: Vec<RunState>,
    /// Attempts of this runner by place of their run.
    pub(super) live: BTreeMap<usize, Live>,
    /// Runs whose attempt has finished and is being published; with the attempt and its start.
    pub(super) publishing: BTreeMap<RunId, (u32, Timestamp)>,
    /// Runs that could not be begun for now and why, so that it is told once.
    pub(super) held: BTreeMap<usize, String>,
    pub(super) pending: Vec<StepRecord>,
    pub(super) began: Timestamp,
    /// Last start or end of an attempt.
    pub(super) active: Timestamp,
    pub(super) last_turn: Timestamp,
    pub(super) stopping: Option<Timestamp>,
    pub(super) paused_until: Option<Timestamp>,
    pub(super) paused: bool,
    pub(super) waiting_for_others: bool,
    pub(super) tail: Every,
    pub(super) beat: Every,
    pub(super) sync: Every,
    pub(super) reclaim: Every,
    pub(super) hold_again: Every,
    pub(super) reused: usize,
    pub(super) executed: usize,
}

impl<'a, 'r> Dispatcher<'a, 'r> {
    fn begin(
        job: &'a SweepJob<'a>,
        rim: Rim<'r>,
        reporter: &'r mut dyn Reporter,
    ) -> Result<Self, RunnerError> {
        if let Some(first) = job.plan.missing.first() {
            let (count, first) = (job.plan.missing.len(), first.path.clone());
            return Err(RunnerError::Missing { count, first });
        }
        if job.options.slots.is_empty() {
            return Err(RunnerError::NoSlots);
        }
        let now = rim.clock.now();
        let ids: Vec<RunId> = job.plan.runs.iter().map(|run| run.id.clone()).collect();
        let mut dispatcher = Self {
            owner: Owner::new(job.root, now)?,
            publisher: Publisher::start(),
            nodes: nodes(job.plan),
            places: ids
                .iter()
                .cloned()
                .enumerate()
                .map(|(at, id)| (id, at))
                .collect(),
            ids,
            states: Vec::new(),
            live: BTreeMap::new(),
            publishing: BTreeMap::new(),
            held: BTreeMap::new(),
            pending: Vec::new(),
            began: now,
            active: now,
            last_turn: now,
            stopping: None,
            paused_until: None,
            paused: false,
            waiting_for_others: false,
            tail: Every::millis(TAIL_MILLIS),
            beat: Every::millis(BEAT_MILLIS),
            sync: Every::millis(SYNC_MILLIS),
            reclaim: Every::millis(RECLAIM_MILLIS),
            hold_again: Every::millis(RECLAIM_MILLIS),
            reused: 0,
            executed: 0,
            job,
            rim,
            reporter: Some(reporter),
        };
        dispatcher.register(now)?;
        Ok(dispatcher)
    }

    fn register(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        let SweepJob {
            root,
            sweep,
            plan,
            options,
        } = *self.job;
        let found = look_at_folders(root, plan)?;
        let registered = self
            .rim
            .store
            .register(sweep, plan, &found, options.retry, now)?;
        self.states = registered.states;
        for run in &registered.imported {
            let steps = recorded_steps(&RunDir::new(root, run), run)?;
            self.rim.store.record(&steps, &[], now)?;
        }
        let count = |wanted: fn(RunState) -> bool| {
            self.states.iter().filter(|state| wanted(**state)).count()
        };
        self.reused = count(|state| state == RunState::Succeeded);
        let barred = count(RunState::bars_children);
        self.tell(RunnerEvent::SweepStarted {
            sweep: sweep.name.clone(),
            trials: plan.trials.len(),
            runs: plan.runs.len(),
            done: self.reused,
            new: registered.new,
            barred,
            slots: options.slots.len(),
        });
        self.warn_of_unfit();
        for run in registered.lost {
            let message = "its files are gone or damaged; it is done again".to_owned();
            self.tell(RunnerEvent::Warning {
                run: Some(run),
                message,
            });
        }
        Ok(())
    }

    fn warn_of_unfit(&mut self) {
        for at in 0..self.ids.len() {
            if !self.states[at].is_final() && !self.fits(at) {
                let gib = self.planned(at).estimate.peak_memory_bytes as f64 / f64::from(1 << 30);
                let message = format!("needs about {gib:.1} GiB, and no slot has so much");
                let run = Some(self.ids[at].clone());
                self.tell(RunnerEvent::Warning { run, message });
            }
        }
    }

    pub(super) fn fits(&self, at: usize) -> bool {
        let peak = self.planned(at).estimate.peak_memory_bytes;
        self.job.options.slots.iter().any(|slot| slot.fits(peak))
    }

    fn work(&mut self) -> Result<(), RunnerError> {
        loop {
            let now = self.rim.clock.now();
            self.notice_suspension(now);
            self.heed_shutdown(now)?;
            if self.sync.due(now) {
                self.hear_others(now)?;
            }
            if self.reclaim.due(now) {
                self.take_back(now)?;
            }
            self.watch(now)?;
            while let Some((job, outcome)) = self.publisher.next(0) {
                self.published(&job, outcome, now)?;
            }
            if self.stopping.is_none() {
                self.start(now)?;
            }
            if self.is_over() {
                return self.flush(now);
            }
            self.wait(now)?;
        }
    }

    fn is_over(&self) -> bool {
        if !self.live.is_empty() || !self.publishing.is_empty() {
            return false;
        }
        if self.stopping.is_some() {
            return true;
        }
        !self
            .states
            .iter()
            .enumerate()
            .any(|(at, state)| match state {
                RunState::Leased { .. } => true, // another runner's
                RunState::Ready => self.fits(at),
                _ => false,
            })
    }

    /// Sleeps the shorter the more has just happened, so that short runs follow each other closely
    /// and long ones cost nothing.
    fn wait(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        let (shortest, longest) = WAIT_MILLIS;
        let quiet = now.0.saturating_sub(self.active.0);
        let millis = (quiet / 8).clamp(shortest, longest).cast_unsigned();
        if self.publishing.is_empty() {
            self.rim.backend.wait(millis);
        } else if let Some((job, outcome)) = self.publisher.next(millis) {
            self.published(&job, outcome, now)?;
        }
        Ok(())
    }

    /// A laptop that slept says nothing about attempts that slept with it.
    fn notice_suspension(&mut self, now: Timestamp) {
        if now.0.saturating_sub(self.last_turn.0) > SUSPENDED_MILLIS {
            for live in self.live.values_mut() {
                live.moved = now;
            }
        }
        self.last_turn = now;
    }

    fn heed_shutdown(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        if self.stopping.is_none() && self.rim.shutdown.requested() {
            self.stopping = Some(now);
            self.tell(RunnerEvent::Stopping {
                attempts: self.live.len(),
            });
            let running: Vec<usize> = self.live.keys().copied().collect();
            for at in running {
                self.stop(at, StopReason::Shutdown, now)?;
            }
        }
        let grace = self.job.options.grace_millis;
        for live in self.live.values_mut() {
            let over = live
                .stop
                .is_some_and(|(_, since)| now > since.plus_millis(grace));
            if over && !live.killed {
                live.killed = true;
                self.rim.backend.stop(&live.handle, StopSignal::Kill)?;
            }
        }
        Ok(())
    }

    pub(super) fn stop(
        &mut self,
        at: usize,
        reason: StopReason,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let Some(live) = self.live.get_mut(&at) else {
            return Ok(());
        };
        if live.stop.is_none() {
            live.stop = Some((reason, now));
            let hard = matches!(reason, StopReason::Silent | StopReason::LeaseLost);
            let signal = if hard {
                StopSignal::Kill
            } else {
                StopSignal::Terminate
            };
            live.killed = hard;
            self.rim.backend.stop(&live.handle, signal)?;
        }
        Ok(())
    }

    /// After an error: stops what is at work and puts its runs back, as well as is possible.
    fn abandon(&mut self) {
        let now = self.rim.clock.now();
        for live in self.live.values() {
            drop(self.rim.backend.stop(&live.handle, StopSignal::Terminate));
        }
        for (at, live) in std::mem::take(&mut self.live) {
            let end = AttemptEnd::Interrupted;
            drop(
                self.rim
                    .store
                    .end_attempt(&self.ids[at], live.attempt, end, now),
            );
        }
    }
}
