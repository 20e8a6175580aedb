//! What `lions bench` measured on cards, for a plan to tell hours by.

use crate::base::{printable, quoted};
use crate::cli::error::CommandError;
use crate::cli::text::si;
use crate::config::spec::Precision;
use crate::plan::{Bench, Gpu, InputRef, InputRole, MeasuredRates, PlannedRun};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;
use strum::VariantArray as _;

/// How many times as large a model may be as the one that was measured for its speed to be told by that one's.
const SIMILAR: f64 = 4.0;

/// What a bench tells with `--json`, as far as it is asked for.
#[derive(Debug, Deserialize)]
struct Printed {
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
    bench: Bench,
    /// How fast its work went there, operations per second.
    rate: f64,
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
    let found: Printed = serde_json::from_str(&text)
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
    let mut benches = Bench::VARIANTS.iter().copied();
    let bench = benches.find(|bench| bench.name() == found.kind);
    let bench = bench.ok_or_else(|| {
        let other = printable(&found.kind);
        refused(format!("`{other}` is no bench whose work a plan holds"))
    })?;
    Ok(Measured {
        gpu,
        bench,
        rate,
        precision: found.precision,
        parameters: found.parameters,
        file: shown.to_string(),
    })
}

impl Measured {
    /// As rates of a device.
    pub(crate) fn rates(&self) -> MeasuredRates {
        MeasuredRates::one(self.bench, self.precision, self.rate)
    }

    /// What whoever reads hours of these runs by it should know: that none computes as it did, or how much larger or smaller
    /// their models are.
    pub(crate) fn remarks(&self, runs: &[PlannedRun]) -> Vec<String> {
        let its_work = || {
            let work = runs
                .iter()
                .filter(|run| Bench::of(run.kind) == Some(self.bench));
            work.filter_map(|run| Some((run, run.stage.task.precision()?)))
        };
        let same_work = || its_work().filter(|(_, precision)| *precision == self.precision);
        if let Some((run, precision)) = its_work().next().filter(|_| same_work().next().is_none()) {
            return vec![format!(
                "`{}` was measured in {} and {} computes in {}: no hours are told by it; `{}` measures that",
                self.file,
                self.precision.name(),
                run.kind,
                precision.name(),
                command(&[run]),
            )];
        }
        let sizes = same_work()
            .map(|(run, _)| run)
            .filter(|run| run.estimate.parameters > 0);
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
        said.into_iter().collect()
    }
}

/// The command that measures a GPU by the work of the first of these runs: its kind, number format and, if it starts from a
/// folder, shape.
pub(crate) fn command(runs: &[&PlannedRun]) -> String {
    let measured = |run: &&&PlannedRun| Bench::of(run.kind).is_some();
    let first = runs.iter().find(measured).or(runs.first());
    let bench = first.and_then(|run| Bench::of(run.kind));
    let what = bench.unwrap_or(Bench::Train).name();
    let precision = first.and_then(|run| run.stage.task.precision());
    let folder = first.and_then(|run| match run.stage.inputs.get(&InputRole::Model) {
        Some(InputRef::Folder { path, .. }) => Some(quoted(path)),
        _ => None,
    });
    format!(
        "lions bench {what} --device cuda:0 --precision {} --shape {} --json > bench.json",
        precision.unwrap_or(Precision::Bf16).name(),
        folder.as_deref().unwrap_or("FOLDER"),
    )
}
