//! What names a run, what does not, and who shares it.

use super::identity::{recipe_document, run_id};
use super::resolve::Resolver;
use super::*;
use crate::base::write_atomic;
use crate::config::spec::{
    DataSource, Decontamination, DpoRecipe, Duration, EvalRecipe, LoraRecipe, LoraTarget,
    PairLimits, Positive, Precision, ReferenceUpdate, RowsRecipe, SftRecipe, TrainableEmbeddings,
    Truncation,
};
use crate::config::sweep::{ReportSpec, Sweep, Trial};
use crate::config::{KeepPolicy, load_sweep};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn quickstart() -> Sweep {
    load_sweep(Path::new("sweeps/quickstart.toml"), &root())
        .unwrap_or_else(|e| panic!("{}", e.render(false)))
}

fn plan(sweep: &Sweep, root: &Path) -> Plan {
    plan_sweep(
        sweep,
        root,
        &mut DigestCache::default(),
        &KnownLengths::default(),
    )
    .unwrap()
}

fn count(plan: &Plan, kind: StageKind) -> usize {
    plan.runs.iter().filter(|run| run.kind == kind).count()
}

/// A small project whose ids can be pinned: fixed bytes, no real weights.
pub(super) fn tiny_project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write =
        |name: &str, text: &str| write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
    write(
        "data/chat.jsonl",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n",
    );
    write(
        "data/pairs.jsonl",
        "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n",
    );
    write(
        "data/held.jsonl",
        "{\"prompt\":\"d\",\"chosen\":\"e\",\"rejected\":\"f\"}\n",
    );
    write("models/tiny/config.json", "{}");
    write("models/tiny/model.safetensors", "weights");
    dir
}

pub(super) fn tiny_trial(pipeline: &[&str]) -> Trial {
    let optimizer = json!({"learning-rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight-decay": 0.0, "max-grad-norm": 1.0});
    let schedule = json!({"decay": "cosine", "warmup-ratio": 0.1, "min-ratio": 0.0});
    let limits = json!({"max-seq-len": 64, "max-prompt-len": 32, "truncation": "keep-end"});
    let config = json!({
        "pipeline": pipeline,
        "model": {"path": "models/tiny"},
        "sft": {"recipe": {
            "data": [{"path": "data/chat.jsonl"}], "max-examples": 7, "max-seq-len": 64,
            "batching": "concat", "loss-mask": "all-tokens", "batch": {"tokens": 128},
            "duration": {"steps": 10}, "optimizer": optimizer, "schedule": schedule,
            "precision": "f32", "data-seed": 5,
            "monitor": {"data": [{"path": "data/chat.jsonl", "count": 3}], "every-steps": 5},
        }},
        "dpo": {"recipe": {
            "data": [{"path": "data/pairs.jsonl", "fraction": 0.5}], "max-examples": 4, "limits": limits,
            "loss": {"sigmoid": {}}, "beta": 0.1, "reference": "init",
            "global-batch-size": 2, "duration": {"epochs": 1.0}, "optimizer": optimizer,
            "schedule": schedule, "precision": "f32", "data-seed": 5,
            "monitor": {"data": [{"path": "data/held.jsonl"}], "every-steps": 5},
        }},
        "eval": {"recipe": {
            "likelihood": {"chat": {"data": [{"path": "data/chat.jsonl"}], "max-seq-len": 64}},
            "preference": {"held": {"data": [{"path": "data/held.jsonl"}], "limits": limits}},
            "stories": {"tales": {
                "data": [{"path": "data/chat.jsonl"}], "max-prompts": 2, "samples": 1, "seed": 1,
                "sampling": {"temperature": 0.7, "top-p": 0.9, "max-new-tokens": 8},
            }},
            "precision": "f32",
        }},
    });
    let config = serde_json::from_value(config).unwrap();
    Trial {
        index: 0,
        assignments: BTreeMap::new(),
        seed: 1,
        config,
    }
}

pub(super) fn sweep_of(trials: Vec<Trial>) -> Sweep {
    Sweep {
        name: "t".into(),
        question: "t".into(),
        tags: Vec::new(),
        keep: KeepPolicy::All,
        axes: Vec::new(),
        trials,
        halving: None,
        report: ReportSpec::default(),
        inputs: BTreeMap::new(),
    }
}

fn ids(trial: &Trial, root: &Path) -> Vec<String> {
    let plan = plan(&sweep_of(vec![trial.clone()]), root);
    plan.runs.into_iter().map(|run| run.id.0).collect()
}

// Whoever changes a recipe type or a stage's version on purpose changes these too.
#[test]
fn the_ids_of_a_fixed_trial_stay_as_they_are() {
    let dir = tiny_project();
    let plan = plan(&sweep_of(vec![tiny_trial(&["sft", "dpo"])]), dir.path());
    let named: Vec<(StageKind, &str)> = plan
        .runs
        .iter()
        .map(|run| (run.kind, run.id.short()))
        .collect();
    let want = [
        (StageKind::Sft, "4aa4c8c0c8a1"),
        (StageKind::RefLogps, "682d0768bcaa"),
        (StageKind::Dpo, "819eb0cfa22a"),
        (StageKind::Eval, "3bc74a3c6f2f"),
    ];
    assert_eq!(named, want, "{}", plan.runs[0].identity);
    assert_eq!(plan.missing, []);
    assert_eq!(plan.trials[0].eval, plan.runs[3].id);
    assert_eq!(
        plan.runs[2].parents,
        [plan.runs[0].id.clone(), plan.runs[1].id.clone()]
    );
}

