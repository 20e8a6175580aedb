//! Tells a release build the commit that it is made from, where there is a git work tree; elsewhere (an archive, a
//! registry) the build does without. Builds for development do not ask: each commit would compile the crate anew.

use std::env;
use std::path::Path;
use std::process::Command;

fn git(words: &[&str]) -> Option<String> {
    let done = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.trim().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script the profile by the environment alone"
)]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // An archive may lie inside the work tree of something else.
    let own = Path::new(".git").exists();
    if !own || env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        let mark = if changed.is_some_and(|text| !text.is_empty()) {
            " with changes"
        } else {
            ""
        };
        println!("cargo:rustc-env=LIONS_COMMIT={commit}{mark}");
    }
}
