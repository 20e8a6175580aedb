//! What a runner needs of a place where attempts run.

use crate::base::{Device, PathError};
use crate::plan::RunId;
use crate::rundir::{RunDir, RundirError};
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

    /// What stands behind the program's name: `exec --root R --run ID --attempt N --device D`, and `--card NAME` and
    /// `--half-micro-batch` where that is so.
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
        let card = self.card.iter().flat_map(|card| ["--card", card]);
        let half = self.halved.then_some("--half-micro-batch");
        let rest = rest.into_iter().chain(card).chain(half);
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

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// It is at work, or nothing says otherwise.
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
    /// It is not there any more, and nobody knows how it ended.
    Gone,
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
    #[error("attempt {attempt} of run `{run}` is already at work")]
    Busy {
        /// The run.
        run: RunId,
        /// The attempt.
        attempt: u32,
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
    /// Starts an attempt and returns at once.
    ///
    /// The attempt holds a [`crate::rundir::FolderLock`] on its folder for as long as it lives.
    fn launch(&mut self, launch: &Launch) -> Result<Handle, BackendError>;

    /// Asks after all of `handles` together, so that a cluster is queried once a round; the
    /// answers are in their order. Handles of another runner are answered as well as is possible.
    fn poll(&mut self, handles: &[Handle]) -> Result<Vec<Poll>, BackendError>;

    /// Asks an attempt to stop; one that has ended is left alone.
    fn stop(&mut self, handle: &Handle, signal: StopSignal) -> Result<(), BackendError>;

    /// Waits until something may have happened, at most `millis`.
    fn wait(&mut self, millis: u64) {
        std::thread::sleep(std::time::Duration::from_millis(millis));
    }
}
