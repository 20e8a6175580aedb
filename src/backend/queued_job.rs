//! What is to be believed of an attempt that a scheduler has: its folder first, then what the scheduler says.

use crate::backend::scheduler::{Ended, Seen, TaskKey};
use crate::backend::traits::{BackendError, Eviction, Handle, Poll, StopSignal};
use crate::base::{Clock as _, SystemClock};
use crate::rundir::{
    AttemptDir, JobEnd, JobNote, Waits, has_begun, read_heartbeat, read_job_end, tail_lines,
    was_told, write_job_note,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the end of an attempt is looked for in its folder.
const FOLDER_EVERY: Duration = Duration::from_millis(500);

/// So many lines are told of what a script printed.
const TOLD_LINES: usize = 3;

/// An attempt as this backend knows it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: TaskKey,
    pub(crate) dir: AttemptDir,
    /// What its script printed.
    out: PathBuf,
    /// Made by its script before anything else.
    started: PathBuf,
    /// The scheduler has taken it, now or in an earlier runner.
    pub(crate) submitted: bool,
    /// Why it could not be submitted.
    pub(crate) refused: Option<String>,
    pub(crate) seen: Option<Seen>,
    /// Since when the scheduler answers and does not know it, or says that it is over.
    pub(crate) lost: Option<Instant>,
    pub(crate) begun: bool,
    pub(crate) end: Option<JobEnd>,
    /// The heartbeat, and since when it stands there.
    beat: Option<(Option<u64>, Instant)>,
    folder_read: Option<Instant>,
    pub(crate) stop: Option<StopSignal>,
    /// The stop has still to be told to the scheduler.
    pub(crate) stop_owed: bool,
    pub(crate) note: JobNote,
}

impl Job {
    /// `folder` is that of its batch.
    pub(crate) fn new(
        key: TaskKey,
        (dir, folder): (AttemptDir, &Path),
        submitted: bool,
        note: JobNote,
    ) -> Self {
        Self {
            out: folder.join(format!("{}.out", key.1)),
            started: folder.join(format!("{}.started", key.1)),
            key,
            dir,
            submitted,
            refused: None,
            seen: None,
            lost: None,
            begun: false,
            end: None,
            beat: None,
            folder_read: None,
            stop: None,
            stop_owed: false,
            note,
        }
    }

    /// Looks whether the attempt has begun and ended.
    pub(crate) fn read_folder(&mut self) -> Result<(), BackendError> {
        if self
            .folder_read
            .is_some_and(|read| read.elapsed() < FOLDER_EVERY)
        {
            return Ok(());
        }
        self.folder_read = Some(Instant::now());
        self.begun = self.begun || has_begun(&self.dir)?;
        if self.begun && self.end.is_none() {
            self.end = read_job_end(&self.dir);
            let beat = read_heartbeat(&self.dir.heartbeat());
            if self.beat.is_none_or(|(before, _)| before != beat) {
                self.beat = Some((beat, Instant::now()));
            }
        }
        Ok(())
    }

    /// What is to be believed of the attempt.
    pub(crate) fn judge(&self, settled: Duration, unanswered: Option<&str>, backend: &str) -> Poll {
        let over = self.lost.is_some_and(|since| since.elapsed() >= settled);
        if let Some(end) = &self.end {
            return self.judge_end(end, over);
        }
        match &self.seen {
            _ if !self.submitted => match (&self.refused, self.stop) {
                (_, Some(_)) => Poll::Gone,
                (Some(why), None) => queued(format!("{backend} does not take it: {why}")),
                (None, None) => queued("is being submitted".to_owned()),
            },
            // It was put back into the queue, and will do nothing more: an attempt begins once.
            Some(Seen::Queued(_)) if self.begun => {
                let still = self
                    .beat
                    .is_some_and(|(_, since)| since.elapsed() >= settled);
                if still {
                    evicted(Ended::Machine)
                } else {
                    Poll::Running
                }
            }
            Some(Seen::Queued(reason)) => queued(reason.clone()),
            Some(Seen::Ended(Ended::Cancelled)) if !self.begun => self.cancelled(),
            Some(Seen::Ended(ended)) if over => match ended {
                Ended::Cancelled => self.cancelled(),
                Ended::Dropped => self.dropped(),
                Ended::Itself if !self.begun => self.never_began(),
                Ended::Itself => Poll::Gone,
                Ended::Memory => starved(),
                other => evicted(*other),
            },
            Some(Seen::Alive | Seen::Ended(_)) => Poll::Running,
            None => self.judge_unknown(over, unanswered, backend),
        }
    }

    /// Whether a runner asked it to stop, this one or an earlier one.
    fn was_stopped(&self) -> bool {
        self.stop.is_some() || self.note.stopped
    }

    /// Its job was cancelled: by a runner, which knows why, or by a person at the scheduler.
    fn cancelled(&self) -> Poll {
        if self.was_stopped() {
            return Poll::Evicted {
                cause: Eviction::Infrastructure,
                message: "it was asked to stop".to_owned(),
            };
        }
        evicted(Ended::Cancelled)
    }

