//! Reads and writes of the small files in a run's folder.

use crate::base::fs::is_gone;
use crate::base::{
    Device, PathError, Timestamp, digest_bytes, is_as_written, with_check, write_atomic,
};
use crate::plan::{RunId, STAGE_FORMAT, StageFile, StageKind};
use crate::rundir::error::RundirError;
use crate::rundir::event::AttemptEvent;
use crate::rundir::facts::Facts;
use crate::rundir::journal::read_events;
use crate::rundir::layout::{AttemptDir, RunDir};
use crate::rundir::lock::is_locked;
use crate::rundir::outcome::{Artifact, OUTCOME_FORMAT, Outcome, StageResult};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// What an attempt was executed by and where; `provenance.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this file's format.
    pub format: u32,
    /// Version of the crate.
    pub version: String,
    /// The command line.
    pub argv: Vec<String>,
    /// Name of the machine.
    pub host: String,
    /// Process number on that machine.
    pub pid: u32,
    /// Where it computed.
    pub device: Device,
    /// When the attempt began.
    pub started: Timestamp,
    /// What computed it.
    #[serde(flatten)]
    pub facts: Facts,
}

/// Version of `provenance.json`.
const PROVENANCE_FORMAT: u32 = 1;

impl Provenance {
    /// Of the calling process.
    pub fn of_this_process(
        argv: Vec<String>,
        device: Device,
        started: Timestamp,
        facts: Facts,
    ) -> Self {
        Self {
            format: PROVENANCE_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            argv,
            host: host_name(),
            pid: std::process::id(),
            device,
            started,
            facts,
        }
    }
}

/// The machine's name, or `unknown`.
pub fn host_name() -> String {
    let read = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    read.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// Prepares the folder of a run: `identity.json` if it is missing and `stage.json`, whose runtime
/// part may have changed since.
///
/// # Errors
/// The folder belongs to another run whose id begins alike, or cannot be written.
pub fn write_run_files(dir: &RunDir, identity: &str, stage: &StageFile) -> Result<(), RundirError> {
    match read_bytes(&dir.identity())? {
        Some(found) if found == identity.as_bytes() => {}
        Some(found) if names_folder(dir, &found) => {
            return Err(RundirError::OtherRun {
                path: dir.identity(),
                run: stage.run.clone(),
            });
        }
        // What is damaged names no run.
        _ => write_renamed(&dir.identity(), identity.as_bytes())?,
    }
    let text = to_json(&dir.stage(), stage)?;
    if read_bytes(&dir.stage())?.as_deref() != Some(text.as_bytes()) {
        write_renamed(&dir.stage(), text.as_bytes())?;
    }
    Ok(())
}

/// Whether a folder is that of the run with this identity document.
fn names_folder(dir: &RunDir, identity: &[u8]) -> bool {
    let name = dir.path().file_name().unwrap_or_default();
    digest_bytes(identity).short() == name.to_string_lossy()
}

/// Writes again what describes a finished run and is damaged: its stage, which is `planned`, and the
/// provenance of the attempt that made it, as far as it is known. A stage that a later version wrote is
/// not damaged.
///
/// # Errors
/// A file cannot be read or written.
pub fn mend_descriptions(
    dir: &RunDir,
    identity: &str,
    planned: &StageFile,
    outcome: &Outcome,
) -> Result<(), RundirError> {
    let head = read_stage_head(dir);
    let is_later = matches!(head, Err(RundirError::TooNew { .. }));
    let is_whole = head.is_ok_and(|head| {
        let task = planned.task.kind();
        (&head.run, head.kind(), head.seed) == (&planned.run, task, planned.seed)
    });
    let same_identity = || -> Result<bool, RundirError> {
        Ok(read_bytes(&dir.identity())?.as_deref() == Some(identity.as_bytes()))
    };
    if !(is_later || is_whole && same_identity()?) {
        write_run_files(dir, identity, planned)?;
    }
    let attempt = dir.attempt(outcome.attempt);
    if !matches!(read_provenance(&attempt), Err(RundirError::Parse { .. })) {
        return Ok(());
    }
    let events = read_events(&attempt.events())?;
    let device = events.iter().find_map(|event| match event {
        AttemptEvent::Started { device } => Some(*device),
        _ => None,
    });
    let unknown = || "unknown".to_owned();
    let provenance = Provenance {
        format: PROVENANCE_FORMAT,
        version: unknown(),
        argv: Vec::new(),
        host: unknown(),
        pid: 0,
        device: device.unwrap_or(Device::Cpu),
        started: outcome.started,
        facts: Facts::default(),
    };
    write_provenance(&attempt, &provenance)
}

/// As [`write_atomic`], but left to the system when it reaches the disk: these files are written
/// again if need be, and [`crate::rundir::publish()`] syncs them before there is an outcome.
pub(super) fn write_renamed(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| PathError::new("create", parent, e))?;
    }
    let temp = path.with_extension("json.tmp");
    let written = File::create(&temp)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&temp, path));
    written.map_err(|e| PathError::new("write", path, e))
}

