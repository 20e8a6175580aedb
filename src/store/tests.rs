//! Claims about the store as a whole.

use crate::base::{Device, Timestamp, with_check, write_atomic};
use crate::plan::{Plan, RunId};
use crate::queue::{AttemptEnd, Blocker, RunState};
use crate::rundir::{AttemptEvent, FailureClass, FolderLock, Journal, RunDir, write_run_files};
use crate::store::testing::{grid, id, outcome};
use crate::store::{
    CancelAnswer, Claim, ClaimRequest, FoundRun, ReadStore, Registered, Retry, StepRecord, Store,
    StoreError, rebuild, write_snapshot,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

const NOW: Timestamp = Timestamp(1_000_000);

struct TestStore {
    dir: tempfile::TempDir,
    path: PathBuf,
    store: Store,
}

fn project() -> TestStore {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results/lions.db");
    let store = Store::open(&path).unwrap();
    TestStore { dir, path, store }
}

/// The claim of an attempt with the whole micro-batch.
fn taken(attempt: u32) -> Claim {
    Claim::Taken {
        attempt,
        halved: false,
    }
}

impl TestStore {
    fn register(&mut self, betas: &[f64], pairs: &[u64], seeds: &[u64]) -> Plan {
        let (sweep, plan) = grid(betas, pairs, seeds);
        let (root, none) = (self.dir.path(), BTreeMap::new());
        self.store
            .register(root, &sweep, &plan, &none, Retry::Never, NOW)
            .unwrap();
        plan
    }

    fn register_found(&mut self, found: &[(RunId, FoundRun)], retry: Retry) -> Registered {
        let (sweep, plan) = grid(&[0.1, 0.5], &[10], &[1]);
        let found = found.iter().cloned().collect();
        self.store
            .register(self.dir.path(), &sweep, &plan, &found, retry, NOW)
            .unwrap()
    }

    fn claim(&mut self, name: &str) -> Claim {
        let request = ClaimRequest {
            run: id(name),
            device: Device::Cpu,
            elsewhere: false,
        };
        self.store
            .claim(&[request], "me", NOW, 90_000)
            .unwrap()
            .remove(0)
    }

    fn succeed(&mut self, name: &str, score: f64) {
        let Claim::Taken { attempt, .. } = self.claim(name) else {
            panic!("{name} is not ready")
        };
        let outcome = outcome(&id(name), attempt, score);
        self.store.publish(&outcome, &[], NOW).unwrap().unwrap();
    }

    fn fail(&mut self, name: &str) -> Vec<(RunId, RunState)> {
        let Claim::Taken { attempt, .. } = self.claim(name) else {
            panic!("{name} is not ready")
        };
        let end = AttemptEnd::Failed {
            class: FailureClass::User,
            message: "no rows".into(),
        };
        self.store
            .end_attempt(&id(name), attempt, end, NOW)
            .unwrap()
            .unwrap()
    }

    fn state(&self, name: &str) -> &'static str {
        self.store.read().run(&id(name)).unwrap().state.name()
    }
}

#[test]
fn registering_makes_runs_without_inputs_ready_and_a_second_time_changes_nothing() {
    let mut project = project();
    project.register(&[0.1, 0.5], &[10], &[1]);
    let again = project.register_found(&[], Retry::Never);
    assert_eq!(again.new, 0);
    let names: Vec<&str> = again.states.iter().map(|state| state.name()).collect();
    assert_eq!(names, ["ready", "blocked", "blocked", "blocked", "blocked"]);
}

#[test]
fn an_outcome_makes_the_runs_that_need_it_ready() {
    let mut project = project();
    project.register(&[0.1], &[10], &[1]);
    project.succeed("sft", 1.0);
    assert_eq!(
        [project.state("sft"), project.state("dpo/0.1/10/1")],
        ["succeeded", "ready"]
    );
    assert_eq!(project.state("eval/0.1/10/1"), "blocked");
    let metrics = project.store.read().metrics(&id("sft")).unwrap();
    assert!((metrics["score"].value - 1.0).abs() < 1e-12);
    assert_eq!(
        project.store.read().counts(&id("sft")).unwrap()["pairs/kept"],
        4
    );
    assert_eq!(
        project.store.read().notes(&id("sft")).unwrap(),
        ["a remark"]
    );
}