    /// Its job was cancelled when it had a machine. Where a person does that, what runs there is asked to end first; a
    /// scheduler that cannot start a job, or takes it for one that it does not know, asks nobody.
    fn dropped(&self) -> Poll {
        let stopped = self.end.as_ref().is_some_and(|end| end.code == Some(130));
        let asked = if self.begun {
            stopped || was_told(&self.dir)
        } else {
            self.started.exists()
        };
        if asked || self.was_stopped() {
            return self.cancelled();
        }
        let message = if self.begun {
            "the scheduler ended its job unasked"
        } else {
            "the scheduler could not start its job on the machine it was given"
        };
        lost(message.to_owned())
    }

    /// Notes for later runners that it was asked to stop.
    pub(crate) fn note_stop(&mut self, handle: &Handle) {
        if !std::mem::replace(&mut self.note.stopped, true) {
            self.write_note(handle);
        }
    }

    /// Its script ended before the program had begun: a prologue failed, or the program is not there.
    fn never_began(&self) -> Poll {
        let said = tail_lines(&self.out, TOLD_LINES).unwrap_or_default();
        let said = if said.is_empty() {
            format!("nothing stands in `{}`", self.out.display())
        } else {
            said.join(" / ")
        };
        Poll::Evicted {
            cause: Eviction::Broken,
            message: format!("its job ended before the run began; it said: {said}"),
        }
    }

    /// The scheduler does not know it, or does not answer.
    fn judge_unknown(&self, over: bool, unanswered: Option<&str>, backend: &str) -> Poll {
        match (self.begun, unanswered) {
            // Its heartbeat says whether it lives; when that has stopped for long it is killed.
            (true, _) if self.stop == Some(StopSignal::Kill) && over => lost(format!(
                "{backend} does not know its job, which shows no sign of life"
            )),
            (true, _) => Poll::Running,
            (false, Some(why)) => queued(format!("{backend} does not answer: {why}")),
            (false, None) if over => lost(format!(
                "{backend} does not know its job, and it never began"
            )),
            (false, None) => queued(format!("{backend} has not named it yet")),
        }
    }

    /// Its process ended and said how. Why somebody ended it the scheduler says, a moment later.
    fn judge_end(&self, end: &JobEnd, over: bool) -> Poll {
        if end.restarted {
            return evicted(Ended::Machine);
        }
        if end.warned && end.code == Some(130) {
            return evicted(Ended::TimeLimit);
        }
        let by_itself = matches!(end.code, Some(code) if code != 130);
        if !by_itself && !self.was_stopped() {
            match &self.seen {
                Some(Seen::Ended(Ended::Memory)) => return starved(),
                Some(Seen::Ended(Ended::Itself)) => {}
                Some(Seen::Ended(Ended::Dropped)) => return self.dropped(),
                Some(Seen::Ended(other)) => return evicted(*other),
                None if over => {}
                // It ended, so that the scheduler has to hear of it.
                _ => return Poll::Running,
            }
        }
        Poll::Exited {
            code: end.code,
            signal: end.signal,
            starved: end.starved,
        }
    }

    /// Leaves beside the attempt why it waits, for other commands; only when that has changed.
    pub(crate) fn note(&mut self, handle: &Handle, poll: &Poll) {
        let reason = match poll {
            Poll::Queued { reason } => Some(reason),
            _ => None,
        };
        if self.note.waits.as_ref().map(|waits| &waits.reason) == reason {
            return;
        }
        self.note.waits = reason.map(|reason| Waits {
            reason: reason.clone(),
            since: SystemClock.now(),
        });
        self.write_note(handle);
    }

    fn write_note(&self, handle: &Handle) {
        if let Err(error) = write_job_note(&self.dir, &self.note) {
            tracing::warn!(%handle, "other commands cannot be told of the job: {error}");
        }
    }
}

fn queued(reason: String) -> Poll {
    Poll::Queued { reason }
}

fn lost(message: String) -> Poll {
    Poll::Evicted {
        cause: Eviction::Lost,
        message,
    }
}

fn starved() -> Poll {
    Poll::Exited {
        code: None,
        signal: Some(nix::sys::signal::Signal::SIGKILL as i32),
        starved: true,
    }
}

fn evicted(ended: Ended) -> Poll {
    let (cause, message) = match ended {
        Ended::TimeLimit => (Eviction::TimeLimit, "its time at the scheduler was up"),
        Ended::Cancelled | Ended::Dropped => (
            Eviction::Cancelled,
            "its job was cancelled at the scheduler",
        ),
        Ended::Preempted => (Eviction::Infrastructure, "another job took its place"),
        Ended::Machine => (Eviction::Lost, "its machine failed or was taken away"),
        Ended::Itself | Ended::Memory => (Eviction::Infrastructure, "its job ended"),
    };
    Poll::Evicted {
        cause,
        message: message.to_owned(),
    }
}