// What the CPU adds in bf16 has changed once; what it adds in f32 has not, and keeps its ids.
#[test]
fn what_computes_in_bf16_is_named_by_how_that_adds_and_nothing_else_is() {
    let dir = tiny_project();
    let mut trial = tiny_trial(&["sft", "dpo"]);
    let named = |trial: &Trial| -> Vec<StageKind> {
        let runs = plan(&sweep_of(vec![trial.clone()]), dir.path()).runs;
        let bf16 = runs
            .iter()
            .filter(|run| run.identity.contains(r#""bf16-sums":2"#));
        bf16.map(|run| run.kind).collect()
    };
    assert_eq!(named(&trial), []);
    trial.config.sft.as_mut().unwrap().recipe.training.precision = Precision::Bf16;
    assert_eq!(named(&trial), [StageKind::Sft]);
    trial.config.dpo.as_mut().unwrap().recipe.training.precision = Precision::Bf16;
    trial.config.eval.recipe.precision = Precision::Bf16;
    let all = [
        StageKind::Sft,
        StageKind::RefLogps,
        StageKind::Dpo,
        StageKind::Eval,
    ];
    assert_eq!(named(&trial), all);
}

// By hand: six SFT arms of three seeds, and the one checkpoint under every DPO trial; its
// reference is one; nine DPO arms of three seeds; every trial has its evaluation.
#[test]
fn the_quickstart_trains_each_configuration_once_and_each_reference_once() {
    let sweep = quickstart();
    let plan = plan(&sweep, &root());
    assert_eq!(count(&plan, StageKind::Sft), 6 * 3 + 1);
    assert_eq!(count(&plan, StageKind::RefLogps), 1);
    assert_eq!(count(&plan, StageKind::Dpo), 9 * 3);
    assert_eq!(count(&plan, StageKind::Eval), 45);
    let ids: BTreeSet<_> = plan.runs.iter().map(|run| &run.id).collect();
    assert_eq!(ids.len(), plan.runs.len());
    let shared = plan
        .runs
        .iter()
        .filter(|run| run.trials.len() == 27)
        .count();
    assert_eq!(
        shared, 2,
        "the checkpoint and its reference serve all 27 DPO trials"
    );
    for (at, run) in plan.runs.iter().enumerate() {
        let earlier = |parent: &RunId| plan.runs[..at].iter().any(|other| other.id == *parent);
        assert!(run.parents.iter().all(earlier), "a parent comes later");
        assert!(
            run.estimate.tokens > 0
                && run.estimate.flops > 0.0
                && run.estimate.peak_memory_bytes > 0
        );
    }
    assert_eq!(plan.missing, []);
}

#[test]
fn sets_of_a_reference_are_the_training_pairs_then_the_held_out_ones_without_repeats() {
    let dir = tiny_project();
    let plan = plan(&sweep_of(vec![tiny_trial(&["dpo"])]), dir.path());
    let StageRecipe::RefLogps(recipe) = &plan.runs[0].stage.task else {
        panic!("the first run is {}", plan.runs[0].kind);
    };
    let limits = PairLimits {
        max_seq_len: 64,
        max_prompt_len: 32,
        truncation: Truncation::KeepEnd,
    };
    let source = |path: &str, fraction| DataSource {
        path: path.into(),
        fraction,
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    };
    let half = Positive::try_from(0.5).unwrap();
    let want = [
        PairSet {
            rows: RowsRecipe {
                data_seed: Some(5),
                ..RowsRecipe::of(vec![source("data/pairs.jsonl", Some(half))])
            },
            limits,
        },
        PairSet {
            rows: RowsRecipe::of(vec![source("data/held.jsonl", None)]),
            limits,
        },
    ];
    assert_eq!(recipe.sets, want);
    assert_eq!(plan.runs[0].stage.seed, 0);
    assert_eq!(plan.runs[0].stage.data.len(), 2);
}

#[test]
fn settings_of_dpo_that_leave_the_reference_alone_never_repeat_its_pass() {
    let dir = tiny_project();
    let mut trials = vec![tiny_trial(&["sft", "dpo"]); 5];
    let mut edit = |at: usize, change: fn(&mut DpoRecipe)| {
        let trial: &mut Trial = &mut trials[at];
        trial.index = at;
        change(&mut trial.config.dpo.as_mut().unwrap().recipe);
    };
    edit(1, |recipe| {
        recipe.objective.beta = Positive::try_from(0.5).unwrap();
    });
    edit(2, |recipe| {
        recipe.training.optimizer.learning_rate = Positive::try_from(1.0).unwrap();
    });
    edit(3, |recipe| recipe.rows.max_examples = None);
    edit(4, |recipe| recipe.pairs.limits.max_prompt_len = 16);
    let plan = plan(&sweep_of(trials), dir.path());
    assert_eq!(count(&plan, StageKind::Sft), 1);
    assert_eq!(count(&plan, StageKind::Dpo), 5);
    assert_eq!(
        count(&plan, StageKind::RefLogps),
        2,
        "only the truncation asks for other numbers"
    );
}

fn online_trial(pipeline: &[&str], rounds: usize) -> Trial {
    let mut trial = tiny_trial(pipeline);
    let mut dpo = serde_json::to_value(&trial.config.dpo.as_ref().unwrap().recipe).unwrap();
    dpo["data"] = json!([]);
    let config = json!({"recipe": {
        "rounds": rounds, "prompts": {"data": [{"path": "data/pairs.jsonl"}], "max-prompt-len": 32},
        "samples": 3, "sampling": {"temperature": 0.8, "top-p": 1.0, "max-new-tokens": 8},
        "precision": "f32", "judge": "rules", "dpo": dpo,
    }});
    trial.config.online_dpo = Some(serde_json::from_value(config).unwrap());
    trial
}

fn kinds(plan: &Plan, trial: usize) -> Vec<StageKind> {
    let kind = |id: &RunId| plan.runs.iter().find(|run| run.id == *id).unwrap().kind;
    plan.trials[trial].runs.iter().map(kind).collect()
}

#[test]
fn a_round_is_sampled_judged_scored_and_trained_and_more_rounds_share_the_first() {
    use StageKind::{Dpo, Eval, Judge, RefLogps, Sample, Sft};
    let dir = tiny_project();
    let pipeline = ["sft", "dpo", "online-dpo"];
    let mut trials = vec![online_trial(&pipeline, 1), online_trial(&pipeline, 2)];
    trials[1].index = 1;
    let plan = plan(&sweep_of(trials), dir.path());
    let round = [Sample, Judge, RefLogps, Dpo];
    let first = [&[Sft, RefLogps, Dpo][..], &round].concat();
    assert_eq!(kinds(&plan, 0), [&first[..], &[Eval]].concat());
    assert_eq!(kinds(&plan, 1), [&first[..], &round, &[Eval]].concat());
    assert_eq!(plan.runs.len(), 7 + 4 + 2, "the first round is shared");

    let run = |kind, nth: usize| {
        let runs: Vec<_> = plan.runs.iter().filter(|run| run.kind == kind).collect();
        runs[nth]
    };
    // The second round samples from what the first has trained, and is compared with it.
    assert_eq!(run(Sample, 1).parents, [run(Dpo, 1).id.clone()]);
    assert_eq!(run(Judge, 1).parents, [run(Sample, 1).id.clone()]);
    let scored: BTreeSet<&RunId> = run(RefLogps, 2).parents.iter().collect();
    assert_eq!(scored, BTreeSet::from([&run(Dpo, 1).id, &run(Judge, 1).id]));
    assert_ne!(run(Dpo, 1).stage.seed, run(Dpo, 2).stage.seed);
    // Held-out pairs are measured against the policy from before all preference learning.
    for nth in 0..2 {
        assert!(run(Eval, nth).parents.contains(&run(RefLogps, 0).id));
    }
}

#[test]
fn settings_of_training_never_sample_or_judge_a_first_round_again() {
    let dir = tiny_project();
    let mut trials = vec![online_trial(&["sft", "online-dpo"], 1); 3];
    for (index, trial) in trials.iter_mut().enumerate() {
        trial.index = index;
        let online = trial.config.online_dpo.as_mut().unwrap();
        match index {
            1 => online.recipe.dpo.objective.beta = Positive::try_from(0.5).unwrap(),
            2 => online.recipe.samples = NonZeroUsize::new(4).unwrap(),
            _ => {}
        }
    }
    let plan = plan(&sweep_of(trials), dir.path());
    assert_eq!(
        count(&plan, StageKind::Sample),
        2,
        "only n asks for other samples"
    );
    assert_eq!(count(&plan, StageKind::Judge), 2);
    assert_eq!(count(&plan, StageKind::Dpo), 3);
}

#[test]
fn a_filter_is_one_run_for_all_trials_that_keep_the_same_rows() {
    let dir = tiny_project();
    let pair = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n";
    let pairs = dir.path().join("data/pairs.jsonl");
    write_atomic(&pairs, pair.repeat(16).as_bytes()).unwrap();
    let mut trials = vec![tiny_trial(&["sft", "dpo"]); 4];
    for (index, trial) in trials.iter_mut().enumerate() {
        trial.index = index;
        let method = if index < 3 {
            json!("longest")
        } else {
            json!({"margin-uncertainty": {"tail": "hard"}})
        };
        let mut recipe = json!({"keep": 2, "method": method});
        if index == 3 {
            recipe["precision"] = json!("f32");
        }
        trial.config.select =
            Some(serde_json::from_value(json!({"of": "dpo", "recipe": recipe})).unwrap());
    }
    for trial in &mut trials {
        trial.config.dpo.as_mut().unwrap().recipe.training.duration = Duration::Epochs(1.0);
    }
    trials[1].config.dpo.as_mut().unwrap().recipe.objective.beta = Positive::try_from(0.5).unwrap();
    trials[2].config.select = None;
    let plan = plan(&sweep_of(trials), dir.path());
    assert_eq!(count(&plan, StageKind::Select), 2);
    assert_eq!(count(&plan, StageKind::Dpo), 4);
    assert_eq!(
        count(&plan, StageKind::RefLogps),
        1,
        "of all pairs, so that every filter shares it"
    );
    let select = |nth: usize| {
        let runs: Vec<_> = plan
            .runs
            .iter()
            .filter(|r| r.kind == StageKind::Select)
            .collect();
        runs[nth]
    };
    // What needs no model does not wait for one.
    assert_eq!(select(0).parents, []);
    assert_eq!(select(1).parents, [plan.runs[0].id.clone()]);
    let trained = |trial: usize| {
        let mut runs = plan.runs.iter().filter(|r| r.kind == StageKind::Dpo);
        let run = runs.find(|r| r.trials.contains(&trial)).unwrap();
        run.estimate.tokens
    };
    assert!(trained(0) < trained(2), "two pairs cost less than all");
    let sft = plan.runs.iter().find(|r| r.kind == StageKind::Sft).unwrap();
    assert!(!sft.stage.inputs.contains_key(&InputRole::Selection));
}

// The runs of the reference cache of TRL 1.16 as it was measured: where it computed again although
// nothing had changed, or took stale numbers. Each row changes one thing; the last column says
// whether other numbers are due.
#[test]
fn the_reference_is_asked_again_where_its_numbers_change_and_nowhere_else() {
    type Change = fn(&mut Trial);
    fn recipe(trial: &mut Trial) -> &mut DpoRecipe {
        &mut trial.config.dpo.as_mut().unwrap().recipe
    }
    let rows: [(&str, Change, bool); 9] = [
        ("the same again", |_| {}, false),
        (
            "beta",
            |t| recipe(t).objective.beta = Positive::try_from(0.3).unwrap(),
            false,
        ),
        (
            "another trial of the sweep, another report folder",
            |t| t.index = 7,
            false,
        ),
        (
            "max-seq-len 12",
            |t| {
                (
                    recipe(t).pairs.limits.max_seq_len,
                    recipe(t).pairs.limits.max_prompt_len,
                ) = (12, 8);
            },
            true,
        ),
        (
            "no limit that bites",
            |t| recipe(t).pairs.limits.max_seq_len = 4096,
            true,
        ),
        (
            "beta without a limit",
            |t| {
                recipe(t).pairs.limits.max_seq_len = 4096;
                recipe(t).objective.beta = Positive::try_from(0.3).unwrap();
            },
            true,
        ),
        (
            "token means",
            |t| recipe(t).objective.length_normalized = true,
            false,
        ),
        (
            "truncation",
            |t| recipe(t).pairs.limits.truncation = Truncation::KeepStart,
            true,
        ),
        (
            "micro-batches",
            |t| {
                t.config.dpo.as_mut().unwrap().runtime.micro_batch_tokens =
                    Some(NonZeroUsize::new(64).unwrap());
            },
            false,
        ),
    ];
    let dir = tiny_project();
    let reference = |trial: &Trial| {
        let plan = plan(&sweep_of(vec![trial.clone()]), dir.path());
        let found = plan.runs.iter().find(|run| run.kind == StageKind::RefLogps);
        found.unwrap().id.clone()
    };
    let first = reference(&tiny_trial(&["sft", "dpo"]));
    for (what, change, due) in rows {
        let mut trial = tiny_trial(&["sft", "dpo"]);
        change(&mut trial);
        assert_eq!(reference(&trial) != first, due, "{what}");
    }
    // A checkpoint that was trained anew under the same path, and other pairs under the same name,
    // are never met with old numbers.
    let mut trial = tiny_trial(&["sft", "dpo"]);
    trial
        .config
        .sft
        .as_mut()
        .unwrap()
        .recipe
        .training
        .optimizer
        .learning_rate = Positive::try_from(2e-3).unwrap();
    assert_ne!(reference(&trial), first);
    let pairs = dir.path().join("data/pairs.jsonl");
    write_atomic(
        &pairs,
        b"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"x\"}\n",
    )
    .unwrap();
    assert_ne!(reference(&tiny_trial(&["sft", "dpo"])), first);
}

fn decontamination(path: &str) -> Decontamination {
    Decontamination {
        data: vec![DataSource {
            path: path.into(),
            fraction: None,
            count: None,
            columns: std::collections::BTreeMap::new(),
            fold: None,
        }],
        ngram: Some(NonZeroUsize::new(8).unwrap()),
        min_words: Some(NonZeroUsize::new(3).unwrap()),
    }
}

#[test]
fn what_decides_about_training_pairs_and_their_tokens_names_their_reference() {
    let dir = tiny_project();
    let reference = |change: fn(&mut DpoRecipe)| {
        let mut trial = tiny_trial(&["dpo"]);
        change(&mut trial.config.dpo.as_mut().unwrap().recipe);
        plan(&sweep_of(vec![trial]), dir.path()).runs.remove(0)
    };
    let plain = reference(|_| ());
    let changes: [fn(&mut DpoRecipe); 3] = [
        |recipe| recipe.rows.dedup = true,
        |recipe| recipe.rows.empty_system_turn = Some(0.5.try_into().unwrap()),
        |recipe| recipe.rows.decontaminate = Some(decontamination("data/chat.jsonl")),
    ];
    for change in changes {
        assert_ne!(reference(change).id, plain.id);
    }
    let clean = reference(changes[2]);
    assert!(clean.stage.data.contains_key("data/chat.jsonl"));
    let keeps: [fn(&mut DpoRecipe); 3] = [
        |recipe| recipe.training.save_steps = vec![1],
        |recipe| {
            recipe.training.trainable_embeddings =
                Some(TrainableEmbeddings::From(NonZeroUsize::new(3).unwrap()));
        },
        |recipe| {
            recipe.reference.reference_update = Some(ReferenceUpdate {
                every_steps: NonZeroU64::new(1).unwrap(),
                mix: 1.0.try_into().unwrap(),
            });
        },
    ];
    for change in keeps {
        assert_eq!(reference(change).id, plain.id);
    }
}

// The draw of the empty system turns needs the seed, even where the mixture takes every row.
#[test]
fn a_reference_with_drawn_system_turns_follows_the_data_seed() {
    let dir = tiny_project();
    let set = |share, data_seed| {
        let mut trial = tiny_trial(&["dpo"]);
        let recipe = &mut trial.config.dpo.as_mut().unwrap().recipe;
        recipe.rows.data[0].fraction = None;
        recipe.rows.empty_system_turn = share;
        recipe.rows.data_seed = data_seed;
        let run = plan(&sweep_of(vec![trial]), dir.path()).runs.remove(0);
        let StageRecipe::RefLogps(recipe) = run.stage.task else {
            panic!("the first run is {}", run.kind);
        };
        recipe.sets[0].rows.data_seed
    };
    assert_eq!(set(None, Some(5)), None);
    assert_eq!(set(Some(0.5.try_into().unwrap()), Some(5)), Some(5));
    assert_eq!(
        set(Some(0.5.try_into().unwrap()), None),
        Some(1),
        "the trial's seed"
    );
}

#[test]
fn the_texts_of_an_evaluation_name_a_run_by_their_content() {
    let dir = tiny_project();
    let held = dir.path().join("data/held.jsonl");
    let sft = |path: &str| {
        let mut trial = tiny_trial(&["sft"]);
        trial.config.sft.as_mut().unwrap().recipe.rows.decontaminate = Some(decontamination(path));
        ids(&trial, dir.path()).remove(0)
    };
    let want = sft("data/held.jsonl");
    assert_eq!(sft("./data/../data/held.jsonl"), want);
    assert_ne!(ids(&tiny_trial(&["sft"]), dir.path())[0], want);
    write_atomic(
        &held,
        b"{\"prompt\":\"d\",\"chosen\":\"e\",\"rejected\":\"g\"}\n",
    )
    .unwrap();
    assert_ne!(sft("data/held.jsonl"), want);
}

#[test]
fn a_loss_without_a_reference_asks_for_one_only_where_pairs_are_evaluated() {
    let dir = tiny_project();
    let changes: [fn(&mut DpoRecipe); 2] = [
        |recipe| recipe.objective.kind = crate::config::spec::DpoLoss::Orpo,
        |recipe| recipe.reference.reference_free = true,
    ];
    for change in changes {
        let mut trial = tiny_trial(&["sft", "dpo"]);
        change(&mut trial.config.dpo.as_mut().unwrap().recipe);
        let evaluated = plan(&sweep_of(vec![trial.clone()]), dir.path());
        let of = |kind| evaluated.runs.iter().find(|run| run.kind == kind).unwrap();
        let inputs = &of(StageKind::Dpo).stage.inputs;
        assert!(!inputs.contains_key(&InputRole::RefLogps));
        let inputs = &of(StageKind::Eval).stage.inputs;
        assert!(inputs.contains_key(&InputRole::RefLogps));
        let StageRecipe::RefLogps(asked) = &of(StageKind::RefLogps).stage.task else {
            panic!("no reference")
        };
        let held = &trial.config.eval.recipe.preference["held"].data;
        assert_eq!(asked.sets.len(), 1);
        assert_eq!(&asked.sets[0].rows.data, held);

        trial.config.eval.recipe.preference.clear();
        let trained = plan(&sweep_of(vec![trial]), dir.path());
        assert_eq!(count(&trained, StageKind::RefLogps), 0);
        assert_eq!(count(&trained, StageKind::Dpo), 1);
    }
}

#[test]
fn a_trial_without_a_reference_evaluates_no_pairs() {
    let dir = tiny_project();
    for pipeline in [&[][..], &["sft"][..]] {
        let plan = plan(&sweep_of(vec![tiny_trial(pipeline)]), dir.path());
        let eval = &plan.runs.last().unwrap().stage;
        let StageRecipe::Eval(recipe) = &eval.task else {
            panic!("no evaluation")
        };
        assert!(recipe.preference.is_empty());
        assert!(!eval.inputs.contains_key(&InputRole::RefLogps));
    }
}

#[test]
fn the_base_as_reference_is_shared_by_all_seeds_of_the_checkpoint() {
    let dir = tiny_project();
    let mut trials = vec![tiny_trial(&["sft", "dpo"]); 2];
    (trials[1].index, trials[1].seed) = (1, 2);
    let references = |trials: &[Trial]| {
        count(
            &plan(&sweep_of(trials.to_vec()), dir.path()),
            StageKind::RefLogps,
        )
    };
    assert_eq!(references(&trials), 2);
    for trial in &mut trials {
        trial.config.dpo.as_mut().unwrap().recipe.reference.model =
            crate::config::spec::Reference::Base;
    }
    assert_eq!(references(&trials), 1);
}

#[test]
fn where_things_lie_and_how_they_run_does_not_name_a_run() {
    let (dir, moved) = (tiny_project(), tiny_project());
    let trial = tiny_trial(&["sft", "dpo"]);
    let want = ids(&trial, dir.path());
    assert_eq!(ids(&trial, moved.path()), want);

    let mut other = trial.clone();
    other.config.model.path = "./models/../models/tiny".into();
    let sft = other.config.sft.as_mut().unwrap();
    sft.runtime.micro_batch_tokens = Some(NonZeroUsize::new(17).unwrap());
    sft.runtime.recompute_layers = Some(true);
    sft.recipe.rows.data[0].path = "./data/chat.jsonl".into();
    other
        .config
        .dpo
        .as_mut()
        .unwrap()
        .runtime
        .checkpoint_every_steps = Some(NonZeroU64::new(3).unwrap());
    other.config.eval.runtime.micro_batch_tokens = Some(NonZeroUsize::new(9).unwrap());
    assert_eq!(ids(&other, dir.path()), want);

    let mut pinned = trial.clone();
    pinned.seed = 99;
    pinned.config.sft.as_mut().unwrap().recipe.training.seed = Some(1);
    pinned.config.dpo.as_mut().unwrap().recipe.training.seed = Some(1);
    assert_eq!(ids(&pinned, dir.path()), want, "a fixed seed is the seed");

    let chat = dir.path().join("data/chat.jsonl");
    write_atomic(
        &chat,
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"other\"}]}\n",
    )
    .unwrap();
    assert!(
        ids(&trial, dir.path()).iter().all(|id| !want.contains(id)),
        "content does name it"
    );
}

#[test]
fn of_all_names_of_files_only_those_in_keys_of_metrics_name_a_run() {
    let dir = tiny_project();
    let trial = tiny_trial(&["sft", "dpo"]);
    let want = ids(&trial, dir.path());
    let copy = "data/copy.jsonl";
    std::fs::copy(dir.path().join("data/chat.jsonl"), dir.path().join(copy)).unwrap();
    let with = |set: &dyn Fn(&mut SftRecipe)| {
        let mut other = trial.clone();
        set(&mut other.config.sft.as_mut().unwrap().recipe);
        ids(&other, dir.path())
    };
    let trained = with(&|sft| sft.rows.data[0].path = copy.into());
    assert_eq!(trained, want, "renamed");
    let monitored = with(&|sft| {
        sft.training.monitor.as_mut().unwrap().data[0].path = copy.into();
    });
    assert_ne!(monitored[0], want[0], "its metrics are `eval_copy/…`");
}

#[test]
fn the_template_and_the_weights_name_every_run() {
    let dir = tiny_project();
    let mut trial = tiny_trial(&["sft", "dpo"]);
    let want = ids(&trial, dir.path());
    let differs = |trial: &Trial| ids(trial, dir.path()).iter().all(|id| !want.contains(id));
    trial.config.model.chat_template = Some("models/t.jinja".into());
    write_atomic(&dir.path().join("models/t.jinja"), b"x").unwrap();
    assert!(differs(&trial));
    trial.config.model.chat_template = None;
    write_atomic(&dir.path().join("models/tiny/model.safetensors"), b"others").unwrap();
    assert!(differs(&trial));
}

#[test]
fn what_is_missing_is_listed_and_the_plan_still_stands() {
    let dir = tiny_project();
    std::fs::remove_file(dir.path().join("models/tiny/model.safetensors")).unwrap();
    std::fs::remove_file(dir.path().join("data/held.jsonl")).unwrap();
    let plan = plan(&sweep_of(vec![tiny_trial(&["sft", "dpo"])]), dir.path());
    let missing: Vec<(&str, &str)> = plan
        .missing
        .iter()
        .map(|m| (m.what, m.path.as_str()))
        .collect();
    assert_eq!(
        missing,
        [
            ("data file", "data/held.jsonl"),
            ("model weights", "models/tiny")
        ]
    );
    assert_eq!(plan.runs.len(), 4);
}

/// Every leaf of a JSON value, as a path of keys and indices.
fn leaves(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut go = |name: String, value: &Value| {
        path.push(name);
        leaves(value, path, found);
        path.pop();
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| go(name.clone(), value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, value)| go(at.to_string(), value)),
        _ => found.push(path.clone()),
    }
}

fn at<'v>(value: &'v mut Value, path: &[String]) -> &'v mut Value {
    path.iter().fold(value, |value, part| match value {
        Value::Array(items) => &mut items[part.parse::<usize>().unwrap()],
        other => &mut other[part.as_str()],
    })
}

