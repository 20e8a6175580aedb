//! Number formats, low-rank adapters, rows of the embedding that learn, kept steps and references that
//! move, from the sweep file to the table.

use crate::tiny::{self, Results, close};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// bf16 has 8 bits of mantissa, f32 24.
const BF16: f64 = 0.03;
/// The same numbers in f32, added in another order.
const ROUNDING: f64 = 2e-4;

fn tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    let file = folder.join("model.safetensors");
    candle_core::safetensors::load(file, &Device::Cpu)
        .unwrap()
        .into_iter()
        .collect()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The kinds of tensors that two folders of weights do not share bit for bit.
fn changed(a: &Path, b: &Path) -> BTreeSet<String> {
    let (a, b) = (tensors(a), tensors(b));
    assert!(a.keys().eq(b.keys()));
    let differs = a
        .iter()
        .filter(|(name, tensor)| flat(tensor) != flat(&b[*name]));
    let kind = |name: &str| {
        name.trim_end_matches(".weight")
            .rsplit('.')
            .next()
            .unwrap()
            .to_owned()
    };
    differs.map(|(name, _)| kind(name)).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn adapters_and_bf16_train_and_a_merged_model_starts_a_sweep() {
    let project = tiny::project();
    let lora =
        |rank: usize, targets: &str| format!("{{ rank = {rank}, alpha = 8, targets = {targets} }}");
    let some = format!(
        "\"sft.recipe.lora\" = {}",
        lora(4, "[\"q_proj\", \"v_proj\"]")
    );
    let all = lora(
        2,
        "[\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\", \"gate_proj\", \"up_proj\", \"down_proj\"]",
    );
    let short = "\"sft.recipe.precision\" = \"bf16\", \"dpo.recipe.precision\" = \"bf16\"";
    let arms = [
        ("f32", String::new()),
        ("bf16", short.to_owned()),
        (
            "bf16, also measured",
            format!("{short}, \"eval.recipe.precision\" = \"bf16\""),
        ),
        ("adapters in sft", format!("pipeline = [\"sft\"], {some}")),
        (
            "adapters in both",
            format!("{some}, \"dpo.recipe.lora\" = {all}"),
        ),
        (
            "adapters in bf16",
            format!("{short}, {some}, \"dpo.recipe.lora\" = {all}"),
        ),
    ];
    let metrics = ["tales/loss", "instruct/loss", "training/steps"];
    let rest = format!("[base]\npipeline = [\"sft\", \"dpo\"]\n{}", tiny::POLITE);
    let results = tiny::run_arms(&project, "formats", &arms, &metrics, &rest);
    let loss = |arm: &str| results.value(arm, "tales/loss");
    for (arm, like) in [
        ("bf16", "f32"),
        ("bf16, also measured", "f32"),
        ("adapters in bf16", "adapters in both"),
    ] {
        close(loss(arm), loss(like), BF16, arm);
        assert!((loss(arm) - loss(like)).abs() > 0.0, "{arm} rounds");
    }
    for (arm, _) in &arms {
        assert!(
            (results.value(arm, "training/steps") - 2.0).abs() < 1e-9,
            "{arm}"
        );
    }

    let base = project.path("models/stories260k");
    let model = |arm: &str, stage: &str| results.artifact(&results.only(arm, stage), "model");
    let sft = model("adapters in both", "sft");
    assert_eq!(changed(&base, &sft), names(["q_proj", "v_proj"]));
    let every = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ];
    assert_eq!(
        changed(&sft, &model("adapters in both", "dpo")),
        names(every)
    );
    assert!(changed(&base, &model("f32", "sft")).is_superset(&names(every)));

    merged_adapters_start_a_sweep(&project, &results);
}

