//! What `lions bench` measured on cards, for a plan to tell hours by.

use crate::base::printable;
use crate::cli::error::CommandError;
use crate::plan::{Gpu, MeasuredRates};
use serde::Deserialize;
use std::path::Path;

/// What a bench tells with `--json`, as far as it is asked for.
#[derive(Debug, Deserialize)]
struct Bench {
    #[serde(rename = "bench")]
    kind: String,
    flops_per_wall_sec: f64,
    device: Option<Benched>,
}

/// The device that it was on.
#[derive(Debug, Deserialize)]
struct Benched {
    name: String,
    total_memory_bytes: u64,
}

/// The GPU of a bench's file, and how fast its work went there.
pub(crate) fn measured(file: &Path) -> Result<(Gpu, MeasuredRates), CommandError> {
    let shown = file.display();
    let hint = "it is what `lions bench train --device cuda:0 --precision bf16 --json` prints";
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
    Ok((gpu, rates))
}