/// Trials that together name a file or folder in every way that a configuration can.
fn trials_with_every_path() -> Vec<Value> {
    let pipeline = ["sft", "dpo", "online-dpo"];
    let mut trial = online_trial(&pipeline, 1);
    trial.config.model.chat_template = Some("models/t.jinja".into());
    trial.config.sft.as_mut().unwrap().recipe.rows.decontaminate =
        Some(decontamination("data/held.jsonl"));
    let dpo = &mut trial.config.dpo.as_mut().unwrap().recipe;
    dpo.rows.decontaminate = Some(decontamination("data/held.jsonl"));
    let plain = serde_json::to_value(&trial.config).unwrap();
    let model = json!({"model-path": "models/tiny"});
    let methods = [
        json!({"ids": {"ids-path": "data/ids.csv"}}),
        json!({"less": {"data": [{"path": "data/held.jsonl"}], "dimension": 8}}),
        json!({"reward-gap": model}),
        json!({"deita": {
            "complexity": model, "quality": model, "embedding": model,
            "pooling": "last", "threshold": 0.9,
        }}),
    ];
    let judges = [
        json!({"reward-model": {"model-path": "models/tiny", "precision": "f32"}}),
        json!({"pairrm": model}),
    ];
    let filtered = methods.into_iter().map(|method| {
        let mut config = plain.clone();
        let recipe = json!({"keep": 1, "method": method, "precision": "f32"});
        config["select"] = json!({"of": "dpo", "recipe": recipe});
        config
    });
    let judged = judges.into_iter().map(|judge| {
        let mut config = plain.clone();
        config["online-dpo"]["recipe"]["judge"] = judge;
        config
    });
    filtered.chain(judged).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    // Every leaf that names something in the project gets a copy of its own, so that no other leaf
    // can answer for it.
    #[test]
    fn a_path_names_runs_by_its_content_and_never_by_its_spelling(
        turns in proptest::collection::vec("\\./|data/\\.\\./|models/tiny/\\.\\./\\.\\./", 1..4),
        other in "[a-z]{1,20}",
    ) {
        let dir = tiny_project();
        write_atomic(&dir.path().join("data/ids.csv"), b"id\n1\n").unwrap();
        write_atomic(&dir.path().join("models/t.jinja"), b"{{ x }}").unwrap();
        let ids = |config: &Value| {
            let config = serde_json::from_value(config.clone()).unwrap();
            ids(&Trial { config, ..tiny_trial(&[]) }, dir.path())
        };
        let mut seen = BTreeSet::new();
        for config in trials_with_every_path() {
            let mut found = Vec::new();
            leaves(&config, &mut Vec::new(), &mut found);
            for leaf in found {
                let mut config = config.clone();
                let Some(path) = at(&mut config, &leaf).as_str().map(str::to_owned) else { continue };
                let from = dir.path().join(&path);
                if !from.exists() || !seen.insert(leaf.clone()) {
                    continue;
                }
                let own = format!("data/own-{}", seen.len());
                let to = dir.path().join(&own);
                let content = if from.is_dir() {
                    write_atomic(&to.join("config.json"), b"{}").unwrap();
                    to.join("model.safetensors")
                } else {
                    to.clone()
                };
                write_atomic(&content, b"{}\n").unwrap();
                *at(&mut config, &leaf) = own.clone().into();
                let first = ids(&config);
                *at(&mut config, &leaf) = format!("{}{own}", turns.concat()).into();
                prop_assert_eq!(&ids(&config), &first, "the spelling of `{}`", leaf.join("."));
                write_atomic(&content, other.as_bytes()).unwrap();
                prop_assert_ne!(&ids(&config), &first, "the content of `{}`", leaf.join("."));
            }
        }
        // So that a leaf that is no longer found does not pass unseen.
        prop_assert!(seen.len() >= 20, "{seen:?}");
    }
}

