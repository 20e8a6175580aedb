//! An attempt at work, as its files tell of it.
//!
//! What is known comes from its folder and from the backend's [`Poll`] alone; nothing here depends on
//! where it runs.

use crate::backend::{Eviction, Handle, Poll};
use crate::base::Timestamp;
use crate::plan::RunId;
use crate::queue::AttemptEnd;
use crate::rundir::{
    AttemptDir, AttemptEvent, FailureClass, JournalReader, read_heartbeat, tail_lines,
};
use crate::runner::error::RunnerError;
use crate::store::StepRecord;

/// Why an attempt was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The runner is stopping.
    Shutdown,
    /// A person cancelled the run.
    Cancel,
    /// A person paused it, or its sweep; it saves its state.
    Pause,
    /// No sign of life.
    Silent,
    /// It lives, and its work does not get on.
    Hung,
    /// Another runner has the run now.
    LeaseLost,
}

/// An attempt of this runner.
#[derive(Debug)]
pub(crate) struct RunningAttempt {
    pub(crate) attempt: u32,
    pub(crate) handle: Handle,
    pub(crate) slot: usize,
    pub(crate) started: Timestamp,
    /// The same by a clock that nobody sets.
    pub(crate) began: i64,
    pub(crate) dir: AttemptDir,
    journal: JournalReader,
    heartbeat: Option<u64>,
    /// Last sign of life.
    pub(crate) last_sign: Timestamp,
    /// Last event: the heart of a process that hangs beats on.
    pub(crate) last_work: Timestamp,
    /// The state it began with and the last one it saved, by step.
    states: (u64, u64),
    /// Whether there was one since its lease was extended.
    pub(crate) extend_lease: bool,
    pub(crate) unit: String,
    pub(crate) total: u64,
    pub(crate) done: u64,
    pub(crate) loss: Option<f64>,
    failure: Option<(FailureClass, String)>,
    interrupted: bool,
    pub(crate) stop: Option<(StopReason, Timestamp)>,
    pub(crate) killed: bool,
    /// Why it has not begun, if it waits at a scheduler.
    pub(crate) waits: Option<String>,
}

/// What reading an attempt's files brought.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) steps: Vec<StepRecord>,
    pub(crate) warnings: Vec<String>,
    pub(crate) progress: bool,
}

impl RunningAttempt {
    pub(crate) fn new(
        attempt: u32,
        handle: Handle,
        slot: usize,
        dir: AttemptDir,
        now: Timestamp,
    ) -> Self {
        Self {
            attempt,
            handle,
            slot,
            started: now,
            began: 0,
            journal: JournalReader::new(dir.events()),
            dir,
            heartbeat: None,
            last_sign: now,
            last_work: now,
            states: (0, 0),
            extend_lease: false,
            unit: String::new(),
            total: 0,
            done: 0,
            loss: None,
            failure: None,
            interrupted: false,
            stop: None,
            killed: false,
            waits: None,
        }
    }

    /// It waits at a scheduler: nothing is to be heard of it. Whether the reason is new.
    pub(crate) fn wait_in_queue(&mut self, reason: &str, now: Timestamp) -> bool {
        self.note_sign_of_life(now);
        self.last_work = now;
        if self.waits.as_deref() == Some(reason) {
            return false;
        }
        self.waits = Some(reason.to_owned());
        true
    }

    /// It has begun; whether it had waited until now.
    pub(crate) fn begin(&mut self, now: Timestamp, elapsed: i64) -> bool {
        if self.waits.take().is_none() {
            return false;
        }
        (self.started, self.began) = (now, elapsed);
        (self.last_sign, self.last_work) = (now, now);
        true
    }

    fn note_sign_of_life(&mut self, now: Timestamp) {
        (self.last_sign, self.extend_lease) = (now, true);
    }

