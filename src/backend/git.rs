//! Where the git work tree of a project stands, asked of git itself.

use crate::rundir::GitState;
use std::path::Path;
use std::process::{Command, Stdio};

/// The commit of the work tree that holds `root` and whether its tracked files differ from it; nothing where
/// there is no work tree, no commit yet, or no git.
pub fn git_state(root: &Path) -> Option<GitState> {
    // Most projects of tests and of clusters are none, and then no process is started.
    root.ancestors().find(|dir| dir.join(".git").exists())?;
    let commit = answer(root, &["rev-parse", "HEAD"])?;
    let changes = answer(root, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(GitState {
        commit: commit.trim().to_owned(),
        changed: !changes.trim().is_empty(),
    })
}

fn answer(root: &Path, words: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    // Without the lock that `status` would take to renew the index: several attempts ask at once.
    git.arg("--no-optional-locks")
        .arg("-C")
        .arg(root)
        .args(words);
    let done = git
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    done.status
        .success()
        .then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}
