//! The shipped studies: on every base they are what they say, and one training serves many points.

use lions::config::sweep::{AxisInfo, Sweep, Trial};
use lions::config::{Inputs, Overrides, load_placed_sweep};
use lions::data::{PairRow, candidate_chats, candidate_pairs, load_pairs, mixture_seed};
use lions::plan::{DigestCache, KnownLengths, Plan, StageKind, plan_sweep};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn studies() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("sweeps")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

fn load(study: &Path, base: Option<&str>) -> Sweep {
    let base = base.map(|name| root().join("sweeps/base").join(name));
    let loaded = load_placed_sweep(&Overrides::on(base), study, root(), Inputs::Optional);
    loaded.unwrap_or_else(|e| panic!("{}", e.render(false))).0
}

fn plan(sweep: &Sweep) -> Plan {
    plan_sweep(
        sweep,
        root(),
        &mut DigestCache::default(),
        &KnownLengths::default(),
    )
    .unwrap()
}

fn count(plan: &Plan, kind: StageKind) -> usize {
    plan.runs.iter().filter(|run| run.kind == kind).count()
}

fn study(name: &str) -> Sweep {
    load(&root().join("sweeps").join(name), None)
}

#[test]
fn every_shipped_study_is_planned_on_every_base() {
    let studies = studies();
    assert_eq!(studies.len(), 14);
    for study in studies {
        let text = std::fs::read_to_string(&study).unwrap();
        assert!(
            text.starts_with("# "),
            "{} opens with its question",
            study.display()
        );
        for base in [None, Some("gemma-2b.toml"), Some("llama-3-8b.toml")] {
            let sweep = load(&study, base);
            let plan = plan(&sweep);
            assert_eq!(plan.trials.len(), sweep.trials.len());
            assert_eq!(
                base.is_none(),
                plan.missing.is_empty(),
                "{}",
                study.display()
            );
        }
    }
}

// Three sizes, ten pipelines: 30 trainings for 180 points.
#[test]
fn one_training_serves_a_whole_curve_of_steps() {
    let plan = plan(&study("dpo-size-steps.toml"));
    assert_eq!(count(&plan, StageKind::Dpo), 30);
    assert_eq!(count(&plan, StageKind::Eval), 180);
    assert_eq!(count(&plan, StageKind::Sft), 10);
    assert_eq!(count(&plan, StageKind::RefLogps), 10);
}

#[test]
fn one_more_beta_costs_its_own_training_and_evaluation_and_nothing_else() {
    let ids = |plan: &Plan| -> BTreeSet<_> { plan.runs.iter().map(|r| r.id.clone()).collect() };
    let sweep = study("dpo-beta-size.toml");
    let before = plan(&sweep);
    let mut more = sweep.clone();
    for trial in sweep.trials.iter().filter(|t| t.assignments["beta"] == 0.1) {
        let mut trial = trial.clone();
        trial.index = more.trials.len();
        trial.assignments.insert("beta".to_owned(), 0.3.into());
        trial.config.dpo.as_mut().unwrap().recipe.objective.beta = 0.3.try_into().unwrap();
        more.trials.push(trial);
    }
    let after = plan(&more);
    assert!(ids(&before).is_subset(&ids(&after)));
    let added = |kind| count(&after, kind) - count(&before, kind);
    // Three sizes, ten seeds.
    assert_eq!((added(StageKind::Dpo), added(StageKind::Eval)), (30, 30));
    assert_eq!(after.runs.len() - before.runs.len(), 60);
}

