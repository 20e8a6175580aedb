//! Chat benchmarks within the `eval` stage: the model answers, a judge behind an endpoint or in a folder scores.
//!
//! Answers are kept in `work/` turn by turn, raw responses one by one and what a local judge says in chunks, so that an
//! attempt that follows asks neither the model nor the judge again.

use crate::data::TextFormat;
use crate::eval::SetResult;
use crate::eval::judged::{Bench, Judgments, measure};
use crate::stage::attempt::Attempt;
use crate::stage::benchmark::LoadedBench;
use crate::stage::benchmark_answers::answer;
use crate::stage::benchmark_verdicts::judge;
use crate::stage::engine::Asked;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;

/// Lets the model answer and the judge judge; `before` units of other sets are done.
pub(super) fn run(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    model: &mut Asked,
    format: &TextFormat,
    (set, loaded): (&str, &LoadedBench<'_>),
    before: usize,
) -> Result<SetResult, StageError> {
    let bench = &loaded.bench;
    let replies = answer(job, made, model, format, (set, loaded), before)?;
    let asks = bench.asks(&replies)?;
    if loaded.eval.judge.model_path.is_some() {
        // A card has memory for the heavier of both, not for both.
        model.close();
    }
    let (said, judge) = judge(job, made, (set, loaded), &asks, before + loaded.turns())?;

    // The run is the model's name: what it was trained from stands in the run's own files.
    let name = job.file.run.short().to_owned();
    let mut judgments = bench.judgments((&name, &judge), &replies, &said)?;
    let measured = measure(set, bench, &mut judgments)?;
    let answers = bench.answers(&name, &replies)?;
    match &judgments {
        Judgments::MtBench(rows) => {
            job.write_lines(made, &format!("{set}.judgments.jsonl"), rows)?;
        }
        Judgments::ArenaHard(rows) => {
            job.write_lines(made, &format!("{set}.judgments.jsonl"), rows)?;
        }
        // AlpacaEval's files are JSON lists.
        Judgments::AlpacaEval(rows) => {
            job.write_lines(made, &format!("{set}.annotations.json"), &[rows])?;
        }
    }
    match bench {
        Bench::AlpacaEval(_) => {
            job.write_lines(made, &format!("{set}.outputs.json"), &[answers])?;
        }
        _ => job.write_lines(made, &format!("{set}.answers.jsonl"), &answers)?,
    }
    made.count("judge_without_verdict", measured.without_verdict);
    made.notes.extend(measured.notes);
    Ok(measured.result)
}