/// Another valid value of the same type: the next number, or another of the words allowed.
fn perturb<T: serde::de::DeserializeOwned>(recipe: &Value, path: &[String]) -> Value {
    const WORDS: [&str; 14] = [
        "padded",
        "concat",
        "assistant-only",
        "all-tokens",
        "cosine",
        "linear",
        "f32",
        "bf16",
        "keep-end",
        "keep-start",
        "init",
        "base",
        "hinge",
        "v_proj",
    ];
    let mut changed = recipe.clone();
    let leaf = at(&mut changed, path).clone();
    let candidates: Vec<Value> = match &leaf {
        Value::Number(n) if n.is_f64() => {
            let number = n.as_f64().unwrap();
            vec![json!(number + 0.25), json!(number / 2.0)] // one of them is within any range
        }
        Value::Number(n) => vec![json!(n.as_u64().unwrap() + 1)],
        Value::Bool(on) => vec![json!(!on)],
        Value::String(_) => WORDS.into_iter().map(Value::from).collect(),
        other => panic!("an unexpected leaf {other}"),
    };
    for candidate in candidates
        .into_iter()
        .filter(|candidate| *candidate != leaf)
    {
        *at(&mut changed, path) = candidate;
        if serde_json::from_value::<T>(changed.clone()).is_ok() {
            return changed;
        }
    }
    recipe.clone() // a choice with one word only
}

