//! Jobs of Slurm, over its commands. A job is known by its name, which nothing else has: numbers are used again.

use crate::backend::outside::ask;
use crate::backend::scheduler::{Batch, Ended, Scheduler, Seen, TaskKey};
use crate::backend::traits::StopSignal;
use crate::config::SlurmSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds before the time limit at which an attempt saves its state: Slurm looks about once a minute, and a state takes
/// a while.
const SIGNAL_BEFORE: u32 = 180;

/// What was refused is asked for once more after so long.
const REHEARSE_AGAIN: Duration = Duration::from_secs(3);

/// Columns of `squeue`: array, number in it, name, state, nodes; the reason stands last, since it may hold anything.
const COLUMNS: &str = "%F|%K|%j|%T|%N|%r";

/// See the module.
pub(crate) struct Slurm {
    spec: SlurmSpec,
    /// The project's root.
    root: PathBuf,
    /// `sacct` has said that nothing is kept.
    no_accounting: bool,
    /// Nodes on which cards were lost.
    excluded: BTreeSet<String>,
}

impl Slurm {
    pub(crate) fn new(spec: SlurmSpec, root: &Path) -> Self {
        Self {
            spec,
            root: root.to_owned(),
            no_accounting: false,
            excluded: BTreeSet::new(),
        }
    }

    fn ask(&self, words: &[String]) -> Result<String, String> {
        ask(&self.spec.prefix, words)
    }

    /// What every job asks for.
    fn options(&self) -> Vec<String> {
        let spec = &self.spec;
        // `--exclude` counts once.
        let excluded = spec.exclude.iter().chain(&self.excluded);
        let excluded = excluded.cloned().collect::<Vec<_>>().join(",");
        let excluded = (!excluded.is_empty()).then_some(excluded);
        let named = [
            ("partition", &spec.partition),
            ("account", &spec.account),
            ("qos", &spec.qos),
            ("reservation", &spec.reservation),
            ("constraint", &spec.constraint),
            ("exclude", &excluded),
            ("time", &spec.time),
            ("mem", &spec.memory),
            ("gpus", &spec.gpus),
            ("gres", &spec.gres),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("--{name}={value}")));
        let cpus = spec.cpus.map_or(1, u32::from);
        let before = spec.signal_before.map_or(SIGNAL_BEFORE, u32::from);
        // What continues a run is a new attempt, so that no two processes ever have the same folder.
        let fixed = [
            format!("--cpus-per-task={cpus}"),
            "--ntasks=1".to_owned(),
            "--no-requeue".to_owned(),
            format!("--signal=B:USR1@{before}"),
            format!("--chdir={}", self.root.display()),
        ];
        fixed
            .into_iter()
            .chain(named)
            .chain(spec.extra.iter().cloned())
            .collect()
    }

    /// Lines of this user's queue, of one name or of all.
    fn queue(&self, name: Option<&str>) -> Result<String, String> {
        let words = ["squeue", "--noheader", "--array", "--me", "--states=all"];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.extend(name.map(|name| format!("--name={name}")));
        words.push(format!("--format={COLUMNS}"));
        self.ask(&words)
    }

    /// What accounting knows of jobs that have left the queue; nothing where there is none.
    fn look_back(&mut self, names: &BTreeSet<&str>) -> Vec<Told> {
        if self.no_accounting || names.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = names.iter().copied().collect();
        let words = [
            "sacct".to_owned(),
            "--noheader".to_owned(),
            "--allocations".to_owned(),
            "--array".to_owned(),
            "--parsable2".to_owned(),
            format!("--name={}", names.join(",")),
            "--format=JobID,JobName,State,NodeList".to_owned(),
        ];
        match self.ask(&words) {
            Ok(out) => out.lines().filter_map(accounted).collect(),
            Err(why) => {
                tracing::debug!("no accounting: {why}");
                // Asked once: where it is off it fails each time.
                self.no_accounting = why.contains("disabled");
                Vec::new()
            }
        }
    }

    /// Why Slurm would not start such jobs, if it says so.
    fn rehearse(&self) -> Option<String> {
        let mut words = vec!["sbatch".to_owned(), "--test-only".to_owned()];
        words.extend(self.options());
        words.push("--wrap=true".to_owned());
        let why = self.ask(&words).err()?;
        // Slurm that does not answer now may do so later.
        let passing = [
            "Unable to contact",
            "onnection",
            "connect failure",
            "did not answer",
            "timed out",
        ];
        if passing.iter().any(|word| why.contains(word)) {
            tracing::warn!("Slurm does not answer: {why}");
            return None;
        }
        // It says the same of nodes that are out of use as of those that are not there.
        if let Some(said) = self.out_of_use() {
            tracing::warn!("Slurm has no node for such runs now: {why} ({said})");
            return None;
        }
        Some(why)
    }

    /// What their keepers say of nodes that are out of use.
    fn out_of_use(&self) -> Option<String> {
        let words = ["sinfo", "--noheader", "--list-reasons", "--format=%n: %E"];
        let out = self.ask(&words.map(str::to_owned)).ok()?;
        let lines: Vec<&str> = out.lines().take(3).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    /// A reason that names nodes which are out of use, with what their keepers say of them.
    fn explained(&self, reason: &str) -> String {
        let nodes_are_out = ["ReqNodeNotAvail", "Nodes required for job are DOWN"];
        if !nodes_are_out.iter().any(|word| reason.starts_with(word)) {
            return reason.to_owned();
        }
        let said = self.out_of_use();
        said.map_or_else(|| reason.to_owned(), |said| format!("{reason} ({said})"))
    }
}

