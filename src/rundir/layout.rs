//! Where things lie in a run's folder.

use crate::plan::RunId;
use std::path::{Path, PathBuf};

/// The folder of one run: `results/runs/<first 12 digits>/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The folder of `run` in the project at `root`.
    pub fn new(root: &Path, run: &RunId) -> Self {
        Self {
            path: root.join("results/runs").join(run.short()),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The exact bytes that were hashed.
    pub fn identity(&self) -> PathBuf {
        self.path.join("identity.json")
    }

    /// The resolved stage configuration, a [`crate::plan::StageFile`].
    pub fn stage(&self) -> PathBuf {
        self.path.join("stage.json")
    }

    /// Published artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// The marker that the run is done.
    pub fn outcome(&self) -> PathBuf {
        self.path.join("outcome.json")
    }

    /// What was deleted of the artifacts to make room.
    pub fn collected(&self) -> PathBuf {
        self.path.join("collected.json")
    }

    /// Stamps of published files, so that they need not be read again.
    pub fn seal(&self) -> PathBuf {
        self.path.join("seal.json")
    }

    /// The folder of all attempts.
    pub fn attempts(&self) -> PathBuf {
        self.path.join("attempts")
    }

    /// The folder of attempt `number`, from 1.
    pub fn attempt(&self, number: u32) -> AttemptDir {
        AttemptDir {
            path: self.attempts().join(format!("{number:03}")),
        }
    }
}

/// The folder of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptDir {
    path: PathBuf,
}

impl AttemptDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A header line, then one [`crate::rundir::AttemptEvent`] a line.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// A counter that moves while the attempt lives.
    pub fn heartbeat(&self) -> PathBuf {
        self.path.join("heartbeat")
    }

    /// What the process wrote.
    pub fn stdout(&self) -> PathBuf {
        self.path.join("stdout.log")
    }

    /// What the process complained of.
    pub fn stderr(&self) -> PathBuf {
        self.path.join("stderr.log")
    }

    /// A [`crate::rundir::JobNote`], where a scheduler starts the attempt.
    pub fn job(&self) -> PathBuf {
        self.path.join("job.json")
    }

    /// Where a scheduler starts the attempt: made by the process that is the attempt, once.
    pub fn begun(&self) -> PathBuf {
        self.path.join("begun")
    }

    /// Where a scheduler starts the attempt: made when its process is asked to end.
    pub fn told(&self) -> PathBuf {
        self.path.join("told")
    }

    /// A [`crate::rundir::JobEnd`], where a scheduler starts the attempt.
    pub fn ended(&self) -> PathBuf {
        self.path.join("ended.json")
    }

    /// Version, command line, host, device.
    pub fn provenance(&self) -> PathBuf {
        self.path.join("provenance.json")
    }

    /// Resumable state; a later attempt may adopt it.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Finished artifacts before they are published.
    pub fn out(&self) -> PathBuf {
        self.path.join("out")
    }

    /// Digests of everything in `out`.
    pub fn made(&self) -> PathBuf {
        self.path.join("made.json")
    }

    /// The stage's last act, a [`crate::rundir::StageResult`].
    pub fn result(&self) -> PathBuf {
        self.path.join("result.json")
    }
}
