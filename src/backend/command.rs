//! Jobs of any scheduler that has commands to submit, ask after and cancel them, by templates.

use crate::backend::outside::{ask, is_silence};
use crate::backend::scheduler::{Batch, Ended, Scheduler, Seen, TaskKey};
use crate::backend::traits::StopSignal;
use crate::base::write_atomic;
use crate::config::CommandSpec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Words for waiting: of PBS and Grid Engine, HyperQueue, Kubernetes and others, in capitals.
const QUEUED: [&str; 14] = [
    "Q",
    "QW",
    "H",
    "HQW",
    "W",
    "T",
    "PENDING",
    "WAITING",
    "QUEUED",
    "HELD",
    "HOLD",
    "IDLE",
    "SUBMITTED",
    "SCHEDULED",
];
/// Words for an end that says nothing of how.
const ENDED: [&str; 12] = [
    "C",
    "F",
    "X",
    "COMPLETED",
    "COMPLETE",
    "FINISHED",
    "DONE",
    "SUCCEEDED",
    "FAILED",
    "EXITED",
    "ENDED",
    "EQW",
];
/// Words for an end by a person.
const CANCELLED: [&str; 3] = ["CANCELLED", "CANCELED", "DELETED"];

/// See the module.
pub(crate) struct CommandScheduler {
    spec: CommandSpec,
}

impl CommandScheduler {
    pub(crate) fn new(spec: CommandSpec) -> Self {
        Self { spec }
    }

    fn seen(&self, answer: &str) -> Option<Seen> {
        let first = answer
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())?;
        let word = first
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_uppercase();
        let is = |words: &[String]| words.iter().any(|own| own.to_uppercase() == word);
        let one_of = |words: &[&str]| words.contains(&word.as_str());
        Some(if is(&self.spec.queued) {
            Seen::Queued(first.to_owned())
        } else if is(&self.spec.ended) {
            Seen::Ended(Ended::Itself)
        } else if one_of(&CANCELLED) {
            Seen::Ended(Ended::Cancelled)
        } else if one_of(&ENDED) {
            Seen::Ended(Ended::Itself)
        } else if one_of(&QUEUED) {
            Seen::Queued(first.to_owned())
        } else {
            Seen::Alive
        })
    }
}

/// Where the handle of a job is kept.
fn handle_file(folder: &Path, index: u32) -> PathBuf {
    folder.join(format!("handle-{index}"))
}

fn handle_of(folder: &Path, index: u32) -> Option<String> {
    let text = std::fs::read_to_string(handle_file(folder, index)).ok()?;
    Some(text.trim().to_owned()).filter(|handle| !handle.is_empty())
}

/// The words of a template with its places filled in.
fn filled(template: &[String], values: &[(&str, &str)]) -> Vec<String> {
    let fill = |word: &String| {
        values.iter().fold(word.clone(), |word, (name, value)| {
            word.replace(&format!("{{{name}}}"), value)
        })
    };
    template.iter().map(fill).collect()
}

impl Scheduler for CommandScheduler {
    fn submit(&mut self, batch: &Batch) -> Result<(), String> {
        let cpus = self.spec.cpus.map_or(1, u32::from).to_string();
        for &index in &batch.indices {
            if handle_of(&batch.folder, index).is_some() {
                continue;
            }
            let script = batch
                .folder
                .join(format!("job-{index}.sh"))
                .display()
                .to_string();
            let out = batch
                .folder
                .join(format!("{index}.out"))
                .display()
                .to_string();
            let name = format!("{}-{index}", batch.name);
            let values = [
                ("script", &*script),
                ("name", &*name),
                ("cpus", &*cpus),
                ("out", &*out),
            ];
            let said = ask(&[], &filled(&self.spec.submit, &values))?;
            let first = said.lines().find(|line| !line.trim().is_empty());
            let handle = first.and_then(|line| line.split_whitespace().last());
            let Some(handle) = handle else {
                return Err("the command that submits printed no handle".to_owned());
            };
            let kept = write_atomic(&handle_file(&batch.folder, index), handle.as_bytes());
            kept.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn look(&mut self, jobs: &[(TaskKey, PathBuf)]) -> Result<BTreeMap<TaskKey, Seen>, String> {
        let mut seen = BTreeMap::new();
        for (key, folder) in jobs {
            let Some(handle) = handle_of(folder, key.1) else {
                continue;
            };
            // A scheduler fails for a handle that it has forgotten as it does when it is not there.
            match ask(&[], &filled(&self.spec.poll, &[("handle", &handle)])) {
                Ok(answer) => seen.extend(self.seen(&answer).map(|state| (key.clone(), state))),
                // The others would be asked for as long, one after the other.
                Err(why) if is_silence(&why) => return Err(why),
                Err(why) => tracing::debug!(%handle, "nothing is said of a job: {why}"),
            }
        }
        Ok(seen)
    }

    fn cancel(&mut self, job: &TaskKey, folder: &Path, how: StopSignal) -> Result<(), String> {
        let Some(handle) = handle_of(folder, job.1) else {
            return Ok(());
        };
        let signal = match how {
            StopSignal::Terminate => "TERM",
            StopSignal::Kill => "KILL",
        };
        let values = [("handle", &*handle), ("signal", signal)];
        ask(&[], &filled(&self.spec.cancel, &values)).map(drop)
    }

    fn refuses(&mut self) -> Option<String> {
        let lacks = |template: &[String], place: &str| {
            template.is_empty() || !template.iter().any(|word| word.contains(place))
        };
        let templates = [
            ("submit", &self.spec.submit, "{script}"),
            ("poll", &self.spec.poll, "{handle}"),
            ("cancel", &self.spec.cancel, "{handle}"),
        ];
        let wrong = templates
            .into_iter()
            .find(|(_, template, place)| lacks(template, place));
        wrong.map(|(name, _, place)| format!("`{name}` of `lions.toml` does not hold `{place}`"))
    }

    fn index_variable(&self) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler() -> CommandScheduler {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let text = "submit = [\"qsub\", \"{script}\"]\npoll = [\"st\", \"{handle}\"]\ncancel = [\"qdel\", \"{handle}\"]";
        let mut spec: CommandSpec = crate::config::parse_toml(text).unwrap();
        spec.queued = words(&["parked"]);
        CommandScheduler::new(spec)
    }

    #[test]
    fn state_words_of_several_schedulers_are_known_and_others_mean_that_the_job_lives() {
        let scheduler = scheduler();
        for (answer, want) in [
            ("Q\n", Seen::Queued("Q".into())),
            ("qw", Seen::Queued("qw".into())),
            ("Parked by admin", Seen::Queued("Parked by admin".into())),
            ("R", Seen::Alive),
            ("E", Seen::Alive),
            ("strange", Seen::Alive),
            ("finished", Seen::Ended(Ended::Itself)),
            ("Succeeded", Seen::Ended(Ended::Itself)),
            ("CANCELED", Seen::Ended(Ended::Cancelled)),
        ] {
            assert_eq!(scheduler.seen(answer), Some(want), "{answer}");
        }
        assert_eq!(scheduler.seen(" \n"), None);
    }

    #[test]
    fn a_template_that_cannot_work_is_refused_before_anything_is_submitted() {
        let mut scheduler = scheduler();
        assert_eq!(scheduler.refuses(), None);
        scheduler.spec.cancel.clear();
        let why = "`cancel` of `lions.toml` does not hold `{handle}`";
        assert_eq!(scheduler.refuses().as_deref(), Some(why));
    }
}