fn every_leaf_names<T: serde::de::DeserializeOwned + serde::Serialize>(
    recipe: &T,
    only_word: &[&str],
) {
    let dir = tiny_project();
    for name in ["padded", "concat"] {
        write_atomic(&dir.path().join(name), name.as_bytes()).unwrap(); // data under other words
    }
    let mut digests = DigestCache::default();
    let mut resolver = Resolver::new(dir.path(), &mut digests);
    let mut id = |value: &Value| {
        let recipe: T = serde_json::from_value(value.clone()).unwrap();
        let document = recipe_document(&recipe, "the recipe", Some(1), &mut resolver).unwrap();
        run_id(&document.text)
    };
    let recipe = serde_json::to_value(recipe).unwrap();
    let mut found = Vec::new();
    leaves(&recipe, &mut Vec::new(), &mut found);
    assert!(found.len() >= 10);
    for path in found {
        let changed = perturb::<T>(&recipe, &path);
        let dotted = path.join(".");
        let same = only_word.contains(&dotted.as_str());
        assert_eq!(id(&changed) == id(&recipe), same, "changing `{dotted}`");
    }
}

fn lora() -> LoraRecipe {
    LoraRecipe {
        rank: NonZeroUsize::new(4).unwrap(),
        alpha: Positive::try_from(8.0).unwrap(),
        targets: vec![LoraTarget::QProj],
    }
}

