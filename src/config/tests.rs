//! Sweep files as a user writes them, right and wrong.

use super::spec::{BatchSize, Batching, Duration, Positive};
use super::sweep::Sweep;
use super::*;
use crate::base::write_atomic;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

pub(super) const BASE: &str = r#"[base]
pipeline = ["sft"]
model.path = "models/tiny"

[base.sft.recipe]
data = [{ path = "data/chat.jsonl" }]
max-seq-len = 64
batching = "padded"
loss-mask = "assistant-only"
batch = { tokens = 256 }
duration = { steps = 10 }
precision = "f32"
optimizer = { learning-rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight-decay = 0.1, max-grad-norm = 1.0 }
schedule = { decay = "cosine", warmup-ratio = 0.1, min-ratio = 0.1 }

[base.dpo.recipe]
data = [{ path = "data/pairs.jsonl" }]
limits = { max-seq-len = 64, max-prompt-len = 32, truncation = "keep-end" }
loss = "sigmoid"
beta = 0.1
reference = "init"
global-batch-size = 8
duration = { epochs = 1 }
precision = "f32"
optimizer = { learning-rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight-decay = 0, max-grad-norm = 1.0 }
schedule = { decay = "linear", warmup-ratio = 0.1, min-ratio = 0.1 }

[base.eval.recipe]
precision = "f32"
likelihood.chat = { data = [{ path = "data/chat.jsonl" }], max-seq-len = 64 }

[base.eval.recipe.preference.pairs]
data = [{ path = "data/pairs.jsonl" }]
limits = { max-seq-len = 64, max-prompt-len = 32, truncation = "keep-end" }
"#;

pub(super) const STUDY: &str = r#"extends = ["base.toml"]

[sweep]
name = "study"
question = "What does β do?"
seeds = [1, 2]

[base.eval.recipe.stories.tales]
data = [{ path = "data/chat.jsonl" }]
samples = 2
sampling = { temperature = 0.7, top-p = 0.9, max-new-tokens = 8 }
seed = 1

[[axis]]
name = "stage"
points = [
  { label = "sft", set = { pipeline = ["sft"] } },
  { label = "dpo", set = { pipeline = ["sft", "dpo"], "sft.recipe.seed" = 1 } },
]

[[axis]]
path = "dpo.recipe.beta"
values = [0.01, 0.1]
when = { stage = "dpo" }

[[axis]]
name = "rate"
paths = ["dpo.recipe.optimizer.learning-rate", "dpo.recipe.schedule.warmup-ratio"]
values = [[1e-3, 0.1], [2e-3, 0.2]]
when = { stage = "dpo" }

[[exclude]]
beta = 0.01
rate = 0.002

[[report.table]]
name = "main"
title = "DPO"
where = { stage = "dpo" }
metrics = ["pairs/rewards/accuracies", "tales/rule_score"]
baseline = { beta = 0.1, rate = 0.001 }

[[report.figure]]
name = "beta"
title = "Accuracy"
kind = "lines"
where = { stage = "dpo" }
metric = "pairs/rewards/accuracies"
x = "beta"
series = "rate"
log-x = true
"#;

/// A project with data, a model folder and these sweep files.
pub(super) fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write =
        |name: &str, text: &str| write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
    write("data/chat.jsonl", "");
    write("data/pairs.jsonl", "");
    write(
        "models/tiny/config.json",
        r#"{"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 128}"#,
    );
    for (name, text) in files {
        write(name, text);
    }
    dir
}

fn load(files: &[(&str, &str)]) -> Result<Sweep, ConfigError> {
    let dir = project(files);
    load_sweep(&dir.path().join("study.toml"), dir.path())
}

fn study(text: &str) -> Sweep {
    let loaded = load(&[("base.toml", BASE), ("study.toml", text)]);
    loaded.unwrap_or_else(|error| panic!("{}", error.render(false)))
}

#[test]
fn the_quickstart_expands_to_its_grid() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let sweep = load_sweep(Path::new("sweeps/quickstart.toml"), &root);
    let sweep = sweep.unwrap_or_else(|error| panic!("{}", error.render(false)));
    assert_eq!(sweep.trials.len(), (3 * 2 + 3 * 3) * 3);
    assert_eq!(
        sweep.trials[0].label(),
        "batching=padded loss-mask=assistant-only stage=sft"
    );
    assert_eq!(sweep.trials[44].label(), "beta=0.5 pairs=933 stage=dpo");
    let dpo = &sweep.trials[44].config;
    let sft = &dpo.sft.as_ref().unwrap().recipe;
    assert_eq!(
        (sft.layout.batching, sft.training.duration),
        (Batching::BestFit, Duration::Steps(200))
    );
    assert_eq!((sft.training.seed, sft.rows.data.len()), (Some(1), 2));
    assert_eq!(
        dpo.dpo.as_ref().unwrap().recipe.rows.max_examples,
        NonZeroUsize::new(933)
    );
}

