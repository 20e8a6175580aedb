//! What `lions plan` foresees of real rows is what the steps of a bench compute.

use crate::devices::emulated;
use crate::project::{Project, Said};
use lions::arch::{CardFootprint, DecoderConfig, Learned, Pass, training_flops};
use lions::base::Device;
use lions::config::spec::{Batching, LossMask, Precision};
use lions::stage::{BenchKind, BenchModel, BenchRequest, DeviceAccess, bench};
use serde_json::{Value, json};
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

/// Of data that are not there the rows and their tokens are told; what is done with them is a pass of a step.
const ASSUMED: &str = r#"extends = ["base/mini.toml"]

[sweep]
name = "assumed"
question = "What does it cost?"
seeds = [1]

[base]
pipeline = ["sft", "dpo"]

[base.sft.recipe]
data = [{ path = "data/gone/chats.jsonl" }]
batch = { rows = 1 }
duration = { epochs = 1 }

[base.dpo.recipe]
data = [{ path = "data/gone/pairs.jsonl" }]
global-batch-size = 1

[inputs."data/gone/chats.jsonl"]
from = "someone"
rows = 90
tokens-per-row = 300

[inputs."data/gone/pairs.jsonl"]
from = "someone"
rows = 60
tokens-per-row = 240
"#;

#[test]
fn where_only_tokens_are_known_half_of_a_conversation_and_two_thirds_of_a_pair_are_replies() {
    let project = Project::new();
    project.write("sweeps/assumed.toml", ASSUMED);
    let plan = project.json(&["plan", "sweeps/assumed.toml"]);
    let planned = |stage: &str| {
        let mut runs = plan["runs"].as_array().unwrap().iter();
        let run = runs.find(|run| run["stage"] == stage).unwrap();
        run["flops"].as_f64().unwrap()
    };
    let config = DecoderConfig::from_file(&project.path("models/stories260k")).unwrap();
    let mut chats = Pass::default();
    chats.add(90.0, 300.0, 0.0, 90.0 * 150.0);
    // 80 tokens of prompt, once, and behind them two replies of 80.
    let mut pairs = Pass::default();
    pairs.add(60.0, 80.0, 0.0, 0.0);
    pairs.add(120.0, 80.0, 80.0, 120.0 * 80.0);
    for (stage, pass) in [("sft", chats), ("dpo", pairs)] {
        let counted = training_flops(&config, &pass, &Learned::All);
        let error = planned(stage) / counted - 1.0;
        assert!(
            error.abs() < 1e-9,
            "{stage}: {} and not {counted}",
            planned(stage)
        );
    }
}

/// Positions of a row of a stage as `inspect` shows it: of a pair the prompt once, then both replies.
fn positions(project: &Project, stage: &str, at: usize) -> usize {
    let of_a_step = if stage == "sft" { 3 } else { 2 };
    let (step, row) = (
        (at / of_a_step + 1).to_string(),
        (at % of_a_step).to_string(),
    );
    let words = [
        "inspect",
        "sweeps/rows.toml",
        "--stage",
        stage,
        "--step",
        &step,
        "--row",
        &row,
    ];
    let shown = project.json(&words);
    let tokens = shown["tokens"].as_array().unwrap().iter();
    let counts = |token: &&Value| {
        let again = token["document"] == "rejected" && token["target"] == false;
        token["padding"] != true && !again
    };
    tokens.filter(counts).count()
}

/// One long row among short ones: a pass holds the longest, whatever the mean is.
#[test]
fn a_plan_makes_room_for_the_longest_row_as_the_run_does() {
    let project = crate::tiny::project();
    let sentence = "Tom ran home to his mom and the big red dog sat by the tree. ";
    let row = |n: usize| {
        let reply = sentence.repeat(if n == 4 { 3 } else { 1 });
        json!({"prompt": "Say it.", "chosen": format!("{reply}{n}"), "rejected": format!("No {n}.")})
    };
    let lines =
        |row: &dyn Fn(usize) -> Value| (0..6).map(|n| format!("{}\n", row(n))).collect::<String>();
    project.write("data/mine/pairs.jsonl", lines(&row));
    let chat = |n: usize| {
        let pair = row(n);
        json!({"prompt": pair["prompt"], "completion": pair["chosen"]})
    };
    project.write("data/mine/chats.jsonl", lines(&chat));
    let file = r#"extends = ["tiny.toml"]
[sweep]
name = "rows"
question = "Does the longest row fit?"
seeds = [1]
[base]
pipeline = ["sft", "dpo"]
[base.sft.recipe]
data = [{ path = "data/mine/chats.jsonl" }]
batch = { rows = 3 }
duration = { epochs = 1 }
[base.dpo.recipe]
data = [{ path = "data/mine/pairs.jsonl" }]
global-batch-size = 2
duration = { epochs = 1 }
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 1 }], max-seq-len = 96 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 1 }], max-seq-len = 96 }
[base.sft.runtime]
micro-batch-tokens = 32
recompute-layers = false
[base.dpo.runtime]
micro-batch-tokens = 32
recompute-layers = false
"#;
    project.write(
        "sweeps/rows.toml",
        format!("{file}{}", crate::tiny::table(&["tales/loss"])),
    );
    let plan = project.json(&["plan", "sweeps/rows.toml"]);
    let config = DecoderConfig::from_file(&project.path("models/stories260k")).unwrap();
    let mut command = emulated(
        &project,
        &["run", "sweeps/rows.toml", "--device", "emulated", "--quiet"],
    );
    let said = Said::of(&command.output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        project.json(&["compare", "rows"])[0]["rows"][0]["results"][0]["estimate"]["value"]
            .is_number()
    );
    for stage in ["sft", "dpo"] {
        let longest = (0..6)
            .map(|at| positions(&project, stage, at))
            .max()
            .unwrap();
        let footprint = CardFootprint {
            bf16: false,
            learned: Some(&Learned::All),
            positions: longest,
            kept_layers: config.layers(),
            measured: false,
            reference: None,
            ranks: 1,
            state_on_host: false,
        };
        let mut runs = plan["runs"].as_array().unwrap().iter();
        let run = runs.find(|run| run["stage"] == stage).unwrap();
        let planned = run["card_memory_bytes"].as_u64().unwrap();
        assert_eq!(
            planned,
            footprint.peak(&config),
            "{stage}: {longest} positions"
        );
        let outcome = project.read(&format!(
            "results/runs/{}/outcome.json",
            &run["id"].as_str().unwrap()[..12]
        ));
        let outcome: Value = serde_json::from_str(&outcome).unwrap();
        let taken = outcome["result"]["usage"]["device_memory_bytes"]
            .as_u64()
            .unwrap();
        let error = taken as f64 / planned as f64 - 1.0;
        assert!(
            error.abs() < 0.01,
            "{stage}: {taken} taken, {planned} planned"
        );
    }
}
