//! Publishing on a thread of its own, since digesting a large model takes a while.

use crate::rundir::{Outcome, Publication, RunDir, RundirError, publish};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// An attempt whose `result.json` is there.
#[derive(Clone, Debug)]
pub(crate) struct PublishJob {
    pub(crate) dir: RunDir,
    pub(crate) what: Publication,
    /// Whether the attempt was one of this runner's.
    pub(crate) own: bool,
}

/// What became of a job.
pub(crate) type Answer = (PublishJob, Result<Outcome, RundirError>);

pub(crate) struct Publisher {
    jobs: Option<Sender<PublishJob>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    pub(crate) fn start() -> Self {
        let (jobs, todo) = channel::<PublishJob>();
        let (done, answers) = channel();
        let thread = std::thread::spawn(move || {
            for job in todo {
                let outcome = publish(&job.dir, &job.what);
                if done.send((job, outcome)).is_err() {
                    return;
                }
            }
        });
        Self {
            jobs: Some(jobs),
            answers,
            thread: Some(thread),
        }
    }

    pub(crate) fn send(&self, job: PublishJob) {
        if let Some(jobs) = &self.jobs {
            drop(jobs.send(job)); // the thread ends only after `jobs` is dropped
        }
    }

    /// The next answer, waited for at most `millis`.
    pub(crate) fn next(&self, millis: u64) -> Option<Answer> {
        self.answers
            .recv_timeout(Duration::from_millis(millis))
            .ok()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
