//! Claims about the runner as a whole: scripted attempts, real processes, sudden deaths.

use crate::backend::{
    Act, Backend, BackendError, Handle, Launch, LocalBackend, Poll, ScriptedBackend, StopSignal,
};
use crate::base::{
    Clock, Device, FakeClock, Shutdown, SystemClock, Timestamp, with_check, write_atomic,
};
use crate::config::sweep::Sweep;
use crate::plan::{Plan, RunId};
use crate::queue::{CRASH_LIMIT, LEASE_MILLIS, LOST_LIMIT, RunState, Slot, rest_after_crash};
use crate::rundir::{
    AttemptEvent, FailureClass, FolderLock, Journal, RunDir, digest_folder, read_outcome,
    write_made,
};
use crate::runner::{
    OutcomeSource, Reporter, RunOptions, RunnerError, RunnerEvent, Services, SweepEnd, SweepJob,
    SweepSummary, run_sweep,
};
use crate::store::testing::{grid, id};
use crate::store::{ClaimRequest, Retry, STORE_PATH, Store};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SUCCEED: Act = Act::Succeed { score: 0.5 };

/// Keeps every event, and may act on one.
struct Watcher<'a> {
    events: Vec<RunnerEvent>,
    on: Box<dyn FnMut(&RunnerEvent) + 'a>,
}

impl<'a> Watcher<'a> {
    fn new(on: impl FnMut(&RunnerEvent) + 'a) -> Self {
        Self {
            events: vec![],
            on: Box::new(on),
        }
    }

    fn kinds(&self) -> Vec<String> {
        let kind = |event| {
            serde_json::to_value(event).unwrap()["kind"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        self.events.iter().map(kind).collect()
    }

    fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|found| *found == kind).count()
    }

    fn warnings(&self) -> Vec<&str> {
        let messages = self.events.iter().filter_map(|event| match event {
            RunnerEvent::Warning { message, .. } => Some(message.as_str()),
            _ => None,
        });
        messages.collect()
    }
}

impl Reporter for Watcher<'_> {
    fn report(&mut self, event: &RunnerEvent) -> io::Result<()> {
        (self.on)(event);
        self.events.push(event.clone());
        Ok(())
    }
}

struct TestProject {
    dir: tempfile::TempDir,
    sweep: Sweep,
    plan: Plan,
    options: RunOptions,
    clock: Arc<FakeClock>,
    shutdown: Shutdown,
}

/// A project with the sweep of [`grid`]: betas 0.1 and 0.5, so 5 runs, and two slots.
fn project() -> TestProject {
    let (sweep, plan) = grid(&[0.1, 0.5], &[10], &[1]);
    let mut options = RunOptions::new(vec![Slot::cpu(1), Slot::cpu(1)]);
    options.disk_floor_bytes = 0;
    TestProject {
        dir: tempfile::tempdir().unwrap(),
        sweep,
        plan,
        options,
        clock: Arc::new(FakeClock::at(Timestamp(1_000_000))),
        shutdown: Shutdown::new(),
    }
}