/// The identity document of a run's folder, if it is there.
///
/// # Errors
/// It cannot be read.
pub fn read_identity(dir: &RunDir) -> Result<Option<String>, RundirError> {
    read_optional(&dir.identity())
}

/// What the run is to do.
///
/// # Errors
/// The file is missing, cannot be read, is no stage of this version's form, or is of a later version.
pub fn read_stage(dir: &RunDir) -> Result<StageFile, RundirError> {
    let path = dir.stage();
    let text = crate::base::fs::read_to_string(&path)?;
    check_format(&path, &text, STAGE_FORMAT)?;
    from_json(&path, &text)
}

/// What reports and the store need of `stage.json`, whichever version wrote it.
///
/// Executing a run takes [`read_stage`], whose recipe has to be today's; this one leaves recipes and
/// settings alone, so that finished runs stay readable when those change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StageHead {
    /// The run.
    pub run: RunId,
    task: TaskHead,
    /// Seed of the stage.
    pub seed: u64,
    #[serde(default)]
    inputs: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct TaskHead {
    stage: StageKind,
}

impl StageHead {
    /// The kind of work.
    pub fn kind(&self) -> StageKind {
        self.task.stage
    }

    /// The runs that it needs.
    pub fn parents(&self) -> Vec<RunId> {
        let ids = self.inputs.values();
        let ids = ids.filter_map(|input| input["run"]["id"].as_str());
        ids.map(|id| RunId(id.to_owned())).collect()
    }
}

/// What was stored of a run's stage, by any version up to this one.
///
/// # Errors
/// The file is missing, cannot be read or understood, or is of a later version.
pub fn read_stage_head(dir: &RunDir) -> Result<StageHead, RundirError> {
    let path = dir.stage();
    let missing = || PathError::new("read", &path, io::ErrorKind::NotFound.into());
    let text = read_optional(&path)?.ok_or_else(missing)?;
    check_format(&path, &text, STAGE_FORMAT)?;
    from_json(&path, &text)
}

/// The stage's last act; `out/` must be complete and synced before.
///
/// # Errors
/// The file cannot be written.
pub fn write_result(dir: &AttemptDir, result: &StageResult) -> Result<(), RundirError> {
    let path = dir.result();
    write_checked(&path, result)
}

/// What a finished attempt says of itself; nothing if it did not finish.
///
/// # Errors
/// The file cannot be read, is of a later version, or is not as it was written.
pub fn read_result(dir: &AttemptDir) -> Result<Option<StageResult>, RundirError> {
    read_checked(&dir.result())
}

/// The marker that the run is done; nothing if it is not.
///
/// # Errors
/// The file cannot be read, is of a later version, or is not as it was written.
pub fn read_outcome(dir: &RunDir) -> Result<Option<Outcome>, RundirError> {
    read_checked(&dir.outcome())
}

pub(crate) fn write_outcome(dir: &RunDir, outcome: &Outcome) -> Result<(), RundirError> {
    write_checked(&dir.outcome(), outcome)
}

/// Writes the digests of what an attempt made, before its result: between the two and the publishing
/// may lie a loss of power.
///
/// # Errors
/// The file cannot be written.
pub fn write_made(dir: &AttemptDir, made: &[Artifact]) -> Result<(), RundirError> {
    let made = Made {
        format: OUTCOME_FORMAT,
        files: made.to_vec(),
    };
    write_checked(&dir.made(), &made)
}

