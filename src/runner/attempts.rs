//! The attempts of this runner: at work on the backend, or finished and being published.

use crate::backend::{Backend, Habits, Handle, Launch, Poll, StopSignal};
use crate::base::Timestamp;
use crate::plan::RunId;
use crate::rundir::AttemptDir;
use crate::runner::attempt::{RunningAttempt, StopReason};
use crate::runner::error::RunnerError;
use crate::runner::publisher::{Answer, PublishJob, Publisher};
use crate::store::StepRecord;
use std::collections::{BTreeMap, BTreeSet};

/// Shortest and longest wait of a turn, ms. The longest bounds how late a finished run is noticed, at
/// about seven turns a second.
const WAIT_MILLIS: (i64, i64) = (2, 150);
/// The wait is the quiet time divided by this: it grows with the age of what runs, so that a run is
/// noticed to have ended after at most an eighth more than it took, however short it is.
const WAIT_SHARE: i64 = 8;

/// See the module.
pub(crate) struct Attempts<'r> {
    backend: &'r mut dyn Backend,
    publisher: Publisher,
    /// By index of their run.
    pub(crate) running: BTreeMap<usize, RunningAttempt>,
    /// Number of the attempt whose result is being published, by run.
    publishing: BTreeMap<RunId, u32>,
    /// Steps that were read and are not in the store yet.
    pub(crate) steps: Vec<StepRecord>,
    /// [`Clock::elapsed_millis`](crate::base::Clock::elapsed_millis) of this turn.
    pub(crate) elapsed: i64,
    /// Last start or end of an attempt.
    last_change: Timestamp,
    /// Answers of the publisher that the store could not take yet.
    unanswered: Vec<Answer>,
}

