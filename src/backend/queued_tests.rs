//! Claims about attempts at a scheduler that says odd things or nothing.

use crate::backend::queued::{Options, QueuedBackend};
use crate::backend::scheduler::{Batch, Ended, Scheduler, Seen, TaskKey};
use crate::backend::traits::{Backend, Eviction, Handle, Launch, Poll, StopSignal};
use crate::base::Device;
use crate::plan::RunId;
use crate::rundir::{JobEnd, begin_once, read_job_note, write_job_end};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// What a scheduler is told, and what it is to say.
#[derive(Default)]
struct Script {
    seen: BTreeMap<TaskKey, Seen>,
    silent: bool,
    refuses: bool,
    batches: Vec<Batch>,
    cancelled: Vec<TaskKey>,
}

struct Scripted(Rc<RefCell<Script>>);

impl Scheduler for Scripted {
    fn submit(&mut self, batch: &Batch) -> Result<(), String> {
        let mut script = self.0.borrow_mut();
        script.batches.push(batch.clone());
        if script.refuses {
            Err("no".to_owned())
        } else {
            Ok(())
        }
    }

    fn look(&mut self, jobs: &[(TaskKey, PathBuf)]) -> Result<BTreeMap<TaskKey, Seen>, String> {
        let script = self.0.borrow();
        if script.silent {
            return Err("down".to_owned());
        }
        let asked = jobs.iter().filter_map(|(key, _)| {
            let seen = script.seen.get(key)?;
            Some((key.clone(), seen.clone()))
        });
        Ok(asked.collect())
    }

    fn cancel(&mut self, job: &TaskKey, _folder: &Path, _how: StopSignal) -> Result<(), String> {
        self.0.borrow_mut().cancelled.push(job.clone());
        Ok(())
    }

    fn refuses(&mut self) -> Option<String> {
        None
    }

    fn index_variable(&self) -> Option<&'static str> {
        Some("INDEX")
    }
}

struct Desk {
    root: tempfile::TempDir,
    script: Rc<RefCell<Script>>,
}

impl Desk {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            script: Rc::default(),
        }
    }

    fn backend(&self) -> QueuedBackend<Scripted> {
        let options = Options {
            name: "test".to_owned(),
            root: self.root.path().to_owned(),
            program: PathBuf::from("/bin/lions"),
            prologue: vec!["module load x".to_owned()],
            every: Duration::ZERO,
            silence_millis: 1000,
        };
        QueuedBackend::new(options, Scripted(Rc::clone(&self.script)))
    }

    fn launch(&self, digit: &str) -> Launch {
        Launch {
            root: self.root.path().to_owned(),
            run: RunId(digit.repeat(64)),
            attempt: 2,
            device: Device::Cuda(0),
            card: None,
            card_memory: None,
            threads: 3,
            halved: false,
        }
    }

    fn says(&self, index: u32, seen: Seen) {
        let mut script = self.script.borrow_mut();
        let name = script.batches[0].name.clone();
        script.seen.insert((name, index), seen);
    }
}

fn poll(backend: &mut QueuedBackend<Scripted>, handle: &Handle) -> Poll {
    backend
        .poll(std::slice::from_ref(handle))
        .unwrap()
        .remove(0)
}