/// The digests of what an attempt made; nothing if it recorded none, as attempts of earlier versions.
///
/// # Errors
/// The file cannot be read, is of a later version, or is not as it was written.
pub(crate) fn read_made(dir: &AttemptDir) -> Result<Option<Vec<Artifact>>, RundirError> {
    Ok(read_checked::<Made>(&dir.made())?.map(|made| made.files))
}

#[derive(Serialize, Deserialize)]
struct Made {
    format: u32,
    files: Vec<Artifact>,
}

/// From this version on results and outcomes carry a digest of themselves, and attempts record what
/// they made.
const CHECKED_SINCE: u32 = 2;

fn write_checked<T: Serialize>(path: &Path, value: &T) -> Result<(), RundirError> {
    let text = with_check(&to_json(path, value)?);
    Ok(write_atomic(path, text.as_bytes())?)
}

fn read_checked<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, RundirError> {
    let Some(bytes) = read_bytes(path)? else {
        return Ok(None);
    };
    let damaged = |why: String| RundirError::Damaged {
        path: path.to_owned(),
        why,
    };
    let text = String::from_utf8(bytes).map_err(|e| damaged(e.to_string()))?;
    let check = is_as_written(&text);
    if check != Some(false) {
        let AnyFormat { format } =
            serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        check_format(path, &text, OUTCOME_FORMAT)?;
        if check == Some(true) || format < CHECKED_SINCE {
            let value = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
            return Ok(Some(value));
        }
    }
    Err(damaged("it is not as it was written".to_owned()))
}

/// Writes who executes an attempt.
///
/// # Errors
/// The file cannot be written.
pub fn write_provenance(dir: &AttemptDir, provenance: &Provenance) -> Result<(), RundirError> {
    let path = dir.provenance();
    Ok(write_atomic(&path, to_json(&path, provenance)?.as_bytes())?)
}

/// Who executed an attempt, if it got that far.
///
/// # Errors
/// The file cannot be read or understood, or is of a later version.
pub fn read_provenance(dir: &AttemptDir) -> Result<Option<Provenance>, RundirError> {
    read_versioned(&dir.provenance(), PROVENANCE_FORMAT)
}

/// Numbers of the attempts that have a folder, ascending.
///
/// # Errors
/// The folder of attempts cannot be listed.
pub fn attempt_numbers(dir: &RunDir) -> Result<Vec<u32>, RundirError> {
    let path = dir.attempts();
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(PathError::new("read", path, e).into()),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| PathError::new("read", &path, e))?;
        numbers.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number of a run's last attempt, if a process holds its folder.
///
/// # Errors
/// As [`attempt_numbers`] and [`is_locked`].
pub fn attempt_at_work(dir: &RunDir) -> Result<Option<u32>, RundirError> {
    match attempt_numbers(dir)?.last() {
        Some(number) if is_locked(dir.attempt(*number).path())? => Ok(Some(*number)),
        _ => Ok(None),
    }
}

/// The folders of every run below `results/runs` of the project at `root`, in name order.
///
/// # Errors
/// `results/runs` cannot be listed.
pub fn run_folders(root: &Path) -> Result<Vec<PathBuf>, RundirError> {
    let path = root.join("results/runs");
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(PathError::new("read", path, e).into()),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| PathError::new("read", &path, e))?;
        if entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// The last `lines` lines of a log, read from its end; empty if there is no file.
