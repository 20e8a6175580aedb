//! Attempts as child processes on this machine.
//!
//! A child has its own process group, so that the terminal's Ctrl-C reaches the runner alone,
//! which then asks its children to save their state. It inherits a lock on its attempt's folder:
//! whoever can take that lock knows that the attempt is over, whatever became of its runner. It
//! ends with its runner ([`end_with_runner`]).

use crate::backend::traits::{
    Backend, BackendError, Handle, LOCAL_HANDLE, Launch, Poll, StopSignal, THREAD_VARIABLES,
};
use crate::base::PathError;
use crate::rundir::FolderLock;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Makes this process end with its runner, the process `parent`, on systems that can: on Linux the kernel
/// sends it SIGTERM when the runner's thread ends.
///
/// # Errors
/// The runner has gone already, or the kernel refuses.
pub fn end_with_runner(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    // It may have ended before the kernel was asked.
    if getppid().as_raw().cast_unsigned() == parent {
        Ok(())
    } else {
        Err(Errno::ESRCH.into())
    }
}

/// Replaces this process by `program` with these arguments and so many threads: the variables are read
/// when a program starts, and a program cannot safely change its own. Returns only if that fails.
pub fn restart_with_threads(
    program: &Path,
    args: impl IntoIterator<Item = OsString>,
    threads: &str,
) -> io::Error {
    let mut command = Command::new(program);
    command.args(args);
    command
        .envs(THREAD_VARIABLES.map(|key| (key, threads)))
        .exec()
}

/// Starts `PROGRAM exec --root ROOT --run ID --attempt N --device D … --parent PID`; the folder of the attempt is
/// the child's standard input, which nobody reads.
#[derive(Debug)]
pub struct LocalBackend {
    program: PathBuf,
    children: BTreeMap<Handle, Started>,
}

/// A child, and [`memory_kills`] when it was started.
#[derive(Debug)]
struct Started {
    child: Child,
    kills: Option<u64>,
}

impl LocalBackend {
    /// A backend that starts `program`, normally the running executable.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            children: BTreeMap::new(),
        }
    }

    fn command(&self, launch: &Launch) -> Result<Command, BackendError> {
        let attempt = launch.run_dir().attempt(launch.attempt);
        let mut command = Command::new(&self.program);
        command
            .args(launch.arguments())
            .args(["--parent", &std::process::id().to_string()])
            .envs(launch.limits())
            .stdout(create(&attempt.stdout())?)
            .stderr(create(&attempt.stderr())?)
            .process_group(0);
        Ok(command)
    }
}

impl Backend for LocalBackend {
    fn launch(&mut self, launch: &Launch) -> Result<Handle, BackendError> {
        let attempt = launch.run_dir().attempt(launch.attempt);
        let folder = attempt.path();
        std::fs::create_dir_all(folder).map_err(|e| PathError::new("create", folder, e))?;
        let lock = FolderLock::try_take(folder)?.ok_or_else(|| BackendError::Busy {
            run: launch.run.clone(),
            attempt: launch.attempt,
        })?;
        let mut command = self.command(launch)?;
        let kills = memory_kills();
        // The child's copy keeps the folder locked as long as it, or a child of its own, lives.
        command.stdin(lock.into_file());
        let child = spawn(&mut command).map_err(|source| BackendError::Start {
            program: self.program.clone(),
            source,
        })?;
        let handle = Handle(format!(
            "{LOCAL_HANDLE}{}:{}",
            child.id(),
            start_time(child.id()).unwrap_or(0)
        ));
        tracing::debug!(run = %launch.run, attempt = launch.attempt, %handle, "launched");
        self.children
            .insert(handle.clone(), Started { child, kills });
        Ok(handle)
    }

    fn poll(&mut self, handles: &[Handle]) -> Result<Vec<Poll>, BackendError> {
        handles.iter().map(|handle| self.poll_one(handle)).collect()
    }

    fn stop(&mut self, handle: &Handle, signal: StopSignal) -> Result<(), BackendError> {
        if self.poll_one(handle)? != Poll::Running {
            return Ok(());
        }
        let Some((pid, _)) = parse(handle) else {
            return Ok(());
        };
        let signal = match signal {
            StopSignal::Terminate => Signal::SIGTERM,
            StopSignal::Kill => Signal::SIGKILL,
        };
        tracing::debug!(%handle, %signal, "stop");
        match send_group(pid, Some(signal)) {
            // A foreign process may have ended since it was asked after; that is no error.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(BackendError::Process {
                action: "stop",
                handle: handle.clone(),
                source: e.into(),
            }),
        }
    }
}

impl LocalBackend {
    fn poll_one(&mut self, handle: &Handle) -> Result<Poll, BackendError> {
        let Some(started) = self.children.get_mut(handle) else {
            return Ok(poll_foreign(handle));
        };
        let status = started
            .child
            .try_wait()
            .map_err(|source| BackendError::Process {
                action: "ask after",
                handle: handle.clone(),
                source,
            })?;
        let Some(status) = status else {
            return Ok(Poll::Running);
        };
        let before = started.kills;
        self.children.remove(handle);
        tracing::debug!(%handle, %status, "ended");
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        Ok(Poll::Exited {
            code: status.code(),
            signal: status.signal(),
            starved: killed && memory_kills() > before,
        })
    }
}

impl Drop for LocalBackend {
    /// Children never outlive the backend that started them.
    fn drop(&mut self) {
        for started in self.children.values_mut() {
            drop(started.child.kill());
            drop(started.child.wait());
        }
    }
}