// Two pipelines hold each of the 1,094 pairs out, no start or training has read its texts, and the largest size is
// there in every part.
#[test]
fn studies_by_cross_validation_measure_every_pair_twice_and_never_one_that_was_read() {
    for name in ["dpo-beta-size.toml", "dpo-size-steps.toml"] {
        let sweep = study(name);
        let first = &sweep.trials[0].assignments;
        let mut measured: BTreeMap<String, usize> = BTreeMap::new();
        for trial in sweep.trials.iter().filter(|t| t.assignments == *first) {
            let held_out = &trial.config.eval.recipe.preference["pairs"].data;
            let (held_out, _) = load_pairs(root(), held_out, &mixture_seed(0)).unwrap();
            let (sft, dpo) = (&trial.config.sft, &trial.config.dpo);
            let dpo = &dpo.as_ref().unwrap().recipe.rows;
            let (pairs, _) = candidate_pairs(root(), dpo, trial.seed).unwrap();
            let largest = sweep.trials.iter().filter_map(|t| {
                let rows = &t.config.dpo.as_ref()?.recipe.rows;
                rows.max_examples
            });
            let largest = largest.max().unwrap().get();
            assert!(
                pairs.len() >= largest,
                "{name}, seed {}: {}",
                trial.seed,
                pairs.len()
            );
            let texts = |row: &PairRow| -> Vec<String> {
                let turns = row.prompt.iter().chain(&row.chosen);
                turns.map(|turn| turn.content.clone()).collect()
            };
            let learnt: BTreeSet<Vec<String>> = pairs.iter().map(texts).collect();
            assert!(
                held_out.iter().all(|row| !learnt.contains(&texts(row))),
                "{name}"
            );
            let start = &sft.as_ref().unwrap().recipe.rows;
            let (chats, _) = candidate_chats(root(), start, trial.seed).unwrap();
            let said: BTreeSet<&str> = chats
                .iter()
                .flat_map(|c| &c.messages)
                .map(|m| m.content.as_str())
                .collect();
            let long = |text: &&str| text.split_whitespace().count() >= 4;
            let prompts = held_out.iter().map(|row| row.prompt[0].content.as_str());
            assert!(
                prompts.filter(long).all(|text| !said.contains(text)),
                "{name}"
            );
            for row in held_out {
                *measured.entry(row.id).or_default() += 1;
            }
        }
        assert_eq!(measured.len(), 1094, "{name}");
        assert!(measured.values().all(|count| *count == 2), "{name}");
    }
}

#[test]
fn lengths_are_in_tokens_and_other_settings_without_a_unit() {
    let labels =
        |name: &str| -> Vec<String> { study(name).axes.iter().map(AxisInfo::label).collect() };
    assert_eq!(labels("dpo-sequence-length.toml"), ["length (tokens)"]);
    assert_eq!(labels("dpo-beta-size.toml"), ["beta", "pairs"]);
}

/// Of the studies, not the quickstart, which is to be quick, and not of what only chooses rates.
fn compared() -> impl Iterator<Item = (String, Sweep)> {
    let named = |path: PathBuf| {
        let sweep = load(&path, None);
        (sweep.name.clone(), sweep)
    };
    let all = studies().into_iter().map(named);
    all.filter(|(name, _)| name != "quickstart" && name != "sft-rates")
}

// What seeds share they do not repeat: intervals would be for that one checkpoint.
#[test]
fn every_seed_of_a_study_is_a_whole_pipeline_and_every_claim_is_declared() {
    for (name, sweep) in compared() {
        let fixed = |trial: &Trial| {
            let sft = trial.config.sft.as_ref();
            sft.is_some_and(|sft| sft.recipe.training.seed.is_some())
        };
        assert!(!sweep.trials.iter().any(fixed), "{name}");
        let nothing_beforehand = name == "dpo-losses";
        assert_eq!(sweep.report.claims.is_empty(), nothing_beforehand, "{name}");
    }
}

/// First user turns of a file of chats or pairs.
fn prompts(path: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let prompt = |line: &str| -> String {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let turns = row.get("messages").unwrap_or(&row["prompt"]);
        let first = turns
            .as_array()
            .unwrap()
            .iter()
            .find(|turn| turn["role"] == "user");
        first.unwrap()["content"].as_str().unwrap().to_owned()
    };
    text.lines().map(prompt).collect()
}

/// In the order of their SHA-256.
fn by_digest(prompts: BTreeSet<String>) -> Vec<String> {
    let mut prompts: Vec<String> = prompts.into_iter().collect();
    prompts.sort_by_cached_key(|prompt| Sha256::digest(prompt.as_bytes()));
    prompts
}

// `data/README.md` says the rule.
#[test]
fn files_kept_aside_hold_the_prompts_that_their_rule_names() {
    let pairs = by_digest(prompts("data/pref/polite_train.jsonl"));
    let first = |from: usize, to: usize| pairs[from..to].iter().cloned().collect();
    let mut held_out: BTreeSet<String> = first(0, 220);
    held_out.extend(prompts("data/pref/polite_test.jsonl"));
    assert_eq!(prompts("data/pref/polite_held_out.jsonl"), held_out);
    assert_eq!(prompts("data/pref/polite_target.jsonl"), first(220, 252));
    let chats = by_digest(prompts("data/sft/instruct_train.jsonl"));
    let kept = chats[..160].iter().cloned().collect();
    assert_eq!(prompts("data/sft/instruct_validation.jsonl"), kept);
}

#[test]
fn every_figure_of_the_paper_whose_content_is_known_has_a_study() {
    let drawn: BTreeSet<String> = studies()
        .iter()
        .flat_map(|path| load(path, None).report.figures)
        .filter_map(|figure| figure.head.paper)
        .collect();
    let want = ["Figure 1", "Figure 2", "Figure 3", "Figure 4", "Figure A1"];
    assert_eq!(drawn, want.map(str::to_owned).into());
}