fn merged_adapters_start_a_sweep(project: &crate::project::Project, results: &Results) {
    let run = results.only("adapters in sft", "sft");
    let adapter = results.artifact(&run, "adapter");
    let config = std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (&config["r"], config["lora_alpha"].as_f64()),
        (&4.into(), Some(8.0))
    );
    let targets: BTreeSet<&str> = config["target_modules"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|t| t.as_str())
        .collect();
    assert_eq!(targets, ["q_proj", "v_proj"].into());
    let adapter = adapter.display().to_string();
    let words = [
        "merge",
        &adapter,
        "--model",
        "models/stories260k",
        "--out",
        "models/merged",
    ];
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    let arms = [("merged", "\"model.path\" = \"models/merged\"".to_owned())];
    let rest = "[base]\npipeline = []\n";
    let merged = tiny::run_arms(project, "merged", &arms, &["tales/loss"], rest);
    let want = results.value("adapters in sft", "tales/loss");
    close(
        merged.value("merged", "tales/loss"),
        want,
        ROUNDING,
        "the merged model",
    );
}

#[test]
fn only_the_rows_of_the_embedding_that_are_named_learn() {
    let project = tiny::project();
    let arms = [
        (
            "below",
            "\"sft.recipe.trainable-embeddings\" = { below = 450 }".to_owned(),
        ),
        (
            "from",
            "\"sft.recipe.trainable-embeddings\" = { from = 450 }".to_owned(),
        ),
        (
            "in dpo",
            "pipeline = [\"dpo\"], \"dpo.recipe.trainable-embeddings\" = { from = 450 }".to_owned(),
        ),
    ];
    let results = tiny::run_arms(&project, "rows", &arms, &["tales/loss"], "");
    let embedding = |folder: &Path| {
        let tensor = &tensors(folder)["model.embed_tokens.weight"];
        flat(tensor)
            .chunks(64)
            .map(<[f32]>::to_vec)
            .collect::<Vec<_>>()
    };
    let base = embedding(&project.path("models/stories260k"));
    assert_eq!(base.len(), 512);
    for (arm, stage, learns) in [
        ("below", "sft", 0..450),
        ("from", "sft", 450..512),
        ("in dpo", "dpo", 450..512),
    ] {
        let trained = embedding(&results.artifact(&results.only(arm, stage), "model"));
        let moved: Vec<usize> = (0..512).filter(|&row| trained[row] != base[row]).collect();
        assert!(!moved.is_empty(), "{arm}");
        assert!(
            moved.iter().all(|row| learns.contains(row)),
            "{arm}: {moved:?}"
        );
    }
}

#[test]
fn one_training_serves_the_points_of_a_curve() {
    let project = tiny::project();
    let arms = [
        ("1", "\"eval.checkpoint-step\" = 1".to_owned()),
        ("2", "\"eval.checkpoint-step\" = 2".to_owned()),
        ("end", String::new()),
    ];
    let rest = "[base.sft.recipe]\nduration = { steps = 3 }\nsave-steps = [1, 2]\nschedule = { decay = \"constant\", warmup-ratio = 0.0 }\n";
    let metrics = [
        "training/steps",
        "training/tokens",
        "training/flops",
        "tales/loss",
    ];
    let results = tiny::run_arms(&project, "curve", &arms, &metrics, rest);
    let run = results.only("end", "sft");
    assert!(arms.iter().all(|(arm, _)| results.only(arm, "sft") == run));
    let of = |metric: &str| arms.each_ref().map(|(arm, _)| results.value(arm, metric));
    let at = |steps: [f64; 3], metric: &str| {
        for (got, want) in of(metric).into_iter().zip(steps) {
            close(got, want, 1e-9, metric);
        }
    };
    at([1.0, 2.0, 3.0], "training/steps");
    let tokens = results.steps(&run, "num_tokens");
    at([tokens[&1], tokens[&2], tokens[&3]], "training/tokens");
    let [first, second, last] = of("training/flops");
    assert!(0.0 < first && first < second && second < last);
    let losses = of("tales/loss");
    assert!(
        losses
            .iter()
            .collect::<Vec<_>>()
            .windows(2)
            .all(|two| (two[0] - two[1]).abs() > 1e-6)
    );
    for step in [1, 2] {
        let folder = results.artifact(&run, &format!("checkpoints/step-00000{step}"));
        assert_ne!(
            changed(&folder, &results.artifact(&run, "model")),
            BTreeSet::new()
        );
    }
}