#[test]
fn every_field_of_a_recipe_names_the_run() {
    let config = tiny_trial(&["sft", "dpo"]).config;
    let mut recipe = config.sft.unwrap().recipe;
    every_leaf_names::<SftRecipe>(&recipe, &[]);
    recipe.rows.dedup = true;
    recipe.rows.decontaminate = Some(decontamination("data/held.jsonl"));
    recipe.rows.empty_system_turn = Some(0.5.try_into().unwrap());
    recipe.layout.max_masked_fraction = Some(0.5.try_into().unwrap());
    recipe.training.trainable_embeddings =
        Some(TrainableEmbeddings::Below(NonZeroUsize::new(3).unwrap()));
    recipe.training.save_steps = vec![2, 4];
    recipe.training.schedule.decay_ratio = Some(0.5.try_into().unwrap());
    recipe.training.lora = Some(lora());
    every_leaf_names::<SftRecipe>(&recipe, &[]);
    let mut recipe = config.dpo.unwrap().recipe;
    every_leaf_names::<DpoRecipe>(&recipe, &[]);
    recipe.objective.sft_weight = Some(1.0.try_into().unwrap());
    recipe.objective.kind =
        serde_json::from_value(json!({"simpo": {"gamma": 0.5, "label-smoothing": 0.1}})).unwrap();
    recipe.objective.length_normalized = true;
    recipe.reference.reference_free = true;
    recipe.rows.dedup = true;
    recipe.rows.decontaminate = Some(decontamination("data/held.jsonl"));
    recipe.rows.empty_system_turn = Some(0.5.try_into().unwrap());
    recipe.training.trainable_embeddings =
        Some(TrainableEmbeddings::From(NonZeroUsize::new(3).unwrap()));
    recipe.reference.reference_update = Some(ReferenceUpdate {
        every_steps: NonZeroU64::new(2).unwrap(),
        mix: 0.5.try_into().unwrap(),
    });
    recipe.training.save_steps = vec![2, 4];
    recipe.training.lora = Some(lora());
    every_leaf_names::<DpoRecipe>(&recipe, &[]);
    every_leaf_names::<EvalRecipe>(&config.eval.recipe, &[]);
}

proptest! {
    #[test]
    fn the_order_of_keys_does_not_name_a_run(keys in proptest::collection::hash_map("[a-z]{1,6}", any::<i32>(), 0..12), turn in 0usize..12) {
        let pairs: Vec<(String, i32)> = keys.into_iter().collect();
        let turned = pairs.iter().cycle().skip(turn).take(pairs.len());
        let text = |pairs: Vec<&(String, i32)>| {
            let fields: Vec<String> = pairs.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
            let value: Value = serde_json::from_str(&format!("{{{}}}", fields.join(","))).unwrap();
            super::canonical::canonical(&value)
        };
        prop_assert_eq!(text(pairs.iter().collect()), text(turned.collect()));
    }

    #[test]
    fn canonical_text_reads_back_as_the_same_numbers(x in any::<f64>().prop_filter("finite", |x| x.is_finite()), n in any::<u64>(), s in ".*") {
        let value = json!({"x": x, "n": n, "s": s});
        let text = super::canonical::canonical(&value);
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read["x"].as_f64().unwrap().to_bits(), x.to_bits());
        prop_assert_eq!(&read["n"], &value["n"]);
        prop_assert_eq!(&read["s"], &value["s"]);
    }
}
