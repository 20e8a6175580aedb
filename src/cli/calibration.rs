//! What `lions bench` measured on cards, for a plan to tell hours by.

use crate::base::{printable, quoted};
use crate::cli::error::CommandError;
use crate::cli::text::si;
use crate::config::spec::Precision;
use crate::plan::{Gpu, InputRef, InputRole, MeasuredRates, PlannedRun, StageKind, StageRecipe};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// How many times as large a model may be as the one that was measured for its speed to be told by that one's.
const SIMILAR: f64 = 4.0;

/// What a bench tells with `--json`, as far as it is asked for.
#[derive(Debug, Deserialize)]
struct Bench {
    #[serde(rename = "bench")]
    kind: String,
    parameters: u64,
    precision: Precision,
    flops_per_wall_sec: f64,
    device: Option<Benched>,
}

/// The device that it was on.
#[derive(Debug, Deserialize)]
struct Benched {
    name: String,
    total_memory_bytes: u64,
}

/// What a bench's file says.
pub(crate) struct Measured {
    /// The GPU that it was on.
    pub(crate) gpu: Gpu,
    /// How fast the work went there.
    rates: MeasuredRates,
    precision: Precision,
    parameters: u64,
    /// The file, for people.
    file: String,
}

/// The content of a bench's file.
pub(crate) fn measured(file: &Path) -> Result<Measured, CommandError> {
    let shown = file.display();
    let hint = "it is what `lions bench train --device cuda:0 --precision bf16 --shape FOLDER --json` prints";
    let refused = |why: String| CommandError::user(format!("`{shown}`: {why}")).hint(hint);
    let text = std::fs::read_to_string(file).map_err(|e| refused(e.to_string()))?;
    let found: Bench = serde_json::from_str(&text)
        .map_err(|e| refused(format!("it is no output of `lions bench --json`: {e}")))?;
    let device = found.device;
    let device = device.ok_or_else(|| refused("it was measured on the CPU".to_owned()))?;
    let gpu = Gpu::of_driver(&device.name, device.total_memory_bytes);
    let gpu = gpu.ok_or_else(|| {
        let name = printable(&device.name);
        refused(format!("nothing is known of the GPU `{name}`"))
    })?;
    let rate = Some(found.flops_per_wall_sec).filter(|rate| rate.is_finite() && *rate > 0.0);
    let rate = rate.ok_or_else(|| refused("it measured no operations".to_owned()))?;
    let mut rates = MeasuredRates::default();
    match found.kind.as_str() {
        "train" => rates.train = Some(rate),
        "dpo" => rates.dpo = Some(rate),
        "generate" => rates.generate = Some(rate),
        other => {
            let other = printable(other);
            return Err(refused(format!(
                "`{other}` is no bench whose work a plan holds"
            )));
        }
    }
    Ok(Measured {
        gpu,
        rates,
        precision: found.precision,
        parameters: found.parameters,
        file: shown.to_string(),
    })
}

impl Measured {
    /// What of it holds for these runs, and what whoever reads hours by it should know. Another number format goes at another
    /// speed: nothing is told by it.
    pub(crate) fn of_runs(&self, runs: &[PlannedRun]) -> (MeasuredRates, Vec<String>) {
        let rates = self.rates;
        let same_work = || runs.iter().filter(move |run| rates.of(run.kind).is_some());
        let other = same_work().find(|run| precision_of(run) != Some(self.precision));
        if let Some((run, precision)) = other.and_then(|run| Some((run, precision_of(run)?))) {
            let said = format!(
                "`{}` was measured in {} and {} computes in {}: no hours are told by it; `{}` measures that",
                self.file,
                word(self.precision),
                run.kind,
                word(precision),
                command(&[run]),
            );
            return (MeasuredRates::default(), vec![said]);
        }
        let sizes = same_work().filter(|run| run.estimate.parameters > 0);
        let far = |run: &&PlannedRun| {
            let times = run.estimate.parameters as f64 / self.parameters.max(1) as f64;
            !(1.0 / SIMILAR..=SIMILAR).contains(&times)
        };
        let said = sizes.filter(far).map(|run| {
            format!(
                "`{}` was measured on {} parameters and {} has a model of {}, whose share of the peak is another; `{}` \
                 measures that",
                self.file,
                si(self.parameters as f64),
                run.kind,
                si(run.estimate.parameters as f64),
                command(&[run]),
            )
        });
        // One line of each kind of model is enough.
        let said: BTreeSet<String> = said.collect();
        (self.rates, said.into_iter().collect())
    }
}

/// The command that measures a GPU by the work of the first of these runs: its kind, number format and, if it starts from a
/// folder, shape.
pub(crate) fn command(runs: &[&PlannedRun]) -> String {
    let measured = |run: &&&PlannedRun| {
        matches!(
            run.kind,
            StageKind::Sft | StageKind::Dpo | StageKind::RefLogps | StageKind::Sample
        )
    };
    let first = runs.iter().find(measured).or(runs.first());
    let what = match first.map(|run| run.kind) {
        Some(StageKind::Dpo | StageKind::RefLogps) => "dpo",
        Some(StageKind::Sample) => "generate",
        _ => "train",
    };
    let precision = first.and_then(|run| precision_of(run));
    let folder = first.and_then(|run| match run.stage.inputs.get(&InputRole::Model) {
        Some(InputRef::Folder { path, .. }) => Some(quoted(path)),
        _ => None,
    });
    format!(
        "lions bench {what} --device cuda:0 --precision {} --shape {} --json > bench.json",
        word(precision.unwrap_or(Precision::Bf16)),
        folder.as_deref().unwrap_or("FOLDER"),
    )
}

fn word(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

/// The number format that a run's model computes in; none without a model.
pub(crate) fn precision_of(run: &PlannedRun) -> Option<Precision> {
    Some(match &run.stage.task {
        StageRecipe::Select(recipe) => recipe.select.precision.unwrap_or(Precision::F32),
        StageRecipe::Sft(recipe) => recipe.training.precision,
        StageRecipe::Sample(recipe) => recipe.precision,
        StageRecipe::Judge(_) => return None,
        StageRecipe::RefLogps(recipe) => recipe.precision,
        StageRecipe::Dpo(recipe) => recipe.training.precision,
        StageRecipe::Eval(recipe) => recipe.precision,
    })
}