    /// Reads what the attempt has told since the last call.
    pub(crate) fn read_journal(
        &mut self,
        run: &RunId,
        now: Timestamp,
    ) -> Result<News, RunnerError> {
        let mut news = News::default();
        for event in self.journal.read_new()? {
            self.note_sign_of_life(now);
            self.last_work = now;
            match event {
                AttemptEvent::Begin { unit, total } => {
                    (self.unit, self.total, self.done) = (unit, total, 0);
                    news.progress = true;
                }
                AttemptEvent::Progress { done } => {
                    self.done = done;
                    news.progress = true;
                }
                AttemptEvent::Step { step, metrics } => {
                    if self.unit == "steps" {
                        self.done = self.done.max(step);
                        news.progress = true;
                    }
                    self.loss = metrics.get("loss").copied().or(self.loss);
                    let (run, attempt) = (run.clone(), self.attempt);
                    news.steps.push(StepRecord {
                        run,
                        attempt,
                        step,
                        metrics,
                    });
                }
                AttemptEvent::Resumed { step } => {
                    self.states.0 = step;
                    if self.unit == "steps" {
                        self.done = step;
                    }
                }
                AttemptEvent::Warning { message } => news.warnings.push(message),
                AttemptEvent::Failed { class, message } => self.failure = Some((class, message)),
                AttemptEvent::Interrupted => self.interrupted = true,
                AttemptEvent::Checkpointed { step } => self.states.1 = self.states.1.max(step),
                AttemptEvent::Started { .. } | AttemptEvent::Finished => {}
            }
        }
        Ok(news)
    }

    /// Looks whether the heartbeat has moved.
    pub(crate) fn read_heartbeat(&mut self, now: Timestamp) {
        let beat = read_heartbeat(&self.dir.heartbeat());
        if beat.is_some() && beat != self.heartbeat {
            self.heartbeat = beat;
            self.note_sign_of_life(now);
        }
    }

    /// How the attempt ended, if it left no result.
    pub(crate) fn end(&self, poll: &Poll) -> AttemptEnd {
        let asked = self.stop.map(|(reason, _)| reason);
        if asked == Some(StopReason::Cancel) {
            return AttemptEnd::Cancelled;
        }
        if let Some((class, message)) = self.failure.clone() {
            if class == FailureClass::DeviceFault {
                // The next process may have the card, or another one, and goes on from what is saved.
                return self.crashed(Some(class), message);
            }
            return AttemptEnd::Failed { class, message };
        }
        if asked == Some(StopReason::Hung) {
            let message = "its work did not get on for longer than is allowed; it was ended";
            return AttemptEnd::Failed {
                class: FailureClass::Hung,
                message: message.to_owned(),
            };
        }
        let unknown = matches!(poll, Poll::Evicted { cause, .. } if *cause == Eviction::Lost);
        if asked == Some(StopReason::Silent) && !unknown {
            return self.crashed(None, "no sign of life; it was killed".to_owned());
        }
        let code = match poll {
            Poll::Exited { code, .. } => *code,
            Poll::Evicted { cause, message } => return self.evicted(*cause, message.clone()),
            Poll::Queued { .. } | Poll::Running | Poll::Gone => None,
        };
        if asked.is_some() || self.interrupted || code == Some(130) {
            return AttemptEnd::Interrupted;
        }
        let (class, message) = self.cause_of_crash(poll);
        self.crashed(class, message)
    }

    /// A scheduler ended it.
    fn evicted(&self, cause: Eviction, message: String) -> AttemptEnd {
        match cause {
            Eviction::Cancelled if self.stop.is_none() => AttemptEnd::Cancelled,
            // Else a run that needs longer than it is ever given would be tried for ever.
            Eviction::TimeLimit if !self.progressed() && self.stop.is_none() => self.crashed(
                None,
                format!("{message} before it had saved a later state; it needs more time"),
            ),
            Eviction::Broken if self.stop.is_none() => self.crashed(None, message),
            Eviction::Broken
            | Eviction::TimeLimit
            | Eviction::Infrastructure
            | Eviction::Lost
            | Eviction::Cancelled => AttemptEnd::Interrupted,
        }
    }

