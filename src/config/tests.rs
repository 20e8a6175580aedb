//! Sweep files as a user writes them, right and wrong.

use super::*;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_quickstart_expands_to_its_grid() {
    let sweep = load_sweep(&root().join("sweeps/quickstart.toml"), &root());
    let sweep = sweep.unwrap_or_else(|error| panic!("{}", error.render(false)));
    assert_eq!(sweep.trials.len(), (3 * 2 + 3 * 3) * 3);
}
