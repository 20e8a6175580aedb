//! The loop itself. Each turn looks at everything once; nothing in it waits but its last line.

use crate::base::{Clock, Shutdown, Timestamp, chain};
use crate::plan::RunId;
use crate::queue::{AttemptEnd, Needs, RunState, Slot};
use crate::runner::admission::Admission;
use crate::runner::attempts::Attempts;
use crate::runner::begin::{Begun, begin};
use crate::runner::claim::claim;
use crate::runner::commit::commit;
use crate::runner::error::RunnerError;
use crate::runner::events::{Reporter, RunnerEvent, SweepEnd, SweepSummary};
use crate::runner::graph::Graph;
use crate::runner::health::Health;
use crate::runner::job::{Services, SweepJob, remedy};
use crate::runner::ledger::Ledger;
use crate::runner::limits::Limits;
use crate::runner::obey::obey;
use crate::runner::owner::Owner;
use crate::runner::poll::{flush, poll};
use crate::runner::report::Reporting;
use crate::runner::takeover::{reclaim_orphans, rival, sync_store};
use crate::runner::timers::Timers;
use crate::store::{Orders, Registered};
use std::collections::BTreeMap;

/// Registers a sweep and carries its runs out until all are done, nothing more can be done, or a
/// stop is asked for. While the store takes nothing, or the disk is full, it waits.
///
/// Call it on a thread that lives as long as the attempts: on Linux children end with the thread
/// that started them.
///
/// # Errors
/// The store, a run's folder or the backend cannot be used, or a stop was asked for while the store took
/// nothing. Attempts at work are stopped then and their runs are ready again.
pub fn run_sweep<'r>(
    job: &'r SweepJob<'_>,
    services: Services<'r>,
    reporter: &'r mut dyn Reporter,
) -> Result<SweepSummary, RunnerError> {
    let mut dispatcher = Dispatcher::begin(job, services, reporter)?;
    let worked = dispatcher.work();
    if worked.is_err() {
        dispatcher.abandon();
    }
    worked?;
    dispatcher.finish()
}

/// So long nothing is tried after the store has refused a statement, ms.
const REST_MILLIS: u64 = 1_000;

struct Dispatcher<'r> {
    job: &'r SweepJob<'r>,
    shutdown: &'r Shutdown,
    clock: &'r dyn Clock,
    owner: Owner,
    ledger: Ledger<'r>,
    attempts: Attempts<'r>,
    admission: Admission,
    timers: Timers,
    /// A sweep that goes first.
    rival: Option<String>,
    began: Timestamp,
    /// Since when it is stopping.
    stopping: Option<Timestamp>,
    /// Whether it stops, or starts nothing more, because its time is up.
    time_up: bool,
}

impl<'r> Dispatcher<'r> {
    fn begin(
        job: &'r SweepJob<'_>,
        services: Services<'r>,
        reporter: &'r mut dyn Reporter,
    ) -> Result<Self, RunnerError> {
        if let Some(first) = job.plan.missing.first() {
            let (count, first) = (job.plan.missing.len(), first.path.clone());
            return Err(RunnerError::Missing { count, first });
        }
        if job.options.slots.is_empty() {
            return Err(RunnerError::NoSlots);
        }
        let Services {
            store,
            backend,
            shutdown,
            clock,
        } = services;
        let now = clock.now();
        let mut attempts = Attempts::on(backend, now);
        let mut admission = Admission::new();
        let mut reporting = Reporting::to(reporter);
        let Begun {
            owner,
            mut registered,
            rejected,
        } = begin(
            job,
            store,
            &mut attempts,
            &mut admission,
            &mut reporting,
            (clock, shutdown),
        )?;
        let states = std::mem::take(&mut registered.states);
        let journal_millis = attempts.habits().journal_millis;
        let mut ledger = Ledger {
            store,
            graph: Graph::new(job.plan, states),
            reporting,
            resting: BTreeMap::new(),
            lost: BTreeMap::new(),
            without_room: BTreeMap::new(),
            orders: Orders::default(),
            health: Health::default(),
            limits: Limits::new(job.options.until, job.options.budget_millis),
            untold: Vec::new(),
        };
        report_begin(
            job,
            &ledger.graph,
            &mut ledger.reporting,
            registered,
            &rejected,
        );
        Ok(Self {
            job,
            shutdown,
            clock,
            owner,
            ledger,
            attempts,
            admission,
            timers: Timers::new(clock.now(), journal_millis),
            rival: None,
            began: now,
            stopping: None,
            time_up: false,
        })
    }

