//! What a runner needs of a place where attempts run.

use crate::base::{Device, PathError};
use crate::plan::RunId;
use crate::rundir::{
    AttemptDir, RunDir, RundirError, SILENCE_MILLIS, is_locked, read_job_end, read_job_note,
};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What says to the engine and to candle how many threads they may use: rayon's for the kernels,
/// candle's for its own products, OpenMP's for libraries that a build may link.
pub const THREAD_VARIABLES: [&str; 3] =
    ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS", "OMP_NUM_THREADS"];

/// What says to the driver which cards it shows to a program.
const CARD_VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// An attempt to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The project root.
    pub root: PathBuf,
    /// The run, whose `stage.json` is written.
    pub run: RunId,
    /// Number of the attempt.
    pub attempt: u32,
    /// Where it computes.
    pub device: Device,
    /// The card's own name (`GPU-…`), if it is to see that card alone.
    pub card: Option<String>,
    /// Bytes of the card that it may allocate, if it shares it.
    pub card_memory: Option<u64>,
    /// Threads that it may use.
    pub threads: usize,
    /// Whether it computes with half the micro-batch, since memory ran out before.
    pub halved: bool,
}

impl Launch {
    /// The run's folder.
    pub fn run_dir(&self) -> RunDir {
        RunDir::new(&self.root, &self.run)
    }

    /// What stands behind the program's name: `exec --root R --run ID --attempt N --device D`, and `--card NAME`,
    /// `--card-memory BYTES` and `--half-micro-batch` where that is so.
    pub fn arguments(&self) -> Vec<OsString> {
        let (attempt, device) = (self.attempt.to_string(), self.device.to_string());
        let words = ["exec", "--root"].map(OsString::from).into_iter();
        let root = self.root.as_os_str().to_owned();
        let rest = [
            "--run",
            &self.run.0,
            "--attempt",
            &attempt,
            "--device",
            &device,
        ];
        let share = self.card_memory.map(|bytes| bytes.to_string());
        let card = self.card.iter().flat_map(|card| ["--card", card]);
        let share = share.iter().flat_map(|bytes| ["--card-memory", bytes]);
        let half = self.halved.then_some("--half-micro-batch");
        let rest = rest.into_iter().chain(card).chain(share).chain(half);
        words
            .chain([root])
            .chain(rest.map(OsString::from))
            .collect()
    }

    /// What bounds the attempt's threads and cards, by environment variable.
    pub fn limits(&self) -> Vec<(&'static str, String)> {
        let threads = self.threads.max(1).to_string();
        let threads = THREAD_VARIABLES.map(|name| (name, threads.clone()));
        let card = self.card.iter().map(|card| (CARD_VARIABLE, card.clone()));
        threads.into_iter().chain(card).collect()
    }
}

/// How a backend finds an attempt again; text, so that it can be stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub String);

/// How handles begin of processes on the machine of their runner.
pub const LOCAL_HANDLE: &str = "local:";
/// The same of what tests script.
pub const SCRIPTED_HANDLE: &str = "scripted:";

impl Handle {
    /// Whether it is of a process on the machine of its runner.
    pub fn is_local(&self) -> bool {
        self.0.starts_with(LOCAL_HANDLE)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// It waits at a scheduler and has not begun.
    Queued {
        /// Why, in the scheduler's words.
        reason: String,
    },
    /// It is running, or nothing says otherwise.
    Running,
    /// It has ended by itself or by a signal.
    Exited {
        /// Exit code; absent after a signal.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Whether the system ended it because memory ran out, as far as that can be told.
        starved: bool,
    },
    /// The scheduler ended it, or never began it.
    Evicted {
        /// Why; decides what follows.
        cause: Eviction,
        /// The same for a person.
        message: String,
    },
    /// It is not there any more, and nobody knows how it ended.
    Gone,
}

impl Poll {
    /// Whether the attempt is over.
    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Queued { .. } | Self::Running)
    }
}

/// Why a scheduler ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Its time was up. That is no fault if it had got on.
    TimeLimit,
    /// Another job took its place, or it was asked to stop: it is not to blame.
    Infrastructure,
    /// Its machine failed, or the scheduler lost it or could not start it: it is hardly to blame.
    Lost,
    /// A person cancelled the job at the scheduler.
    Cancelled,
    /// Its job ended by itself before the program had begun.
    Broken,
}