fn reason(poll: &Poll) -> &str {
    match poll {
        Poll::Queued { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn attempts_that_are_launched_together_are_one_batch_and_nothing_is_submitted_before_that() {
    let desk = Desk::new();
    let mut backend = desk.backend();
    let handles = ["a", "b"].map(|digit| backend.launch(&desk.launch(digit)).unwrap());
    assert!(desk.script.borrow().batches.is_empty());
    for (handle, digit) in handles.iter().zip(["a", "b"]) {
        let note = read_job_note(&desk.launch(digit).run_dir().attempt(2)).unwrap();
        assert_eq!(note.handle, handle.0);
        assert!(backend.knows(handle));
    }
    backend.submit().unwrap();
    let batches = desk.script.borrow().batches.clone();
    assert_eq!((batches.len(), &batches[0].indices[..]), (1, &[0, 1][..]));
    let script = std::fs::read_to_string(batches[0].folder.join("job.sh")).unwrap();
    assert!(
        script.contains("\nmodule load x\nexec /bin/lions --root "),
        "{script}"
    );
    assert!(
        script.ends_with("--index \"$INDEX\" --device cuda:0 --threads 3\n"),
        "{script}"
    );
    let manifest = std::fs::read_to_string(batches[0].folder.join("manifest")).unwrap();
    assert_eq!(
        manifest,
        format!("{} 2\n{} 2\n", "a".repeat(64), "b".repeat(64))
    );
    let halved = Launch {
        halved: true,
        ..desk.launch("c")
    };
    backend.launch(&halved).unwrap();
    backend.submit().unwrap();
    let names: Vec<String> = desk
        .script
        .borrow()
        .batches
        .iter()
        .map(|b| b.name.clone())
        .collect();
    assert_ne!(names[0], names[1]);
    let folder = desk.script.borrow().batches[1].folder.clone();
    let manifest = std::fs::read_to_string(folder.join("manifest")).unwrap();
    assert_eq!(manifest, format!("{} 2 half\n", "c".repeat(64)));
}

#[test]
fn what_is_refused_waits_with_the_reason_and_is_submitted_again_unless_it_is_there() {
    let desk = Desk::new();
    let mut backend = desk.backend();
    let handle = backend.launch(&desk.launch("a")).unwrap();
    desk.script.borrow_mut().refuses = true;
    backend.submit().unwrap();
    let waits = poll(&mut backend, &handle);
    assert_eq!(reason(&waits), "test does not take it: no");
    let note = read_job_note(&desk.launch("a").run_dir().attempt(2)).unwrap();
    assert_eq!(note.waits.unwrap().reason, "test does not take it: no");
    let tried = desk.script.borrow().batches.len();
    desk.says(0, Seen::Queued("Priority".to_owned()));
    assert_eq!(reason(&poll(&mut backend, &handle)), "Priority");
    assert_eq!(desk.script.borrow().batches.len(), tried);
}

#[test]
fn a_scheduler_that_does_not_answer_or_does_not_know_a_job_ends_none() {
    let desk = Desk::new();
    let mut backend = desk.backend();
    let handle = backend.launch(&desk.launch("a")).unwrap();
    backend.submit().unwrap();
    desk.script.borrow_mut().silent = true;
    assert_eq!(
        reason(&poll(&mut backend, &handle)),
        "test does not answer: down"
    );
    let dir = desk.launch("a").run_dir().attempt(2);
    begin_once(&dir, "node").unwrap();
    std::thread::sleep(Duration::from_millis(600)); // the folder is looked at twice a second
    assert_eq!(poll(&mut backend, &handle), Poll::Running);
    desk.script.borrow_mut().silent = false;
    assert_eq!(poll(&mut backend, &handle), Poll::Running);
    // A runner that comes later asks the same folder.
    let mut later = desk.backend();
    assert!(later.is_at_work(&dir).unwrap());
    let end = JobEnd {
        code: Some(3),
        ..JobEnd::default()
    };
    write_job_end(&dir, &end).unwrap();
    let exited = Poll::Exited {
        code: Some(3),
        signal: None,
        starved: false,
    };
    assert_eq!(poll(&mut desk.backend(), &handle), exited);
    assert!(!desk.backend().is_at_work(&dir).unwrap());
}

#[test]
fn why_an_attempt_was_ended_the_scheduler_says() {
    let cause = |ended: Ended, end: JobEnd| {
        let desk = Desk::new();
        let mut backend = desk.backend();
        let handle = backend.launch(&desk.launch("a")).unwrap();
        backend.submit().unwrap();
        let dir = desk.launch("a").run_dir().attempt(2);
        begin_once(&dir, "node").unwrap();
        write_job_end(&dir, &end).unwrap();
        desk.says(0, Seen::Alive);
        let before = poll(&mut backend, &handle);
        if before == Poll::Running {
            desk.says(0, Seen::Ended(ended));
            return poll(&mut backend, &handle);
        }
        before
    };
    let saved = JobEnd {
        code: Some(130),
        ..JobEnd::default()
    };
    let warned = JobEnd {
        warned: true,
        ..saved.clone()
    };
    let killed = JobEnd {
        signal: Some(9),
        ..JobEnd::default()
    };
    let of = |poll: Poll| match poll {
        Poll::Evicted { cause, .. } => cause,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        of(cause(Ended::Preempted, saved.clone())),
        Eviction::Infrastructure
    );
    assert_eq!(
        of(cause(Ended::Cancelled, saved.clone())),
        Eviction::Cancelled
    );
    assert_eq!(
        of(cause(Ended::Dropped, saved.clone())),
        Eviction::Cancelled
    );
    assert_eq!(of(cause(Ended::TimeLimit, saved)), Eviction::TimeLimit);
    assert_eq!(of(cause(Ended::Itself, warned)), Eviction::TimeLimit);
    assert_eq!(of(cause(Ended::Machine, killed.clone())), Eviction::Lost);
    // Killed without being asked, by whoever cancelled its job.
    assert_eq!(of(cause(Ended::Dropped, killed.clone())), Eviction::Lost);
    let starved = cause(Ended::Memory, killed);
    assert!(
        matches!(starved, Poll::Exited { starved: true, .. }),
        "{starved:?}"
    );
}

#[test]
fn a_stop_that_cannot_be_told_is_told_later_and_a_job_that_was_never_submitted_is_gone() {
    let desk = Desk::new();
    let mut backend = desk.backend();
    let handle = backend.launch(&desk.launch("a")).unwrap();
    backend.submit().unwrap();
    backend.stop(&handle, StopSignal::Terminate).unwrap();
    assert_eq!(desk.script.borrow().cancelled.len(), 1);
    let never = backend.launch(&desk.launch("b")).unwrap();
    backend.stop(&never, StopSignal::Terminate).unwrap();
    assert_eq!(poll(&mut backend, &never), Poll::Gone);
    assert_eq!(desk.script.borrow().cancelled.len(), 1);
}

// A runner pauses a run, cancels its job and dies; the next one must not take that for a person's wish.
#[test]
fn a_job_that_an_earlier_runner_stopped_is_not_taken_for_one_that_a_person_cancelled() {
    let desk = Desk::new();
    let mut backend = desk.backend();
    let handle = backend.launch(&desk.launch("a")).unwrap();
    backend.submit().unwrap();
    desk.says(0, Seen::Ended(Ended::Cancelled));
    let cause = |poll: Poll| match poll {
        Poll::Evicted { cause, .. } => cause,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        cause(poll(&mut desk.backend(), &handle)),
        Eviction::Cancelled
    );
    backend.stop(&handle, StopSignal::Terminate).unwrap();
    assert_eq!(
        cause(poll(&mut desk.backend(), &handle)),
        Eviction::Infrastructure
    );
}

#[test]
fn handles_of_other_backends_are_not_known() {
    let backend = Desk::new().backend();
    for text in [
        "local:1:2",
        "test",
        "test:lions-1:0",
        "tester:lions-1:0:ab:1",
        "test:lions-1:x:ab:1",
    ] {
        assert!(!backend.knows(&Handle(text.to_owned())), "{text}");
    }
}
