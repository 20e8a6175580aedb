//! Turns a finished attempt into the run's outcome.

use crate::base::{PathError, Timestamp};
use crate::plan::{RunId, StageKind};
use crate::rundir::error::RundirError;
use crate::rundir::files::{read_made, read_outcome, read_result, write_outcome};
use crate::rundir::layout::{AttemptDir, RunDir};
use crate::rundir::lock::FolderLock;
use crate::rundir::outcome::{Artifact, OUTCOME_FORMAT, Outcome, StageResult};
use crate::rundir::seal::Seal;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is published, and when the attempt began and ended.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The run.
    pub run: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// The attempt whose `result.json` is there.
    pub attempt: u32,
    /// When the attempt began.
    pub started: Timestamp,
    /// Now.
    pub finished: Timestamp,
}

/// Publishes an attempt: its `out/` becomes `artifacts/` by one rename, every file is digested and
/// synced, and `outcome.json` is written last.
///
/// Safe to repeat after a stop at any point, and from several processes at once: a lock on the
/// run's folder orders them, and whoever comes second is given the outcome that is there. What lay
/// in `artifacts/` without an outcome is removed.
///
/// # Errors
/// `result.json` or `made.json` is missing or not understood, an artifact is missing or not as it was
/// made, or a file cannot be moved, read or written. Nothing is lost then: the call can be repeated.
pub fn publish(dir: &RunDir, what: &Publication) -> Result<Outcome, RundirError> {
    let _lock = FolderLock::take(dir.path())?;
    if let Some(outcome) = read_outcome(dir)? {
        return Ok(outcome);
    }
    let attempt = dir.attempt(what.attempt);
    let result = read_result(&attempt)?.ok_or_else(|| {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        PathError::new("read", attempt.result(), missing)
    })?;
    // Before anything is moved: without the digests nothing says that these are the files that were made.
    let made = made_by(&attempt)?;
    move_artifacts(dir, &attempt, &result)?;
    sync_if_there(&dir.identity())?;
    sync_if_there(&dir.stage())?;
    let mut seal = Seal::default();
    let outcome = Outcome {
        format: OUTCOME_FORMAT,
        run: what.run.clone(),
        kind: what.kind,
        attempt: what.attempt,
        started: what.started,
        finished: what.finished,
        artifacts: as_made(dir, &made, &mut seal)?,
        result,
    };
    write_outcome(dir, &outcome)?;
    seal.write(dir);
    tracing::debug!(run = %what.run, attempt = what.attempt, "published");
    Ok(outcome)
}

fn sync_if_there(path: &Path) -> Result<(), RundirError> {
    match fs::File::open(path).and_then(|file| file.sync_all()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(PathError::new("sync", path, e).into())
        }
        _ => Ok(()),
    }
}

/// A mark in the attempt's folder, made before `out/` is renamed: only then may `artifacts/` be
/// taken for this attempt's when `out/` is gone.
fn mark(attempt: &AttemptDir) -> PathBuf {
    attempt.path().join("publishing")
}

fn move_artifacts(
    dir: &RunDir,
    attempt: &AttemptDir,
    result: &StageResult,
) -> Result<(), RundirError> {
    let (out, artifacts) = (attempt.out(), dir.artifacts());
    if out.is_dir() {
        require(&out, &result.artifacts)?;
        keep_only(&out, &result.artifacts)?;
        fs::File::create(mark(attempt)).map_err(|e| PathError::new("create", mark(attempt), e))?;
        remove_folder(&artifacts)?;
        fs::rename(&out, &artifacts).map_err(|e| PathError::new("move", &out, e))?;
        return Ok(());
    }
    if !mark(attempt).exists() {
        remove_folder(&artifacts)?; // another attempt's
    }
    fs::create_dir_all(&artifacts).map_err(|e| PathError::new("create", &artifacts, e))?;
    require(&artifacts, &result.artifacts)
}

