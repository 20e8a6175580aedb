//! The shipped studies: on every base they are what they say, and one training serves many points.

use lions::config::sweep::Sweep;
use lions::config::{Inputs, Overrides, load_placed_sweep};
use lions::plan::{DigestCache, KnownLengths, Plan, StageKind, plan_sweep};
use std::collections::BTreeSet;
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
    assert_eq!(studies.len(), 12);
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

// Four sizes, three seeds: twelve trainings for 72 points.
#[test]
fn one_training_serves_a_whole_curve_of_steps() {
    let plan = plan(&study("dpo-size-steps.toml"));
    assert_eq!(count(&plan, StageKind::Dpo), 12);
    assert_eq!(count(&plan, StageKind::Eval), 72);
    assert_eq!(count(&plan, StageKind::Sft), 1);
    assert_eq!(count(&plan, StageKind::RefLogps), 1);
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
    // Three sizes, three seeds.
    assert_eq!((added(StageKind::Dpo), added(StageKind::Eval)), (9, 9));
    assert_eq!(after.runs.len() - before.runs.len(), 18);
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
