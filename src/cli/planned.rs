//! The plan of a sweep of the project.

use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::config::sweep::Sweep;
use crate::plan::{DigestCache, KnownLengths, Plan, plan_sweep};

/// Plans `sweep`, remembering digests of big files between calls.
pub(crate) fn make(
    project: &Project,
    sweep: &Sweep,
    lengths: &KnownLengths,
) -> Result<Plan, CommandError> {
    let mut digests = DigestCache::load(&project.digests());
    // Attempts record which program computed them; it is digested once for all of them.
    if let Ok(program) = std::env::current_exe() {
        drop(digests.file(&program));
    }
    let plan = plan_sweep(sweep, &project.root, &mut digests, lengths);
    let plan = plan.map_err(CommandError::user)?;
    // The cache only saves time: a read-only project must still be able to plan.
    drop(digests.save(&project.digests()));
    Ok(plan)
}
