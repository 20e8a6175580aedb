//! A sweep at one moment.

use crate::base::Timestamp;
use crate::live::progress::Progress;
use crate::live::words::{silent_since, state_word};
use crate::live::work_left::WorkLeft;
use crate::plan::{RunId, StageKind};
use crate::queue::RunState;
use crate::store::{AttemptRow, ReadStore, RunRow, StateCounts, StoreError, TrialRow};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A run as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Its stage.
    pub stage: StageKind,
    /// Where it stands, in one word ([`state_word`]).
    pub state: &'static str,
    /// What its trials have in common: axis values, and the seed.
    pub label: String,
    /// How many trials need it.
    pub trials: usize,
    /// Attempts begun.
    pub attempts: u32,
    /// Seconds that its last attempt took, or has taken so far.
    pub secs: Option<f64>,
    /// Why it ended badly, in one line.
    pub message: Option<String>,
}

/// An attempt at work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AtWork {
    /// Its run.
    pub run: RunId,
    /// The run's stage.
    pub stage: StageKind,
    /// What the run's trials have in common.
    pub label: String,
    /// The attempt's number.
    pub attempt: u32,
    /// Where it computes.
    pub device: String,
    /// When it was claimed.
    pub started: Timestamp,
    /// How far it is.
    pub progress: Progress,
    /// Tokens a second since it was claimed.
    pub tokens_per_sec: Option<f64>,
    /// Seconds left.
    pub secs_left: Option<f64>,
    /// The most memory that the plan foresees, bytes.
    pub planned_memory_bytes: u64,
}

/// A sweep at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepView {
    /// Its name.
    pub name: String,
    /// Its question.
    pub question: String,
    /// How many trials it has.
    pub trials: usize,
    /// How many runs are in each state.
    pub states: StateCounts,
    /// Of those that are leased, how many give no sign of life.
    pub silent: usize,
    /// Attempts at work.
    pub at_work: Vec<AtWork>,
    /// Seconds until all is done, by planned operations and what the runners at work have done; `None` where none is at
    /// work or nothing is known yet.
    pub secs_left: Option<f64>,
    /// Every run, in order of registration.
    #[serde(skip)]
    pub runs: Arc<Vec<RunView>>,
}

impl SweepView {
    /// Whether nothing more happens by itself.
    pub fn is_over(&self) -> bool {
        let states = self.states;
        states.blocked + states.ready + states.leased == 0
    }
}

/// What the store says of a sweep, without journals.
#[derive(Debug)]
pub(crate) struct Stored {
    question: String,
    trials: usize,
    rows: Vec<RunRow>,
    attempts: BTreeMap<RunId, Vec<AttemptRow>>,
    labels: BTreeMap<RunId, (String, usize)>,
}

impl Stored {
    /// A few queries, whatever the number of runs.
    pub(crate) fn read(store: &ReadStore, name: &str) -> Result<Self, StoreError> {
        let question = store.sweep(name)?.question;
        let trials = store.trials_unmeasured(name)?;
        Ok(Self {
            question,
            labels: labels(&trials),
            trials: trials.len(),
            rows: store.runs(name)?,
            attempts: store.sweep_attempts(name)?,
        })
    }

    /// Whether a run is leased, so that its time and state move with the clock.
    pub(crate) fn is_at_work(&self) -> bool {
        let leased = |row: &RunRow| matches!(row.state, RunState::Leased { .. });
        self.rows.iter().any(leased)
    }

    /// The attempt at each run that is leased and gives signs of life.
    pub(crate) fn live(&self, now: Timestamp) -> Vec<(&RunRow, &AttemptRow)> {
        let live = |row: &&RunRow| state_word(row.state, now) == "running";
        let rows = self.rows.iter().filter(live);
        rows.filter_map(|row| Some((row, self.attempts.get(&row.id)?.last()?)))
            .collect()
    }

    /// Every run as lists show it.
    pub(crate) fn runs(&self, now: Timestamp) -> Vec<RunView> {
        self.rows.iter().map(|row| self.run(row, now)).collect()
    }

    fn run(&self, row: &RunRow, now: Timestamp) -> RunView {
        let (label, trials) = self.labels.get(&row.id).cloned().unwrap_or_default();
        let last = self.attempts.get(&row.id).and_then(|all| all.last());
        let silent = silent_since(row.state, now);
        let end = |attempt: &AttemptRow| attempt.ended.or(silent).unwrap_or(now);
        let first_line = |text: &String| text.lines().next().unwrap_or_default().to_owned();
        RunView {
            run: row.id.clone(),
            stage: row.kind,
            state: state_word(row.state, now),
            label,
            trials,
            attempts: row.attempts,
            secs: last.map(|attempt| end(attempt).secs_since(attempt.started)),
            message: row.message.as_ref().map(first_line),
        }
    }

