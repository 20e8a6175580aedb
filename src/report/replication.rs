//! What a seed repeats: the whole pipeline, or its last stages from one checkpoint.

use crate::plan::StageKind;
use crate::report::select::{Configuration, SweepResults, TrialResult};
use std::collections::BTreeSet;

/// What differs between two seeds of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// One seed a configuration.
    None,
    /// Every training stage is run anew.
    Pipeline,
    /// These stages are one run for all seeds of a configuration, later ones are run anew.
    From {
        /// The last stage of training that seeds share.
        shared: StageKind,
    },
    /// No training stage differs between seeds.
    Nothing,
}

impl Replication {
    /// A sentence for a caption.
    pub fn words(self) -> String {
        match self {
            Self::None => {
                "One seed a configuration: how another training run would differ is in no interval."
                    .to_owned()
            }
            Self::Pipeline => {
                "Unit of replication: the whole pipeline; every seed trains each stage anew."
                    .to_owned()
            }
            Self::From { shared } => format!(
                "Unit of replication: what comes behind one {shared} checkpoint that all seeds of a configuration share; \
                 intervals are for new seeds from this checkpoint, not for another one."
            ),
            Self::Nothing => "Seeds share every training run: nothing is replicated.".to_owned(),
        }
    }
}

fn trains(kind: StageKind) -> bool {
    matches!(kind, StageKind::Sft | StageKind::Dpo)
}

/// What the seeds of these configurations repeat, from the runs that they share. The least that holds for
/// any of them that trains.
pub fn replication(results: &SweepResults, configurations: &[Configuration<'_>]) -> Replication {
    let stages = |trial: &TrialResult| -> Vec<_> {
        let runs = trial.runs.iter().filter_map(|id| results.runs.get(id));
        let training = runs.filter(|run| trains(run.kind));
        training.map(|run| (run.id.clone(), run.kind)).collect()
    };
    let mut found = Replication::None;
    for configuration in configurations {
        let seeds: BTreeSet<u64> = configuration.trials.iter().map(|t| t.seed).collect();
        let Some(first) = configuration.trials.first().map(|t| stages(t)) else {
            continue;
        };
        if seeds.len() < 2 || first.is_empty() {
            continue;
        }
        let others: Vec<_> = configuration.trials[1..]
            .iter()
            .map(|t| stages(t))
            .collect();
        let shared = |run: &&(_, _)| others.iter().all(|other| other.contains(run));
        let count = first.iter().filter(shared).count();
        let last = first.iter().rfind(shared).map(|run| run.1);
        let own = match last {
            None => Replication::Pipeline,
            Some(_) if count == first.len() => Replication::Nothing,
            Some(shared) => Replication::From { shared },
        };
        found = match (found, own) {
            (Replication::None | Replication::Nothing, own) => own,
            // A start that is not trained further is one of the arms, and says nothing of the others.
            (found, Replication::Nothing) | (found @ Replication::From { .. }, _) => found,
            (Replication::Pipeline, own) => own,
        };
    }
    found
}