    fn work(&mut self) -> Result<(), RunnerError> {
        loop {
            let now = self.clock.now();
            let over = self.turn(now);
            self.admission.tell(&self.owner);
            match over {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // Nobody waits for room when everybody has gone.
                Err(error) if self.stopping.is_some() && self.attempts.running.is_empty() => {
                    return Err(error);
                }
                Err(error) if error.may_pass() => {
                    let reporting = &mut self.ledger.reporting;
                    self.admission.pause(reporting, chain(&error), now);
                    self.ledger.store.look_again();
                    self.attempts.rest(REST_MILLIS);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks at everything once; whether nothing is left to do.
    fn turn(&mut self, now: Timestamp) -> Result<bool, RunnerError> {
        self.attempts.elapsed = self.clock.elapsed_millis();
        if self.timers.slept(now) {
            self.attempts.forgive_silence(now);
        }
        self.handle_shutdown(now)?;
        self.handle_time(now)?;
        let (ledger, attempts) = (&mut self.ledger, &mut self.attempts);
        let admission = &mut self.admission;
        // First, since a store that takes nothing ends the turn, and attempts end all the same.
        poll(self.job, ledger, attempts, admission, &mut self.timers, now)?;
        ledger.tell_again(now)?;
        if self.timers.sync.due(now) {
            sync_store(&self.job.sweep.name, ledger, attempts, now)?;
        }
        if self.timers.reclaim.due(now) {
            reclaim_orphans(self.job, &self.owner, ledger, attempts, now)?;
            let sweep = &self.job.sweep.name;
            self.rival = rival(sweep, &self.owner, ledger)?;
        }
        while let Some(answer) = attempts.published(now) {
            commit(ledger, attempts, admission, answer, now)?;
        }
        if self.stopping.is_none() {
            let rival = self.rival.as_deref();
            obey(ledger, attempts, admission, rival, now);
            if rival.is_none() {
                claim(self.job, &self.owner, ledger, attempts, admission, now)?;
            }
        }
        if self.is_over(now) {
            let lease = self.job.options.lease_millis;
            flush(&mut self.ledger, &mut self.attempts, lease, now)?;
            return Ok(true);
        }
        if let Some(answer) = self.attempts.wait(now) {
            let (ledger, attempts) = (&mut self.ledger, &mut self.attempts);
            commit(ledger, attempts, &mut self.admission, answer, now)?;
        }
        Ok(false)
    }

    fn is_over(&mut self, now: Timestamp) -> bool {
        // When the time is up they are stopped, which takes a while at a scheduler; else they are left.
        let leaves = self.stopping.is_some() && !self.time_up;
        if leaves && self.attempts.habits().outlive_runner {
            return !self.attempts.is_publishing_any();
        }
        if !self.attempts.is_empty() {
            return false;
        }
        if self.stopping.is_some() {
            return true;
        }
        let graph = &self.ledger.graph;
        let elsewhere = wanted(self.job, graph, |state| {
            matches!(state, RunState::Leased { .. })
        });
        let mut ready = wanted(self.job, graph, |state| state == RunState::Ready);
        ready.retain(|at| self.fits(*at));
        if !elsewhere.is_empty() || ready.is_empty() {
            return elsewhere.is_empty();
        }
        let limits = &self.ledger.limits;
        let left = limits.left_millis(&self.attempts.running, (now, self.attempts.elapsed));
        self.time_up = !ready.iter().any(|at| limits.admits(graph, *at, left));
        self.time_up
    }

    /// Whether a run fits a slot where anything is started.
    fn fits(&self, at: usize) -> bool {
        let (needs, health) = (self.ledger.graph.needs(at), &self.ledger.health);
        let mut slots = self.job.options.slots.iter();
        slots.any(|slot| slot.fits(needs) && !health.is_excluded(slot.device))
    }

    /// Stops when the time is up.
    fn handle_time(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        let at = (now, self.attempts.elapsed);
        let left = self.ledger.limits.left_millis(&self.attempts.running, at);
        if self.stopping.is_none() && left.is_some_and(|left| left <= 0) {
            (self.stopping, self.time_up) = (Some(now), true);
            self.ledger.reporting.report(RunnerEvent::Stopping {
                attempts: self.attempts.running.len(),
            });
            self.attempts.stop_all(now)?;
        }
        Ok(())
    }

    fn handle_shutdown(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        if self.stopping.is_none() && self.shutdown.requested() {
            self.stopping = Some(now);
            if self.attempts.habits().outlive_runner {
                self.ledger.reporting.report(RunnerEvent::Leaving {
                    attempts: self.attempts.running.len(),
                });
                return Ok(());
            }
            self.ledger.reporting.report(RunnerEvent::Stopping {
                attempts: self.attempts.running.len(),
            });
            self.attempts.stop_all(now)?;
        }
        self.attempts
            .kill_overdue(self.job.options.grace_millis, now)
    }

    /// After an error: stops what is at work and puts its runs back, as well as is possible.
    fn abandon(&mut self) {
        let now = self.clock.now();
        let Ledger { store, graph, .. } = &mut self.ledger;
        for (at, running) in self.attempts.abandon(self.job.options.grace_millis) {
            let end = AttemptEnd::Interrupted;
            drop(store.end_attempt(graph.id(at), running.attempt, end, now));
        }
    }

    fn finish(mut self) -> Result<SweepSummary, RunnerError> {
        let ledger = &mut self.ledger;
        if self.stopping.is_none() {
            // The last result was stored while a pause was still told.
            self.admission.resume(&mut ledger.reporting);
        }
        let runs_in = |state| wanted(self.job, &ledger.graph, state);
        let failed = runs_in(|state| state == RunState::Failed);
        let failures = failed.into_iter().map(|at| ledger.failure(at));
        let failures = failures.collect::<Result<Vec<_>, _>>()?;
        let succeeded = runs_in(|state| state == RunState::Succeeded).len();
        let runs = runs_in(|_| true).len();
        let end = match (succeeded == runs, self.stopping.is_some()) {
            (true, _) => SweepEnd::Succeeded,
            (false, _) if self.time_up => SweepEnd::TimeUp,
            (false, true) => SweepEnd::Interrupted,
            (false, false) => SweepEnd::Incomplete,
        };
        let summary = SweepSummary {
            sweep: self.job.sweep.name.clone(),
            end,
            runs,
            succeeded,
            reused: ledger.reporting.reused,
            executed: ledger.reporting.executed,
            failed: failures.len(),
            skipped: runs_in(|state| state == RunState::Skipped).len(),
            cancelled: runs_in(|state| state == RunState::Cancelled).len(),
            waiting: runs_in(|state| !state.is_final()).len(),
            secs: self.clock.now().secs_since(self.began),
            work_secs: ledger.limits.spent_millis() as f64 / 1000.0,
            failures,
        };
        ledger.reporting.report(RunnerEvent::SweepFinished {
            summary: summary.clone(),
        });
        Ok(summary)
    }
}

/// Tells what was found at registration, and which runs fit nowhere.
fn report_begin(
    job: &SweepJob<'_>,
    graph: &Graph<'_>,
    reporting: &mut Reporting<'_>,
    registered: Registered,
    rejected: &BTreeMap<RunId, String>,
) {
    reporting.reused = wanted(job, graph, |state| state == RunState::Succeeded).len();
    reporting.report(RunnerEvent::SweepStarted {
        sweep: job.sweep.name.clone(),
        trials: job.plan.trials.len(),
        runs: wanted(job, graph, |_| true).len(),
        done: reporting.reused,
        new: registered.new,
        barred: wanted(job, graph, RunState::bars_children).len(),
        slots: job.options.slots.len(),
    });
    for at in wanted(job, graph, |state| !state.is_final()) {
        if !fits(job, graph, at) {
            reporting.warn(graph.id(at), too_large(graph.needs(at), &job.options.slots));
        }
    }
    for (run, what) in rejected {
        reporting.warn(run, what.clone());
    }
    for run in registered.lost {
        if !rejected.contains_key(&run) {
            let message = format!("its outcome is gone; {}", remedy(false));
            reporting.warn(&run, message);
        }
    }
}

/// Runs in a state, of those that are to be carried out.
fn wanted(job: &SweepJob<'_>, graph: &Graph<'_>, state: fn(RunState) -> bool) -> Vec<usize> {
    let mut runs = graph.runs_in(state);
    runs.retain(|at| job.options.wants(graph.id(*at)));
    runs
}

fn fits(job: &SweepJob<'_>, graph: &Graph<'_>, at: usize) -> bool {
    let needs = graph.needs(at);
    job.options.slots.iter().any(|slot| slot.fits(needs))
}

/// Why a run fits no slot.
fn too_large(needs: Needs, slots: &[Slot]) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let share = slots.iter().filter_map(|slot| slot.card_memory).max();
    match share {
        Some(share) if share < needs.card_memory_bytes => format!(
            "needs about {:.2} GiB of a GPU, and a run may take {:.2}; fewer `--runs-per-gpu` leave it more",
            gib(needs.card_memory_bytes),
            gib(share)
        ),
        _ => format!(
            "needs about {:.1} GiB, and no slot has so much",
            gib(needs.memory_bytes)
        ),
    }
}