impl TestProject {
    fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Asks the runner to stop when `is` is so of an event.
    fn stopped_at(&self, is: impl Fn(&RunnerEvent) -> bool + 'static) -> Watcher<'static> {
        let shutdown = self.shutdown.clone();
        Watcher::new(move |event| {
            if is(event) {
                shutdown.request();
            }
        })
    }

    fn scripted(&self, otherwise: Act) -> ScriptedBackend {
        ScriptedBackend::new(Some(Arc::clone(&self.clock)), otherwise)
    }

    fn store(&self) -> Store {
        Store::of_project(self.root()).unwrap()
    }

    fn run_with(
        &self,
        backend: &mut dyn Backend,
        clock: &dyn Clock,
        reporter: &mut dyn Reporter,
    ) -> Result<SweepSummary, RunnerError> {
        self.run_on(&mut self.store(), backend, clock, reporter)
    }

    fn run_on(
        &self,
        store: &mut Store,
        backend: &mut dyn Backend,
        clock: &dyn Clock,
        reporter: &mut dyn Reporter,
    ) -> Result<SweepSummary, RunnerError> {
        let job = SweepJob {
            root: self.root(),
            sweep: &self.sweep,
            plan: &self.plan,
            options: &self.options,
        };
        let services = Services {
            store,
            backend,
            shutdown: &self.shutdown,
            clock,
        };
        run_sweep(&job, services, reporter)
    }

    fn run(&self, backend: &mut ScriptedBackend) -> (SweepSummary, Watcher<'static>) {
        let mut watcher = Watcher::new(|_| {});
        let summary = self
            .run_with(backend, self.clock.as_ref(), &mut watcher)
            .unwrap();
        (summary, watcher)
    }

    fn claim_as(&self, owner: &str, name: &str) {
        let request = ClaimRequest {
            run: id(name),
            device: Device::Cpu,
            elsewhere: false,
        };
        let (sweep, plan) = (&self.sweep, &self.plan);
        let mut store = self.store();
        let now = self.clock.now();
        store
            .register(
                self.root(),
                sweep,
                plan,
                &BTreeMap::new(),
                Retry::Never,
                now,
            )
            .unwrap();
        store
            .claim(&[request], owner, now, self.options.lease_millis)
            .unwrap();
    }

    fn launch(&self, run: RunId) -> Launch {
        let (root, device) = (self.root().to_owned(), Device::Cpu);
        Launch {
            root,
            run,
            attempt: 1,
            device,
            card: None,
            card_memory: None,
            threads: 1,
            halved: false,
        }
    }
}

fn launches(backend: &ScriptedBackend) -> BTreeMap<RunId, usize> {
    let mut counts = BTreeMap::new();
    for launch in &backend.launched {
        *counts.entry(launch.run.clone()).or_default() += 1;
    }
    counts
}

#[test]
fn a_sweep_is_carried_out_once_and_a_second_time_finds_everything_done() {
    let project = project();
    let mut backend = project.scripted(SUCCEED);
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!(
        (summary.end, summary.succeeded, summary.executed),
        (SweepEnd::Succeeded, 5, 5)
    );
    assert_eq!(watcher.count("run-started"), 5);
    assert_eq!(watcher.count("run-finished"), 5);
    assert_eq!(backend.launched[0].run, id("sft"));
    let store = project.store();
    assert_eq!(store.read().training(&id("sft")).unwrap().len(), 2);
    assert_eq!(
        store.read().artifacts(&id("sft")).unwrap()[0].path,
        "model/weights"
    );
    let trials = store.read().trials("grid").unwrap();
    assert!((trials[1].metrics["score"].value - 0.5).abs() < 1e-12);
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!(
        (summary.end, summary.reused, summary.executed),
        (SweepEnd::Succeeded, 5, 0)
    );
    assert_eq!(watcher.kinds(), ["sweep-started", "sweep-finished"]);
}

#[test]
fn a_failure_skips_what_needs_it_siblings_go_on_and_a_retry_does_only_the_rest() {
    let project = project();
    let bad = id("dpo/0.1/10/1");
    let mut backend = project
        .scripted(SUCCEED)
        .with(&bad, vec![Act::Fail(FailureClass::OutOfMemory); 2]);
    let (summary, watcher) = project.run(&mut backend);
    let counts = (
        summary.succeeded,
        summary.failed,
        summary.skipped,
        summary.waiting,
    );
    assert_eq!((summary.end, counts), (SweepEnd::Incomplete, (3, 1, 1, 0)));
    assert_eq!(summary.failures[0].message, "as scripted");
    assert!(summary.failures[0].hint.contains("micro-batch-tokens"));
    assert_eq!(watcher.count("run-skipped"), 1);
    let (again, _) = project.run(&mut backend);
    assert_eq!((again.executed, again.failed), (0, 1));
    let project = TestProject {
        options: RunOptions {
            retry: Retry::Failed,
            ..project.options.clone()
        },
        ..project
    };
    let (retried, _) = project.run(&mut backend);
    assert_eq!((retried.end, retried.executed), (SweepEnd::Succeeded, 2));
}

#[test]
fn a_run_whose_memory_ran_out_is_tried_once_more_with_half_the_micro_batch() {
    let project = project();
    let run = id("dpo/0.1/10/1");
    let mut backend = project
        .scripted(SUCCEED)
        .with(&run, [Act::Fail(FailureClass::OutOfMemory)]);
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!((summary.end, summary.failed), (SweepEnd::Succeeded, 0));
    let tries = backend.launched.iter().filter(|launch| launch.run == run);
    let halved: Vec<bool> = tries.map(|launch| launch.halved).collect();
    assert_eq!(halved, [false, true]);
    let mut others = backend.launched.iter().filter(|launch| launch.run != run);
    assert!(others.all(|launch| !launch.halved));
    assert!(watcher.warnings()[0].contains("half the micro-batch"));
}

#[test]
fn a_run_under_which_a_card_was_lost_goes_to_another_and_a_card_lost_under_two_gets_no_more() {
    let mut project = project();
    let card = |number| Slot {
        device: Device::Cuda(number),
        ..Slot::cpu(1)
    };
    let fault = || [Act::Fail(FailureClass::DeviceFault)];
    project.options.slots = vec![card(0), card(1)];
    let mut backend = project.scripted(SUCCEED).with(&id("sft"), fault());
    let (summary, _) = project.run(&mut backend);
    assert_eq!(summary.end, SweepEnd::Succeeded);
    let devices: Vec<Device> = backend
        .launched
        .iter()
        .map(|launch| launch.device)
        .collect();
    assert_eq!(devices[..2], [Device::Cuda(0), Device::Cuda(1)]);

    let mut alone = self::project();
    alone.options.slots = vec![card(0)];
    let mut backend = alone
        .scripted(SUCCEED)
        .with(&id("dpo/0.1/10/1"), fault())
        .with(&id("dpo/0.5/10/1"), fault());
    let (summary, watcher) = alone.run(&mut backend);
    assert_eq!((summary.end, summary.waiting), (SweepEnd::Incomplete, 4));
    assert!(watcher.warnings()[0].contains("cuda:0 was lost under two runs"));
    let (again, _) = alone.run(&mut backend);
    assert_eq!(again.end, SweepEnd::Succeeded);
}

#[test]
fn a_node_whose_cards_were_lost_under_two_runs_is_left_out_and_one_run_alone_leaves_none_out() {
    let mut project = project();
    let slot = Slot {
        device: Device::Cuda(0),
        elsewhere: true,
        ..Slot::cpu(1)
    };
    project.options.slots = vec![slot];
    let fault = || [Act::Fail(FailureClass::DeviceFault)];
    let mut backend = project
        .scripted(SUCCEED)
        .with(&id("sft"), fault())
        .with(&id("dpo/0.1/10/1"), fault())
        .with(&id("dpo/0.5/10/1"), fault());
    backend.host = Some("node7".to_owned());
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!(summary.end, SweepEnd::Succeeded);
    // Of `sft` and the first training one came to its end in between.
    assert_eq!(backend.excluded, ["node7"]);
    let told = watcher.warnings();
    assert!(
        told[0].contains("cards of `node7` were lost under two runs"),
        "{told:?}"
    );
}

#[test]
fn a_run_that_crashes_is_tried_again_and_given_up_after_five() {
    let project = project();
    let (once, always) = (id("dpo/0.1/10/1"), id("dpo/0.5/10/1"));
    let mut backend = project
        .scripted(SUCCEED)
        .with(&once, [Act::Crash])
        .with(&always, vec![Act::Crash; 9]);
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!(
        (summary.succeeded, summary.failed, summary.skipped),
        (3, 1, 1)
    );
    assert_eq!(
        (launches(&backend)[&once], launches(&backend)[&always]),
        (2, 5)
    );
    assert_eq!(watcher.count("run-crashed"), 1 + 4);
    assert_eq!(
        summary.failures[0].message,
        "ended with exit code 3 and no result"
    );
}

#[test]
fn a_run_that_the_system_ends_for_want_of_memory_rests_between_its_tries_and_is_given_up_with_advice()
 {
    let project = project();
    let run = id("dpo/0.5/10/1");
    let mut backend = project.scripted(SUCCEED).with(&run, vec![Act::Starve; 9]);
    let before = project.clock.now();
    let (summary, _) = project.run(&mut backend);
    assert_eq!((summary.succeeded, summary.failed), (3, 1));
    assert_eq!(launches(&backend)[&run], 5);
    let rests = (1..5).map(|crashes| rest_after_crash(crashes, Some(FailureClass::OutOfMemory)));
    assert!(project.clock.now().0 - before.0 >= rests.sum::<i64>());
    let failure = &summary.failures[0];
    assert_eq!(failure.class, Some(FailureClass::OutOfMemory));
    assert_eq!(
        failure.message,
        "ended by the system because memory ran out"
    );
    assert!(failure.hint.contains("micro-batch-tokens"), "{failure:?}");
    let (again, _) = project.run(&mut backend);
    assert_eq!((again.executed, launches(&backend)[&run]), (0, 5));
}

#[test]
fn a_run_that_its_scheduler_loses_is_tried_again_at_no_cost_and_given_up_if_that_goes_on() {
    let project = project();
    let (unlucky, poison) = (id("sft"), id("dpo/0.5/10/1"));
    let lost = LOST_LIMIT as usize;
    let mut backend = project
        .scripted(SUCCEED)
        .with(&unlucky, vec![Act::Lose; lost])
        .with(&poison, vec![Act::Lose; 99]);
    let before = project.clock.now();
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!((summary.succeeded, summary.failed), (3, 1));
    assert_eq!(launches(&backend)[&unlucky], lost + 1);
    let store = project.store();
    assert_eq!(store.read().run(&unlucky).unwrap().crashes, 0);
    assert_eq!(watcher.count("run-interrupted"), 2 * lost);
    let told = watcher.warnings();
    let why = told.iter().filter(|told| **told == "its machine failed");
    assert_eq!(why.count(), 2 * lost, "{told:?}");
    let rests = (1..=LOST_LIMIT).map(|times| rest_after_crash(times, None));
    assert!(project.clock.now().0 - before.0 >= rests.sum::<i64>());
    // Beyond that each counts as a crash.
    let limit = CRASH_LIMIT as usize;
    assert_eq!(launches(&backend)[&poison], lost + limit);
    assert_eq!(
        summary.failures[0].message,
        "its machine failed; that was so 8 times in a row"
    );
}

#[test]
fn a_run_without_a_sign_of_life_is_killed_after_its_lease_and_tried_again() {
    let project = project();
    let mut backend = project.scripted(SUCCEED).with(&id("sft"), [Act::Hang]);
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!(
        (summary.end, watcher.count("run-crashed")),
        (SweepEnd::Succeeded, 1)
    );
    let handle = Handle(format!("scripted:{}:1", id("sft").short()));
    assert_eq!(backend.stopped, [(handle, StopSignal::Kill)]);
}

#[test]
fn a_request_to_stop_lets_attempts_save_their_state_and_the_next_run_goes_on() {
    let project = project();
    let mut backend = project
        .scripted(SUCCEED)
        .with(&id("dpo/0.1/10/1"), [Act::Work]);
    let mut watcher = project.stopped_at(
        |event| matches!(event, RunnerEvent::RunStarted { run, .. } if *run == id("dpo/0.1/10/1")),
    );
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!(summary.end, SweepEnd::Interrupted);
    assert_eq!(watcher.count("run-interrupted"), 1);
    assert_eq!(backend.stopped[0].1, StopSignal::Terminate);
    let project = TestProject {
        shutdown: Shutdown::new(),
        ..project
    };
    let (summary, _) = project.run(&mut backend);
    assert_eq!(summary.end, SweepEnd::Succeeded);
    assert_eq!(launches(&backend).values().sum::<usize>(), 6);
    assert_eq!(
        project
            .store()
            .read()
            .run(&id("dpo/0.1/10/1"))
            .unwrap()
            .crashes,
        0
    );
}

#[test]
fn an_attempt_that_does_not_heed_a_stop_is_killed_after_the_grace() {
    let project = project();
    let mut backend = project.scripted(Act::Hang);
    let mut watcher = project.stopped_at(|event| matches!(event, RunnerEvent::RunStarted { .. }));
    let before = project.clock.now();
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!(summary.end, SweepEnd::Interrupted);
    let signals: Vec<StopSignal> = backend.stopped.iter().map(|(_, signal)| *signal).collect();
    assert_eq!(signals, [StopSignal::Terminate, StopSignal::Kill]);
    let secs = project.clock.now().secs_since(before);
    assert!((30.0..32.0).contains(&secs), "{secs}");
    assert_eq!(
        project.store().read().run(&id("sft")).unwrap().state,
        RunState::Ready
    );
}

#[test]
fn a_runner_that_cannot_go_on_gives_its_attempts_time_to_save_their_state() {
    let project = project();
    let mut backend = project.scripted(SUCCEED).with(&id("sft"), [Act::Hang]);
    let other = project.store();
    let mut watcher = Watcher::new(|event| {
        if matches!(event, RunnerEvent::RunStarted { .. }) {
            let conn = &other.inner.conn;
            conn.execute_batch("DROP TABLE request").unwrap();
        }
    });
    let before = project.clock.now();
    let error = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap_err();
    assert!(!error.is_passing(), "{error}");
    let signals: Vec<StopSignal> = backend.stopped.iter().map(|(_, signal)| *signal).collect();
    assert_eq!(signals, [StopSignal::Terminate]);
    let secs = project.clock.now().secs_since(before);
    assert!((30.0..32.0).contains(&secs), "{secs}");
}

#[test]
fn another_process_may_cancel_a_run_at_work() {
    let project = project();
    let mut backend = project
        .scripted(SUCCEED)
        .with(&id("dpo/0.1/10/1"), [Act::Work]);
    let mut other = project.store();
    let mut watcher = Watcher::new(move |event| {
        if matches!(event, RunnerEvent::RunStarted { run, .. } if *run == id("dpo/0.1/10/1")) {
            other.cancel(&id("dpo/0.1/10/1"), Timestamp(0)).unwrap();
        }
    });
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.succeeded), (SweepEnd::Incomplete, 3));
    assert_eq!((summary.cancelled, summary.skipped), (1, 1));
    assert_eq!(watcher.count("run-cancelled"), 1);
}

