//! What `plan` foresees is what a bench counts, in every family.

use super::recipe::BenchRecipe;
use super::work::{Work, prepare};
use super::{BenchKind, BenchModel, BenchRequest, BenchShape, bench};
use crate::arch::{DecoderConfig, Learned};
use crate::base::{Device, SeedTree, write_atomic};
use crate::config::spec::{Batching, LoraRecipe, LoraTarget, LossMask, Precision};
use crate::config::{ExpectedInput, Inputs, Overrides, load_placed_sweep};
use crate::model::{FrozenParams, Lora};
use crate::plan::{DigestCache, KnownLengths, RunCost, StageKind, plan_sweep};
use crate::stage::DeviceAccess;
use crate::train::{Engine as _, HostEngine, Objective as _, Trained};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Longest document or pair: longer than the windows of the golden models.
const LEN: usize = 32;

fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families");
    let folders = std::fs::read_dir(folder).unwrap();
    let mut folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 6, "{folders:?}");
    folders
}

/// What is planned for a run of `kind` on the model in `folder`, whose data are `rows` rows of
/// `tokens` tokens that are not there.
fn planned(folder: &Path, kind: StageKind, more: &str, (rows, tokens): (u64, usize)) -> RunCost {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        write_atomic(&root.path().join(name), text.as_bytes()).unwrap();
    };
    let config = crate::base::fs::read_to_string(&folder.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    // What the base asks of the stages that are not looked at is longer.
    config["max_position_embeddings"] = 1024.into();
    write("models/it/config.json", &config.to_string());
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/base/mini.toml");
    write(
        "mini.toml",
        &crate::base::fs::read_to_string(&base).unwrap(),
    );
    let pipeline = if kind == StageKind::Dpo { "dpo" } else { "sft" };
    let study = format!(
        r#"extends = ["mini.toml"]

[sweep]
name = "study"
question = "What does it cost?"
seeds = [1]

[base]
pipeline = ["{pipeline}"]
model.path = "models/it"
{more}
"#
    );
    write("study.toml", &study);
    let path = root.path().join("study.toml");
    let (mut sweep, _) =
        load_placed_sweep(&Overrides::default(), &path, root.path(), Inputs::Optional)
            .unwrap_or_else(|error| panic!("{}", error.render(false)));
    let rows = ExpectedInput {
        rows: NonZeroU64::new(rows),
        tokens_per_row: NonZeroU64::new(tokens as u64),
        ..ExpectedInput::default()
    };
    sweep.inputs.insert("data/it.jsonl".to_owned(), rows);
    let plan = plan_sweep(
        &sweep,
        root.path(),
        &mut DigestCache::default(),
        &KnownLengths::default(),
    )
    .unwrap();
    let run = plan.runs.iter().find(|run| run.kind == kind);
    run.unwrap().estimate
}

const SFT: &str = r#"
[base.sft.recipe]
data = [{ path = "data/it.jsonl" }]
max-seq-len = 32
batching = "best-fit"
loss-mask = "all-tokens"
batch = { tokens = 128 }
duration = { steps = 2 }
"#;

const DPO: &str = r#"
[base.dpo.recipe]
data = [{ path = "data/it.jsonl" }]
limits = { max-seq-len = 32, max-prompt-len = 16, truncation = "keep-end" }
global-batch-size = 4
duration = { steps = 2 }
"#;

const SAMPLE: &str = r#"
[base.eval.recipe.stories.drawn]
data = [{ path = "data/it.jsonl" }]
max-prompts = 3
samples = 2
seed = 1
sampling = { temperature = 1.0, top-p = 1.0, max-new-tokens = 12 }
"#;

fn request(kind: BenchKind, folder: &Path) -> BenchRequest {
    BenchRequest {
        root: PathBuf::new(),
        kind,
        model: BenchModel::Shape(BenchShape::Folder(folder.to_owned())),
        data: Vec::new(),
        steps: if kind == BenchKind::Generate { 1 } else { 2 },
        warmup: 0,
        max_seq_len: LEN,
        batch_tokens: 128,
        batching: Batching::BestFit,
        loss_mask: LossMask::AllTokens,
        pairs: 4,
        prompts: 3,
        samples: 2,
        max_new_tokens: 12,
        precision: Precision::F32,
        device: Device::Cpu,
        access: DeviceAccess::default(),
        seed: 1,
        work_file: None,
    }
}

/// Operations that a bench counts.
fn counted(request: &BenchRequest) -> f64 {
    let mut flops = 0.0;
    bench(request, &mut |step| {
        flops += step.map_or(0.0, |step| step.flops);
        true
    })
    .unwrap();
    flops
}

fn same(planned: f64, counted: f64, what: &str, folder: &Path) {
    let error = planned / counted - 1.0;
    let name = folder.file_name().unwrap().display();
    assert!(
        error.abs() < 1e-9,
        "{what} of {name}: {planned} planned, {counted} counted"
    );
}

#[test]
fn a_planned_step_of_every_family_costs_what_a_bench_counts() {
    for folder in families() {
        let sft = planned(&folder, StageKind::Sft, SFT, (100, LEN));
        let train = request(BenchKind::Train, &folder);
        same(sft.flops, counted(&train), "training", &folder);
        // A prompt and two replies of half the length each.
        let dpo = planned(&folder, StageKind::Dpo, DPO, (100, 3 * LEN / 2));
        let pairs = request(BenchKind::Dpo, &folder);
        same(dpo.flops, counted(&pairs), "DPO", &folder);
    }
}

// Half of a row is its prompt.
#[test]
fn planned_samples_of_every_family_cost_what_a_bench_counts() {
    for folder in families() {
        let eval = planned(&folder, StageKind::Eval, SAMPLE, (100, 2 * (LEN - 12)));
        let generate = request(BenchKind::Generate, &folder);
        same(eval.flops, counted(&generate), "sampling", &folder);
    }
}

#[test]
fn a_planned_step_with_adapters_costs_what_the_training_counts() {
    let recipe = LoraRecipe {
        rank: 4.try_into().unwrap(),
        alpha: 8.0.try_into().unwrap(),
        targets: vec![LoraTarget::QProj, LoraTarget::DownProj],
    };
    let more =
        format!("{SFT}lora = {{ rank = 4, alpha = 8.0, targets = [\"q_proj\", \"down_proj\"] }}\n");
    for folder in families() {
        let lora = planned(&folder, StageKind::Sft, &more, (100, LEN)).flops;
        let prepared = prepare(&request(BenchKind::Train, &folder)).unwrap();
        let Work::Train(mut objective) = prepared.work else {
            panic!("it trains");
        };
        let config = DecoderConfig::from_file(&folder).unwrap();
        let seed = SeedTree::root(3);
        let base = FrozenParams::random(&config, &mut seed.rng()).unwrap();
        let adapters = Lora::new(base, &recipe, &seed).unwrap();
        let optimizer = BenchRecipe::read().unwrap().optimizer;
        let trained = Trained::Adapters(adapters);
        let mut engine = HostEngine::new(&config, trained, &optimizer).unwrap();
        assert_ne!(engine.learned(), Learned::All);
        let steps = (0..2).map(|step| objective.backward(&mut engine, step));
        let counted: f64 = steps.map(|out| out.unwrap().flops).sum();
        same(lora, counted, "training adapters", &folder);
    }
}
