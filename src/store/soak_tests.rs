//! Many writers for long, and a database whose log ends anywhere.

use crate::base::Timestamp;
use crate::plan::RunId;
use crate::queue::AttemptEnd;
use crate::store::open::{ReadStore, Store};
use crate::store::register::Retry;
use crate::store::testing::grid;
use crate::store::write::{CancelAnswer, Claim, ClaimRequest, StepRecord};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const WRITERS: u64 = 8;
const RUNS: usize = 60;
const LEASE_MILLIS: i64 = 90_000;

/// What the writers know together: the last number of an attempt at each run, and who has it.
type Known = Mutex<BTreeMap<RunId, (u32, Option<u64>)>>;

/// A store with a training and many that need nothing else, which are ready.
fn filled(root: &Path, runs: usize) -> (Store, Vec<RunId>) {
    let betas: Vec<f64> = (1..=runs).map(|at| at as f64).collect();
    let (sweep, mut plan) = grid(&betas, &[10], &[1]);
    for run in &mut plan.runs {
        run.parents.clear();
    }
    let mut store = Store::open(&root.join("lions.db")).unwrap();
    let found = BTreeMap::new();
    store
        .register(root, &sweep, &plan, &found, Retry::Never, Timestamp(0))
        .unwrap();
    (store, plan.runs.into_iter().map(|run| run.id).collect())
}

/// Claims, tells steps, ends, cancels and puts back at random until the time is up; how many attempts it had.
fn write_for(path: &Path, runs: &[RunId], writer: u64, long: Duration, known: &Known) -> usize {
    let (mut store, mut rng) = (Store::open(path).unwrap(), StdRng::seed_from_u64(writer));
    let begin = Instant::now();
    let mut had = 0;
    while begin.elapsed() < long {
        let now = Timestamp(i64::try_from(begin.elapsed().as_millis()).unwrap());
        let run = &runs[rng.random_range(0..runs.len())];
        let request = ClaimRequest {
            run: run.clone(),
            device: crate::base::Device::Cpu,
            elsewhere: false,
        };
        let owner = format!("writer {writer}");
        let claims = store.claim(std::slice::from_ref(&request), &owner, now, LEASE_MILLIS);
        let Claim::Taken { attempt, .. } = claims.unwrap().remove(0) else {
            // One that was cancelled goes back sooner or later.
            store.retry(run, now).unwrap().ok();
            continue;
        };
        had += 1;
        let mut all = known.lock().unwrap();
        let last = all.entry(run.clone()).or_default();
        assert!(last.1.is_none(), "run {run} has two attempts at once");
        assert!(
            attempt > last.0,
            "attempt {attempt} of {run} after {}",
            last.0
        );
        *last = (attempt, Some(writer));
        drop(all);
        let steps: Vec<StepRecord> = (0..rng.random_range(0..20))
            .map(|step| StepRecord {
                run: run.clone(),
                attempt,
                step,
                metrics: [("loss".to_owned(), 1.0)].into(),
            })
            .collect();
        let alive = [(run.clone(), attempt)];
        store
            .record(&steps, &alive, now.plus_millis(LEASE_MILLIS))
            .unwrap();
        let cancelled =
            rng.random_bool(0.1) && store.cancel(run, now).unwrap() == CancelAnswer::Requested;
        let end = if cancelled {
            AttemptEnd::Cancelled
        } else {
            AttemptEnd::Interrupted
        };
        // Told first: as soon as it has ended somebody else may have the run.
        known.lock().unwrap().entry(run.clone()).or_default().1 = None;
        let ended = store.end_attempt(run, attempt, end, now).unwrap();
        assert!(ended.is_ok(), "run {run}: {ended:?}");
    }
    had
}

fn soak(long: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let (store, runs) = filled(dir.path(), RUNS);
    let path = dir.path().join("lions.db");
    let known = Known::default();
    let had: usize = std::thread::scope(|scope| {
        let (path, runs, known) = (&path, &runs, &known);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write_for(path, runs, writer, long, known)))
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    let whole: String = store
        .inner
        .conn
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
    assert_eq!(store.read().live_attempts().unwrap(), []);
    // Every attempt that a writer had is in the store, once.
    let stored: usize = runs
        .iter()
        .map(|run| store.read().attempts(run).unwrap().len())
        .sum();
    assert_eq!(stored, had);
    assert!(had > 0);
}

#[test]
fn eight_writers_for_a_while_lose_no_attempt_and_double_none() {
    soak(Duration::from_millis(1500));
}

// `cargo test --lib soak -- --ignored`
#[test]
#[ignore = "takes ten minutes"]
fn eight_writers_for_ten_minutes_lose_no_attempt_and_double_none() {
    soak(Duration::from_mins(10));
}

// `cargo test --release --lib claims_among -- --ignored --nocapture`
#[test]
#[ignore = "prints times"]
fn claims_among_ten_thousand_runs() {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let (mut store, runs) = filled(dir.path(), 5_000);
    println!("registered {} runs in {:?}", runs.len(), begin.elapsed());
    let mut times: Vec<Duration> = Vec::new();
    for run in &runs[..1_000] {
        let request = ClaimRequest {
            run: run.clone(),
            device: crate::base::Device::Cpu,
            elsewhere: false,
        };
        let begin = Instant::now();
        store
            .claim(&[request], "a runner", Timestamp(0), LEASE_MILLIS)
            .unwrap();
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    println!(
        "a claim takes {:?}, of a hundred the slowest {:?}",
        times[500], times[990]
    );
}

// A machine that loses power in the middle of a write leaves a log that ends anywhere: what was committed before is
// there, and the file can be written to.
#[test]
fn a_database_whose_log_is_cut_at_any_byte_opens_with_what_was_committed_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, runs) = filled(dir.path(), RUNS);
    for (at, run) in (0..).zip(&runs[..20]) {
        let request = ClaimRequest {
            run: run.clone(),
            device: crate::base::Device::Cpu,
            elsewhere: false,
        };
        store
            .claim(&[request], "a runner", Timestamp(at), LEASE_MILLIS)
            .unwrap();
    }
    let (file, log) = (dir.path().join("lions.db"), dir.path().join("lions.db-wal"));
    let (bytes, log) = (std::fs::read(file).unwrap(), std::fs::read(log).unwrap());
    assert!(
        log.len() > 40_000,
        "all that is told stands in the log: {}",
        log.len()
    );
    let mut rng = StdRng::seed_from_u64(7);
    let anywhere = (0..60).map(|_| rng.random_range(0..=log.len()));
    let ends: Vec<usize> = anywhere.chain([0, 1, 32, 33, log.len()]).collect();
    let mut seen = BTreeMap::new();
    for end in ends {
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("lions.db");
        crate::base::write_atomic(&path, &bytes).unwrap();
        crate::base::write_atomic(&copy.path().join("lions.db-wal"), &log[..end]).unwrap();
        let mut cut = Store::open(&path).unwrap();
        let whole: String = cut
            .inner
            .conn
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(whole, "ok", "cut at {end}");
        let live = cut.read().live_attempts().unwrap().len();
        seen.insert(end, live);
        assert!(cut.try_write().is_ok(), "cut at {end}");
        drop(cut);
        assert!(ReadStore::open(&path).is_ok(), "cut at {end}");
    }
    // The longer the log, the more of the claims, in their order.
    assert!(seen.values().is_sorted(), "{seen:?}");
    assert_eq!(seen.last_key_value(), Some((&log.len(), &20)));
}