#[test]
fn losing_the_database_loses_no_result_and_repeats_no_run() {
    let project = project();
    let mut backend = project.scripted(SUCCEED);
    project.run(&mut backend);
    for suffix in ["", "-wal", "-shm"] {
        let path = project.root().join(format!("{STORE_PATH}{suffix}"));
        assert!(std::fs::remove_file(path).is_ok() || !suffix.is_empty());
    }
    let (summary, _) = project.run(&mut backend);
    assert_eq!(
        (summary.reused, summary.executed, backend.launched.len()),
        (5, 0, 5)
    );
    assert_eq!(
        project.store().read().training(&id("sft")).unwrap().len(),
        2
    );
}

#[test]
fn a_run_whose_artifact_is_gone_is_done_again_and_no_other() {
    let project = project();
    let mut backend = project.scripted(SUCCEED);
    project.run(&mut backend);
    let damaged = RunDir::new(project.root(), &id("dpo/0.5/10/1"));
    std::fs::remove_file(damaged.artifacts().join("model/weights")).unwrap();
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!((summary.end, summary.executed), (SweepEnd::Succeeded, 1));
    assert_eq!(launches(&backend)[&id("dpo/0.5/10/1")], 2);
    assert_eq!(watcher.count("warning"), 1);
    assert!(damaged.artifacts().join("model/weights").exists());
}

