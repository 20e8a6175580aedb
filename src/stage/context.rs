//! What an attempt is given.

use crate::base::{Clock, Device, Shutdown, SystemClock};
use crate::rundir::{Facts, RunDir};
use crate::stage::device::DeviceAccess;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything an attempt is given from outside.
#[derive(Clone)]
pub struct StageContext {
    /// The project; paths of recipes are relative to it.
    pub root: PathBuf,
    /// The run's folder, with `stage.json`.
    pub run_dir: RunDir,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Where to compute.
    pub device: Device,
    /// Whether passes have half their usual positions, since memory ran out before.
    pub halved: bool,
    /// How that is reached.
    pub access: DeviceAccess,
    /// Asks the stage to save its state and end.
    pub shutdown: Shutdown,
    /// For time stamps.
    pub clock: Arc<dyn Clock>,
    /// The command line, for the record.
    pub argv: Vec<String>,
    /// What computes it, for the record.
    pub facts: Facts,
    /// Looks up a secret, such as the key of an endpoint, by name; only what the stage asks for is
    /// looked up, and nothing of it is stored.
    pub secret: fn(&str) -> Option<String>,
}

impl StageContext {
    /// On the CPU, with the machine's clock, and a flag that nobody sets.
    pub fn new(root: impl Into<PathBuf>, run_dir: RunDir, attempt: u32) -> Self {
        Self {
            root: root.into(),
            run_dir,
            attempt,
            device: Device::Cpu,
            halved: false,
            access: DeviceAccess::default(),
            shutdown: Shutdown::new(),
            clock: Arc::new(SystemClock),
            argv: Vec::new(),
            facts: Facts::default(),
            secret: |_| None,
        }
    }
}
