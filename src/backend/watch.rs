//! The process that a scheduler starts: it begins an attempt once, watches over it and says how it ended.

use crate::backend::local::{create, memory_kills, spawn};
use crate::backend::traits::{BackendError, Launch};
use crate::base::Shutdown;
use crate::rundir::{
    AttemptDir, FolderLock, JobEnd, attempt_numbers, begin_once, host_name, note_told,
    read_heartbeat, read_job_end, write_job_end,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Nothing was done, since the attempt has begun before or a later one has.
const LEFT_ALONE: u8 = 75;
/// How often the attempt and the flags are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often later attempts are looked for.
const FENCE: Duration = Duration::from_secs(10);
/// A heartbeat that stands still for so long has stopped: three beats.
const STILL: Duration = Duration::from_secs(10);
/// After a later attempt was found this one is killed so much later.
const GRACE: Duration = Duration::from_secs(20);

/// What a scheduler's process hears.
#[derive(Clone, Debug, Default)]
pub struct JobSignals {
    /// It is to end.
    pub stop: Shutdown,
    /// Its time runs out.
    pub warned: Shutdown,
}

/// Carries out an attempt as a child of this process, unless it has begun before or a later one has, and writes how it ended into
/// its folder. Answers the exit code of the job.
///
/// # Errors
/// The folder cannot be used or the program not be started.
pub fn watch_attempt(
    program: &Path,
    launch: &Launch,
    signals: &JobSignals,
) -> Result<u8, BackendError> {
    let dir = launch.run_dir().attempt(launch.attempt);
    if is_outdated(launch)? {
        tracing::warn!("a later attempt has begun; nothing is done");
        return Ok(LEFT_ALONE);
    }
    if !begin_once(&dir, &host_name())? {
        return begun_before(&dir);
    }
    let kills = memory_kills();
    let mut child = start(program, launch, &dir)?;
    let status = wait_for(&mut child, launch, signals)?;
    let end = JobEnd {
        code: status.code(),
        signal: status.signal(),
        warned: signals.warned.requested(),
        starved: status.signal() == Some(Signal::SIGKILL as i32) && memory_kills() > kills,
        restarted: false,
    };
    write_job_end(&dir, &end)?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// A scheduler that lost track of a job starts it again. Whether the first process lives tells its heartbeat.
fn begun_before(dir: &AttemptDir) -> Result<u8, BackendError> {
    let before = read_heartbeat(&dir.heartbeat());
    std::thread::sleep(STILL);
    let still = read_heartbeat(&dir.heartbeat()) == before;
    if still && read_job_end(dir).is_none() {
        let end = JobEnd {
            restarted: true,
            ..JobEnd::default()
        };
        write_job_end(dir, &end)?;
    }
    tracing::warn!("this attempt has begun before; nothing is done");
    Ok(LEFT_ALONE)
}

fn is_outdated(launch: &Launch) -> Result<bool, BackendError> {
    let numbers = attempt_numbers(&launch.run_dir())?;
    Ok(numbers.last().is_some_and(|last| *last > launch.attempt))
}

fn start(program: &Path, launch: &Launch, dir: &AttemptDir) -> Result<Child, BackendError> {
    let mut command = Command::new(program);
    command
        .args(launch.arguments())
        .args(["--scheduled", "--parent", &std::process::id().to_string()])
        .envs(launch.limits())
        .stdout(create(&dir.stdout())?)
        .stderr(create(&dir.stderr())?);
    // Where the file system has locks, commands on this machine see that the attempt is at work.
    match FolderLock::try_take(dir.path()) {
        Ok(Some(lock)) => command.stdin(lock.into_file()),
        _ => command.stdin(Stdio::null()),
    };
    spawn(&mut command).map_err(|source| BackendError::Start {
        program: program.to_owned(),
        source,
    })
}

fn wait_for(
    child: &mut Child,
    launch: &Launch,
    signals: &JobSignals,
) -> Result<ExitStatus, BackendError> {
    let (mut told, mut noted, mut fenced) = (false, false, None::<Instant>);
    let mut looked = Instant::now();
    loop {
        let ended = child.try_wait().map_err(|source| BackendError::Start {
            program: "lions".into(),
            source,
        })?;
        if let Some(status) = ended {
            return Ok(status);
        }
        if fenced.is_none() && looked.elapsed() > FENCE {
            looked = Instant::now();
            // What cannot be told now is asked again.
            fenced = matches!(is_outdated(launch), Ok(true)).then(Instant::now);
        }
        let wanted = signals.stop.requested() || signals.warned.requested() || fenced.is_some();
        if wanted && !told {
            told = true;
            send(child, Signal::SIGTERM);
        }
        if signals.stop.requested() && !std::mem::replace(&mut noted, true) {
            // Without it, one that is killed before it has saved its state is taken for lost.
            if let Err(error) = note_told(&launch.run_dir().attempt(launch.attempt)) {
                tracing::warn!("that it is asked to end cannot be noted: {error}");
            }
        }
        if fenced.is_some_and(|since| since.elapsed() > GRACE) {
            send(child, Signal::SIGKILL);
        }
        std::thread::sleep(LOOK);
    }
}

/// Signals the child, which has not been waited for: its number is its own.
fn send(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // One that has ended meanwhile needs no signal.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