    /// Why a scheduler lost it, if that is how it ended and nobody had asked it to stop.
    pub(crate) fn lost<'p>(&self, poll: &'p Poll) -> Option<&'p str> {
        let unasked = self.stop.is_none_or(|(why, _)| why == StopReason::Silent);
        match poll {
            Poll::Evicted {
                cause: Eviction::Lost,
                message,
            } if unasked => Some(message),
            _ => None,
        }
    }

    /// Whether it has saved a later state than the one it began with.
    pub(crate) fn progressed(&self) -> bool {
        let (from, to) = self.states;
        to > from
    }

    /// It ended without a word, or with one that cannot be read.
    pub(crate) fn crashed(&self, class: Option<FailureClass>, message: String) -> AttemptEnd {
        AttemptEnd::Crashed {
            class,
            message,
            progressed: self.progressed(),
        }
    }

    fn cause_of_crash(&self, poll: &Poll) -> (Option<FailureClass>, String) {
        let starved = matches!(poll, Poll::Exited { starved: true, .. });
        let last = last_words(tail_lines(&self.dir.stderr(), STDERR_LINES).unwrap_or_default());
        let class = class_of_crash(starved, &last);
        (class, Self::crash_message(poll, &last))
    }

    fn crash_message(poll: &Poll, last: &[String]) -> String {
        let how = match poll {
            Poll::Exited { starved: true, .. } => {
                "ended by the system because memory ran out".to_owned()
            }
            Poll::Exited {
                signal: Some(9), ..
            } => "ended by signal 9, as when memory runs out".to_owned(),
            Poll::Exited {
                signal: Some(signal),
                ..
            } => format!("ended by signal {signal}"),
            Poll::Exited {
                code: Some(code), ..
            } => {
                format!("ended with exit code {code} and no result")
            }
            _ => "disappeared".to_owned(),
        };
        if last.is_empty() {
            how
        } else {
            format!("{how}; it said: {}", last.join(" / "))
        }
    }
}

/// So many lines of stderr are looked at: more than a backtrace has.
const STDERR_LINES: usize = 400;
/// So many of them are told.
const TOLD_LINES: usize = 3;

/// The last lines before a backtrace, which tells a person nothing.
fn last_words(mut lines: Vec<String>) -> Vec<String> {
    if let Some(at) = lines.iter().position(|line| line == "stack backtrace:") {
        lines.truncate(at);
    }
    lines.split_off(lines.len().saturating_sub(TOLD_LINES))
}

/// Why a process that said nothing of it ended, if the system tells: memory ran out.
fn class_of_crash(starved: bool, last: &[String]) -> Option<FailureClass> {
    // What Rust says before it aborts.
    let refused = |line: &String| line.starts_with("memory allocation of ");
    (starved || last.iter().any(refused)).then_some(FailureClass::OutOfMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn memory_that_ran_out_is_told_from_other_crashes() {
        let memory = Some(FailureClass::OutOfMemory);
        let refused = lines("memory allocation of 256000000000 bytes failed");
        assert_eq!(class_of_crash(true, &[]), memory);
        assert_eq!(class_of_crash(false, &refused), memory);
        assert_eq!(class_of_crash(false, &[]), None);
        assert_eq!(class_of_crash(false, &lines("out of cheese")), None);
    }

    #[test]
    fn the_last_words_are_those_before_a_backtrace() {
        let said = "one\ntwo\nmemory allocation of 8 bytes failed\nstack backtrace:\n   0: std::alloc\nnote";
        let words = last_words(lines(&format!("zero\n{said}")));
        assert_eq!(words, ["one", "two", "memory allocation of 8 bytes failed"]);
        assert_eq!(last_words(lines("a\nb")), ["a", "b"]);
        assert_eq!(last_words(Vec::new()), Vec::<String>::new());
    }
}
