//! A chat benchmark of an evaluation, read.

use crate::config::spec::JudgedEval;
use crate::eval::judged::Bench;
use crate::stage::attempt::Attempt;
use crate::stage::error::StageError;
use std::num::NonZeroUsize;

/// A benchmark, read before anything is measured.
pub(super) struct LoadedBench<'a> {
    pub(super) eval: &'a JudgedEval,
    pub(super) bench: Bench,
}

impl<'a> LoadedBench<'a> {
    /// Reads the files of a benchmark.
    pub(super) fn read(job: &Attempt<'_>, eval: &'a JudgedEval) -> Result<Self, StageError> {
        let most = eval.max_questions.map_or(usize::MAX, NonZeroUsize::get);
        let bench = Bench::read(&job.context.root, &eval.benchmark, most)?;
        Ok(Self { eval, bench })
    }

    /// Turns that the model answers.
    pub(super) fn turns(&self) -> usize {
        (0..self.bench.len())
            .map(|at| self.bench.user_turns(at).len())
            .sum()
    }

    /// Units of progress: turns that the model answers, and replies of the judge.
    pub(super) fn units(&self) -> usize {
        self.turns() + self.bench.len() * self.eval.benchmark.requests_a_question()
    }
}