///
/// # Errors
/// The file cannot be read.
pub fn tail_lines(path: &Path, lines: usize) -> Result<Vec<String>, RundirError> {
    const MOST: u64 = 64 * 1024;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(PathError::new("read", path, e).into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    Ok(all.into_iter().skip(from).map(str::to_owned).collect())
}

#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

pub(super) fn read_versioned<T: serde::de::DeserializeOwned>(
    path: &Path,
    known: u32,
) -> Result<Option<T>, RundirError> {
    let Some(text) = read_optional(path)? else {
        return Ok(None);
    };
    check_format(path, &text, known)?;
    from_json(path, &text).map(Some)
}

fn check_format(path: &Path, text: &str, known: u32) -> Result<(), RundirError> {
    let AnyFormat { format: found } = from_json(path, text)?;
    if found > known {
        return Err(RundirError::TooNew {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(())
}

/// The text of a file, what is no UTF-8 replaced: that is damage, which its reader names.
fn read_optional(path: &Path) -> Result<Option<String>, RundirError> {
    let bytes = read_bytes(path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, RundirError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(PathError::new("read", path, e).into()),
    }
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, RundirError> {
    serde_json::from_str(text).map_err(|source| RundirError::Parse {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<String, RundirError> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|source| RundirError::Parse {
        path: path.to_owned(),
        source,
    })?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rundir::lock::FolderLock;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(tail_lines(&path, 2).unwrap(), Vec::<String>::new());
        write_atomic(&path, b"a\nb\nc").unwrap();
        assert_eq!(tail_lines(&path, 2).unwrap(), ["b", "c"]);
    }

    #[test]
    fn a_result_of_a_later_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let attempt = RunDir::new(dir.path(), &RunId("ab".repeat(32))).attempt(1);
        write_atomic(&attempt.result(), b"{\"format\": 3, \"shape\": \"new\"}").unwrap();
        let error = read_result(&attempt).unwrap_err().to_string();
        assert!(
            error.ends_with("has format 3, this build knows up to 2"),
            "{error}"
        );
    }

    #[test]
    fn the_head_of_a_stage_is_read_whatever_its_recipe_and_settings_are() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), &RunId("ab".repeat(32)));
        let text = r#"{"format": 1, "run": "abab", "seed": 7, "novel": 1, "task":
            {"stage": "dpo", "recipe": {"of": "another age"}}, "inputs":
            {"base": {"folder": {"path": "m"}}, "novel": {"run": {"id": "cdcd"}}}}"#;
        write_atomic(&run.stage(), text.as_bytes()).unwrap();
        assert!(read_stage(&run).is_err());
        let head = read_stage_head(&run).unwrap();
        assert_eq!((head.kind(), head.seed), (StageKind::Dpo, 7));
        assert_eq!(head.parents(), [RunId("cdcd".to_owned())]);
        write_atomic(
            &run.stage(),
            text.replace("1, \"run", "9, \"run").as_bytes(),
        )
        .unwrap();
        let error = read_stage_head(&run).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }

    #[test]
    fn a_stage_of_a_later_version_is_left_alone_and_a_damaged_one_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let (_, plan) = crate::store::testing::grid(&[0.1], &[10], &[1]);
        let planned = &plan.runs[0];
        let run = RunDir::new(dir.path(), &planned.id);
        let outcome = crate::store::testing::outcome(&planned.id, 1, 0.5);
        let mend = || mend_descriptions(&run, &planned.identity, &planned.stage, &outcome);
        write_run_files(&run, &planned.identity, &planned.stage).unwrap();
        let whole = std::fs::read_to_string(run.stage()).unwrap();
        let later = whole.replace(&format!("\"format\": {STAGE_FORMAT}"), "\"format\": 99");
        assert_ne!(later, whole);
        for (before, after) in [(later.as_str(), later.as_str()), ("?", whole.as_str())] {
            write_atomic(&run.stage(), before.as_bytes()).unwrap();
            mend().unwrap();
            assert_eq!(std::fs::read_to_string(run.stage()).unwrap(), after);
        }
    }

    #[test]
    fn numbers_of_attempts_come_in_order_and_other_folders_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), &RunId("ab".repeat(32)));
        assert_eq!(attempt_numbers(&run).unwrap(), Vec::<u32>::new());
        for name in ["010", "002", "notes"] {
            std::fs::create_dir_all(run.attempts().join(name)).unwrap();
        }
        assert_eq!(attempt_numbers(&run).unwrap(), [2, 10]);
    }

    #[test]
    fn an_attempt_is_at_work_as_long_as_its_folder_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), &RunId("ab".repeat(32)));
        assert_eq!(attempt_at_work(&run).unwrap(), None);
        for number in [1, 2] {
            std::fs::create_dir_all(run.attempt(number).path()).unwrap();
        }
        assert_eq!(attempt_at_work(&run).unwrap(), None);
        let lock = FolderLock::try_take(run.attempt(2).path()).unwrap();
        assert!(lock.is_some());
        assert_eq!(attempt_at_work(&run).unwrap(), Some(2));
        drop(lock);
        assert_eq!(attempt_at_work(&run).unwrap(), None);
    }
}
