//! The look at whole sweeps.

use crate::config::Halving;
use crate::config::sweep::{Sweep, Trial};
use crate::plan::KnownLengths;
use crate::preflight::inputs::Inputs;
use crate::preflight::problem::Problem;
use crate::preflight::trial::look_at_trial;
use std::collections::BTreeSet;
use std::path::Path;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every file, and of its rows a sample through template and tokenizer; of a file with more than 16 MiB
    /// of text only its beginning.
    Sample,
    /// Every row.
    EveryRow,
}

/// A look at the inputs of sweeps, which opens each of them once.
#[derive(Debug)]
pub struct Preflight {
    inputs: Inputs,
    /// Trials of the sweep that was looked at last whose steps follow from rows that were all read, by their index.
    counted: BTreeSet<usize>,
}

impl Preflight {
    /// Of a project.
    pub fn new(root: &Path, depth: Depth) -> Self {
        Self {
            inputs: Inputs::new(root, depth == Depth::EveryRow),
            counted: BTreeSet::new(),
        }
    }

    /// The same look where models go to GPUs.
    #[must_use]
    pub fn on_gpus(mut self) -> Self {
        self.inputs.on_gpus = true;
        self
    }

    /// Everything that is wrong with what `sweep` would use, errors first; what several of its trials
    /// have in common is said of the first. What is not there is not looked at: whoever needs it says
    /// so.
    ///
    /// A file that an earlier sweep of this look uses, too, is not opened again, and what is wrong with
    /// it is a problem of each of them.
    pub fn look(&mut self, sweep: &Sweep) -> Vec<Problem> {
        let rung = sweep.halving.iter().flat_map(Halving::first_rung);
        let competing: BTreeSet<usize> = rung.map(|trial| trial.index).collect();
        let mut shortest: Option<(u64, &Trial)> = None;
        self.counted.clear();
        for trial in &sweep.trials {
            let steps = look_at_trial(&mut self.inputs, trial);
            self.counted.extend(steps.map(|_| trial.index));
            if let Some(steps) = steps.filter(|_| competing.contains(&trial.index))
                && shortest.is_none_or(|(least, _)| steps < least)
            {
                shortest = Some((steps, trial));
            }
        }
        for trial in sweep.halving.iter().flat_map(Halving::first_rung) {
            look_at_trial(&mut self.inputs, trial);
        }
        if let (Some(halving), Some((steps, trial))) = (&sweep.halving, shortest) {
            self.rungs_are_shorter(halving, steps, trial);
        }
        self.inputs.take()
    }

    /// Trials of the sweep that was looked at last whose steps were counted, not estimated, by their index.
    pub fn counted(&self) -> &BTreeSet<usize> {
        &self.counted
    }

    /// What is trained for so many steps in full is trained for fewer at each rung.
    fn rungs_are_shorter(&mut self, halving: &Halving, steps: u64, trial: &Trial) {
        let Some((message, help)) = halving.too_long(&trial.label(), (steps, "")) else {
            return;
        };
        let stage = trial.config.pipeline.last().map(|stage| stage.name());
        let path = format!("{}.recipe.duration.epochs", stage.unwrap_or_default());
        let problem = Problem::of_value(trial.index, path, message);
        self.inputs.add(problem.help(help));
    }

    /// How long the rows are that were looked at so far, as the policies read them.
    pub fn lengths(&self) -> &KnownLengths {
        &self.inputs.lengths
    }

    /// The same; whatever else the look has read is given up.
    pub fn into_lengths(self) -> KnownLengths {
        self.inputs.lengths
    }
}