impl Scheduler for Slurm {
    fn submit(&mut self, batch: &Batch) -> Result<(), String> {
        let throttle = self
            .spec
            .throttle
            .map_or_else(String::new, |most| format!("%{most}"));
        let folder = batch.folder.display();
        let mut words = vec!["sbatch".to_owned(), "--parsable".to_owned()];
        words.push(format!("--job-name={}", batch.name));
        words.push(format!("--array={}{throttle}", array(&batch.indices)));
        words.push(format!("--output={folder}/%a.out"));
        words.push("--open-mode=append".to_owned());
        words.extend(self.options());
        words.push(batch.folder.join("job.sh").display().to_string());
        let said = self.ask(&words)?;
        tracing::debug!(name = %batch.name, job = %said.trim(), "submitted");
        Ok(())
    }

    fn look(&mut self, jobs: &[(TaskKey, PathBuf)]) -> Result<BTreeMap<TaskKey, Seen>, String> {
        let out = self.queue(None)?;
        let mut seen: BTreeMap<TaskKey, Seen> = BTreeMap::new();
        take(&mut seen, jobs, out.lines().filter_map(queued).collect());
        for state in seen.values_mut() {
            if let Seen::Queued(reason) = state {
                *reason = self.explained(reason);
            }
        }
        let gone = jobs.iter().filter(|(key, _)| !seen.contains_key(key));
        let gone: BTreeSet<&str> = gone.map(|((name, _), _)| name.as_str()).collect();
        take(&mut seen, jobs, self.look_back(&gone));
        Ok(seen)
    }

    fn cancel(&mut self, job: &TaskKey, _folder: &Path, _how: StopSignal) -> Result<(), String> {
        let (name, index) = job;
        let out = self.queue(Some(name))?;
        let array = out.lines().find_map(|line| {
            let array = line.split('|').next()?;
            queued(line).filter(|told| (&told.name, told.index) == (name, Some(*index)))?;
            Some(array.to_owned())
        });
        let Some(array) = array else {
            return Ok(());
        };
        // The name once more: between the two commands the number may have become another job's.
        let words = [
            "scancel".to_owned(),
            format!("--name={name}"),
            format!("{array}_{index}"),
        ];
        self.ask(&words).map(drop)
    }

    fn refuses(&mut self) -> Option<String> {
        self.rehearse()?;
        // A node that just came back is not there for a moment.
        std::thread::sleep(REHEARSE_AGAIN);
        self.rehearse()
    }

    fn exclude(&mut self, node: &str) -> Result<bool, String> {
        if !self.excluded.insert(node.to_owned()) {
            return Ok(true);
        }
        // With the only node that fits left out nothing would ever start.
        let refused = self.rehearse();
        if refused.is_some() {
            self.excluded.remove(node);
        }
        refused.map_or(Ok(true), Err)
    }

    fn index_variable(&self) -> Option<&'static str> {
        Some("SLURM_ARRAY_TASK_ID")
    }
}

