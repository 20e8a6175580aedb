//! What `lions plan` foresees of real rows is what the steps of a bench compute.

use crate::project::Project;
use lions::arch::{DecoderConfig, Learned, Pass, training_flops};
use lions::base::Device;
use lions::config::spec::{Batching, LossMask, Precision};
use lions::stage::{BenchKind, BenchModel, BenchRequest, DeviceAccess, bench};
use serde_json::Value;
use std::path::Path;

const STEPS: u64 = 90;
const DATA: &str = "data/sft/instruct_train.jsonl";

/// Nearly an epoch of the shipped instructions, whose lengths differ by a factor of forty.
const SWEEP: &str = r#"
extends = ["base/mini.toml"]

[sweep]
name = "foreseen"
question = "What does it cost?"
seeds = [1]

[base]
pipeline = ["sft"]
sft.recipe.duration = { steps = 90 }

[[axis]]
path = "sft.recipe.batching"
values = ["concat", "best-fit", "padded"]

[[axis]]
path = "sft.recipe.loss-mask"
values = ["all-tokens", "assistant-only"]
"#;

/// Operations of all steps of a bench, none of which is taken.
fn counted(batching: Batching, loss_mask: LossMask) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work.jsonl");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let request = BenchRequest {
        root: root.to_owned(),
        kind: BenchKind::Train,
        model: BenchModel::Folder("models/stories260k".into()),
        data: vec![DATA.to_owned()],
        steps: STEPS,
        warmup: 0,
        max_seq_len: 512,
        batch_tokens: 2048,
        batching,
        loss_mask,
        pairs: 0,
        prompts: 0,
        samples: 0,
        max_new_tokens: 0,
        precision: Precision::F32,
        device: Device::Cpu,
        access: DeviceAccess::default(),
        seed: 1,
        work_file: Some(work.clone()),
    };
    bench(&request, &mut |_| false).unwrap();
    let config = DecoderConfig::from_file(&root.join("models/stories260k")).unwrap();
    let text = std::fs::read_to_string(work).unwrap();
    assert_eq!(text.lines().count() as u64, STEPS);
    let step = |line: &str| {
        let step: Value = serde_json::from_str(line).unwrap();
        let edges: Vec<f64> = serde_json::from_value(step["cu_seqlens"].clone()).unwrap();
        let mut pass = Pass::default();
        for edge in edges.windows(2) {
            pass.add(1.0, edge[1] - edge[0], 0.0, 0.0);
        }
        let pass = pass.with_scored(step["targets"].as_array().unwrap().len() as f64);
        training_flops(&config, &pass, &Learned::All)
    };
    text.lines().map(step).sum()
}

#[test]
fn a_plan_of_real_rows_foresees_what_their_steps_compute() {
    let project = Project::new();
    project.write("sweeps/foreseen.toml", SWEEP);
    let rows = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(DATA)).unwrap();
    project.write(DATA, rows);
    let plan = project.json(&["plan", "sweeps/foreseen.toml"]);
    let planned = |labels: [&str; 2]| {
        let mut runs = plan["runs"].as_array().unwrap().iter();
        let run = runs.find(|run| {
            let about = run["about"].as_str().unwrap();
            run["stage"] == "sft" && labels.iter().all(|label| about.contains(label))
        });
        run.unwrap()["flops"].as_f64().unwrap()
    };
    for (mask, mask_name) in [
        (LossMask::AllTokens, "all-tokens"),
        (LossMask::AssistantOnly, "assistant-only"),
    ] {
        for (batching, name) in [
            (Batching::Concat, "concat"),
            (Batching::BestFit, "best-fit"),
            (Batching::Padded, "padded"),
        ] {
            let (planned, counted) = (planned([name, mask_name]), counted(batching, mask));
            let error = planned / counted - 1.0;
            assert!(
                error.abs() < 0.03,
                "{name}, {mask_name}: {planned} planned, {counted} computed"
            );
        }
    }
}