/// Processes that the kernel ended since it started because memory ran out, of the machine or of a
/// group; nothing where it does not say.
pub(crate) fn memory_kills() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/vmstat").ok()?;
    let line = counts
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

/// Process and its start time, so that a number that was used again is not mistaken.
fn parse(handle: &Handle) -> Option<(u32, u64)> {
    let (pid, started) = handle.0.strip_prefix(LOCAL_HANDLE)?.split_once(':')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

fn poll_foreign(handle: &Handle) -> Poll {
    match parse(handle) {
        Some((pid, started)) if alive(pid, started) => Poll::Running,
        _ => Poll::Gone,
    }
}

#[cfg(target_os = "linux")]
fn alive(pid: u32, started: u64) -> bool {
    start_time(pid) == Some(started)
}

#[cfg(not(target_os = "linux"))]
fn alive(pid: u32, _started: u64) -> bool {
    send_group(pid, None).is_ok()
}

/// When a process began, in clock ticks since boot: field 22 of `/proc/PID/stat`. Nothing if it
/// is not there or is only waiting to be reaped.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?; // the name before it may hold anything
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

pub(crate) fn create(path: &Path) -> Result<File, BackendError> {
    Ok(File::create(path).map_err(|e| PathError::new("create", path, e))?)
}

/// Signals a child with whatever it has started itself: its group has its number. Without a signal
/// it is only asked whether it is there.
fn send_group(pid: u32, signal: Option<Signal>) -> nix::Result<()> {
    let group = i32::try_from(pid).map_err(|_| Errno::EINVAL)?;
    killpg(Pid::from_raw(group), signal)
}

/// Starts the command; waits a moment where the program is still open for writing, as just after an
/// upgrade, or while a sibling that was forked in between holds it.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..20 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            ended => return ended,
        }
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RunId;
    use crate::rundir::is_locked;
    use std::os::unix::fs::PermissionsExt as _;

    fn script(dir: &Path, body: &str) -> PathBuf {
        let path = dir.join("program.sh");
        crate::base::write_atomic(&path, format!("#!/bin/sh\n{body}\n").as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn launch(root: &Path) -> Launch {
        Launch {
            root: root.to_owned(),
            run: RunId("c0".repeat(32)),
            attempt: 1,
            device: crate::base::Device::Cpu,
            card: None,
            card_memory: None,
            threads: 3,
            halved: false,
        }
    }

    fn wait_for_end(backend: &mut LocalBackend, handle: &Handle) -> Poll {
        loop {
            match backend
                .poll(std::slice::from_ref(handle))
                .unwrap()
                .remove(0)
            {
                Poll::Running => backend.wait(2),
                ended => return ended,
            }
        }
    }

    #[test]
    fn a_child_gets_its_arguments_and_threads_and_its_output_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let program = script(
            dir.path(),
            "echo $1 $5 $7 $9 $RAYON_NUM_THREADS; echo oh >&2; exit 3",
        );
        let mut backend = LocalBackend::new(program);
        let launch = launch(dir.path());
        let handle = backend.launch(&launch).unwrap();
        let ended = wait_for_end(&mut backend, &handle);
        assert_eq!(
            ended,
            Poll::Exited {
                code: Some(3),
                signal: None,
                starved: false
            }
        );
        let attempt = launch.run_dir().attempt(1);
        let out = std::fs::read_to_string(attempt.stdout()).unwrap();
        assert_eq!(out, format!("exec {} 1 cpu 3\n", "c0".repeat(32)));
        assert_eq!(std::fs::read_to_string(attempt.stderr()).unwrap(), "oh\n");
    }

    #[test]
    fn a_child_sees_the_card_of_its_slot_alone() {
        let dir = tempfile::tempdir().unwrap();
        let program = script(
            dir.path(),
            "shift 8; echo $1 $2 $3 $4 $5 $CUDA_VISIBLE_DEVICES",
        );
        let mut backend = LocalBackend::new(program);
        let launch = Launch {
            device: crate::base::Device::Cuda(1),
            card: Some("GPU-1a".to_owned()),
            card_memory: Some(7),
            ..launch(dir.path())
        };
        let handle = backend.launch(&launch).unwrap();
        wait_for_end(&mut backend, &handle);
        let out = std::fs::read_to_string(launch.run_dir().attempt(1).stdout()).unwrap();
        assert_eq!(out, "cuda:1 --card GPU-1a --card-memory 7 GPU-1a\n");
    }

    #[test]
    fn the_folder_is_locked_as_long_as_the_child_lives_and_another_runner_sees_and_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = script(dir.path(), "exec sleep 60");
        let mut backend = LocalBackend::new(&program);
        let launch = launch(dir.path());
        let handle = backend.launch(&launch).unwrap();
        let attempt = launch.run_dir().attempt(1);
        assert!(is_locked(attempt.path()).unwrap());
        assert!(matches!(
            backend.launch(&launch),
            Err(BackendError::Busy { attempt: 1, .. })
        ));
        let mut other = LocalBackend::new(program);
        assert_eq!(
            other.poll(std::slice::from_ref(&handle)).unwrap(),
            [Poll::Running]
        );
        other.stop(&handle, StopSignal::Terminate).unwrap();
        let ended = wait_for_end(&mut backend, &handle);
        assert_eq!(
            ended,
            Poll::Exited {
                code: None,
                signal: Some(Signal::SIGTERM as i32),
                starved: false
            }
        );
        assert!(!is_locked(attempt.path()).unwrap());
        assert_eq!(other.poll(&[handle]).unwrap(), [Poll::Gone]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut backend = LocalBackend::new("/no/such/program");
        let error = backend.launch(&launch(dir.path())).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `/no/such/program`");
    }
}