    /// The sweep at this moment; `progress` says how far each attempt at work is.
    pub(crate) fn view(
        &self,
        name: &str,
        runs: Arc<Vec<RunView>>,
        now: Timestamp,
        mut progress: impl FnMut(&RunId, u32) -> Progress,
    ) -> SweepView {
        let mut states = StateCounts::default();
        self.rows.iter().for_each(|row| states.add(row.state));
        let at_work: Vec<AtWork> = self
            .live(now)
            .into_iter()
            .map(|(row, attempt)| {
                let progress = progress(&row.id, attempt.number);
                AtWork {
                    run: row.id.clone(),
                    stage: row.kind,
                    label: self.labels.get(&row.id).cloned().unwrap_or_default().0,
                    attempt: attempt.number,
                    device: attempt.device.clone(),
                    started: attempt.started,
                    tokens_per_sec: progress.tokens_per_sec(attempt.started),
                    secs_left: progress.secs_left(attempt.started, now),
                    planned_memory_bytes: row.peak_memory_bytes,
                    progress,
                }
            })
            .collect();
        SweepView {
            name: name.to_owned(),
            question: self.question.clone(),
            trials: self.trials,
            states,
            silent: states.leased - at_work.len().min(states.leased),
            secs_left: self.secs_left(&at_work, now),
            at_work,
            runs,
        }
    }

    /// The rest by planned operations, at the pace of the runners that are at work since they began here.
    fn secs_left(&self, at_work: &[AtWork], now: Timestamp) -> Option<f64> {
        let owner = |work: &AtWork| Some(self.attempts.get(&work.run)?.last()?.owner.as_str());
        let owners: BTreeSet<&str> = at_work.iter().filter_map(owner).collect();
        let theirs = |attempt: &&AttemptRow| owners.contains(attempt.owner.as_str());
        let all = self.attempts.values().flatten().filter(theirs);
        let begun = all.map(|attempt| attempt.started).min()?;
        let finished_by_them = |row: &&RunRow| {
            row.state == RunState::Succeeded
                && self
                    .attempts
                    .get(&row.id)
                    .and_then(|all| all.last())
                    .is_some_and(|a| theirs(&a))
        };
        let finished: Vec<&RunRow> = self.rows.iter().filter(finished_by_them).collect();
        let to_do = |row: &&RunRow| !row.state.is_final();
        let counted = self
            .rows
            .iter()
            .filter(to_do)
            .chain(finished.iter().copied());
        let mut left = WorkLeft::new(counted.map(|row| (row.id.clone(), row.flops)).collect());
        finished.iter().for_each(|row| left.end(&row.id, true));
        for work in at_work {
            left.report(&work.run, work.progress.from, work.progress.total);
            left.report(&work.run, work.progress.done, work.progress.total);
        }
        left.secs(now.secs_since(begun))
    }
}

/// For each run, what the trials that need it have in common, and how many they are.
fn labels(trials: &[TrialRow]) -> BTreeMap<RunId, (String, usize)> {
    struct Common<'a> {
        values: Vec<(&'a String, &'a Value)>,
        seed: Option<u64>,
        trials: usize,
    }
    let mut all: BTreeMap<&RunId, Common<'_>> = BTreeMap::new();
    for trial in trials {
        for run in &trial.runs {
            let common = all.entry(&run.id).or_insert_with(|| Common {
                values: trial.assignments.iter().collect(),
                seed: Some(trial.seed),
                trials: 0,
            });
            let same =
                |(name, value): &(&String, &Value)| trial.assignments.get(*name) == Some(value);
            common.values.retain(same);
            common.seed = common.seed.filter(|seed| *seed == trial.seed);
            common.trials += 1;
        }
    }
    let text = |common: &Common<'_>| {
        let values = common.values.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        });
        let seed = common.seed.map(|seed| format!("seed={seed}"));
        values.chain(seed).collect::<Vec<_>>().join(" ")
    };
    all.iter()
        .map(|(run, common)| ((*run).clone(), (text(common), common.trials)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RunId;
    use crate::store::TrialRun;
    use serde_json::json;

    fn trial(index: usize, beta: f64, seed: u64, runs: &[&str]) -> TrialRow {
        let run = |name: &&str| TrialRun {
            id: RunId((*name).to_owned()),
            kind: StageKind::Sft,
            state: RunState::Ready,
        };
        TrialRow {
            index,
            label: String::new(),
            seed,
            assignments: [
                ("beta".to_owned(), json!(beta)),
                ("mask".to_owned(), json!("all")),
            ]
            .into(),
            runs: runs.iter().map(run).collect(),
            eval: RunId("e".to_owned()),
            state: RunState::Ready,
            metrics: BTreeMap::new(),
        }
    }

    #[test]
    fn a_run_is_called_by_what_its_trials_have_in_common() {
        let trials = [
            trial(0, 0.1, 1, &["shared", "a"]),
            trial(1, 0.1, 2, &["shared", "seeds"]),
            trial(2, 0.5, 3, &["shared", "b"]),
            trial(3, 0.1, 4, &["seeds"]),
        ];
        let labels = labels(&trials);
        let of = |name: &str| labels[&RunId(name.to_owned())].clone();
        assert_eq!(of("a"), ("beta=0.1 mask=all seed=1".to_owned(), 1));
        assert_eq!(of("shared"), ("mask=all".to_owned(), 3));
        assert_eq!(of("seeds"), ("beta=0.1 mask=all".to_owned(), 2));
    }
}
