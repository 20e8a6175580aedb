//! Whether everything that was stored still is what was stored.

use crate::base::{Digest, chain, digest_bytes};
use crate::plan::RunId;
use crate::queue::RunState;
use crate::rundir::{
    MetricValue, Outcome, RunDir, RundirError, Verify, attempt_numbers, read_identity,
    read_outcome, read_provenance, read_stage_head, run_folders, verified_outcome,
};
use crate::store::error::StoreError;
use crate::store::open::{ReadStore, store_path};
use crate::store::rows::int;
use serde::Serialize;
use std::path::Path;

/// What is the matter with something stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// An outcome or an artifact is gone or not what was published: the run has to be done again.
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
    if store_path(root)?.exists()
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
    match read_stage_head(&dir) {
        Ok(head) if RunDir::new(root, &head.run) != dir => {
            let message = format!("`{}` names run {}", dir.stage().display(), head.run);
            tell(Trouble::Description, message);
        }
        Ok(_) => {}
        Err(error) => tell(trouble_of(&error, Trouble::Description), chain(&error)),
    }
    let numbers = attempt_numbers(&dir).unwrap_or_else(|error| {
        tell(Trouble::Unreadable, chain(&error));
        Vec::new()
    });
    for number in numbers {
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
        let state = store.run(&outcome.run).map(|run| run.state);
        // What the database does not call done is no damage: `lions run` takes it over.
        if !matches!(state, Ok(RunState::Succeeded)) {
            continue;
        }
        let stored = store.artifacts(&outcome.run)?;
        let mut named = outcome.artifacts.clone();
        named.sort_by(|a, b| a.path.cmp(&b.path));
        let same = stored.len() == named.len()
            && stored.iter().zip(&named).all(|(row, file)| {
                (&row.path, row.bytes, &row.digest) == (&file.path, file.bytes, &file.digest)
            });
        let (metrics, told) = (store.metrics(&outcome.run)?, &outcome.result.metrics);
        let same = same && metrics.len() == told.len() && metrics.iter().zip(told).all(same_metric);
        if !same {
            let run = outcome.run.short();
            let message = format!("the database tells of run {run} what its outcome does not");
            damage.push(of_database(message));
        }
    }
    for run in store.succeeded()? {
        let dir = RunDir::new(root, &run);
        // Asked again, since a run may have been published since the folders were read. An outcome that
        // cannot be read was told with its folder.
        let is_gone = read_outcome(&dir).is_ok_and(|found| found.is_none_or(|it| it.run != run));
        if is_gone {
            let path = dir.outcome();
            damage.push(Damage {
                trouble: Trouble::Result,
                run: Some(run.short().to_owned()),
                message: format!(
                    "`{}` is missing, and the database calls the run done",
                    path.display()
                ),
            });
        }
    }
    Ok(())
}

/// Whether the database tells of a metric what the outcome does, as far as it has words for it: none for
/// what is not finite, and none for the sign of zero.
fn same_metric(
    ((key, stored), (name, told)): ((&String, &MetricValue), (&String, &MetricValue)),
) -> bool {
    let bits = |value: Option<f64>| {
        let finite = value.filter(|value| value.is_finite());
        finite.map(|value| (value + 0.0).to_bits())
    };
    key == name
        && bits(Some(stored.value)) == bits(Some(told.value))
        && bits(stored.stderr) == bits(told.stderr)
        && int(stored.n) == int(told.n)
}