#[test]
fn an_input_that_an_attempt_finds_damaged_is_made_again_and_the_attempt_after_it() {
    let project = project();
    let child = id("dpo/0.1/10/1");
    let mut backend = project
        .scripted(SUCCEED)
        .with(&child, [Act::Fail(FailureClass::Damaged)]);
    let weights = RunDir::new(project.root(), &id("sft"))
        .artifacts()
        .join("model/weights");
    let mut watcher = Watcher::new(|event| {
        if matches!(event, RunnerEvent::RunStarted { run, attempt: 1, .. } if *run == child) {
            write_atomic(&weights, b"9.9").unwrap();
        }
    });
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.failed), (SweepEnd::Succeeded, 0));
    assert_eq!(launches(&backend)[&id("sft")], 2);
    assert_eq!(std::fs::read_to_string(&weights).unwrap(), "0.5");
    let warned = watcher.events.iter().any(|event| {
        matches!(event, RunnerEvent::Warning { message, .. } if message.contains("model/weights"))
    });
    assert!(warned);
}

// As another attempt brings about that finds the same damage earlier.
#[test]
fn an_attempt_whose_input_was_damaged_and_is_whole_again_when_it_is_looked_at_is_tried_again() {
    let project = project();
    let child = id("dpo/0.1/10/1");
    let damaged = Act::Fail(FailureClass::Damaged);
    let mut backend = project.scripted(SUCCEED).with(&child, [damaged.clone()]);
    let sft = RunDir::new(project.root(), &id("sft"));
    let mut watcher = Watcher::new(|event| {
        if matches!(event, RunnerEvent::RunStarted { run, attempt: 1, .. } if *run == child) {
            let mut outcome = read_outcome(&sft).unwrap().unwrap();
            outcome.finished = project.clock.now().plus_millis(1);
            let text = with_check(&serde_json::to_string(&outcome).unwrap());
            write_atomic(&sft.outcome(), text.as_bytes()).unwrap();
        }
    });
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.failed), (SweepEnd::Succeeded, 0));
    let launches = launches(&backend);
    assert_eq!((launches[&child], launches[&id("sft")]), (2, 1));

    // What was whole all the time is not to blame.
    let other = self::project();
    let mut backend = other.scripted(SUCCEED).with(&child, [damaged]);
    let (summary, _) = other.run(&mut backend);
    assert_eq!((summary.succeeded, summary.failed), (3, 1));
}

#[test]
fn an_attempt_whose_work_does_not_get_on_is_ended_as_hung_and_its_siblings_go_on() {
    let mut project = project();
    project.options.hang_millis = 600_000;
    let child = id("dpo/0.1/10/1");
    let mut backend = project.scripted(SUCCEED).with(&child, [Act::Work]);
    let (summary, _) = project.run(&mut backend);
    assert_eq!(
        (summary.succeeded, summary.failed, summary.skipped),
        (3, 1, 1)
    );
    assert_eq!(summary.failures[0].class, Some(FailureClass::Hung));
    assert!(
        summary.failures[0].hint.contains("--hang-after"),
        "{summary:?}"
    );
}

#[test]
fn a_cancellation_is_not_lost_when_the_attempt_crashes_first() {
    let project = project();
    let child = id("dpo/0.1/10/1");
    project.claim_as("a runner", "sft");
    let mut store = project.store();
    let now = project.clock.now();
    store.cancel(&id("sft"), now).unwrap();
    let end = crate::queue::AttemptEnd::Crashed {
        class: None,
        message: "signal 9".to_owned(),
        progressed: true,
    };
    store.end_attempt(&id("sft"), 1, end, now).unwrap().unwrap();
    let state = |run: &RunId| project.store().read().run(run).unwrap().state;
    assert_eq!(state(&id("sft")), RunState::Cancelled);
    assert_eq!(state(&child), RunState::Skipped);
}

#[test]
fn a_finished_attempt_of_a_dead_runner_is_published_and_not_repeated() {
    let project = project();
    project.claim_as("a dead runner", "sft");
    project
        .scripted(SUCCEED)
        .launch(&project.launch(id("sft")))
        .unwrap();
    let mut backend = project.scripted(SUCCEED);
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!((summary.end, summary.executed), (SweepEnd::Succeeded, 4));
    assert!(!launches(&backend).contains_key(&id("sft")));
    let adopted = |event: &&RunnerEvent| {
        matches!(
            event,
            RunnerEvent::RunFinished {
                origin: OutcomeSource::Adopted,
                ..
            }
        )
    };
    assert_eq!(watcher.events.iter().filter(adopted).count(), 1);
    assert_eq!(
        project.store().read().training(&id("sft")).unwrap().len(),
        2
    );
}

#[test]
fn an_unfinished_attempt_of_a_dead_runner_is_taken_back_without_a_crash_with_all_that_it_told() {
    let project = project();
    project.claim_as("a dead runner", "sft");
    let attempt = RunDir::new(project.root(), &id("sft")).attempt(1);
    let mut journal = Journal::create(&attempt.events()).unwrap();
    let metrics = [("loss".to_owned(), 3.0)].into();
    let step = AttemptEvent::Step { step: 7, metrics };
    journal.append(&step).unwrap();
    let (summary, _) = project.run(&mut project.scripted(SUCCEED));
    let steps = project.store().read().training(&id("sft")).unwrap();
    let steps: Vec<u64> = steps.iter().map(|row| row.0).collect();
    assert_eq!(steps, [1, 2, 7]);
    assert_eq!(summary.end, SweepEnd::Succeeded);
    let run = project.store().read().run(&id("sft")).unwrap();
    assert_eq!((run.attempts, run.crashes), (2, 0));
    assert_eq!(
        project.store().read().attempts(&id("sft")).unwrap()[0].state,
        "lost"
    );
}