// By hand: sft stands alone; dpo has 2 β times 2 rates less the one excluded; two seeds each.
#[test]
fn a_grid_has_joint_axes_conditions_exclusions_and_seeds() {
    let sweep = study(STUDY);
    let labels: Vec<(String, u64)> = sweep.trials.iter().map(|t| (t.label(), t.seed)).collect();
    let points = [
        "stage=sft",
        "beta=0.01 rate=0.001 stage=dpo",
        "beta=0.1 rate=0.001 stage=dpo",
        "beta=0.1 rate=0.002 stage=dpo",
    ];
    let want: Vec<_> = points
        .iter()
        .flat_map(|p| [((*p).to_owned(), 1), ((*p).to_owned(), 2)])
        .collect();
    assert_eq!(labels, want);
    let last = &sweep.trials[7].config.dpo.as_ref().unwrap().recipe;
    assert!((last.objective.beta.get() - 0.1).abs() < 1e-12);
    assert!((last.training.optimizer.learning_rate.get() - 2e-3).abs() < 1e-12);
    assert!((last.training.schedule.warmup_ratio.get() - 0.2).abs() < 1e-12);
    assert!(
        sweep
            .trials
            .iter()
            .enumerate()
            .all(|(at, trial)| trial.index == at)
    );
}

#[test]
fn extra_trials_follow_the_grid_and_name_themselves() {
    let text = format!(
        "{STUDY}\n[[trial]]\nname = \"strong\"\nseeds = [9]\nset = {{ pipeline = [\"dpo\"], \"dpo.recipe.beta\" = 5 }}\n"
    );
    let sweep = study(&text);
    let last = sweep.trials.last().unwrap();
    assert_eq!((last.label().as_str(), last.seed), ("trial=strong", 9));
    assert!(
        (last
            .config
            .dpo
            .as_ref()
            .unwrap()
            .recipe
            .objective
            .beta
            .get()
            - 5.0)
            .abs()
            < 1e-12
    );
    assert_eq!(sweep.axes.last().unwrap().name, "trial");
}

#[test]
fn of_several_files_the_later_wins_and_a_choice_is_replaced_whole() {
    let rows = "[base.sft.recipe]\nbatch = { rows = 3 }\n";
    let text = STUDY.replace("[\"base.toml\"]", "[\"base.toml\", \"rows.toml\"]");
    let files = [
        ("base.toml", BASE),
        ("rows.toml", rows),
        ("study.toml", text.as_str()),
    ];
    let sweep = load(&files).unwrap();
    assert_eq!(
        sweep.trials[0]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .layout
            .batch,
        BatchSize::Rows(3)
    );

    let axis = "[[axis]]\nname = \"duration\"\npath = \"sft.recipe.duration.epochs\"\nvalues = [2]\n[[exclude]]";
    let sweep = study(&STUDY.replacen("[[exclude]]", axis, 1));
    assert_eq!(
        sweep.trials[0]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .training
            .duration,
        Duration::Epochs(2.0)
    );
}

#[test]
fn a_file_that_two_others_extend_is_laid_on_once() {
    let half = "extends = [\"base.toml\"]\n[base.sft.recipe]\nmax-seq-len = 32\n";
    let other = "extends = [\"base.toml\"]\n[base.dpo.recipe]\nbeta = 0.3\n";
    let text = STUDY.replace("[\"base.toml\"]", "[\"half.toml\", \"other.toml\"]");
    let files = [
        ("base.toml", BASE),
        ("half.toml", half),
        ("other.toml", other),
        ("study.toml", text.as_str()),
    ];
    let config = &load(&files).unwrap().trials[0].config;
    assert_eq!(config.sft.as_ref().unwrap().recipe.layout.max_seq_len, 32);
    assert!((config.dpo.as_ref().unwrap().recipe.objective.beta.get() - 0.3).abs() < 1e-12);
}

#[test]
fn whole_mixtures_are_values_if_they_have_labels() {
    let axis = "[[axis]]\nname = \"mix\"\npath = \"sft.recipe.data\"\nlabels = [\"half\", \"all\"]\n\
        values = [[{ path = \"data/chat.jsonl\", fraction = 0.5 }], [{ path = \"data/chat.jsonl\" }]]\n[[exclude]]";
    let text = STUDY.replacen("[[exclude]]", axis, 1);
    let text = text.replace("rate = 0.001 }", "rate = 0.001, mix = \"all\" }");
    let sweep = study(&text);
    assert_eq!(sweep.trials[0].label(), "mix=half stage=sft");
    assert_eq!(
        sweep.trials[0]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .rows
            .data[0]
            .fraction,
        Some(Positive::try_from(0.5).unwrap())
    );
    assert_eq!(
        sweep.trials[2]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .rows
            .data[0]
            .fraction,
        None
    );
}

