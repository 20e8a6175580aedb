//! Files of finished runs that were deleted to make room.
//!
//! `collected.json` names them before they go: the run stays done without them. A run that needs one has
//! to have it made again.

use crate::base::PathError;
use crate::base::fs::is_gone;
use crate::plan::{InputRef, Plan, PlannedRun, RunId};
use crate::rundir::error::RundirError;
use crate::rundir::files::{read_outcome, to_json, write_renamed};
use crate::rundir::layout::RunDir;
use crate::rundir::lock::FolderLock;
use std::collections::BTreeSet;
use std::path::Path;

/// What was deleted of a run, by path under `artifacts/`; nothing if nothing was.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn read_collected(dir: &RunDir) -> Result<BTreeSet<String>, RundirError> {
    let path = dir.collected();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if is_gone(&e) => return Ok(BTreeSet::new()),
        Err(e) => return Err(PathError::new("read", path, e).into()),
    };
    serde_json::from_str(&text).map_err(|error| RundirError::Damaged {
        path,
        why: error.to_string(),
    })
}

/// Deletes published files of a finished run, named by path under `artifacts/`. Gives the bytes that they had.
///
/// # Errors
/// The run has no outcome that names them, or a file cannot be written or deleted. What was deleted by then
/// is noted.
pub fn collect(dir: &RunDir, names: &BTreeSet<String>) -> Result<u64, RundirError> {
    let _lock = FolderLock::take(dir.path())?;
    let outcome = read_outcome(dir)?;
    let published = outcome.iter().flat_map(|outcome| &outcome.artifacts);
    let named: BTreeSet<String> = published
        .map(|file| file.path.clone())
        .filter(|path| names.contains(path))
        .collect();
    let mut noted = read_collected(dir)?;
    noted.extend(named.iter().cloned());
    // First: a file that is gone without a note is a damaged result.
    let text = to_json(&dir.collected(), &noted)?;
    write_renamed(&dir.collected(), text.as_bytes())?;
    let mut bytes = 0;
    for name in &named {
        bytes += delete(&dir.artifacts().join(name))?;
    }
    for folder in named.iter().filter_map(|name| Path::new(name).parent()) {
        // One that still holds something stays.
        drop(std::fs::remove_dir(dir.artifacts().join(folder)));
    }
    Ok(bytes)
}

fn delete(path: &Path) -> Result<u64, PathError> {
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    match std::fs::remove_file(path) {
        Err(e) if !is_gone(&e) => Err(PathError::new("remove", path, e)),
        _ => Ok(size),
    }
}

/// Forgets what was deleted, since the run is to be done again.
///
/// # Errors
/// The note cannot be removed.
pub(super) fn forget_collected(dir: &RunDir) -> Result<(), RundirError> {
    delete(&dir.collected())?;
    Ok(())
}

/// Whether a run needs what was deleted of another.
///
/// # Errors
/// As [`read_collected`].
pub fn needs_collected(root: &Path, run: &PlannedRun, parent: &RunId) -> Result<bool, RundirError> {
    let collected = read_collected(&RunDir::new(root, parent))?;
    let mut inputs = run.stage.inputs.values();
    Ok(inputs.any(|input| match input {
        InputRef::Run { id, artifact } if id == parent => {
            let mut paths = collected.iter();
            paths.any(|path| Path::new(path).starts_with(artifact))
        }
        _ => false,
    }))
}

/// The runs that have to be done again for what was deleted of them, since one that is not done needs it.
///
/// # Errors
/// As [`read_collected`].
pub fn needed_again(
    root: &Path,
    plan: &Plan,
    is_done: impl Fn(&RunId) -> bool,
) -> Result<BTreeSet<RunId>, RundirError> {
    let mut again = BTreeSet::new();
    // What a run that is not done needs has to be there, and so from the last runs to the first.
    for run in plan.runs.iter().rev() {
        if is_done(&run.id) && !again.contains(&run.id) {
            continue;
        }
        for parent in &run.parents {
            if needs_collected(root, run, parent)? {
                again.insert(parent.clone());
            }
        }
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Timestamp, write_atomic};
    use crate::plan::StageKind;
    use crate::rundir::files::write_outcome;
    use crate::rundir::{
        Artifact, OUTCOME_FORMAT, Outcome, StageResult, Usage, Verify, digest_folder,
        verified_outcome, verify_artifact,
    };

    #[test]
    fn a_run_stays_done_without_what_was_deleted_and_nobody_can_use_it() {
        let root = tempfile::tempdir().unwrap();
        let run = RunId("ab".repeat(32));
        let dir = RunDir::new(root.path(), &run);
        for (name, text) in [
            ("model/weights", "12345"),
            ("checkpoints/step-1/weights", "1"),
        ] {
            write_atomic(&dir.artifacts().join(name), text.as_bytes()).unwrap();
        }
        let artifacts: Vec<Artifact> = digest_folder(&dir.artifacts()).unwrap();
        let result = StageResult {
            format: OUTCOME_FORMAT,
            artifacts: vec!["model".into()],
            metrics: [].into(),
            counts: [].into(),
            notes: vec![],
            usage: Usage::default(),
        };
        let outcome = Outcome {
            format: OUTCOME_FORMAT,
            run,
            kind: StageKind::Sft,
            attempt: 1,
            started: Timestamp(1),
            finished: Timestamp(2),
            artifacts,
            result,
        };
        write_outcome(&dir, &outcome).unwrap();
        let names = ["model/weights".to_owned(), "../outcome.json".to_owned()].into();
        assert_eq!(collect(&dir, &names).unwrap(), 5);
        assert!(dir.outcome().is_file() && !dir.artifacts().join("model").exists());
        let found = verified_outcome(&dir, Verify::Digests).unwrap();
        assert_eq!(found, Some(outcome));
        verify_artifact(&dir, "checkpoints").unwrap();
        let error = verify_artifact(&dir, "model").unwrap_err().to_string();
        assert!(error.contains("`lions gc` deleted it"), "{error}");
        forget_collected(&dir).unwrap();
        assert!(verified_outcome(&dir, Verify::Sizes).is_err());
    }
}