#[test]
fn an_attempt_that_still_holds_its_folder_is_never_started_beside() {
    let project = project();
    project.claim_as("a dead runner", "sft");
    let folder = RunDir::new(project.root(), &id("sft")).attempt(1);
    std::fs::create_dir_all(folder.path()).unwrap();
    let mut lock = FolderLock::try_take(folder.path()).unwrap();
    let mut backend = project.scripted(SUCCEED);
    let mut watcher = Watcher::new(move |event| {
        if matches!(event, RunnerEvent::Warning { .. }) {
            assert!(lock.take().is_some()); // the orphan ends
        }
    });
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!(summary.end, SweepEnd::Succeeded);
    let kinds = watcher.kinds();
    assert_eq!(kinds[..3], ["sweep-started", "warning", "run-started"]);
    assert_eq!(backend.launched[0].attempt, 2);
}

/// A scripted backend of which a test decides what a launch does.
struct Launching<L> {
    inner: ScriptedBackend,
    launch: L,
}

impl<L> Backend for Launching<L>
where
    L: FnMut(&mut ScriptedBackend, &Launch) -> Result<Handle, BackendError>,
{
    fn launch(&mut self, launch: &Launch) -> Result<Handle, BackendError> {
        (self.launch)(&mut self.inner, launch)
    }

    fn poll(&mut self, handles: &[Handle]) -> Result<Vec<Poll>, BackendError> {
        self.inner.poll(handles)
    }

    fn stop(&mut self, handle: &Handle, signal: StopSignal) -> Result<(), BackendError> {
        self.inner.stop(handle, signal)
    }

    fn wait(&mut self, millis: u64) {
        self.inner.wait(millis);
    }
}

// A panic before or after a process was started: the runner's state is gone, as after `kill -9`.
#[test]
fn a_runner_that_dies_at_any_launch_loses_no_run_and_repeats_none_that_finished() {
    let project = project();
    let mut started: BTreeMap<RunId, usize> = BTreeMap::new();
    let mut deaths = 0;
    for life in 0..40 {
        let (inner, after) = (project.scripted(SUCCEED), life % 2 == 0);
        let mut launches_left = 1 + life % 3;
        let mut backend = Launching {
            inner,
            launch: |inner: &mut ScriptedBackend, launch: &Launch| {
                launches_left -= 1;
                assert!(launches_left > 0 || after, "killed before the launch");
                let handle = inner.launch(launch);
                assert!(launches_left > 0, "killed after the launch");
                handle
            },
        };
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let mut silent = Watcher::new(|_| {});
            project
                .run_with(&mut backend, project.clock.as_ref(), &mut silent)
                .unwrap()
        }));
        for (run, count) in launches(&backend.inner) {
            *started.entry(run).or_default() += count;
        }
        match lived {
            Ok(summary) => {
                assert_eq!(summary.end, SweepEnd::Succeeded);
                break;
            }
            Err(_) => deaths += 1,
        }
    }
    assert!(deaths >= 3, "{deaths}");
    assert_eq!(started.len(), 5);
    assert!(started.values().all(|count| *count == 1), "{started:?}");
}

#[test]
fn two_runners_on_one_store_share_the_work_and_repeat_nothing() {
    let (sweep, plan) = grid(&(1..=30).map(f64::from).collect::<Vec<_>>(), &[10], &[1]);
    let project = TestProject {
        sweep,
        plan,
        ..project()
    };
    let results: Vec<(SweepSummary, usize)> = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut backend = ScriptedBackend::new(None, SUCCEED);
                    let mut silent = Watcher::new(|_| {});
                    let summary = project.run_with(&mut backend, &SystemClock, &mut silent);
                    (summary.unwrap(), backend.launched.len())
                })
            })
            .collect();
        runners
            .into_iter()
            .map(|runner| runner.join().unwrap())
            .collect()
    });
    for (summary, _) in &results {
        assert_eq!((summary.end, summary.succeeded), (SweepEnd::Succeeded, 61));
    }
    assert_eq!(
        results.iter().map(|(_, launched)| launched).sum::<usize>(),
        61
    );
}

// An hour in which a driver stands still again and again for longer than its lease, each time with an attempt that has
// begun, while another does what it can.
#[test]
fn a_driver_that_is_suspended_beyond_its_lease_repeats_nothing_and_loses_nothing() {
    let (sweep, plan) = grid(&(1..=30).map(f64::from).collect::<Vec<_>>(), &[10], &[1]);
    let mut project = TestProject {
        sweep,
        plan,
        ..project()
    };
    project.options.slots = vec![Slot::cpu(1)];
    let project = project;
    let began = project.clock.now();
    let (mut launched, mut started) = (BTreeMap::<RunId, usize>::new(), 0);
    let mut suspended = project.scripted(SUCCEED);
    let mut watcher = Watcher::new(|event| {
        if !matches!(event, RunnerEvent::RunStarted { .. }) {
            return;
        }
        started += 1;
        if started % 4 != 1 {
            return;
        }
        project.clock.advance_millis(10 * LEASE_MILLIS);
        // Another driver begins, and goes after a few runs.
        let shutdown = Shutdown::new();
        let mut done = 0;
        let mut other = Watcher::new(|event| {
            done += usize::from(matches!(event, RunnerEvent::RunFinished { .. }));
            if done >= 5 {
                shutdown.request();
            }
        });
        let mut backend = project.scripted(SUCCEED);
        let job = SweepJob {
            root: project.root(),
            sweep: &project.sweep,
            plan: &project.plan,
            options: &project.options,
        };
        let services = Services {
            store: &mut project.store(),
            backend: &mut backend,
            shutdown: &shutdown,
            clock: project.clock.as_ref(),
        };
        run_sweep(&job, services, &mut other).unwrap();
        for launch in &backend.launched {
            *launched.entry(launch.run.clone()).or_default() += 1;
        }
    });
    let summary = project
        .run_with(&mut suspended, project.clock.as_ref(), &mut watcher)
        .unwrap();
    drop(watcher);
    assert_eq!((summary.end, summary.succeeded), (SweepEnd::Succeeded, 61));
    assert!(project.clock.now().secs_since(began) > 3600.0);
    for launch in &suspended.launched {
        *launched.entry(launch.run.clone()).or_default() += 1;
    }
    assert_eq!(launched.len(), 61);
    let store = project.store();
    for run in &project.plan.runs {
        let attempts = store.read().attempts(&run.id).unwrap();
        let ends = attempts
            .iter()
            .filter(|attempt| attempt.state == "succeeded");
        assert_eq!(ends.count(), 1, "{attempts:?}");
        assert!(attempts.iter().all(|attempt| attempt.state != "live"));
        assert_eq!(launched[&run.id], 1, "{attempts:?}");
    }
}