#[test]
fn missing_inputs_are_no_mistake_when_planning_ahead() {
    let text = BASE
        .replace("models/tiny", "models/big")
        .replace("data/pairs", "data/ultra");
    let dir = project(&[("base.toml", &text), ("study.toml", STUDY)]);
    let path = dir.path().join("study.toml");
    assert!(load_sweep(&path, dir.path()).is_err());
    assert_eq!(
        load_sweep_with(&path, dir.path(), Inputs::Optional)
            .unwrap()
            .trials
            .len(),
        8
    );
}

#[test]
fn a_mistake_in_an_extended_file_is_drawn_with_both_places_where_they_help() {
    let text = BASE.replace("beta = 0.1\n", "betta = 0.1\n");
    let error = load(&[("base.toml", &text), ("study.toml", STUDY)]).unwrap_err();
    let want = "\
error: unknown key `betta` in `dpo.recipe`
  --> base.toml:20:1
   |
20 | betta = 0.1
   | ^^^^^
   |
   = help: did you mean `beta`?";
    assert_eq!(error.render(false), want);
    assert!(error.render(true).contains("\u{1b}["));
    let line = "base.toml:20:1: unknown key `betta` in `dpo.recipe` (did you mean `beta`?)";
    assert_eq!(error.to_string(), line);

    let text = STUDY.replace("name = \"rate\"", "name = \"beta\"");
    let error = load(&[("base.toml", BASE), ("study.toml", &text)]).unwrap_err();
    assert!(
        error.render(false).contains("the other one"),
        "{}",
        error.render(false)
    );
}

#[test]
fn figures_and_tables_of_every_kind_are_accepted() {
    let more = r#"
[[report.table]]
name = "like"
title = "Like with like"
where = { stage = "dpo" }
metrics = ["tales/rule_score", "training/flops"]
baseline = { beta = 0.1 }
within = ["rate"]
published = "final-gemma"

[[report.figure]]
name = "compute"
title = "Figure 1"
kind = "scaling"
where = { stage = "dpo" }
metric = "pairs/rewards/accuracies"
x-metric = "training/flops"
series = "beta"
log-x = true
paper = "Figure 1"
published = "figure-1"

[[report.figure]]
name = "filters"
title = "Figure 3"
kind = "bars"
where = { stage = "dpo", rate = 1e-3 }
metric = "chat/loss"
x = "beta"
order = "value"
reference = { beta = 0.1, rate = 2e-3 }

[[report.figure]]
name = "margins"
title = "Figure 4"
kind = "training"
where = { stage = "dpo", rate = 1e-3 }
metric = "prob_margin"
panels = "beta"
under = ["tales/rule_score"]

[[report.figure]]
name = "layout"
title = "Figure A1"
kind = "layout"
where = { stage = "dpo" }
paper = "Figure A1"
"#;
    let report = study(&format!("{STUDY}{more}")).report;
    assert_eq!((report.tables.len(), report.figures.len()), (2, 5));
    let json = serde_json::to_value(&report).unwrap();
    let back: super::sweep::ReportSpec = serde_json::from_value(json).unwrap();
    assert_eq!(back, report);
    // A layout needs pairs.
    let text = format!("{STUDY}{more}").replace(
        "layout\"\nwhere = { stage = \"dpo\" }",
        "layout\"\nwhere = { stage = \"sft\" }",
    );
    let error = load(&[("base.toml", BASE), ("study.toml", &text)]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no trial here has a `dpo` stage"),
        "{error}"
    );
}

/// Each seeded mistake: the file, what is replaced by what, and the first finding.
const MISTAKES: &[(&str, &str, &str, &str)] = &include!("mistakes.in");

#[test]
fn every_seeded_mistake_is_caught_at_its_place() {
    assert!(MISTAKES.len() >= 40);
    let mut wrong = Vec::new();
    for (file, from, to, want) in MISTAKES {
        let change = |name: &str, text: &str| {
            if name != *file {
                return text.to_owned();
            }
            assert!(text.contains(from), "`{from}` is not in {name}");
            text.replacen(from, to, 1)
        };
        let files = [
            ("base.toml", change("base.toml", BASE)),
            ("study.toml", change("study.toml", STUDY)),
        ];
        let got = match load(&files.each_ref().map(|(name, text)| (*name, text.as_str()))) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.findings()[0].to_string(),
        };
        if got != *want {
            wrong.push(format!("{from} -> {to}\n  got  {got}\n  want {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