#[test]
fn a_failure_skips_what_needs_it_spares_its_siblings_and_a_retry_brings_all_back() {
    let mut project = project();
    project.register(&[0.1, 0.5], &[10], &[1]);
    project.succeed("sft", 1.0);
    let changes = project.fail("dpo/0.1/10/1");
    assert_eq!(changes.len(), 2);
    assert_eq!(
        [
            project.state("dpo/0.1/10/1"),
            project.state("eval/0.1/10/1")
        ],
        ["failed", "skipped"]
    );
    assert_eq!(
        [
            project.state("dpo/0.5/10/1"),
            project.state("eval/0.5/10/1")
        ],
        ["ready", "blocked"]
    );
    project
        .store
        .retry(&id("dpo/0.1/10/1"), NOW)
        .unwrap()
        .unwrap();
    assert_eq!(
        [
            project.state("dpo/0.1/10/1"),
            project.state("eval/0.1/10/1")
        ],
        ["ready", "blocked"]
    );
}

#[test]
fn a_claimed_run_cannot_be_claimed_again_and_the_database_itself_forbids_it() {
    let mut project = project();
    project.register(&[0.1], &[10], &[1]);
    assert_eq!(project.claim("sft"), taken(1));
    assert!(matches!(
        project.claim("sft"),
        Claim::NotReady {
            state: RunState::Leased { .. }
        }
    ));
    let second = "INSERT INTO attempt (run, number, state, owner, device, started, expires)
        SELECT run, 2, 'live', owner, device, started, expires FROM attempt";
    assert!(project.store.inner.conn.execute_batch(second).is_err());
}

#[test]
fn messages_of_an_attempt_that_lost_its_lease_change_nothing() {
    let mut project = project();
    project.register(&[0.1], &[10], &[1]);
    project.claim("sft");
    project
        .store
        .end_attempt(&id("sft"), 1, AttemptEnd::Lost, NOW)
        .unwrap()
        .unwrap();
    assert_eq!(project.claim("sft"), taken(2));
    let stale = project
        .store
        .end_attempt(&id("sft"), 1, AttemptEnd::Interrupted, NOW)
        .unwrap();
    assert!(stale.is_err());
    project
        .store
        .record(&[], &[(id("sft"), 1)], Timestamp(9_000_000))
        .unwrap();
    let expires = NOW.plus_millis(90_000);
    let state = project.store.read().run(&id("sft")).unwrap().state;
    assert_eq!(
        state,
        RunState::Leased {
            attempt: 2,
            expires
        }
    );
}