#[test]
fn too_little_room_on_the_disk_pauses_and_fails_nothing() {
    let mut project = project();
    project.options.disk_floor_bytes = u64::MAX;
    let mut backend = project.scripted(SUCCEED);
    let mut watcher = project.stopped_at(|event| matches!(event, RunnerEvent::Paused { .. }));
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!(
        (summary.end, summary.waiting, summary.failed),
        (SweepEnd::Interrupted, 5, 0)
    );
    assert_eq!(backend.launched.len(), 0);
}

#[test]
fn a_full_database_pauses_the_runner_which_goes_on_when_there_is_room_and_repeats_nothing() {
    let (sweep, plan) = grid(&(1..=60).map(f64::from).collect::<Vec<_>>(), &[10], &[1]);
    let project = TestProject {
        sweep,
        plan,
        ..project()
    };
    project.claim_as("a dead runner", "sft");
    let (mut store, mut other) = full_store(&project);
    let job = SweepJob {
        root: project.root(),
        sweep: &project.sweep,
        plan: &project.plan,
        options: &project.options,
    };
    let mut backend = project.scripted(SUCCEED);
    let mut told = Vec::new();
    let mut watcher = Watcher::new(|event| {
        if let RunnerEvent::Paused { reason } = event {
            told.push(reason.clone());
            drop(other.inner.conn.execute_batch("DROP TABLE ballast"));
            assert!(other.try_write().is_ok());
        }
    });
    let services = Services {
        store: &mut store,
        backend: &mut backend,
        shutdown: &project.shutdown,
        clock: project.clock.as_ref(),
    };
    let summary = run_sweep(&job, services, &mut watcher).unwrap();
    let counts = (watcher.count("paused"), watcher.count("resumed"));
    drop(watcher);
    assert_eq!((summary.end, summary.succeeded), (SweepEnd::Succeeded, 121));
    assert!(counts.0 >= 1 && counts.0 == counts.1, "{counts:?}");
    assert!(told[0].contains("full"), "{told:?}");
    assert!(launches(&backend).values().all(|count| *count == 1));
    let steps = project.store().read().training(&id("dpo/60/10/1")).unwrap();
    assert_eq!(steps.len(), 2);
}

/// A store with no page left to write, and another connection that has filled it.
fn full_store(project: &TestProject) -> (Store, Store) {
    let (store, other) = (project.store(), project.store());
    let ballast =
        "CREATE TABLE ballast (bytes BLOB); INSERT INTO ballast VALUES (zeroblob(4000000))";
    other.inner.conn.execute_batch(ballast).unwrap();
    let conn = &store.inner.conn;
    let pages: i64 = conn
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        .unwrap();
    (store, other)
}

#[test]
fn a_sweep_that_cannot_be_registered_for_want_of_room_is_registered_when_there_is_some() {
    let (sweep, plan) = grid(&(1..=60).map(f64::from).collect::<Vec<_>>(), &[10], &[1]);
    let project = TestProject {
        sweep,
        plan,
        ..project()
    };
    let (mut store, other) = full_store(&project);
    let mut backend = project.scripted(SUCCEED);
    let mut watcher = Watcher::new(|event| {
        if matches!(event, RunnerEvent::Paused { .. }) {
            let dropped = other.inner.conn.execute_batch("DROP TABLE ballast");
            dropped.unwrap();
        }
    });
    let clock = project.clock.as_ref();
    let summary = project
        .run_on(&mut store, &mut backend, clock, &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.executed), (SweepEnd::Succeeded, 121));
    assert_eq!(
        watcher.kinds()[..3],
        ["paused", "resumed", "sweep-started"],
        "nothing begins before it is registered"
    );
}

#[test]
fn a_sweep_that_is_stopped_before_it_could_be_registered_has_begun_nothing() {
    let (sweep, plan) = grid(&(1..=60).map(f64::from).collect::<Vec<_>>(), &[10], &[1]);
    let project = TestProject {
        sweep,
        plan,
        ..project()
    };
    let (mut store, _other) = full_store(&project);
    let mut backend = project.scripted(SUCCEED);
    let mut watcher = project.stopped_at(|event| matches!(event, RunnerEvent::Paused { .. }));
    let clock = project.clock.as_ref();
    let error = project
        .run_on(&mut store, &mut backend, clock, &mut watcher)
        .unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert_eq!(watcher.kinds(), ["paused"]);
    assert_eq!(backend.launched.len(), 0);
}

/// The project's store, which does not wait while another connection writes, and that other one.
fn impatient_store(project: &TestProject) -> (Store, Store) {
    let (store, other) = (project.store(), project.store());
    store.inner.conn.busy_timeout(Duration::ZERO).unwrap();
    (store, other)
}

/// Whether both trainings of the project are at work.
fn both_at_work(event: &RunnerEvent) -> bool {
    matches!(event, RunnerEvent::RunStarted { run, .. } if *run == id("dpo/0.5/10/1"))
}

