//! Whether published files still are what their outcome names.
//!
//! A digest decides. So that a large model is not read again by every run that uses it, the runner
//! keeps with the outcome the stamps of the files that it has digested (`seal.json`): a file whose
//! stamp has not moved is the file that was digested. The seal is no part of the result; without it
//! everything is read once more.

use crate::base::fs::is_gone;
use crate::base::{Digest, PathError, Stamp, counted, digest_file};
use crate::rundir::collected::read_collected;
use crate::rundir::error::RundirError;
use crate::rundir::files::{read_outcome, to_json, write_renamed};
use crate::rundir::layout::RunDir;
use crate::rundir::outcome::{Artifact, Outcome};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

/// How closely [`verified_outcome`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Every file is there and has its size.
    Sizes,
    /// Every file that was touched since it was last digested has its digest.
    Changed,
    /// Every file is read and has its digest.
    Digests,
}

/// Stamps of files that had their digest when they were read, by path under `artifacts/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    files: BTreeMap<String, Sealed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sealed {
    stamp: Stamp,
    digest: Digest,
}

impl Seal {
    /// That of a run; one that is missing or damaged vouches for nothing.
    fn read(dir: &RunDir) -> Self {
        let text = std::fs::read_to_string(dir.seal()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Keeps it with the outcome. It saves time and nothing else, so that a folder that cannot be
    /// written to is no error.
    pub(super) fn write(&self, dir: &RunDir) {
        let written = to_json(&dir.seal(), self)
            .and_then(|text| Ok(write_renamed(&dir.seal(), text.as_bytes())?));
        if let Err(error) = written {
            tracing::debug!("the seal is not kept: {error}");
        }
    }

    /// Digests a file; its stamp is kept if it had settled at `moment`, which is before the reading.
    pub(super) fn digest(
        &mut self,
        path: &Path,
        name: &str,
        moment: SystemTime,
    ) -> Result<Digest, PathError> {
        let meta = std::fs::metadata(path).map_err(|e| PathError::new("read", path, e))?;
        let stamp = Stamp::of(&meta);
        let digest = digest_file(path)?;
        self.files.remove(name);
        if stamp.is_settled(moment) {
            let digest = digest.clone();
            self.files.insert(name.to_owned(), Sealed { stamp, digest });
        }
        Ok(digest)
    }

    fn vouches(&self, artifact: &Artifact, stamp: &Stamp) -> bool {
        let known = self.files.get(&artifact.path);
        known.is_some_and(|known| known.stamp == *stamp && known.digest == artifact.digest)
    }
}

/// The outcome of a run whose files are all there; nothing if there is no outcome.
///
/// # Errors
/// [`RundirError::Damaged`] if the outcome, or a file that it names, is missing or differs; another
/// error if it cannot be told, as where permission is denied.
pub fn verified_outcome(dir: &RunDir, verify: Verify) -> Result<Option<Outcome>, RundirError> {
    let Some(outcome) = read_outcome(dir)? else {
        return Ok(None);
    };
    let mut seal = Seal::read(dir);
    let collected = read_collected(dir)?;
    for artifact in kept(&outcome, &collected) {
        verify_file(dir, artifact, verify, &mut seal, SystemTime::now())?;
    }
    Ok(Some(outcome))
}

/// As [`verified_outcome`] with [`Verify::Changed`], and keeps the stamps of what it had to read: for
/// the runner alone.
///
/// # Errors
/// As [`verified_outcome`].
pub fn sealed_outcome(dir: &RunDir) -> Result<Option<Outcome>, RundirError> {
    sealed_at(dir, SystemTime::now())
}

/// As [`sealed_outcome`], with what has settled at `moment`.
pub(super) fn sealed_at(dir: &RunDir, moment: SystemTime) -> Result<Option<Outcome>, RundirError> {
    let Some(outcome) = read_outcome(dir)? else {
        return Ok(None);
    };
    let before = Seal::read(dir);
    let mut seal = before.clone();
    let collected = read_collected(dir)?;
    for artifact in kept(&outcome, &collected) {
        verify_file(dir, artifact, Verify::Changed, &mut seal, moment)?;
    }
    if seal != before {
        seal.write(dir);
    }
    Ok(Some(outcome))
}

/// Verifies a published file or folder, by its name under `artifacts/`, for a run that needs it.
///
/// # Errors
/// As [`verified_outcome`]; also if the run has no outcome.
pub fn verify_artifact(dir: &RunDir, name: &str) -> Result<(), RundirError> {
    let outcome = read_outcome(dir)?.ok_or_else(|| RundirError::Damaged {
        path: dir.outcome(),
        why: "missing".to_owned(),
    })?;
    let mut seal = Seal::read(dir);
    let named = outcome.artifacts.iter();
    let collected = read_collected(dir)?;
    for artifact in named.filter(|file| Path::new(&file.path).starts_with(name)) {
        if collected.contains(&artifact.path) {
            return Err(RundirError::Damaged {
                path: dir.artifacts().join(&artifact.path),
                why: "`lions gc` deleted it".to_owned(),
            });
        }
        verify_file(dir, artifact, Verify::Changed, &mut seal, SystemTime::now())?;
    }
    Ok(())
}

/// The files that are to be there.
fn kept<'o>(
    outcome: &'o Outcome,
    collected: &BTreeSet<String>,
) -> impl Iterator<Item = &'o Artifact> {
    let files = outcome.artifacts.iter();
    files.filter(|file| !collected.contains(&file.path))
}

fn verify_file(
    dir: &RunDir,
    artifact: &Artifact,
    verify: Verify,
    seal: &mut Seal,
    moment: SystemTime,
) -> Result<(), RundirError> {
    let path = dir.artifacts().join(&artifact.path);
    let damaged = |why: String| RundirError::Damaged {
        path: path.clone(),
        why,
    };
    let meta = match std::fs::metadata(&path) {
        Ok(meta) => meta,
        Err(e) if is_gone(&e) => return Err(damaged("missing".into())),
        Err(e) => return Err(PathError::new("read", path, e).into()),
    };
    let (found, wanted) = (meta.len(), artifact.bytes);
    if found != wanted {
        let found = counted(found, "byte");
        return Err(damaged(format!("{found} instead of {wanted}")));
    }
    let trusted = match verify {
        Verify::Sizes => true,
        Verify::Changed => seal.vouches(artifact, &Stamp::of(&meta)),
        Verify::Digests => false,
    };
    if trusted || seal.digest(&path, &artifact.path, moment)? == artifact.digest {
        return Ok(());
    }
    seal.files.remove(&artifact.path);
    Err(damaged("another content".into()))
}