impl<'r> Attempts<'r> {
    pub(crate) fn on(backend: &'r mut dyn Backend, now: Timestamp) -> Self {
        Self {
            backend,
            publisher: Publisher::start(),
            running: BTreeMap::new(),
            publishing: BTreeMap::new(),
            steps: Vec::new(),
            elapsed: 0,
            last_change: now,
            unanswered: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.publishing.is_empty()
    }

    pub(crate) fn taken_slots(&self) -> BTreeSet<usize> {
        self.running.values().map(|attempt| attempt.slot).collect()
    }

    /// Starts an attempt in a slot.
    pub(crate) fn launch(
        &mut self,
        at: usize,
        slot: usize,
        launch: &Launch,
        now: Timestamp,
    ) -> Result<Handle, RunnerError> {
        let handle = self.backend.launch(launch)?;
        self.last_change = now;
        let dir = launch.run_dir().attempt(launch.attempt);
        let mut attempt = RunningAttempt::new(launch.attempt, handle.clone(), slot, dir, now);
        attempt.began = self.elapsed;
        // That it has begun is told when a scheduler has begun it.
        attempt.waits = self.habits().outlive_runner.then(String::new);
        self.running.insert(at, attempt);
        Ok(handle)
    }

    /// Gives a scheduler what was launched.
    pub(crate) fn submit(&mut self) -> Result<(), RunnerError> {
        Ok(self.backend.submit()?)
    }

    /// Goes on with an attempt of a dead runner, in whatever slot is free, or beside all of them.
    pub(crate) fn adopt(
        &mut self,
        at: usize,
        (attempt, handle): (u32, Handle),
        dir: AttemptDir,
        slots: usize,
        now: Timestamp,
    ) {
        let taken = self.taken_slots();
        let room = slots + self.running.len() + 1;
        let slot = (0..room).find(|slot| !taken.contains(slot)).unwrap_or(room);
        let mut running = RunningAttempt::new(attempt, handle, slot, dir, now);
        running.began = self.elapsed;
        self.running.insert(at, running);
        self.last_change = now;
    }

    /// Whether a handle is one of this runner's backend.
    pub(crate) fn knows(&self, handle: &Handle) -> bool {
        self.backend.knows(handle)
    }

    /// Whether an attempt that this runner does not watch lives, or may still begin.
    pub(crate) fn is_at_work(&mut self, attempt: &AttemptDir) -> Result<bool, RunnerError> {
        Ok(self.backend.is_at_work(attempt)?)
    }

    /// Has nothing more start on the machine on which this attempt was; its name, where that can be asked for.
    pub(crate) fn exclude(&mut self, attempt: &AttemptDir) -> Result<Option<String>, RunnerError> {
        Ok(self.backend.exclude(attempt)?)
    }

    pub(crate) fn habits(&self) -> Habits {
        self.backend.habits()
    }

    pub(crate) fn is_publishing_any(&self) -> bool {
        !self.publishing.is_empty()
    }

    /// Asks the backend after every attempt at work.
    pub(crate) fn poll(&mut self) -> Result<Vec<(usize, Poll)>, RunnerError> {
        if self.running.is_empty() {
            return Ok(Vec::new());
        }
        let handles = self.running.values().map(|attempt| attempt.handle.clone());
        let polls = self.backend.poll(&handles.collect::<Vec<_>>())?;
        Ok(self.running.keys().copied().zip(polls).collect())
    }

    /// Takes an attempt that has ended out of those at work.
    pub(crate) fn take_ended(&mut self, at: usize, now: Timestamp) -> Option<RunningAttempt> {
        let ended = self.running.remove(&at)?;
        self.last_change = now;
        Some(ended)
    }

    /// Asks an attempt to stop, once; hard where nothing is to be saved any more.
    pub(crate) fn stop(
        &mut self,
        at: usize,
        reason: StopReason,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let Some(attempt) = self.running.get_mut(&at) else {
            return Ok(());
        };
        if attempt.stop.is_none() {
            attempt.stop = Some((reason, now));
            let hard = matches!(
                reason,
                StopReason::Silent | StopReason::Hung | StopReason::LeaseLost
            );
            let signal = if hard {
                StopSignal::Kill
            } else {
                StopSignal::Terminate
            };
            attempt.killed = hard;
            self.backend.stop(&attempt.handle, signal)?;
        }
        Ok(())
    }

    /// Asks all to save their state and stop.
    pub(crate) fn stop_all(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        let running: Vec<usize> = self.running.keys().copied().collect();
        for at in running {
            self.stop(at, StopReason::Shutdown, now)?;
        }
        Ok(())
    }

    /// Kills those that were asked to stop longer ago than `grace` milliseconds.
    pub(crate) fn kill_overdue(&mut self, grace: i64, now: Timestamp) -> Result<(), RunnerError> {
        for attempt in self.running.values_mut() {
            let over = attempt
                .stop
                .is_some_and(|(_, since)| now > since.plus_millis(grace));
            if over && !attempt.killed {
                attempt.killed = true;
                self.backend.stop(&attempt.handle, StopSignal::Kill)?;
            }
        }
        Ok(())
    }

    /// Kills an attempt of a dead runner.
    pub(crate) fn kill_orphan(&mut self, handle: &Handle) -> Result<(), RunnerError> {
        Ok(self.backend.stop(handle, StopSignal::Kill)?)
    }

    /// A machine that slept says nothing about attempts that slept with it.
    pub(crate) fn forgive_silence(&mut self, now: Timestamp) {
        for attempt in self.running.values_mut() {
            (attempt.last_sign, attempt.last_work) = (now, now);
        }
    }

    /// Takes back what the store could not take: steps, and the signs of life that go with them.
    pub(crate) fn keep_for_later(&mut self, steps: Vec<StepRecord>) {
        self.steps.splice(0..0, steps);
        for attempt in self.running.values_mut() {
            attempt.extend_lease = true;
        }
    }

    /// Takes back an answer of the publisher that the store could not take.
    pub(crate) fn answer_later(&mut self, answer: Answer) {
        let (run, attempt) = (answer.0.what.run.clone(), answer.0.what.attempt);
        self.publishing.insert(run, attempt);
        self.unanswered.push(answer);
    }

    /// Waits while the store takes nothing.
    pub(crate) fn rest(&mut self, millis: u64) {
        self.backend.wait(millis);
    }

    /// Has a finished attempt published.
    pub(crate) fn publish(&mut self, job: PublishJob) {
        self.publishing
            .insert(job.what.run.clone(), job.what.attempt);
        self.publisher.send(job);
    }

    pub(crate) fn is_publishing(&self, run: &RunId) -> bool {
        self.publishing.contains_key(run)
    }

    /// The next attempt that was published, or could not be.
    pub(crate) fn published(&mut self, now: Timestamp) -> Option<Answer> {
        let kept = self.unanswered.pop();
        let answer = kept.or_else(|| self.publisher.next(0))?;
        self.note_published(&answer, now);
        Some(answer)
    }

    /// Waits the shorter the more has just happened, so that short runs follow each other closely and
    /// long ones cost nothing; until something is published, if anything is.
    pub(crate) fn wait(&mut self, now: Timestamp) -> Option<Answer> {
        let (shortest, longest) = WAIT_MILLIS;
        let quiet = now.0.saturating_sub(self.last_change.0);
        let millis = (quiet / WAIT_SHARE)
            .clamp(shortest, longest)
            .cast_unsigned();
        if self.publishing.is_empty() {
            self.backend.wait(millis);
            return None;
        }
        let answer = self.publisher.next(millis)?;
        self.note_published(&answer, now);
        Some(answer)
    }

    fn note_published(&mut self, (job, _): &Answer, now: Timestamp) {
        self.publishing.remove(&job.what.run);
        self.last_change = now;
    }

    /// Run and number of every attempt whose lease is to be extended: those that showed life since
    /// the last call, and those that are being published.
    pub(crate) fn alive(&mut self, id: impl Fn(usize) -> RunId) -> Vec<(RunId, u32)> {
        let mut alive = Vec::new();
        for (at, attempt) in &mut self.running {
            if std::mem::take(&mut attempt.extend_lease) {
                alive.push((id(*at), attempt.attempt));
            }
        }
        let publishing = self.publishing.iter();
        alive.extend(publishing.map(|(run, attempt)| (run.clone(), *attempt)));
        alive
    }

    /// After an error: stops what is at work as well as is possible, and hands it over when it has ended,
    /// or after `grace` milliseconds.
    pub(crate) fn abandon(&mut self, grace: i64) -> BTreeMap<usize, RunningAttempt> {
        if self.habits().outlive_runner {
            return BTreeMap::new();
        }
        for attempt in self.running.values() {
            drop(self.backend.stop(&attempt.handle, StopSignal::Terminate));
        }
        // Each saves its state; what still lives is killed when the backend goes.
        let (_, pause) = WAIT_MILLIS;
        let is_running = |(_, poll): &(usize, Poll)| !poll.is_over();
        let mut waited = 0;
        while waited < grace && self.poll().is_ok_and(|polls| polls.iter().any(is_running)) {
            self.backend.wait(pause.cast_unsigned());
            waited += pause;
        }
        std::mem::take(&mut self.running)
    }
}
