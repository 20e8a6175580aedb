//! Attempts as jobs of a scheduler: written first, then submitted, then followed by what the scheduler and their folders
//! say.
//!
//! An attempt's handle holds the name under which it is submitted, and is stored before that happens. So a runner that dies at
//! any moment leaves enough for the next one to find its jobs by name. What a scheduler says is believed for jobs of that
//! name alone. That it does not know a job means nothing as long as the attempt's heartbeat moves. The end of an attempt
//! is told by its folder; the scheduler says why, and that nothing more will come.

use crate::backend::queued_job::Job;
use crate::backend::scheduler::{Batch, Scheduler, Seen, TaskKey};
use crate::backend::traits::{Backend, BackendError, Habits, Handle, Launch, Poll, StopSignal};
use crate::base::{Clock as _, PathError, SystemClock, digest_bytes, quoted, write_atomic};
use crate::plan::RunId;
use crate::rundir::{
    AttemptDir, JobNote, RunDir, begun_on, host_name, is_locked, network_file_system, read_job_end,
    read_job_note, write_job_note,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where scripts of jobs lie below the project's root.
const JOBS_PATH: &str = "results/jobs";
/// Most jobs of one array: the usual `MaxArraySize` of Slurm is 1001.
const MOST_TOGETHER: u32 = 1000;
/// What another machine has written is there after so long on a local disk, and over a network: NFS keeps what it knows of a
/// file for up to a minute.
const SETTLED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(75));
/// Journals of jobs are read so often, ms: reading them over a network costs the file server.
const JOURNAL_MILLIS: i64 = 1_000;

/// What is the same for all jobs of a backend.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Its name, with which its handles begin.
    pub(crate) name: String,
    /// The project's root.
    pub(crate) root: PathBuf,
    /// The program that jobs start.
    pub(crate) program: PathBuf,
    /// Lines of shell before the program.
    pub(crate) prologue: Vec<String>,
    /// Time between two looks at the scheduler.
    pub(crate) every: Duration,
    /// An attempt that nobody knows of is given up after so long without a heartbeat, ms.
    pub(crate) silence_millis: i64,
}

/// See the module.
pub(crate) struct QueuedBackend<S> {
    options: Options,
    scheduler: S,
    jobs: BTreeMap<Handle, Job>,
    /// Those that are launched and not submitted: their name and how many they are.
    batch: Option<(String, u32)>,
    looked: Option<Instant>,
    /// Why the scheduler did not answer the last look.
    unanswered: Option<String>,
    settled: Duration,
    made: u32,
}

impl<S: Scheduler> QueuedBackend<S> {
    pub(crate) fn new(options: Options, scheduler: S) -> Self {
        let over_network = network_file_system(&options.root).is_ok_and(|kind| kind.is_some());
        Self {
            settled: if over_network { SETTLED.1 } else { SETTLED.0 },
            options,
            scheduler,
            jobs: BTreeMap::new(),
            batch: None,
            looked: None,
            unanswered: None,
            made: 0,
        }
    }

    /// A name that no other job has, of this project or another.
    fn new_name(&mut self) -> String {
        self.made += 1;
        let (pid, now) = (std::process::id(), SystemClock.now().0);
        let root = self.options.root.display();
        let text = format!("{}/{pid}/{now}/{}/{root}", host_name(), self.made);
        format!("lions-{}", digest_bytes(text.as_bytes()).short())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.options.root.join(JOBS_PATH).join(name)
    }

    /// The shell that one job runs, or each of an array.
    fn script(&self, index: Option<u32>, name: &str, launch: &Launch) -> String {
        let root = quoted(&self.options.root.display().to_string());
        let folder = quoted(&self.folder(name).display().to_string());
        let program = quoted(&self.options.program.display().to_string());
        let number = match (index, self.scheduler.index_variable()) {
            (None, Some(variable)) => format!("\"${variable}\""),
            (index, _) => index.unwrap_or(0).to_string(),
        };
        let prologue: String = self
            .options
            .prologue
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        format!(
            "#!/bin/bash\n# {name}: line n of the manifest, from 0, is the attempt of job n.\n\
             cd {root} || exit 1\n: > {folder}/{number}.started\n{prologue}exec {program} --root {root} job --manifest {folder}/manifest \
             --index {number} --device {} --threads {}\n",
            launch.device, launch.threads
        )
    }

    /// Writes what the jobs of a name need, and submits them.
    fn submit_batch(&mut self, name: &str) {
        let folder = self.folder(name);
        let waits = |job: &&Job| job.key.0 == name && !job.submitted && job.stop.is_none();
        let mut indices: Vec<u32> = self
            .jobs
            .values()
            .filter(waits)
            .map(|job| job.key.1)
            .collect();
        indices.sort_unstable();
        if indices.is_empty() {
            return;
        }
        let batch = Batch {
            name: name.to_owned(),
            indices,
            folder,
        };
        let said = self.scheduler.submit(&batch);
        if let Err(why) = &said {
            tracing::debug!(%name, "not submitted: {why}");
        }
        let those = |job: &&mut Job| job.key.0 == name && !job.submitted && job.stop.is_none();
        for job in self.jobs.values_mut().filter(those) {
            job.submitted = said.is_ok();
            job.refused = said.clone().err();
        }
    }