/// How a runner deals with a backend's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Attempts outlive their runner: one that stops leaves them, and the next one takes them over.
    pub outlive_runner: bool,
    /// How often journals are read, ms.
    pub journal_millis: i64,
    /// An attempt without a sign of life is taken for dead after so long, ms.
    pub silence_millis: i64,
}

impl Habits {
    /// Those of processes on this machine: journals are read as often as a bar that moves looks smooth.
    pub const LOCAL: Self = Self {
        outlive_runner: false,
        journal_millis: 100,
        silence_millis: SILENCE_MILLIS,
    };
}

/// How urgently to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// Save the state and end.
    Terminate,
    /// End at once.
    Kill,
}

/// An attempt could not be started, asked after or stopped.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The program could not be started.
    #[error("cannot start `{}`", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A process could not be asked after or signalled.
    #[error("cannot {action} attempt `{handle}`")]
    Process {
        /// The verb.
        action: &'static str,
        /// The attempt.
        handle: Handle,
        /// What the system said.
        source: std::io::Error,
    },
    /// An earlier attempt of that number still holds its folder.
    #[error("attempt {attempt} of run `{run}` is already running")]
    Busy {
        /// The run.
        run: RunId,
        /// The attempt.
        attempt: u32,
    },
    /// The scheduler would never start such attempts.
    #[error("{backend} would not start such runs: {message}")]
    Refused {
        /// The backend's name.
        backend: String,
        /// What the scheduler said.
        message: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The attempt's folder could not be locked.
    #[error(transparent)]
    Rundir(#[from] RundirError),
}

/// A place where attempts run.
pub trait Backend {
    /// Starts an attempt and returns at once, or makes it ready for [`Backend::submit`].
    ///
    /// On this machine the attempt holds a [`crate::rundir::FolderLock`] on its folder for as long as it lives; elsewhere its
    /// folder has a [`crate::rundir::JobNote`].
    ///
    /// # Errors
    /// It cannot be started.
    fn launch(&mut self, launch: &Launch) -> Result<Handle, BackendError>;

    /// Gives a scheduler what was launched since the last call, whose handles are stored by now: a runner that dies
    /// in between finds its attempts again. Where a scheduler cannot take them they wait, and [`Backend::poll`] tries again.
    ///
    /// # Errors
    /// What is to be given to it cannot be written.
    fn submit(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Asks after all of `handles` together, so that a cluster is queried once a round; the
    /// answers are in their order. Handles of another runner are answered as well as is possible.
    ///
    /// # Errors
    /// They cannot be asked after. A scheduler that does not answer is no error: it says nothing of its attempts.
    fn poll(&mut self, handles: &[Handle]) -> Result<Vec<Poll>, BackendError>;

    /// Asks an attempt to stop; one that has ended is left alone.
    ///
    /// # Errors
    /// It cannot be asked.
    fn stop(&mut self, handle: &Handle, signal: StopSignal) -> Result<(), BackendError>;

    /// Whether an attempt that no runner watches lives or may still begin, told by its folder.
    ///
    /// # Errors
    /// It cannot be told.
    fn is_at_work(&mut self, attempt: &AttemptDir) -> Result<bool, BackendError> {
        let elsewhere = || read_job_note(attempt).is_some() && read_job_end(attempt).is_none();
        Ok(is_locked(attempt.path())? || elsewhere())
    }

    /// Whether a handle is one that this backend made, now or in an earlier runner.
    fn knows(&self, _handle: &Handle) -> bool {
        false
    }

    /// How a runner is to deal with its attempts.
    fn habits(&self) -> Habits {
        Habits::LOCAL
    }

    /// Asks a scheduler whether it would start such attempts at all.
    ///
    /// # Errors
    /// It would not.
    fn rehearse(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Has no further attempt start on the machine on which this one was; nothing where that cannot be asked for, else
    /// its name.
    ///
    /// # Errors
    /// Nothing would start any more then: attempts may start there again.
    fn exclude(&mut self, _attempt: &AttemptDir) -> Result<Option<String>, BackendError> {
        Ok(None)
    }

    /// Waits until something may have happened, at most `millis`.
    fn wait(&mut self, millis: u64) {
        std::thread::sleep(std::time::Duration::from_millis(millis));
    }
}