/// Numbers as `--array` takes them.
fn array(indices: &[u32]) -> String {
    match indices {
        [first, .., last] if (last - first) as usize == indices.len() - 1 => {
            format!("{first}-{last}")
        }
        _ => indices
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// What a line says of one job of an array, or of all that no other line names: those that were cancelled while they
/// waited stand on one line without their numbers.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    name: String,
    index: Option<u32>,
    state: Seen,
}

/// Takes over what is told of jobs that are not known yet; first of those by number.
fn take(seen: &mut BTreeMap<TaskKey, Seen>, jobs: &[(TaskKey, PathBuf)], told: Vec<Told>) {
    let (single, whole): (Vec<Told>, Vec<Told>) =
        told.into_iter().partition(|told| told.index.is_some());
    for told in single.into_iter().chain(whole) {
        let means =
            |key: &TaskKey| key.0 == told.name && told.index.is_none_or(|index| index == key.1);
        for (key, _) in jobs.iter().filter(|(key, _)| means(key)) {
            seen.entry(key.clone())
                .or_insert_with(|| told.state.clone());
        }
    }
}

/// A line of `squeue`, if it is one of an array, or of what is left of one.
fn queued(line: &str) -> Option<Told> {
    let mut fields = line.splitn(6, '|').map(str::trim);
    let (_, index, name) = (fields.next()?, fields.next()?, fields.next()?);
    let (state, nodes) = (fields.next()?, fields.next()?);
    let state = seen(state, nodes, fields.next().unwrap_or_default());
    told(name, index.parse().ok(), state)
}

/// A line of `sacct`, if it is one of an array, or of what is left of one.
fn accounted(line: &str) -> Option<Told> {
    let mut fields = line.split('|');
    let (id, name, state) = (fields.next()?, fields.next()?, fields.next()?);
    let nodes = fields.next().unwrap_or_default();
    let (_, index) = id.split_once('_')?;
    told(name, index.parse().ok(), seen(state, nodes, ""))
}

fn told(name: &str, index: Option<u32>, state: Seen) -> Option<Told> {
    // What is said of all of them counts if it is their end: nothing follows for one that waits or lives.
    (index.is_some() || matches!(state, Seen::Ended(_))).then(|| Told {
        name: name.to_owned(),
        index,
        state,
    })
}

/// What a state word means. Words differ between versions: one that is not known means that the job lives.
fn seen(state: &str, nodes: &str, reason: &str) -> Seen {
    // `CANCELLED by 1000`
    let word = state.split_whitespace().next().unwrap_or_default();
    let reason = if reason.is_empty() || reason == "None" {
        word
    } else {
        reason
    };
    match word {
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD"
        | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => Seen::Queued(reason.to_owned()),
        "COMPLETED" | "FAILED" => Seen::Ended(Ended::Itself),
        "TIMEOUT" | "DEADLINE" => Seen::Ended(Ended::TimeLimit),
        "OUT_OF_MEMORY" => Seen::Ended(Ended::Memory),
        "PREEMPTED" => Seen::Ended(Ended::Preempted),
        "NODE_FAIL" | "BOOT_FAIL" => Seen::Ended(Ended::Machine),
        "CANCELLED" | "REVOKED" if is_none(nodes) => Seen::Ended(Ended::Cancelled),
        "CANCELLED" | "REVOKED" => Seen::Ended(Ended::Dropped),
        _ => Seen::Alive,
    }
}

/// Whether a job has had no node, in the words of `squeue` and `sacct`.
fn is_none(nodes: &str) -> bool {
    matches!(nodes, "" | "(null)" | "None" | "None assigned")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(index: Option<u32>, state: Seen) -> Told {
        Told {
            name: "lions-a".to_owned(),
            index,
            state,
        }
    }

    #[test]
    fn nodes_that_were_left_out_stand_beside_those_of_the_project() {
        let spec = SlurmSpec {
            exclude: Some("bad[1-2]".to_owned()),
            ..SlurmSpec::default()
        };
        let mut slurm = Slurm::new(spec, Path::new("/project"));
        slurm.excluded.insert("lost".to_owned());
        let options = slurm.options();
        assert!(
            options.contains(&"--exclude=bad[1-2],lost".to_owned()),
            "{options:?}"
        );
    }

    #[test]
    fn numbers_of_an_array_are_written_as_a_range_where_they_are_one() {
        assert_eq!(array(&[0, 1, 2, 3]), "0-3");
        assert_eq!(array(&[0, 2, 3]), "0,2,3");
        assert_eq!(array(&[5]), "5");
    }

    #[test]
    fn lines_of_the_queue_are_read_and_what_is_no_line_is_left_out() {
        let wait = Seen::Queued("JobArrayTaskLimit".to_owned());
        assert_eq!(
            queued("1|2|lions-a|PENDING||JobArrayTaskLimit"),
            Some(said(Some(2), wait))
        );
        assert_eq!(
            queued("1|0|lions-a|RUNNING|n[1-2]|None"),
            Some(said(Some(0), Seen::Alive))
        );
        // A job that is no array's, a reason with a bar, and noise.
        assert_eq!(queued("7|N/A|wrap|RUNNING|n1|None"), None);
        let odd = queued("1|1|lions-a|PENDING||a|b").unwrap().state;
        assert_eq!(odd, Seen::Queued("a|b".to_owned()));
        assert_eq!(queued("slurm_load_jobs error: Unable to contact"), None);
        assert_eq!(accounted("12|lions-a|RUNNING|n1"), None);
        assert_eq!(accounted("12_[0-3]|lions-a|PENDING|None assigned"), None);
    }

    // Lines of Slurm 22.05.8: jobs that were cancelled while they waited, one that was at work, and one that its node
    // could not start.
    #[test]
    fn a_job_that_was_cancelled_before_it_had_a_node_is_told_from_one_that_had_one() {
        let (waited, had_one) = (Ended::Cancelled, Ended::Dropped);
        for (line, index, ended) in [
            ("18|N/A|lions-a|CANCELLED||JobHeldUser", None, waited),
            ("19|0|lions-a|CANCELLED|vm|None", Some(0), had_one),
        ] {
            assert_eq!(
                queued(line),
                Some(said(index, Seen::Ended(ended))),
                "{line}"
            );
        }
        for (line, index, ended) in [
            (
                "18_[0-3]|lions-a|CANCELLED by 7|None assigned",
                None,
                waited,
            ),
            ("12_3|lions-a|CANCELLED by 0|vm", Some(3), had_one),
        ] {
            assert_eq!(
                accounted(line),
                Some(said(index, Seen::Ended(ended))),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_said_of_the_rest_of_an_array_is_said_of_those_that_no_line_names() {
        let jobs = ["lions-a", "lions-b"].into_iter();
        let jobs = jobs.flat_map(|name| [0, 1].map(|index| (name.to_owned(), index)));
        let jobs: Vec<(TaskKey, PathBuf)> = jobs.map(|key| (key, PathBuf::new())).collect();
        let mut seen = BTreeMap::new();
        let lines = [
            "5|N/A|lions-a|CANCELLED||None",
            "5|1|lions-a|RUNNING|n1|None",
        ];
        take(
            &mut seen,
            &jobs,
            lines.into_iter().filter_map(queued).collect(),
        );
        let key = |index| ("lions-a".to_owned(), index);
        let want = [
            (key(0), Seen::Ended(Ended::Cancelled)),
            (key(1), Seen::Alive),
        ];
        assert_eq!(seen, want.into());
    }

    // The states of Slurm 22.05 to 24.11 (`squeue(1)`, JOB STATE CODES), and words that it does not have.
    #[test]
    fn every_state_that_is_not_an_end_or_a_wait_means_that_the_job_lives() {
        for word in [
            "RUNNING",
            "COMPLETING",
            "SUSPENDED",
            "STOPPED",
            "SIGNALING",
            "STAGE_OUT",
            "RESIZING",
            "LAUNCH_FAILED",
            "RECONFIG_FAIL",
            "POWER_UP_NODE",
            "EXPEDITING",
            "invented",
            "",
        ] {
            assert_eq!(seen(word, "n1", "x"), Seen::Alive, "{word}");
        }
        for word in [
            "PENDING",
            "CONFIGURING",
            "REQUEUED",
            "REQUEUE_HOLD",
            "RESV_DEL_HOLD",
            "SPECIAL_EXIT",
        ] {
            assert_eq!(seen(word, "", "None"), Seen::Queued(word.to_owned()));
        }
        for (word, ended) in [
            ("COMPLETED", Ended::Itself),
            ("FAILED", Ended::Itself),
            ("TIMEOUT", Ended::TimeLimit),
            ("OUT_OF_MEMORY", Ended::Memory),
            ("NODE_FAIL", Ended::Machine),
            ("PREEMPTED", Ended::Preempted),
            ("CANCELLED by 1000", Ended::Cancelled),
        ] {
            assert_eq!(seen(word, "", ""), Seen::Ended(ended), "{word}");
        }
    }
}
