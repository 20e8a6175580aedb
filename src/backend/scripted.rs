//! Attempts that follow a script, for tests of the runner: no processes, and waiting if wanted.

use crate::backend::traits::{
    Backend, BackendError, Eviction, Habits, Handle, Launch, Poll, SCRIPTED_HANDLE, StopSignal,
};
use crate::base::{FakeClock, write_atomic};
use crate::plan::RunId;
use crate::rundir::{
    AttemptDir, AttemptEvent, FailureClass, FolderLock, Heartbeat, Journal, MetricValue,
    OUTCOME_FORMAT, StageResult, Usage, begin_once, begun_on, digest_folder, write_made,
    write_result,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What an attempt does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Two steps, an artifact `model/weights`, metric `score` and exit code 0.
    Succeed {
        /// Value of `score`.
        score: f64,
    },
    /// States why it cannot go on and exits with 1.
    Fail(FailureClass),
    /// Exits with 3 without a word.
    Crash,
    /// Is ended by the system because memory ran out.
    Starve,
    /// Is lost by its scheduler.
    Lose,
    /// Lives and says nothing for ever; ignores SIGTERM.
    Hang,
    /// Moves its heartbeat until it is asked to stop, then saves and exits with 130.
    Work,
}

struct Attempt {
    act: Act,
    ended: Option<Poll>,
    heartbeat: Option<Heartbeat>,
    /// The lock that a real child would hold.
    lock: Option<FolderLock>,
}

/// Plays [`Act`]s: for each run the next of its list, then `otherwise`.
pub struct ScriptedBackend {
    clock: Option<Arc<FakeClock>>,
    acts: BTreeMap<RunId, VecDeque<Act>>,
    otherwise: Act,
    attempts: BTreeMap<Handle, Attempt>,
    /// Every launch in order.
    pub launched: Vec<Launch>,
    /// Every stop in order.
    pub stopped: Vec<(Handle, StopSignal)>,
    /// The machine on which attempts begin, if a scheduler chooses one.
    pub host: Option<String>,
    /// Machines that were to be left out, in order.
    pub excluded: Vec<String>,
}

impl ScriptedBackend {
    /// A backend on which every attempt acts as `otherwise`. Waiting moves `clock`; without one it
    /// takes real time.
    pub fn new(clock: Option<Arc<FakeClock>>, otherwise: Act) -> Self {
        Self {
            clock,
            acts: BTreeMap::new(),
            otherwise,
            attempts: BTreeMap::new(),
            launched: Vec::new(),
            stopped: Vec::new(),
            host: None,
            excluded: Vec::new(),
        }
    }

    /// Lets the next attempts of `run` act as listed.
    #[must_use]
    pub fn with(mut self, run: &RunId, acts: impl IntoIterator<Item = Act>) -> Self {
        self.acts.entry(run.clone()).or_default().extend(acts);
        self
    }
}

impl Backend for ScriptedBackend {
    fn habits(&self) -> Habits {
        Habits {
            // As those of a scheduler are.
            outlive_runner: self.host.is_some(),
            ..Habits::LOCAL
        }
    }

    fn exclude(&mut self, attempt: &AttemptDir) -> Result<Option<String>, BackendError> {
        let node = begun_on(attempt);
        self.excluded.extend(node.clone());
        Ok(node)
    }