    /// Takes up an attempt of an earlier runner.
    fn adopt(&mut self, handle: &Handle) {
        if self.jobs.contains_key(handle) {
            return;
        }
        let Some((key, run, attempt)) = parse(handle, &self.options.name) else {
            return;
        };
        let dir = RunDir::new(&self.options.root, &run).attempt(attempt);
        let folder = self.folder(&key.0);
        let note = read_job_note(&dir).unwrap_or_else(|| JobNote {
            handle: handle.0.clone(),
            waits: None,
            stopped: false,
        });
        self.jobs
            .insert(handle.clone(), Job::new(key, (dir, &folder), true, note));
        // It may be gone, or wait: nothing is said before the scheduler was asked.
        self.looked = None;
    }

    /// Asks the scheduler after all jobs, and tells it what it could not be told before.
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        // Those that have ended, too: the scheduler says why.
        let all = self.jobs.values();
        let asked: Vec<(TaskKey, PathBuf)> = all
            .map(|job| (job.key.clone(), self.folder(&job.key.0)))
            .collect();
        if asked.is_empty() {
            return;
        }
        let seen = match self.scheduler.look(&asked) {
            Ok(seen) => seen,
            Err(why) => {
                self.unanswered = Some(why);
                // It may have taken a minute to say nothing.
                self.looked = Some(Instant::now());
                return;
            }
        };
        self.unanswered = None;
        let mut again = Vec::new();
        for job in self.jobs.values_mut() {
            job.seen = seen.get(&job.key).cloned();
            job.submitted |= job.seen.is_some();
            match job.seen {
                Some(Seen::Queued(_) | Seen::Alive) => job.lost = None,
                _ => {
                    job.lost.get_or_insert_with(Instant::now);
                }
            }
            if !job.submitted && job.stop.is_none() && !again.contains(&job.key.0) {
                again.push(job.key.0.clone());
            }
        }
        for name in again {
            self.submit_batch(&name);
        }
        self.tell_stops();
    }

    /// Cancels what is to be stopped and could not be so far.
    fn tell_stops(&mut self) {
        let owed: Vec<Handle> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.stop_owed)
            .map(|(h, _)| h.clone())
            .collect();
        for handle in owed {
            let Some(job) = self.jobs.get(&handle) else {
                continue;
            };
            let (key, how) = (job.key.clone(), job.stop.unwrap_or(StopSignal::Terminate));
            let folder = self.folder(&key.0);
            match self.scheduler.cancel(&key, &folder, how) {
                Ok(()) => {
                    if let Some(job) = self.jobs.get_mut(&handle) {
                        job.stop_owed = false;
                    }
                    // What became of it is looked at soon.
                    self.looked = None;
                }
                Err(why) => tracing::debug!(%handle, "cannot be cancelled yet: {why}"),
            }
        }
    }

    fn poll_one(&mut self, handle: &Handle) -> Result<Poll, BackendError> {
        let (settled, unanswered) = (self.settled, self.unanswered.clone());
        let name = self.options.name.clone();
        let Some(job) = self.jobs.get_mut(handle) else {
            return Ok(Poll::Gone);
        };
        job.read_folder()?;
        let poll = job.judge(settled, unanswered.as_deref(), &name);
        job.note(handle, &poll);
        if poll.is_over()
            && let Some(job) = self.jobs.remove(handle)
        {
            self.clear_away(&job);
        }
        Ok(poll)
    }

    /// A job whose attempt is over must not wait in the queue for nothing.
    fn clear_away(&mut self, job: &Job) {
        if matches!(job.seen, Some(Seen::Queued(_))) {
            let folder = self.folder(&job.key.0);
            if let Err(why) = self.scheduler.cancel(&job.key, &folder, StopSignal::Kill) {
                tracing::warn!("a job named `{}` is left in the queue: {why}", job.key.0);
            }
        }
    }
}

/// Backend, name, number, run and attempt of a handle of the backend `name`.
fn parse(handle: &Handle, name: &str) -> Option<(TaskKey, RunId, u32)> {
    let rest = handle.0.strip_prefix(name)?.strip_prefix(':')?;
    let mut parts = rest.split(':');
    let (job, index) = (parts.next()?, parts.next()?.parse().ok()?);
    let (run, attempt) = (parts.next()?, parts.next()?.parse().ok()?);
    Some(((job.to_owned(), index), RunId(run.to_owned()), attempt))
}