/// Rewards of the step that a policy and its reference share are 0.
#[test]
fn a_reference_is_the_checkpoint_the_base_model_or_follows_the_policy() {
    let project = tiny::project();
    let update = |every: u64, mix: f64| {
        format!("\"dpo.recipe.reference-update\" = {{ every-steps = {every}, mix = {mix:?} }}")
    };
    let arms = [
        ("checkpoint", String::new()),
        ("base", "\"dpo.recipe.reference\" = \"base\"".to_owned()),
        ("no sft", "pipeline = [\"dpo\"]".to_owned()),
        ("hard", update(1, 1.0)),
        ("hard, every second", update(2, 1.0)),
        ("soft", update(1, 0.5)),
    ];
    // Every step has the same four pairs, which are also the held-out ones.
    let rows: String = project
        .read("data/pref/polite_test.jsonl")
        .lines()
        .take(4)
        .map(|l| format!("{l}\n"))
        .collect();
    project.write("data/mine/four.jsonl", rows);
    let rest = r#"[base]
pipeline = ["sft", "dpo"]
[base.dpo.recipe]
data = [{ path = "data/mine/four.jsonl" }]
duration = { steps = 4 }
schedule = { decay = "constant", warmup-ratio = 0.0 }
monitor = { data = [{ path = "data/mine/four.jsonl" }], every-steps = 1 }
[base.eval.recipe.preference.four]
data = [{ path = "data/mine/four.jsonl" }]
limits = { max-seq-len = 512, max-prompt-len = 256, truncation = "keep-end" }
"#;
    let metrics = [
        "four/logps/chosen",
        "four/logps/chosen_shift",
        "four/rewards/margins",
    ];
    let results = tiny::run_arms(&project, "references", &arms, &metrics, rest);
    let steps = |arm: &str, metric: &str| results.steps(&results.only(arm, "dpo"), metric);
    let rewards = |arm: &str| -> Vec<f64> { steps(arm, "rewards/chosen").into_values().collect() };
    let still = |reward: f64| reward.abs() < ROUNDING;
    let moves = |arm: &str| rewards(arm).iter().map(|r| !still(*r)).collect::<Vec<_>>();
    assert_eq!(moves("checkpoint"), [false, true, true, true]);
    assert_eq!(moves("hard"), [false; 4], "{:?}", rewards("hard"));
    assert_eq!(moves("hard, every second"), [false, true, false, true]);
    assert_eq!(moves("soft"), [false, true, true, true]);
    assert_eq!(moves("base"), [true; 4]);
    // Before the first update the stored log-probabilities hold.
    let logps = |arm: &str| steps(arm, "logps/chosen");
    close(
        logps("soft")[&2],
        logps("checkpoint")[&2],
        ROUNDING,
        "second step",
    );
    let halfway = rewards("soft")[1] / rewards("checkpoint")[1];
    assert!((0.1..0.9).contains(&halfway), "half of the way: {halfway}");

    for (arm, _) in &arms {
        // Held-out pairs are measured against the stored reference, and β is 0.1.
        let (now, reward) = (
            steps(arm, "eval_four/logps/chosen"),
            steps(arm, "eval_four/rewards/chosen"),
        );
        let reference = now[&0] - reward[&0] / 0.1;
        for step in 0..=4 {
            close(reward[&step], 0.1 * (now[&step] - reference), ROUNDING, arm);
        }
        close(results.value(arm, metrics[0]), now[&4], ROUNDING, arm);
        // So does the evaluation.
        let before = results.value(arm, metrics[0]) - results.value(arm, metrics[1]);
        close(before, reference, ROUNDING, arm);
        let starts = (now[&0] - reference).abs() < ROUNDING;
        assert_eq!(starts, *arm != "base", "{arm}");
    }
    let of_base = steps("base", "eval_four/logps/chosen")[&0]
        - steps("base", "eval_four/rewards/chosen")[&0] / 0.1;
    close(
        of_base,
        steps("no sft", "eval_four/logps/chosen")[&0],
        ROUNDING,
        "the base model",
    );
}
