//! The first day of a stranger, as a script that anybody can run.

use std::path::Path;
use std::process::Command;

/// Every step of `tests/first_day.sh` does what it should.
#[test]
fn a_strangers_first_day_has_no_step_that_fails() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/first_day.sh");
    let day = Command::new("bash")
        .arg(script)
        .env("LIONS", env!("CARGO_BIN_EXE_lions"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&day.stdout);
    let errors = String::from_utf8_lossy(&day.stderr);
    assert!(day.status.success(), "{said}\n{errors}");
    assert!(said.trim_end().ends_with("the whole day"), "{said}");
    assert!(said.lines().all(|line| line.starts_with("yes ")), "{said}");
}
