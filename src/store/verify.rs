//! Whether everything that was stored still is what was stored.

use crate::base::{Digest, digest_bytes};
use crate::plan::RunId;
use crate::rundir::{
    Outcome, RunDir, RundirError, Verify, attempt_numbers, read_identity, read_provenance,
    read_stage_head, run_folders, verified_outcome,
};
use crate::store::error::StoreError;
use crate::store::open::{ReadStore, STORE_PATH};
use serde::Serialize;
use std::error::Error;
use std::path::Path;

/// What is the matter with something stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// An outcome or an artifact is not what was published: the run has to be done again.
    Result,
    /// A file that only describes the run; it is written again.
    Description,
    /// It cannot be told, as where permission is denied.
    Unreadable,
    /// The database, which can be made anew.
    Database,
}

/// Something stored that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What kind.
    pub trouble: Trouble,
    /// The run, by the name of its folder; none for the database.
    pub run: Option<String>,
    /// The whole story, with the file's name.
    pub message: String,
}

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Folders of runs.
    pub runs: usize,
    /// Published files that were read.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// In the order of the runs.
    pub damage: Vec<Damage>,
}

/// Reads everything that the run folders and the database of the project at `root` hold, and
/// compares digests. Changes nothing.
///
/// # Errors
/// The folder of runs cannot be listed.
pub fn verify(root: &Path) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    let mut outcomes = Vec::new();
    for path in run_folders(root)? {
        verified.runs += 1;
        outcomes.extend(verify_folder(root, &path, &mut verified));
    }
    if root.join(STORE_PATH).exists()
        && let Err(error) = verify_database(root, &outcomes, &mut verified.damage)
    {
        verified.damage.push(of_database(chain(&error)));
    }
    Ok(verified)
}

fn verify_folder(root: &Path, path: &Path, verified: &mut Verified) -> Option<Outcome> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir = RunDir::new(root, &RunId(name.clone().into_owned()));
    let mut tell = |trouble, message: String| {
        let run = Some(name.clone().into_owned());
        verified.damage.push(Damage {
            trouble,
            run,
            message,
        });
    };
    match read_identity(&dir) {
        Ok(Some(text)) => {
            let Digest(id) = digest_bytes(text.as_bytes());
            if !id.starts_with(&*name) {
                let path = dir.identity();
                let message = format!("`{}` is of another run, or damaged", path.display());
                tell(Trouble::Description, message);
            }
        }
        Ok(None) => {
            let path = dir.identity();
            tell(
                Trouble::Description,
                format!("`{}` is missing", path.display()),
            );
        }
        Err(error) => tell(trouble_of(&error, Trouble::Description), chain(&error)),
    }
    if let Err(error) = read_stage_head(&dir) {
        tell(trouble_of(&error, Trouble::Description), chain(&error));
    }
    for number in attempt_numbers(&dir).unwrap_or_default() {
        if let Err(error) = read_provenance(&dir.attempt(number)) {
            tell(trouble_of(&error, Trouble::Description), chain(&error));
        }
    }
    match verified_outcome(&dir, Verify::Digests) {
        Ok(outcome) => {
            let files = outcome.iter().flat_map(|outcome| &outcome.artifacts);
            for file in files {
                verified.files += 1;
                verified.bytes += file.bytes;
            }
            outcome
        }
        Err(error) => {
            tell(trouble_of(&error, Trouble::Result), chain(&error));
            None
        }
    }
}

/// What cannot be read may be whole.
fn trouble_of(error: &RundirError, otherwise: Trouble) -> Trouble {
    match error {
        RundirError::Path(error) if !crate::base::fs::is_gone(&error.source) => Trouble::Unreadable,
        RundirError::TooNew { .. } => Trouble::Unreadable,
        _ => otherwise,
    }
}

/// The file is whole, and says of each run what its outcome says.
fn verify_database(
    root: &Path,
    outcomes: &[Outcome],
    damage: &mut Vec<Damage>,
) -> Result<(), StoreError> {
    let store = ReadStore::of_project(root)?;
    let says: String = store
        .conn
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if says != "ok" {
        damage.push(of_database(format!("the database is damaged: {says}")));
        return Ok(());
    }
    for outcome in outcomes {
        let stored = store.artifacts(&outcome.run)?;
        let mut named = outcome.artifacts.clone();
        named.sort_by(|a, b| a.path.cmp(&b.path));
        let same = stored.len() == named.len()
            && stored.iter().zip(&named).all(|(row, file)| {
                (&row.path, row.bytes, &row.digest) == (&file.path, file.bytes, &file.digest)
            });
        let metrics = store.metrics(&outcome.run)?;
        let same = same && metrics.keys().eq(outcome.result.metrics.keys());
        // A run that the database does not know is no damage: the next `lions run` adds it.
        if !same && store.run(&outcome.run).is_ok() {
            let run = outcome.run.short();
            let message = format!("the database tells of run {run} what its outcome does not");
            damage.push(of_database(message));
        }
    }
    Ok(())
}

fn of_database(message: String) -> Damage {
    Damage {
        trouble: Trouble::Database,
        run: None,
        message,
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        source = cause.source();
    }
    text
}