#[test]
fn eight_writers_claim_every_run_exactly_once_and_none_finds_the_store_locked() {
    let mut project = project();
    let betas: Vec<f64> = (1..=40).map(f64::from).collect();
    let plan = project.register(&betas, &[10], &[1]);
    project.succeed("sft", 1.0);
    let requests: Vec<ClaimRequest> = plan
        .runs
        .iter()
        .map(|run| ClaimRequest {
            run: run.id.clone(),
            device: Device::Cpu,
            elsewhere: false,
        })
        .collect();
    let taken: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|number| {
                let (path, requests) = (&project.path, &requests);
                scope.spawn(move || {
                    let mut store = Store::open(path).unwrap();
                    let owner = format!("writer {number}");
                    let claim_one = |request: &ClaimRequest| {
                        let request = std::slice::from_ref(request);
                        store.claim(request, &owner, NOW, 90_000).unwrap().remove(0)
                    };
                    let claims: Vec<Claim> = requests.iter().map(claim_one).collect();
                    claims
                        .iter()
                        .filter(|claim| matches!(claim, Claim::Taken { .. }))
                        .count()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert_eq!(taken, betas.len());
    assert_eq!(
        project.store.read().live_attempts().unwrap().len(),
        betas.len()
    );
}

#[test]
fn an_accelerator_is_not_shared_between_runners() {
    let mut project = project();
    project.register(&[0.1, 0.5], &[10], &[1]);
    project.succeed("sft", 1.0);
    let mut claim = |name: &str, owner: &str| {
        let request = ClaimRequest {
            run: id(name),
            device: Device::Cuda(0),
            elsewhere: false,
        };
        project
            .store
            .claim(&[request], owner, NOW, 90_000)
            .unwrap()
            .remove(0)
    };
    assert_eq!(claim("dpo/0.1/10/1", "one"), taken(1));
    assert_eq!(
        claim("dpo/0.5/10/1", "two"),
        Claim::DeviceBusy {
            owner: "one".into()
        }
    );
    assert_eq!(claim("dpo/0.5/10/1", "one"), taken(1));
}

#[test]
fn a_changed_sweep_of_the_same_name_replaces_the_trials_and_keeps_the_runs() {
    let mut project = project();
    project.register(&[0.1, 0.5], &[10], &[1]);
    project.succeed("sft", 1.0);
    let (sweep, plan) = grid(&[0.1, 0.9], &[10], &[1]);
    let done = FoundRun {
        outcome: Some(outcome(&id("sft"), 1, 1.0)),
        attempts: 1,
    };
    let found = [(id("sft"), done)].into();
    project
        .store
        .register(project.dir.path(), &sweep, &plan, &found, Retry::Never, NOW)
        .unwrap();
    let trials = project.store.read().trials("grid").unwrap();
    let labels: Vec<&str> = trials.iter().map(|trial| trial.label.as_str()).collect();
    assert_eq!(labels, ["beta=0.1 pairs=10", "beta=0.9 pairs=10"]);
    assert_eq!(project.state("sft"), "succeeded");
    assert_eq!(project.state("dpo/0.5/10/1"), "ready");
    assert_eq!(project.store.read().runs("grid").unwrap().len(), 5);
    let all = "SELECT count(*) FROM run";
    let count = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
    assert_eq!(
        project.store.inner.conn.query_row(all, [], count).unwrap(),
        7
    );
}

#[test]
fn a_run_at_rest_is_cancelled_at_once_and_one_at_work_through_its_runner() {
    let mut project = project();
    project.register(&[0.1], &[10], &[1]);
    project.claim("sft");
    assert_eq!(
        project.store.cancel(&id("sft"), NOW).unwrap(),
        CancelAnswer::Requested
    );
    assert_eq!(project.store.read().cancel_requests().unwrap(), [id("sft")]);
    let ended = project
        .store
        .end_attempt(&id("sft"), 1, AttemptEnd::Cancelled, NOW)
        .unwrap();
    assert_eq!(ended.unwrap().len(), 3); // the run, dpo and eval
    assert_eq!(project.store.read().cancel_requests().unwrap(), []);
    let answer = project.store.cancel(&id("sft"), NOW).unwrap();
    assert_eq!(answer, CancelAnswer::Ended(RunState::Cancelled));
}

#[test]
fn a_run_called_done_whose_files_are_gone_is_done_again() {
    let mut project = project();
    project.register_found(&[], Retry::Never);
    project.succeed("sft", 1.0);
    let registered = project.register_found(&[], Retry::Never);
    assert_eq!(registered.lost, [id("sft")]);
    assert_eq!(
        [project.state("sft"), project.state("dpo/0.1/10/1")],
        ["ready", "blocked"]
    );
    assert!(project.store.read().metrics(&id("sft")).unwrap().is_empty());
}

#[test]
fn an_outcome_found_in_a_folder_is_taken_over_with_its_steps() {
    let mut project = project();
    let attempt = RunDir::new(project.dir.path(), &id("sft")).attempt(3);
    let mut journal = Journal::create(&attempt.events()).unwrap();
    let metrics = [("loss".to_owned(), 1.5)].into();
    journal
        .append(&AttemptEvent::Step { step: 1, metrics })
        .unwrap();
    let found = FoundRun {
        outcome: Some(outcome(&id("sft"), 3, 0.5)),
        attempts: 4,
    };
    let registered = project.register_found(&[(id("sft"), found)], Retry::Never);
    assert_eq!(registered.imported, [id("sft")]);
    let steps = project.store.read().training(&id("sft")).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(
        [project.state("sft"), project.state("dpo/0.1/10/1")],
        ["succeeded", "ready"]
    );
    assert_eq!(project.store.read().run(&id("sft")).unwrap().attempts, 4);
    assert_eq!(
        project.store.read().attempts(&id("sft")).unwrap()[0].number,
        3
    );
}

#[test]
fn failed_runs_are_put_back_at_registration_only_if_asked_for() {
    let mut project = project();
    project.register_found(&[], Retry::Never);
    project.fail("sft");
    project.register_found(&[], Retry::Never);
    assert_eq!(
        [project.state("sft"), project.state("eval/0.1/10/1")],
        ["failed", "skipped"]
    );
    project.register_found(&[], Retry::Failed);
    assert_eq!(
        [project.state("sft"), project.state("eval/0.1/10/1")],
        ["ready", "blocked"]
    );
}

#[test]
fn where_attempts_repeat_a_step_the_later_attempt_counts() {
    let mut project = project();
    project.register(&[0.1], &[10], &[1]);
    let record = |attempt, step, loss| StepRecord {
        run: id("sft"),
        attempt,
        step,
        metrics: [("loss".to_owned(), loss)].into(),
    };
    let steps = [
        record(1, 1, 9.0),
        record(1, 2, 8.0),
        record(2, 2, 7.0),
        record(2, 3, f64::NAN),
    ];
    project.store.record(&steps, &[], NOW).unwrap();
    let values = project.store.read().training(&id("sft")).unwrap();
    assert_eq!(values[..2], [(1, 9.0), (2, 7.0)]);
    assert!(values[2].1.is_nan());
}

// Scores by (beta, pairs), mean over seeds 1 and 2: at 10 pairs 0.1 -> 0.65, 0.5 -> 0.55; at 99
// pairs 0.1 -> 0.6, 0.5 -> 0.8.
#[test]
fn the_worked_query_says_which_beta_won_at_each_number_of_pairs() {
    let mut project = project();
    project.register(&[0.1, 0.5], &[10, 99], &[1, 2]);
    project.succeed("sft", 0.0);
    for (point, score) in [
        ("0.1/10/1", 0.6),
        ("0.1/10/2", 0.7),
        ("0.5/10/1", 0.5),
        ("0.5/10/2", 0.6),
        ("0.1/99/1", 0.6),
        ("0.1/99/2", 0.6),
        ("0.5/99/1", 0.9),
        ("0.5/99/2", 0.7),
    ] {
        project.succeed(&format!("dpo/{point}"), 0.0);
        project.succeed(&format!("eval/{point}"), score);
    }
    let reader = ReadStore::open(&project.path).unwrap();
    let migration = include_str!("migrations/0001_first.sql");
    let worked: String = migration
        .lines()
        .skip_while(|line| !line.starts_with("--   SELECT"))
        .map_while(|line| line.strip_prefix("--   "))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let query = worked
        .replace("'quickstart'", "'grid'")
        .replace("polite/rewards/accuracies", "score")
        .replace("WHERE", "WHERE stage = 'eval' AND");
    let mut statement = reader.conn.prepare(&query).unwrap();
    let rows = statement.query_map([], |row| {
        let best: f64 = row.get(2)?;
        Ok((
            row.get(0)?,
            row.get(1)?,
            (best * 100.0).round(),
            row.get(3)?,
        ))
    });
    let rows: Vec<(i64, f64, f64, i64)> = rows.unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows, [(10, 0.1, 65.0, 2), (99, 0.5, 80.0, 2)]);
    let axes =
        "SELECT axis, value FROM trial_axis WHERE sweep = 'grid' AND trial = 7 ORDER BY axis";
    let mut statement = reader.conn.prepare(axes).unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let rows: Vec<(String, f64)> = rows.collect::<Result<_, _>>().unwrap();
    assert_eq!(rows, [("beta".to_owned(), 0.5), ("pairs".to_owned(), 99.0)]);
}

#[test]
fn a_trial_row_has_its_assignments_its_runs_and_the_metrics_of_its_evaluation() {
    let mut project = project();
    project.register(&[0.1], &[10], &[7]);
    for (name, score) in [("sft", 0.0), ("dpo/0.1/10/7", 0.0), ("eval/0.1/10/7", 0.25)] {
        project.succeed(name, score);
    }
    let trial = project.store.read().trials("grid").unwrap().remove(0);
    assert_eq!((trial.seed, trial.state), (7, RunState::Succeeded));
    assert_eq!(trial.assignments["beta"], serde_json::json!(0.1));
    let kinds: Vec<&str> = trial.runs.iter().map(|run| run.kind.name()).collect();
    assert_eq!(kinds, ["sft", "dpo", "eval"]);
    assert!((trial.metrics["score"].value - 0.25).abs() < 1e-12);
    let uses = project.store.read().trials_of(&id("sft")).unwrap();
    assert_eq!(uses[0].label, "beta=0.1 pairs=10");
}

#[test]
fn why_names_the_failed_run_that_a_skipped_one_needs() {
    let mut project = project();
    project.register(&[0.1], &[10], &[1]);
    project.fail("sft");
    let why = project
        .store
        .read()
        .why(&id("dpo/0.1/10/1"), None, (None, None), NOW)
        .unwrap();
    assert!(matches!(&why.blockers[..], [Blocker::Input { run, .. }] if *run == id("sft")));
    let why = project
        .store
        .read()
        .why(&id("sft"), None, (None, None), NOW)
        .unwrap();
    let text = why.blockers[0].to_string();
    assert!(
        text.starts_with("failed: no rows; fix the recipe"),
        "{text}"
    );
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id_and_a_sweep_by_its_name() {
    let mut project = project();
    project.register(&[0.1], &[10], &[1]);
    let read = project.store.read();
    assert_eq!(read.find_run(id("sft").short()).unwrap(), id("sft"));
    assert!(matches!(read.find_run("zz"), Err(StoreError::NoRun { .. })));
    assert!(matches!(read.find_run("%"), Err(StoreError::NoRun { .. })));
    let error = read.trials("gird").unwrap_err().to_string();
    assert_eq!(error, "no sweep `gird` in the store; known: grid");
}

#[test]
fn no_store_is_made_anew_under_a_runner_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let runner = dir.path().join("results/runners/host-1.lock");
    write_atomic(&runner, b" ").unwrap();
    let lock = FolderLock::try_take(&runner).unwrap();
    let error = rebuild(dir.path(), NOW).unwrap_err().to_string();
    assert!(
        error.contains("is running") && error.contains("host-1.lock"),
        "{error}"
    );
    assert!(!dir.path().join("results/lions.db").exists());
    drop(lock);
    rebuild(dir.path(), NOW).unwrap();
}

#[test]
fn a_store_made_anew_from_the_folders_knows_every_run_and_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_, plan) = grid(&[0.1], &[10], &[1]);
    for run in &plan.runs {
        let folder = RunDir::new(dir.path(), &run.id);
        write_run_files(&folder, &run.identity, &run.stage).unwrap();
    }
    let done = RunDir::new(dir.path(), &id("sft"));
    let mut outcome = outcome(&id("sft"), 2, 0.5);
    outcome.artifacts.clear(); // none of its files is here
    let text = with_check(&serde_json::to_string(&outcome).unwrap());
    write_atomic(&done.outcome(), text.as_bytes()).unwrap();
    std::fs::create_dir_all(done.attempt(2).path()).unwrap();
    write_atomic(&dir.path().join("results/runs/half/stage.json"), b"{").unwrap();
    write_atomic(&dir.path().join("results/lions.db"), b"not a database").unwrap();
    let rebuilt = rebuild(dir.path(), NOW).unwrap();
    assert_eq!(
        (rebuilt.runs, rebuilt.done, rebuilt.passed_over.len()),
        (3, 1, 1)
    );
    assert!(rebuilt.old.unwrap().exists());
    let store = Store::of_project(dir.path()).unwrap();
    let parents = store.read().parents(&id("dpo/0.1/10/1")).unwrap();
    assert_eq!(
        (&parents[0].0, parents[0].2),
        (&id("sft"), RunState::Succeeded)
    );
    assert_eq!(store.read().run(&id("sft")).unwrap().attempts, 2);
}