fn require(folder: &Path, names: &[String]) -> Result<(), RundirError> {
    match names.iter().find(|name| !folder.join(name).exists()) {
        Some(name) => Err(RundirError::NoArtifact {
            name: name.clone(),
            dir: folder.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Removes what the stage left in `out/` without naming it, for example a temporary file.
fn keep_only(out: &Path, names: &[String]) -> Result<(), RundirError> {
    for path in entries(out)? {
        let named = names.iter().any(|name| out.join(name).starts_with(&path));
        if !named && path.is_dir() {
            remove_folder(&path)?;
        } else if !named {
            fs::remove_file(&path).map_err(|e| PathError::new("remove", &path, e))?;
        }
    }
    Ok(())
}

/// The files that an attempt recorded as made. Versions that recorded none left nothing by which their
/// unpublished results could be trusted: those are made again.
fn made_by(attempt: &AttemptDir) -> Result<Vec<Artifact>, RundirError> {
    read_made(attempt)?.ok_or_else(|| RundirError::Damaged {
        path: attempt.made(),
        why: "missing".to_owned(),
    })
}

/// The published files, which must be those that were made.
fn as_made(dir: &RunDir, made: &[Artifact], seal: &mut Seal) -> Result<Vec<Artifact>, RundirError> {
    let published = digest_artifacts(&dir.artifacts(), seal)?;
    for made in made {
        let found = published.iter().find(|file| file.path == made.path);
        if found != Some(made) {
            return Err(RundirError::Damaged {
                path: dir.artifacts().join(&made.path),
                why: "another content than the attempt wrote".to_owned(),
            });
        }
    }
    Ok(published)
}

/// Every file below a folder with its digest, by path.
///
/// # Errors
/// A file cannot be read.
pub fn digest_folder(folder: &Path) -> Result<Vec<Artifact>, RundirError> {
    digest_artifacts(folder, &mut Seal::default())
}

fn digest_artifacts(artifacts: &Path, seal: &mut Seal) -> Result<Vec<Artifact>, RundirError> {
    let mut files = Vec::new();
    collect_files(artifacts, &mut files)?;
    let mut published = Vec::new();
    for file in files {
        let handle = fs::File::open(&file).map_err(|e| PathError::new("open", &file, e))?;
        handle
            .sync_all()
            .map_err(|e| PathError::new("sync", &file, e))?;
        let bytes = handle
            .metadata()
            .map_err(|e| PathError::new("read", &file, e))?
            .len();
        let name = file.strip_prefix(artifacts).unwrap_or(&file);
        let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("/");
        published.push(Artifact {
            digest: seal.digest(&file, &name, SystemTime::now())?,
            path: name,
            bytes,
        });
    }
    published.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(published)
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), RundirError> {
    for path in entries(folder)? {
        if path.is_dir() {
            collect_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, RundirError> {
    let read = fs::read_dir(folder).and_then(|all| all.map(|e| Ok(e?.path())).collect());
    Ok(read.map_err(|e| PathError::new("read", folder, e))?)
}

fn remove_folder(folder: &Path) -> Result<(), RundirError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(PathError::new("remove", folder, e).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic;
    use crate::rundir::files::{write_made, write_result};
    use crate::rundir::outcome::Usage;
    use crate::rundir::seal::{Verify, sealed_at, verified_outcome};
    use std::time::Duration;

    fn run_id() -> RunId {
        RunId("5a".repeat(32))
    }

    fn finished_attempt(root: &Path, number: u32, text: &str) -> RunDir {
        let dir = RunDir::new(root, &run_id());
        let attempt = dir.attempt(number);
        write_atomic(&attempt.out().join("model/weights"), text.as_bytes()).unwrap();
        write_atomic(&attempt.out().join("rows.jsonl"), b"{}\n").unwrap();
        write_atomic(&attempt.out().join("leftover.tmp"), b"?").unwrap();
        let mut made = digest_folder(&attempt.out()).unwrap();
        made.retain(|file| file.path != "leftover.tmp");
        write_made(&attempt, &made).unwrap();
        write_result(&attempt, &result()).unwrap();
        dir
    }

    fn result() -> StageResult {
        StageResult {
            format: OUTCOME_FORMAT,
            artifacts: vec!["model".into(), "rows.jsonl".into()],
            metrics: [].into(),
            counts: [].into(),
            notes: vec![],
            usage: Usage::default(),
        }
    }

    fn publication(attempt: u32) -> Publication {
        Publication {
            run: run_id(),
            kind: StageKind::Sft,
            attempt,
            started: Timestamp(1),
            finished: Timestamp(2),
        }
    }

    fn paths(outcome: &Outcome) -> Vec<&str> {
        outcome.artifacts.iter().map(|a| a.path.as_str()).collect()
    }

    #[test]
    fn publishing_moves_what_the_result_names_and_digests_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "w");
        let outcome = publish(&dir, &publication(1)).unwrap();
        assert_eq!(paths(&outcome), ["model/weights", "rows.jsonl"]);
        assert_eq!(
            verified_outcome(&dir, Verify::Digests).unwrap(),
            Some(outcome)
        );
        assert!(!dir.attempt(1).out().exists());
    }

    #[test]
    fn publishing_twice_gives_the_first_outcome() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "w");
        let first = publish(&dir, &publication(1)).unwrap();
        finished_attempt(root.path(), 2, "other");
        assert_eq!(publish(&dir, &publication(2)).unwrap(), first);
    }

    #[test]
    fn publishing_goes_on_after_a_stop_between_the_move_and_the_outcome() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "w");
        move_artifacts(&dir, &dir.attempt(1), &result()).unwrap();
        let outcome = publish(&dir, &publication(1)).unwrap();
        assert_eq!(paths(&outcome), ["model/weights", "rows.jsonl"]);
    }

    #[test]
    fn artifacts_of_an_attempt_that_never_got_an_outcome_are_not_mixed_in() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "first");
        move_artifacts(&dir, &dir.attempt(1), &result()).unwrap();
        finished_attempt(root.path(), 2, "second");
        publish(&dir, &publication(2)).unwrap();
        let weights = std::fs::read_to_string(dir.artifacts().join("model/weights")).unwrap();
        assert_eq!(weights, "second");
    }

    #[test]
    fn an_artifact_that_was_not_made_is_named_and_no_outcome_appears() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "w");
        std::fs::remove_file(dir.attempt(1).out().join("rows.jsonl")).unwrap();
        let error = publish(&dir, &publication(1)).unwrap_err();
        assert!(matches!(error, RundirError::NoArtifact { name, .. } if name == "rows.jsonl"));
        assert!(!dir.outcome().exists());
    }

    #[test]
    fn an_outcome_whose_file_shrank_is_damaged() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "weights");
        publish(&dir, &publication(1)).unwrap();
        write_atomic(&dir.artifacts().join("model/weights"), b"w").unwrap();
        let error = verified_outcome(&dir, Verify::Sizes)
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("1 byte instead of 7"), "{error}");
    }

    #[test]
    fn a_sealed_file_is_not_read_again_and_a_change_of_the_same_size_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "weights");
        publish(&dir, &publication(1)).unwrap();
        let sealed = || sealed_at(&dir, SystemTime::now() + Duration::from_secs(3));
        sealed().unwrap();
        let seal = fs::read_to_string(dir.seal()).unwrap();
        assert!(seal.contains("model/weights"), "{seal}");
        // A seal of another digest vouches for nothing; one that is damaged costs a second look.
        sealed().unwrap();
        write_atomic(&dir.seal(), b"{").unwrap();
        sealed().unwrap();

        std::thread::sleep(Duration::from_millis(20)); // so that the next write has another time
        let path = dir.artifacts().join("model/weights");
        let modified = path.metadata().unwrap().modified().unwrap();
        let mut file = fs::File::options().write(true).open(&path).unwrap();
        io::Write::write_all(&mut file, b"Weights").unwrap();
        file.set_modified(modified).unwrap();
        let error = sealed().unwrap_err().to_string();
        assert!(error.ends_with("another content"), "{error}");
    }

    #[test]
    fn a_run_whose_marker_is_gone_is_published_again_from_what_it_made_and_from_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "weights");
        let first = publish(&dir, &publication(1)).unwrap();
        fs::remove_file(dir.outcome()).unwrap();
        assert_eq!(publish(&dir, &publication(1)).unwrap(), first);
        // Without the digests nothing says that these are the files that the attempt made.
        fs::remove_file(dir.outcome()).unwrap();
        fs::remove_file(dir.attempt(1).made()).unwrap();
        let error = publish(&dir, &publication(1)).unwrap_err();
        assert!(
            matches!(&error, RundirError::Damaged { path, .. } if *path == dir.attempt(1).made()),
            "{error}"
        );
        assert!(!dir.outcome().exists());
    }

    #[test]
    fn an_outcome_in_which_a_digit_changed_is_damaged() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "weights");
        publish(&dir, &publication(1)).unwrap();
        let text = fs::read_to_string(dir.outcome()).unwrap();
        write_atomic(
            &dir.outcome(),
            text.replace("\"bytes\": 7", "\"bytes\": 8").as_bytes(),
        )
        .unwrap();
        let error = verified_outcome(&dir, Verify::Sizes)
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("it is not as it was written"), "{error}");
        write_atomic(&dir.outcome(), &text.as_bytes()[..40]).unwrap();
        let error = verified_outcome(&dir, Verify::Sizes).unwrap_err();
        assert!(matches!(error, RundirError::Damaged { .. }), "{error}");
    }

    #[test]
    fn what_nobody_recorded_as_made_is_not_published_and_stays_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "weights");
        fs::remove_file(dir.attempt(1).made()).unwrap();
        let error = publish(&dir, &publication(1)).unwrap_err();
        assert!(
            matches!(&error, RundirError::Damaged { path, .. } if *path == dir.attempt(1).made()),
            "{error}"
        );
        assert!(!dir.outcome().exists() && dir.attempt(1).out().is_dir());
    }

    #[test]
    fn what_changed_between_the_attempt_and_its_publishing_is_not_published() {
        let root = tempfile::tempdir().unwrap();
        let dir = finished_attempt(root.path(), 1, "weights");
        let attempt = dir.attempt(1);
        write_made(&attempt, &digest_folder(&attempt.out()).unwrap()[1..]).unwrap();
        write_atomic(&attempt.out().join("model/weights"), b"Weights").unwrap();
        let error = publish(&dir, &publication(1)).unwrap_err();
        assert!(matches!(error, RundirError::Damaged { .. }), "{error}");
        assert!(!dir.outcome().exists());
    }
}