#[test]
fn a_stop_comes_to_its_end_while_the_database_takes_nothing() {
    let project = project();
    let trainings = [id("dpo/0.1/10/1"), id("dpo/0.5/10/1")];
    let mut backend = project.scripted(SUCCEED);
    for run in &trainings {
        backend = backend.with(run, [Act::Work]);
    }
    let (mut store, other) = impatient_store(&project);
    let clock = project.clock.as_ref();
    let shutdown = project.shutdown.clone();
    let mut watcher = Watcher::new(|event| {
        if both_at_work(event) {
            other.inner.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            shutdown.request();
        }
    });
    let error = project
        .run_on(&mut store, &mut backend, clock, &mut watcher)
        .unwrap_err();
    assert!(error.may_pass(), "{error}");
    drop(watcher);
    let signals: Vec<StopSignal> = backend.stopped.iter().map(|(_, signal)| *signal).collect();
    assert_eq!(signals, [StopSignal::Terminate, StopSignal::Terminate]);
    other.inner.conn.execute_batch("ROLLBACK").unwrap();
    let project = TestProject {
        shutdown: Shutdown::new(),
        ..project
    };
    let (summary, _) = project.run(&mut backend);
    assert_eq!((summary.end, summary.failed), (SweepEnd::Succeeded, 0));
}

#[test]
fn a_pause_is_over_when_its_cause_is_though_nothing_can_begin() {
    let project = project();
    let trainings = [id("dpo/0.1/10/1"), id("dpo/0.5/10/1")];
    let mut backend = project.scripted(SUCCEED);
    for run in &trainings {
        backend = backend.with(run, [Act::Work]);
    }
    let (mut store, other) = impatient_store(&project);
    let clock = project.clock.as_ref();
    let shutdown = project.shutdown.clone();
    let mut watcher = Watcher::new(|event| match event {
        RunnerEvent::Paused { .. } => other.inner.conn.execute_batch("ROLLBACK").unwrap(),
        RunnerEvent::Resumed => shutdown.request(),
        event if both_at_work(event) => {
            other.inner.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        _ => {}
    });
    let before = project.clock.now();
    let summary = project
        .run_on(&mut store, &mut backend, clock, &mut watcher)
        .unwrap();
    assert_eq!(summary.end, SweepEnd::Interrupted);
    assert_eq!((watcher.count("paused"), watcher.count("resumed")), (1, 1));
    let secs = project.clock.now().secs_since(before);
    assert!((5.0..10.0).contains(&secs), "{secs}");
}

#[test]
fn an_attempt_whose_handle_cannot_be_stored_is_told_and_comes_to_its_end() {
    let project = project();
    let (mut store, other) = impatient_store(&project);
    // Another connection writes as soon as the first process is started.
    let mut backend = Launching {
        inner: project.scripted(SUCCEED),
        launch: |inner: &mut ScriptedBackend, launch: &Launch| {
            let handle = inner.launch(launch);
            if launch.run == id("sft") {
                other.inner.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            }
            handle
        },
    };
    let mut watcher = Watcher::new(|event| {
        if matches!(event, RunnerEvent::Paused { .. }) {
            other.inner.conn.execute_batch("ROLLBACK").unwrap();
        }
    });
    let clock = project.clock.as_ref();
    let summary = project
        .run_on(&mut store, &mut backend, clock, &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.executed), (SweepEnd::Succeeded, 5));
    let told = (watcher.count("run-started"), watcher.count("paused"));
    assert_eq!(told, (5, 1));
}

// 5 + 10 + 20 + 40 s of rest.
#[test]
fn a_run_that_finds_no_room_again_and_again_rests_longer_each_time_and_is_not_to_blame() {
    let project = project();
    let run = id("dpo/0.1/10/1");
    let full = vec![Act::Fail(FailureClass::DiskFull); 4];
    let mut backend = project.scripted(SUCCEED).with(&run, full);
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!((summary.end, summary.failed), (SweepEnd::Succeeded, 0));
    assert_eq!(launches(&backend)[&run], 5);
    assert_eq!(watcher.count("run-crashed"), 0);
    assert!((75.0..85.0).contains(&summary.secs), "{}", summary.secs);
}

#[test]
fn a_disk_that_damages_an_input_each_time_is_given_up() {
    let project = project();
    let child = id("dpo/0.1/10/1");
    let mut backend = project
        .scripted(SUCCEED)
        .with(&child, vec![Act::Fail(FailureClass::Damaged); 99]);
    let weights = RunDir::new(project.root(), &id("sft"))
        .artifacts()
        .join("model/weights");
    let mut watcher = Watcher::new(|event| {
        if matches!(event, RunnerEvent::RunStarted { run, .. } if *run == child) {
            write_atomic(&weights, b"9.9").unwrap();
        }
    });
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!((summary.failed, summary.skipped), (1, 1));
    assert_eq!(summary.failures[0].class, Some(FailureClass::Damaged));
    assert_eq!(launches(&backend)[&child], 5);
}

#[test]
fn a_run_of_whose_outcome_only_the_marker_is_damaged_is_published_again_and_not_repeated() {
    let project = project();
    let mut backend = project.scripted(SUCCEED);
    project.run(&mut backend);
    let sft = RunDir::new(project.root(), &id("sft"));
    let dpo = RunDir::new(project.root(), &id("dpo/0.1/10/1"));
    write_atomic(&sft.outcome(), b"{").unwrap();
    // Without a record of what it made the result proves nothing.
    write_atomic(&dpo.outcome(), b"{").unwrap();
    std::fs::remove_file(dpo.attempt(1).made()).unwrap();
    let (summary, watcher) = project.run(&mut backend);
    assert_eq!((summary.end, summary.executed), (SweepEnd::Succeeded, 1));
    assert_eq!(launches(&backend)[&id("sft")], 1);
    assert_eq!(launches(&backend)[&id("dpo/0.1/10/1")], 2);
    assert!(sft.path().join("outcome.rejected.json").is_file());
    let warnings = watcher.warnings();
    let told = warnings
        .iter()
        .filter(|told| told.contains("made.json") && told.contains("done again"));
    assert_eq!(told.count(), 1, "{warnings:?}");
    let late = warnings.iter().find(|told| told.contains("too late"));
    assert_eq!(late, None, "no attempt had begun");
}

#[test]
fn an_input_whose_outcome_is_gone_when_an_attempt_looks_keeps_its_result() {
    let project = project();
    let child = id("dpo/0.1/10/1");
    let mut backend = project
        .scripted(SUCCEED)
        .with(&child, [Act::Fail(FailureClass::Damaged)]);
    let sft = RunDir::new(project.root(), &id("sft"));
    let mut watcher = Watcher::new(|event| {
        if matches!(event, RunnerEvent::RunStarted { run, attempt: 1, .. } if *run == child) {
            std::fs::remove_file(sft.outcome()).unwrap();
        }
    });
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.failed), (SweepEnd::Succeeded, 0));
    assert_eq!(launches(&backend)[&id("sft")], 1);
    assert_eq!(launches(&backend)[&child], 2);
}