#[test]
fn a_run_waits_for_an_input_without_a_folder_after_a_rebuild_and_after_a_registration() {
    let dir = tempfile::tempdir().unwrap();
    let (sweep, plan) = grid(&[0.1], &[10], &[1]);
    let (sft, dpo) = (&plan.runs[0], &plan.runs[1]);
    write_run_files(&RunDir::new(dir.path(), &dpo.id), &dpo.identity, &dpo.stage).unwrap();
    write_snapshot(dir.path(), &sweep, &plan).unwrap();
    rebuild(dir.path(), NOW).unwrap();
    let mut store = Store::of_project(dir.path()).unwrap();
    let states = |store: &Store| {
        let ids = [sft.id.clone(), dpo.id.clone()];
        store.read().states(&ids).unwrap()
    };
    let want = [RunState::Ready, RunState::Blocked];
    assert_eq!(states(&store), want);
    // As a version that forgot such inputs has left it.
    let forget = "DELETE FROM run_input; UPDATE run SET state = 'ready'";
    store.inner.conn.execute_batch(forget).unwrap();
    let none = BTreeMap::new();
    store
        .register(dir.path(), &sweep, &plan, &none, Retry::Never, NOW)
        .unwrap();
    assert_eq!(states(&store), want);
}

#[test]
fn a_rebuild_that_fails_leaves_the_database_in_its_place() {
    let mut project = project();
    let plan = project.register(&[0.1], &[10], &[1]);
    let (root, sft) = (project.dir.path(), &plan.runs[0]);
    let folder = RunDir::new(root, &sft.id);
    write_run_files(&folder, &sft.identity, &sft.stage).unwrap();
    let journal = folder.attempt(1).events();
    std::fs::create_dir_all(journal.join("no file")).unwrap(); // reading it fails, whoever asks
    let error = rebuild(root, NOW).unwrap_err().to_string();
    assert!(error.contains("events.jsonl"), "{error}");
    let runs = || {
        let store = ReadStore::open(&project.path).unwrap();
        store.runs("grid").unwrap().len()
    };
    assert_eq!(runs(), 3);
    std::fs::remove_dir_all(&journal).unwrap();
    let rebuilt = rebuild(root, NOW).unwrap();
    assert_eq!((rebuilt.runs, runs()), (1, 0));
    assert!(!project.path.with_extension("db.new").exists());
}

#[test]
fn a_run_that_found_no_room_is_ready_in_a_store_made_anew_and_one_that_failed_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (_, plan) = grid(&[0.1], &[10], &[1]);
    let sft = &plan.runs[0];
    let folder = RunDir::new(dir.path(), &sft.id);
    write_run_files(&folder, &sft.identity, &sft.stage).unwrap();
    for (class, state) in [
        (FailureClass::DiskFull, "ready"),
        (FailureClass::Damaged, "ready"),
        (FailureClass::User, "failed"),
    ] {
        let mut journal = Journal::create(&folder.attempt(1).events()).unwrap();
        let message = "as it was told".to_owned();
        journal
            .append(&AttemptEvent::Failed { class, message })
            .unwrap();
        rebuild(dir.path(), NOW).unwrap();
        let store = Store::of_project(dir.path()).unwrap();
        let run = store.read().run(&sft.id).unwrap();
        assert_eq!(run.state.name(), state, "{class:?}");
    }
}
