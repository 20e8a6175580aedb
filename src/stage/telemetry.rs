//! What an attempt tells while it runs: events, a heartbeat, what it used.

use crate::rundir::{
    AttemptDir, AttemptEvent, HEARTBEAT_MILLIS, Heartbeat, Journal, RundirError, Usage,
};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Least time between two `Progress` events.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Time between two heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(HEARTBEAT_MILLIS);

/// The attempt's journal and clock.
pub(crate) struct Telemetry {
    journal: Journal,
    started: Instant,
    cpu_at_start: f64,
    told: Option<Instant>,
}

impl Telemetry {
    pub(crate) fn start(attempt: &AttemptDir) -> Result<Self, RundirError> {
        Ok(Self {
            journal: Journal::create(&attempt.events())?,
            started: Instant::now(),
            cpu_at_start: cpu_secs(),
            told: None,
        })
    }

    /// Appends an event.
    pub(crate) fn tell(&mut self, event: &AttemptEvent) -> Result<(), RundirError> {
        self.journal.append(event)
    }

    /// Says what the units are.
    pub(crate) fn begin(&mut self, unit: &str, total: u64) -> Result<(), RundirError> {
        self.tell(&AttemptEvent::Begin {
            unit: unit.to_owned(),
            total,
        })
    }

    /// Says how many units are done, a few times a second at most.
    pub(crate) fn progress(&mut self, done: u64) -> Result<(), RundirError> {
        let now = Instant::now();
        if self.told.is_some_and(|told| now - told < PROGRESS_EVERY) {
            return Ok(());
        }
        self.told = Some(now);
        self.tell(&AttemptEvent::Progress { done })
    }

    /// Metrics of a step.
    pub(crate) fn step(
        &mut self,
        step: u64,
        metrics: &BTreeMap<String, f64>,
    ) -> Result<(), RundirError> {
        self.tell(&AttemptEvent::Step {
            step,
            metrics: metrics.clone(),
        })
    }

    /// Forces events to the disk.
    pub(crate) fn sync(&self) -> Result<(), RundirError> {
        self.journal.sync()
    }

    /// Wall and processor time since the start and the peak of memory, of this process.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            wall_secs: self.started.elapsed().as_secs_f64(),
            cpu_secs: cpu_secs() - self.cpu_at_start,
            peak_memory_bytes: peak_memory_bytes(),
            ..Usage::default()
        }
    }
}

/// A thread that moves the heartbeat until it is dropped, also when the stage panics.
pub(crate) struct HeartbeatThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HeartbeatThread {
    pub(crate) fn start(attempt: &AttemptDir) -> Result<Self, RundirError> {
        let mut heartbeat = Heartbeat::create(&attempt.heartbeat())?;
        let (stop, stopped): (Sender<()>, Receiver<()>) = channel();
        let thread = std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(HEARTBEAT_EVERY) {
                if heartbeat.beat().is_err() {
                    return; // silence is how the runner learns of it
                }
            }
        });
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for HeartbeatThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What the system counts for this process.
#[cfg(unix)]
fn rusage() -> Option<nix::sys::resource::Usage> {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()
}

/// Processor seconds of this process, user and system; 0 where the system does not say.
#[cfg(unix)]
fn cpu_secs() -> f64 {
    use nix::sys::time::{TimeVal, TimeValLike as _};
    let secs = |time: TimeVal| time.num_microseconds() as f64 * 1e-6;
    rusage().map_or(0.0, |usage| {
        secs(usage.user_time()) + secs(usage.system_time())
    })
}

/// Most memory this process had resident; 0 where the system does not say.
#[cfg(unix)]
fn peak_memory_bytes() -> u64 {
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    rusage().map_or(0, |usage| {
        u64::try_from(usage.max_rss()).unwrap_or(0) * unit
    })
}

#[cfg(not(unix))]
fn cpu_secs() -> f64 {
    0.0
}

#[cfg(not(unix))]
fn peak_memory_bytes() -> u64 {
    0
}
