//! Memory on devices, which the store does not hold.

use crate::rundir::{RunDir, read_outcome};
use crate::store::AttemptRow;

/// What the run's folder says of its attempt's memory on a device, which the store does not hold. A folder that is gone
/// or damaged says nothing.
pub fn add_device_memory(attempts: &mut [AttemptRow], dir: &RunDir) {
    let Ok(Some(outcome)) = read_outcome(dir) else {
        return;
    };
    let published = attempts.iter_mut().find(|a| a.number == outcome.attempt);
    if let Some(usage) = published.and_then(|a| a.usage.as_mut()) {
        usage.device_memory_bytes = outcome.result.usage.device_memory_bytes;
    }
}