#[test]
fn a_reporter_that_fails_does_not_fail_the_sweep() {
    struct Broken;
    impl Reporter for Broken {
        fn report(&mut self, _event: &RunnerEvent) -> io::Result<()> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
    }
    let project = project();
    let mut backend = project.scripted(SUCCEED);
    let summary = project
        .run_with(&mut backend, project.clock.as_ref(), &mut Broken)
        .unwrap();
    assert_eq!(summary.end, SweepEnd::Succeeded);
}

/// A shell has no digests: those of what a finished `sft` leaves come from here.
fn made_by_sft(root: &Path) -> PathBuf {
    let like = RunDir::new(&root.join("like"), &id("sft")).attempt(1);
    std::fs::create_dir_all(like.out().join("model")).unwrap();
    let content = format!("{}\n", id("sft").0);
    write_atomic(&like.out().join("model/weights"), content.as_bytes()).unwrap();
    write_made(&like, &digest_folder(&like.out()).unwrap()).unwrap();
    like.made()
}

/// A program that plays `lions exec`: `exec --root R --run ID --attempt N --device D`.
fn program(root: &Path, body: &str) -> PathBuf {
    let path = root.join("program.sh");
    let made = made_by_sft(root);
    let made = made.display();
    let text = format!(
        r#"#!/bin/sh
id=$5
dir=$3/results/runs/$(echo "$id" | cut -c1-12)/attempts/$(printf %03d "$7")
say() {{ echo "$1" >> "$dir/events.jsonl"; }}
say '{{"format":1}}'
say '{{"kind":"started","device":"'"$9"'"}}'
finish() {{
  mkdir -p "$dir/out/model"
  echo "$id" > "$dir/out/model/weights"
  cp "{made}" "$dir/made.json"
  say '{{"kind":"finished"}}'
  echo '{{"format":1,"artifacts":["model"],"metrics":{{"score":{{"value":0.5,"n":3}}}},"counts":{{}},"notes":[],"usage":{{"wall_secs":0.1,"cpu_secs":0.1,"peak_memory_bytes":1,"tokens":1,"positions":1,"flops":1.0}}}}' > "$dir/result.tmp"
  mv "$dir/result.tmp" "$dir/result.json"
}}
{body}
"#
    );
    write_atomic(&path, text.as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn real_processes_succeed_fail_and_crash_as_scripted_ones_do() {
    let project = project();
    let (bad, dead) = (id("dpo/0.1/10/1").0, id("dpo/0.5/10/1").0);
    let body = format!(
        r#"case $id in
{bad}) say '{{"kind":"failed","class":"not-finite","message":"loss at step 3"}}'; exit 1;;
{dead}) echo "out of cheese" >&2; exit 3;;
*) say '{{"kind":"step","step":1,"metrics":{{"loss":2.5}}}}'; finish;;
esac"#
    );
    let mut backend = LocalBackend::new(program(project.root(), &body));
    let mut watcher = Watcher::new(|_| {});
    let summary = project
        .run_with(&mut backend, &SystemClock, &mut watcher)
        .unwrap();
    assert_eq!(
        (summary.succeeded, summary.failed, summary.skipped),
        (1, 2, 2)
    );
    let messages: Vec<&str> = summary
        .failures
        .iter()
        .map(|f| f.message.as_str())
        .collect();
    let crash = "ended with exit code 3 and no result; it said: out of cheese";
    assert_eq!(messages, ["loss at step 3", crash]);
    assert_eq!(summary.failures[0].class, Some(FailureClass::NotFinite));
    let steps = project.store().read().training(&id("sft")).unwrap();
    assert!((steps[0].1 - 2.5).abs() < 1e-12);
    let weights = RunDir::new(project.root(), &id("sft"))
        .artifacts()
        .join("model/weights");
    assert_eq!(
        std::fs::read_to_string(weights).unwrap().trim(),
        id("sft").0
    );
}

#[test]
fn a_real_process_that_is_refused_memory_is_classed_so_and_its_run_waits_to_be_tried_again() {
    let project = project();
    let body = r#"echo "memory allocation of 256000000000 bytes failed" >&2
echo "stack backtrace:" >&2
kill -ABRT $$"#;
    let mut backend = LocalBackend::new(program(project.root(), body));
    let mut watcher = project.stopped_at(|event| matches!(event, RunnerEvent::RunCrashed { .. }));
    let summary = project
        .run_with(&mut backend, &SystemClock, &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.failed), (SweepEnd::Interrupted, 0));
    let attempts = project.store().read().attempts(&id("sft")).unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].class, Some(FailureClass::OutOfMemory));
    let message = "ended by signal 6; it said: memory allocation of 256000000000 bytes failed";
    assert_eq!(attempts[0].message.as_deref(), Some(message));
}

#[test]
fn a_real_process_saves_its_state_when_the_runner_is_asked_to_stop() {
    let project = project();
    let body = r#"trap 'say "{\"kind\":\"interrupted\"}"; exit 130' TERM
say '{"kind":"begin","unit":"steps","total":9}'
while :; do sleep 0.05; done"#;
    let mut backend = LocalBackend::new(program(project.root(), body));
    let mut watcher = project.stopped_at(|event| matches!(event, RunnerEvent::RunProgress { .. }));
    let summary = project
        .run_with(&mut backend, &SystemClock, &mut watcher)
        .unwrap();
    assert_eq!((summary.end, summary.waiting), (SweepEnd::Interrupted, 5));
    let attempts = project.store().read().attempts(&id("sft")).unwrap();
    assert_eq!(attempts[0].state, "interrupted");
}

#[test]
fn a_program_that_cannot_be_started_stops_the_runner_and_blames_no_run() {
    let project = project();
    let mut backend = LocalBackend::new("/no/such/program");
    let error = project
        .run_with(&mut backend, &SystemClock, &mut Watcher::new(|_| {}))
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot start `/no/such/program`");
    let run = project.store().read().run(&id("sft")).unwrap();
    assert_eq!((run.state, run.crashes), (RunState::Ready, 0));
}