fn of_database(message: String) -> Damage {
    Damage {
        trouble: Trouble::Database,
        run: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Timestamp, with_check, write_atomic};
    use crate::rundir::write_run_files;
    use crate::store::open::Store;
    use crate::store::rebuild::rebuild;
    use crate::store::testing::{grid, id, outcome};

    /// A project in whose folders and database the run `sft` is done.
    fn project() -> (tempfile::TempDir, RunDir) {
        let root = tempfile::tempdir().unwrap();
        let (_, plan) = grid(&[0.1], &[10], &[1]);
        for run in &plan.runs {
            let dir = RunDir::new(root.path(), &run.id);
            write_run_files(&dir, &run.identity, &run.stage).unwrap();
        }
        let dir = RunDir::new(root.path(), &id("sft"));
        let text = serde_json::to_string(&outcome(&id("sft"), 1, -0.0));
        let text = with_check(&text.unwrap());
        write_atomic(&dir.outcome(), text.as_bytes()).unwrap();
        std::fs::create_dir_all(dir.attempt(1).path()).unwrap();
        rebuild(root.path(), Timestamp(5)).unwrap();
        (root, dir)
    }

    /// What is told of a kind, by the name of the folder. The identities of [`grid`] name no folders.
    fn told(root: &Path, trouble: Trouble) -> Vec<(Option<String>, String)> {
        let damage = verify(root).unwrap().damage.into_iter();
        let of_it = damage.filter(|damage| damage.trouble == trouble);
        let of_it = of_it.filter(|damage| !damage.message.contains("identity.json"));
        of_it.map(|damage| (damage.run, damage.message)).collect()
    }

    #[test]
    fn a_run_called_done_whose_outcome_or_folder_is_gone_is_told_once() {
        let (root, dir) = project();
        for trouble in [Trouble::Result, Trouble::Database, Trouble::Unreadable] {
            let told = told(root.path(), trouble);
            assert!(told.is_empty(), "{told:?}");
        }
        write_atomic(&dir.outcome(), b"{").unwrap();
        assert_eq!(told(root.path(), Trouble::Result).len(), 1);
        std::fs::remove_file(dir.outcome()).unwrap();
        for _ in 0..2 {
            let told = told(root.path(), Trouble::Result);
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].0.as_deref(), Some(id("sft").short()));
            assert!(told[0].1.contains("outcome.json"), "{told:?}");
            drop(std::fs::remove_dir_all(dir.path()));
        }
    }

    #[test]
    fn a_metric_of_which_the_database_tells_otherwise_is_told() {
        let (root, _) = project();
        let store = Store::of_project(root.path()).unwrap();
        for (change, back) in [
            ("value = 0.25", "value = 0.0"),
            ("value = NULL", "value = 0.0"),
            ("stderr = 0.5", "stderr = NULL"),
            ("n = 5", "n = 4"),
        ] {
            let set = |to: &str| {
                let sql = format!("UPDATE metric SET {to}");
                store.inner.conn.execute_batch(&sql).unwrap();
            };
            set(change);
            assert_eq!(told(root.path(), Trouble::Database).len(), 1, "{change}");
            set(back);
            assert!(told(root.path(), Trouble::Database).is_empty(), "{back}");
        }
    }

    #[test]
    fn a_result_that_the_database_has_not_heard_of_is_no_damage() {
        let (root, _) = project();
        let store = Store::of_project(root.path()).unwrap();
        let unheard = "UPDATE run SET state = 'ready'; DELETE FROM metric";
        store.inner.conn.execute_batch(unheard).unwrap();
        let told = told(root.path(), Trouble::Database);
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn a_stage_of_another_run_and_attempts_that_cannot_be_listed_are_told() {
        let (root, dir) = project();
        let other = RunDir::new(root.path(), &id("dpo/0.1/10/1"));
        let text = std::fs::read_to_string(other.stage()).unwrap();
        write_atomic(&dir.stage(), text.as_bytes()).unwrap();
        std::fs::remove_dir_all(dir.attempts()).unwrap();
        write_atomic(&dir.attempts(), b"no folder").unwrap();
        let named = told(root.path(), Trouble::Description);
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(
            named[0]
                .1
                .ends_with(&format!("names run {}", id("dpo/0.1/10/1"))),
            "{named:?}"
        );
        assert_eq!(told(root.path(), Trouble::Unreadable).len(), 1);
    }
}
