//! Every backend of this build, by what a project says of it.

use crate::backend::command::CommandScheduler;
use crate::backend::local::LocalBackend;
use crate::backend::queued::{Options, QueuedBackend};
use crate::backend::slurm::Slurm;
use crate::backend::traits::Backend;
use crate::config::BackendChoice;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A scheduler is asked so often unless the project says otherwise, seconds: many users ask the same one.
const POLL_SECONDS: u32 = 20;
/// What nobody knows of is given up after so long, seconds: heartbeats come late over a network, and a scheduler that was
/// restarted takes a while.
const SILENCE_SECONDS: u32 = 300;

/// Makes the backend `name` for the project at `root`, which starts attempts with this program.
pub fn open_backend(
    name: &str,
    choice: &BackendChoice,
    root: &Path,
    program: PathBuf,
) -> Box<dyn Backend> {
    let options = |own: &Option<String>, prologue: &[String], times: [Option<NonZeroU32>; 2]| {
        let [poll, silence] = times;
        Options {
            name: name.to_owned(),
            root: root.to_owned(),
            program: own.as_ref().map_or_else(|| program.clone(), PathBuf::from),
            prologue: prologue.to_vec(),
            every: Duration::from_secs(poll.map_or(POLL_SECONDS, u32::from).into()),
            silence_millis: i64::from(silence.map_or(SILENCE_SECONDS, u32::from)) * 1000,
        }
    };
    match choice {
        BackendChoice::Local(_) => Box::new(LocalBackend::new(program)),
        BackendChoice::Slurm(spec) => {
            let times = [spec.poll_seconds, spec.silence_seconds];
            let options = options(&spec.program, &spec.prologue, times);
            Box::new(QueuedBackend::new(
                options,
                Slurm::new((**spec).clone(), root),
            ))
        }
        BackendChoice::Command(spec) => {
            let times = [spec.poll_seconds, spec.silence_seconds];
            let options = options(&spec.program, &spec.prologue, times);
            Box::new(QueuedBackend::new(
                options,
                CommandScheduler::new((**spec).clone()),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProjectFile;

    #[test]
    fn every_backend_of_a_project_opens_and_says_whether_its_attempts_outlive_a_runner() {
        let text = "[backend.pbs]\nkind = \"command\"\nsubmit = [\"qsub\", \"{script}\"]\n\
                    poll = [\"qstat\", \"{handle}\"]\ncancel = [\"qdel\", \"{handle}\"]\n";
        let file = ProjectFile::of_text(text).unwrap();
        let root = tempfile::tempdir().unwrap();
        let habit = |name: &str| {
            let choice = file.backend(name).unwrap();
            let mut backend = open_backend(name, choice, root.path(), PathBuf::from("lions"));
            assert_eq!(backend.poll(&[]).unwrap(), [], "{name}");
            backend.habits().outlive_runner
        };
        assert_eq!(["local", "slurm", "pbs"].map(habit), [false, true, true]);
    }
}
