//! The look at whole sweeps.

use crate::config::sweep::Sweep;
use crate::plan::KnownLengths;
use crate::preflight::inputs::Inputs;
use crate::preflight::problem::Problem;
use crate::preflight::trial::look_at_trial;
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
}

impl Preflight {
    /// Of a project.
    pub fn new(root: &Path, depth: Depth) -> Self {
        Self {
            inputs: Inputs::new(root, depth == Depth::EveryRow),
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
        let rungs = sweep
            .halving
            .iter()
            .filter_map(|halving| halving.trials.first());
        for trial in sweep.trials.iter().chain(rungs.flatten()) {
            look_at_trial(&mut self.inputs, trial);
        }
        self.inputs.take()
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