impl<S: Scheduler> Backend for QueuedBackend<S> {
    fn launch(&mut self, launch: &Launch) -> Result<Handle, BackendError> {
        let (name, index) = match self.batch.take() {
            Some((name, count)) if count < MOST_TOGETHER => (name, count),
            _ => (self.new_name(), 0),
        };
        let handle = Handle(format!(
            "{}:{name}:{index}:{}:{}",
            self.options.name, launch.run.0, launch.attempt
        ));
        let dir = launch.run_dir().attempt(launch.attempt);
        let path = dir.path();
        std::fs::create_dir_all(path).map_err(|e| PathError::new("create", path, e))?;
        let note = JobNote {
            handle: handle.0.clone(),
            waits: None,
            stopped: false,
        };
        write_job_note(&dir, &note)?;
        self.add_to_batch(&name, index, launch)?;
        let folder = self.folder(&name);
        self.jobs.insert(
            handle.clone(),
            Job::new((name.clone(), index), (dir, &folder), false, note),
        );
        self.batch = Some((name, index + 1));
        Ok(handle)
    }

    fn submit(&mut self) -> Result<(), BackendError> {
        self.batch = None;
        let mut names: Vec<String> = Vec::new();
        for job in self
            .jobs
            .values()
            .filter(|job| !job.submitted && job.refused.is_none())
        {
            if !names.contains(&job.key.0) {
                names.push(job.key.0.clone());
            }
        }
        for name in names {
            self.submit_batch(&name);
        }
        // What was just submitted may run at once.
        self.looked = None;
        Ok(())
    }

    fn poll(&mut self, handles: &[Handle]) -> Result<Vec<Poll>, BackendError> {
        handles.iter().for_each(|handle| self.adopt(handle));
        let due = self
            .looked
            .is_none_or(|looked| looked.elapsed() >= self.options.every);
        if due {
            self.look();
        }
        handles.iter().map(|handle| self.poll_one(handle)).collect()
    }

    fn stop(&mut self, handle: &Handle, signal: StopSignal) -> Result<(), BackendError> {
        self.adopt(handle);
        let Some(job) = self.jobs.get_mut(handle) else {
            return Ok(());
        };
        job.stop = Some(signal);
        job.stop_owed = job.submitted;
        job.note_stop(handle);
        self.tell_stops();
        Ok(())
    }

    fn is_at_work(&mut self, attempt: &AttemptDir) -> Result<bool, BackendError> {
        let Some(note) = read_job_note(attempt) else {
            return Ok(is_locked(attempt.path())?);
        };
        let handle = Handle(note.handle);
        if read_job_end(attempt).is_some() || !self.knows(&handle) {
            return Ok(is_locked(attempt.path())? || read_job_end(attempt).is_none());
        }
        let poll = self.poll(std::slice::from_ref(&handle))?;
        Ok(poll.first().is_some_and(|poll| !poll.is_over()))
    }

    fn knows(&self, handle: &Handle) -> bool {
        parse(handle, &self.options.name).is_some()
    }

    fn habits(&self) -> Habits {
        Habits {
            outlive_runner: true,
            journal_millis: JOURNAL_MILLIS,
            silence_millis: self.options.silence_millis,
        }
    }

    fn rehearse(&mut self) -> Result<(), BackendError> {
        match self.scheduler.refuses() {
            Some(message) => Err(self.refused(message)),
            None => Ok(()),
        }
    }

    fn exclude(&mut self, attempt: &AttemptDir) -> Result<Option<String>, BackendError> {
        let Some(host) = begun_on(attempt) else {
            return Ok(None);
        };
        // Schedulers know nodes by the name without its domain.
        let node = host.split('.').next().unwrap_or(&host).to_owned();
        match self.scheduler.exclude(&node) {
            Ok(asked) => Ok(asked.then_some(node)),
            Err(message) => Err(self.refused(message)),
        }
    }
}

impl<S: Scheduler> QueuedBackend<S> {
    fn refused(&self, message: String) -> BackendError {
        BackendError::Refused {
            backend: self.options.name.clone(),
            message,
        }
    }

    /// Writes an attempt into the files of its batch.
    fn add_to_batch(&self, name: &str, index: u32, launch: &Launch) -> Result<(), BackendError> {
        let folder = self.folder(name);
        std::fs::create_dir_all(&folder).map_err(|e| PathError::new("create", &folder, e))?;
        let manifest = folder.join("manifest");
        let mut text = std::fs::read_to_string(&manifest).unwrap_or_default();
        let half = if launch.halved { " half" } else { "" };
        text.push_str(&format!("{} {}{half}\n", launch.run.0, launch.attempt));
        write_atomic(&manifest, text.as_bytes())?;
        let (file, number) = match self.scheduler.index_variable() {
            Some(_) => ("job.sh".to_owned(), None),
            None => (format!("job-{index}.sh"), Some(index)),
        };
        let script = folder.join(file);
        write_atomic(&script, self.script(number, name, launch).as_bytes())?;
        make_executable(&script)?;
        Ok(())
    }
}

/// Some schedulers start a script as it is.
fn make_executable(path: &Path) -> Result<(), BackendError> {
    use std::os::unix::fs::PermissionsExt as _;
    let rights = std::fs::Permissions::from_mode(0o755);
    Ok(std::fs::set_permissions(path, rights).map_err(|e| PathError::new("change", path, e))?)
}
