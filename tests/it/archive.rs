//! Projects and folders in which this user may not write.

use crate::driver::write_sweep;
use crate::project::{Project, Said};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The user who owns nothing.
const NOBODY: u32 = 65_534;

/// A user whom permissions bind: root, as whom tests may run, is bound by none.
struct User {
    /// Where everybody may run the program; none for a user who is not root.
    program: Option<TempDir>,
}

impl User {
    /// Nobody in the place of root, else who runs the tests; nothing, and says so, where nobody cannot run
    /// anything.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn of(project: &Project) -> Option<Self> {
        // Whoever made the folder of the project is the user of this process.
        let is_root = fs::metadata(project.path("")).unwrap().uid() == 0;
        let program = is_root.then(program_for_all);
        let user = Self { program };
        let said = user.lions(project, &["--version"]);
        if said.code == 0 {
            return Some(user);
        }
        eprintln!("skipped: as nobody the program cannot be run: {said:?}");
        None
    }

    fn lions(&self, project: &Project, words: &[&str]) -> Said {
        let Some(folder) = &self.program else {
            return project.lions(words);
        };
        let mut command = project.command_of(&folder.path().join("lions"), words);
        let output = command.uid(NOBODY).gid(NOBODY).output();
        output.map_or_else(
            |error| Said {
                out: String::new(),
                err: error.to_string(),
                code: -1,
            },
            |output| Said::of(&output),
        )
    }
}

/// A folder with the program: that in which it was built may be closed to others.
fn program_for_all() -> TempDir {
    let built = env!("CARGO_BIN_EXE_lions");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("lions");
    // A copy is large.
    if fs::hard_link(built, &program).is_err() {
        fs::copy(built, &program).unwrap();
    }
    set_mode(&program, 0o755);
    set_mode(folder.path(), 0o755);
    folder
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn set_modes(path: &Path, folders: u32, files: u32) {
    if path.is_dir() {
        set_mode(path, folders);
        for entry in fs::read_dir(path).unwrap() {
            set_modes(&entry.unwrap().path(), folders, files);
        }
    } else {
        set_mode(path, files);
    }
}

/// A folder in which everybody may read and nobody write, as long as the value lives.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(path: PathBuf) -> Self {
        set_modes(&path, 0o555, 0o444);
        Self(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        set_modes(&self.0, 0o755, 0o644);
    }
}

fn page(out: &TempDir) -> String {
    fs::read_to_string(out.path().join("page/index.html")).unwrap()
}

#[test]
fn an_archived_project_is_read_where_nothing_can_be_written() {
    let project = crate::tiny::project();
    write_sweep(&project, "old", 2, "");
    crate::tiny::run(&project, "old");
    let status = project.json(&["status", "old"]);
    let run = status["runs"][0]["id"].as_str().unwrap();
    let questions = [
        &["status", "--json"][..],
        &["status", "old", "--json"],
        &["show", run, "--json"],
        &["compare", "old", "--json"],
    ];
    let before = questions.map(|words| project.lions(words).out);
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = |out: &TempDir| out.path().join("page").display().to_string();
    let said = project.lions(&["report", "old", "--out", &target(&mine)]);
    assert_eq!(said.code, 0, "{said:?}");

    let _archive = ReadOnly::new(project.path(""));
    let Some(user) = User::of(&project) else {
        return;
    };
    for (words, before) in questions.iter().zip(before) {
        let said = user.lions(&project, words);
        assert_eq!((said.code, &said.out), (0, &before), "{said:?}");
    }
    set_mode(theirs.path(), 0o777);
    let said = user.lions(&project, &["report", "old", "--out", &target(&theirs)]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(page(&theirs), page(&mine));

    let said = user.lions(&project, &["run", "sweeps/old.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("results/") && said.err.contains("the right to write"),
        "{said:?}"
    );
}

#[test]
fn a_run_whose_folder_is_refused_fails_for_want_of_permission_and_is_done_when_it_is_given() {
    let project = crate::tiny::project();
    write_sweep(&project, "refused", 2, "");
    set_mode(&project.path(""), 0o755);
    let Some(user) = User::of(&project) else {
        return;
    };
    let runs = project.path("results/runs");
    fs::create_dir_all(&runs).unwrap();
    fs::create_dir(project.path("reports")).unwrap();
    set_mode(&runs, 0o555);
    for folder in ["results", "reports"] {
        set_mode(&project.path(folder), 0o777);
    }
    let words = ["run", "sweeps/refused.toml", "--jobs", "1"];
    let said = user.lions(&project, &words);
    assert_eq!(said.code, 100, "{said:?}");
    assert!(
        said.err.contains("results/runs") && said.err.contains("give this user the right"),
        "{said:?}"
    );
    let classes = || {
        let said = user.lions(&project, &["status", "refused", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let runs = status["runs"].as_array().unwrap();
        let classes = runs.iter().map(|run| run["class"].clone());
        classes.collect::<Vec<_>>()
    };
    assert!(classes().contains(&"permission".into()), "{:?}", classes());

    set_mode(&runs, 0o777);
    let said = user.lions(&project, &[&words[..], &["--retry"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let table = user.lions(&project, &["compare", "refused", "--json"]);
    let table: serde_json::Value = serde_json::from_str(&table.out).unwrap();
    let value = &table[0]["rows"][0]["results"][0]["estimate"]["value"];
    assert!(value.is_f64(), "{table}");
}

#[test]
fn a_folder_that_may_not_be_entered_is_not_taken_for_an_empty_one() {
    let project = crate::tiny::project();
    drop(lions::store::Store::of_project(&project.path("")).unwrap());
    set_mode(&project.path(""), 0o755);
    let Some(user) = User::of(&project) else {
        return;
    };
    let results = project.path("results");
    set_mode(&results, 0o000);
    let said = user.lions(&project, &["status"]);
    set_mode(&results, 0o755);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("results/lions.db") && said.err.contains("denied"),
        "{said:?}"
    );
}