    fn launch(&mut self, launch: &Launch) -> Result<Handle, BackendError> {
        let next = self.acts.get_mut(&launch.run).and_then(VecDeque::pop_front);
        let act = next.unwrap_or_else(|| self.otherwise.clone());
        let dir = launch.run_dir().attempt(launch.attempt);
        let mut journal = Journal::create(&dir.events())?;
        if let Some(host) = &self.host {
            begin_once(&dir, host)?;
        }
        let mut attempt = Attempt {
            act,
            ended: None,
            heartbeat: None,
            lock: FolderLock::try_take(dir.path())?,
        };
        journal.append(&AttemptEvent::Started {
            device: launch.device,
        })?;
        attempt.ended = match attempt.act.clone() {
            Act::Succeed { score } => {
                journal.append(&AttemptEvent::Begin {
                    unit: "steps".into(),
                    total: 2,
                })?;
                for step in 1..=2u32 {
                    let metrics = [("loss".to_owned(), 1.0 / f64::from(step))].into();
                    journal.append(&AttemptEvent::Step {
                        step: step.into(),
                        metrics,
                    })?;
                }
                write_atomic(
                    &dir.out().join("model/weights"),
                    score.to_string().as_bytes(),
                )?;
                write_made(&dir, &digest_folder(&dir.out())?)?;
                write_result(&dir, &result(score))?;
                journal.append(&AttemptEvent::Finished)?;
                Some(exited(0))
            }
            Act::Fail(class) => {
                let message = "as scripted".to_owned();
                journal.append(&AttemptEvent::Failed { class, message })?;
                Some(exited(1))
            }
            Act::Crash => Some(exited(3)),
            Act::Starve => Some(killed(true)),
            Act::Lose => Some(Poll::Evicted {
                cause: Eviction::Lost,
                message: "its machine failed".to_owned(),
            }),
            Act::Hang => None,
            Act::Work => {
                attempt.heartbeat = Some(Heartbeat::create(&dir.heartbeat())?);
                None
            }
        };
        if attempt.ended.is_some() {
            attempt.lock = None;
        }
        self.launched.push(launch.clone());
        let handle = Handle(format!(
            "{SCRIPTED_HANDLE}{}:{}",
            launch.run.short(),
            launch.attempt
        ));
        self.attempts.insert(handle.clone(), attempt);
        Ok(handle)
    }

    fn poll(&mut self, handles: &[Handle]) -> Result<Vec<Poll>, BackendError> {
        let polls = handles.iter().map(|handle| {
            let Some(attempt) = self.attempts.get_mut(handle) else {
                return Ok(Poll::Gone);
            };
            if let Some(ended) = &attempt.ended {
                return Ok(ended.clone());
            }
            if let Some(heartbeat) = &mut attempt.heartbeat {
                heartbeat.beat()?;
            }
            Ok(Poll::Running)
        });
        polls.collect()
    }

    fn stop(&mut self, handle: &Handle, signal: StopSignal) -> Result<(), BackendError> {
        self.stopped.push((handle.clone(), signal));
        let Some(attempt) = self.attempts.get_mut(handle) else {
            return Ok(());
        };
        if attempt.ended.is_some() {
            return Ok(());
        }
        match (signal, &attempt.act) {
            (StopSignal::Kill, _) => {
                attempt.ended = Some(killed(false));
            }
            (StopSignal::Terminate, Act::Work) => attempt.ended = Some(exited(130)),
            (StopSignal::Terminate, _) => return Ok(()),
        }
        attempt.lock = None;
        Ok(())
    }

    fn wait(&mut self, millis: u64) {
        match &self.clock {
            Some(clock) => clock.advance_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
            None => std::thread::sleep(std::time::Duration::from_millis(millis)),
        }
    }
}

fn exited(code: i32) -> Poll {
    Poll::Exited {
        code: Some(code),
        signal: None,
        starved: false,
    }
}

/// Ended by SIGKILL, and whether for want of memory.
fn killed(starved: bool) -> Poll {
    Poll::Exited {
        code: None,
        signal: Some(nix::sys::signal::Signal::SIGKILL as i32),
        starved,
    }
}

fn result(score: f64) -> StageResult {
    StageResult {
        format: OUTCOME_FORMAT,
        artifacts: vec!["model".into()],
        metrics: [(
            "score".to_owned(),
            MetricValue {
                value: score,
                stderr: None,
                n: 1,
            },
        )]
        .into(),
        counts: [("documents/kept".to_owned(), 7)].into(),
        notes: vec!["as scripted".into()],
        usage: Usage {
            wall_secs: 0.5,
            ..Usage::default()
        },
    }
}
