//! The trials of rungs, and rules for `[search.halving]`.

use crate::config::check::{Checker, Files};
use crate::config::diagnose::{Diagnostic, Problems, Sources, suggest};
use crate::config::expand::{GridPoint, TRIAL_AXIS};
use crate::config::file::{HalvingFile, SweepFile};
use crate::config::halving::{Halving, HalvingSpec};
use crate::config::keys::final_metric_keys;
use crate::config::places::overlaid;
use crate::config::schema::nearest_path;
use crate::config::spec::{Duration, EvalRecipe, PipelineStage, TrainingRecipe, TrialConfig};
use crate::config::sweep::{AxisInfo, ReportSpec, Trial};
use crate::config::task_file::TaskFiles;
use crate::config::tree::{Key, Kind, Node};
use crate::config::typed;
use crate::metrics::{Better, metric_spec};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What trials of rungs are read with.
pub(crate) struct RungReader<'a> {
    pub(crate) root: &'a Path,
    pub(crate) file: &'a SweepFile,
    pub(crate) files: &'a mut Files,
    pub(crate) tasks: &'a mut TaskFiles,
    pub(crate) sources: &'a mut Sources,
    pub(crate) problems: &'a mut Problems,
}

impl RungReader<'_> {
    /// For each rung a trial of every point of the grid and every seed of the rungs. `index` is that of the
    /// point's first trial in the sweep.
    pub(crate) fn trials(
        &mut self,
        asked: &HalvingFile,
        points: &[GridPoint<'_>],
    ) -> Vec<Vec<Trial>> {
        let mut rungs = Vec::new();
        for rung in 0..asked.spec.rungs.len() {
            let mut trials = Vec::new();
            let mut index = 0;
            for point in points {
                let first = index;
                index += point.seeds.len();
                if point.assignments.contains_key(TRIAL_AXIS) {
                    continue; // a trial beside the grid competes with nothing
                }
                let Some(config) = self.config(asked, rung, point) else {
                    continue;
                };
                let seeds = asked.spec.seeds.iter();
                trials.extend(seeds.map(|seed| Trial {
                    index: first,
                    assignments: point.assignments.clone(),
                    seed: *seed,
                    config: config.for_seed(*seed),
                }));
            }
            rungs.push(trials);
        }
        rungs
    }

    /// A point's configuration at a rung: shorter, and evaluated on what decides.
    fn config(
        &mut self,
        asked: &HalvingFile,
        rung: usize,
        point: &GridPoint<'_>,
    ) -> Option<TrialConfig> {
        let (mut node, _) = overlaid(&self.file.base, point.sets.iter().copied());
        shorten(&mut node, asked, rung);
        self.tasks
            .read(&node, self.root, self.sources, self.problems);
        self.tasks.lay_below(&mut node);
        match typed::read_all(&node, "", nearest_path) {
            Ok(config) => {
                let mut checker = Checker {
                    node: &node,
                    expected: &self.file.inputs,
                    files: self.files,
                    problems: self.problems,
                };
                checker.trial(&config);
                Some(config)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }
}

/// Makes the tree of a trial that of one at a rung.
fn shorten(node: &mut Node, asked: &HalvingFile, rung: usize) {
    let path =
        |parts: &[&str]| -> Vec<String> { parts.iter().map(|part| (*part).to_owned()).collect() };
    if let Some(eval) = node.at_mut(&path(&["eval"])) {
        // Of what a rung's training keeps there is the end alone.
        eval.remove("checkpoint-step");
    }
    if let (Some(recipe), Some(own)) = (
        node.at_mut(&path(&["eval", "recipe"])),
        asked.node.get("eval"),
    ) {
        *recipe = own.clone();
    }
    let stages = node.get("pipeline").and_then(Node::list);
    let last = stages
        .and_then(<[Node]>::last)
        .and_then(Node::text)
        .map(str::to_owned);
    let recipe = last.and_then(|stage| node.at_mut(&path(&[&stage, "recipe"])));
    let (Some(recipe), Some(steps)) = (recipe, asked.node.at(&format!("rungs.{rung}.steps")))
    else {
        return;
    };
    recipe.remove("save-steps");
    if let Some(duration) = recipe.at_mut(&path(&["duration"])) {
        let key = Key {
            name: Arc::from("steps"),
            place: steps.place,
            layer: 0,
        };
        *duration = Node {
            place: steps.place,
            kind: Kind::Table(vec![(key, steps.clone())]),
        };
    }
}

/// The training of the last stage, where rungs are shorter.
fn last_training(config: &TrialConfig) -> Option<(&'static str, &TrainingRecipe)> {
    match config.pipeline.last()? {
        PipelineStage::Sft => config.sft.as_ref().map(|s| ("sft", &s.recipe.training)),
        PipelineStage::Dpo => config.dpo.as_ref().map(|d| ("dpo", &d.recipe.training)),
        PipelineStage::OnlineDpo => None,
    }
}

/// Rules for a halving that could be read.
pub(crate) struct HalvingChecker<'a> {
    pub(crate) root: &'a Path,
    pub(crate) asked: &'a HalvingFile,
    pub(crate) axes: &'a [AxisInfo],
    pub(crate) seeds: &'a [u64],
    pub(crate) trials: &'a [Trial],
    pub(crate) report: &'a ReportSpec,
    pub(crate) report_node: &'a Node,
    pub(crate) problems: &'a mut Problems,
}

impl HalvingChecker<'_> {
    fn fail(&mut self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let place = self.asked.node.nearest_place(path);
        let found = Diagnostic::new(place, message).help(help);
        self.problems.insert(found);
    }

    /// Everything about it.
    pub(crate) fn check(&mut self, halving: &Halving) {
        let spec = &halving.spec;
        self.over(spec);
        self.rungs(spec, halving);
        self.seeds(spec);
        for (rung, trials) in halving.trials.iter().enumerate() {
            for trial in trials {
                self.stage(&trial.config, rung);
                self.metric(&trial.config, &spec.metric);
            }
        }
        self.rows(halving);
        self.report(spec);
    }

    fn over(&mut self, spec: &HalvingSpec) {
        let names: Vec<&str> = self.axes.iter().map(|axis| axis.name.as_str()).collect();
        if spec.over.is_empty() {
            let help = suggest("", names.iter().copied()).unwrap_or_default();
            self.fail("over", "`over` names no axis", help);
        }
        for (index, axis) in spec.over.iter().enumerate() {
            if !names.contains(&axis.as_str()) || axis == TRIAL_AXIS {
                let help = suggest(axis, names.iter().copied()).unwrap_or_default();
                self.fail(
                    &format!("over.{index}"),
                    format!("there is no axis `{axis}`"),
                    help,
                );
            }
        }
    }

    fn rungs(&mut self, spec: &HalvingSpec, halving: &Halving) {
        if spec.rungs.is_empty() {
            let help = "for example `rungs = [{ steps = 100, keep = 2 }]`";
            self.fail("rungs", "there is no rung", help);
        }
        for (index, rung) in spec.rungs.iter().enumerate() {
            let (steps, keep) = (
                format!("rungs.{index}.steps"),
                format!("rungs.{index}.keep"),
            );
            if rung.keep == 0 {
                self.fail(&keep, "a rung keeps one configuration at least", "write 1");
            }
            let Some(before) = index.checked_sub(1).and_then(|at| spec.rungs.get(at)) else {
                continue;
            };
            if rung.steps <= before.steps {
                let message = format!(
                    "a rung of {} steps after one of {}",
                    rung.steps, before.steps
                );
                self.fail(&steps, message, "rungs grow longer; raise it");
            }
            if rung.keep >= before.keep {
                let message = format!(
                    "this rung is entered by {} and keeps {}",
                    before.keep, rung.keep
                );
                self.fail(&keep, message, "lower it, or remove the rung");
            }
        }
        if let Some(first) = spec.rungs.first()
            && !halving.stops_something()
        {
            let message = format!(
                "nowhere do more than {} configurations compete, so that nothing is stopped",
                first.keep
            );
            self.fail(
                "rungs.0.keep",
                message,
                "lower `keep`, or name more axes in `over`",
            );
        }
    }

    fn seeds(&mut self, spec: &HalvingSpec) {
        if spec.seeds.is_empty() {
            self.fail("seeds", "there is no seed", "for example `seeds = [101]`");
        }
        let mut seen = BTreeSet::new();
        for (index, seed) in spec.seeds.iter().enumerate() {
            let path = format!("seeds.{index}");
            if !seen.insert(seed) {
                self.fail(
                    &path,
                    format!("the seed {seed} is listed twice"),
                    "remove one",
                );
            }
            if self.seeds.contains(seed) {
                let message = format!("the seed {seed} is one of the sweep's");
                let help =
                    "what was lucky with a seed would be compared by it: name others, such as 101";
                self.fail(&path, message, help);
            }
        }
    }

    /// The last stage can be shortened, and its luck is not that of the trials.
    fn stage(&mut self, config: &TrialConfig, rung: usize) {
        let path = format!("rungs.{rung}.steps");
        let Some((name, training)) = last_training(config) else {
            let message =
                "rungs are shorter trainings, and a trial does not end with `sft` or `dpo`";
            let help = "leave it out with `[[exclude]]`, or make it a `[[trial]]`";
            return self.fail("rungs", message, help);
        };
        if training.seed.is_some() {
            let message = format!("`{name}.recipe.seed` gives rungs and trials the same training");
            self.fail("seeds", message, "remove it there");
        }
        let full = self
            .trials
            .iter()
            .filter_map(|trial| last_training(&trial.config));
        let shortest = full.filter_map(|(_, training)| match training.duration {
            Duration::Steps(steps) => Some(steps),
            Duration::Epochs(_) => None,
        });
        let (Some(shortest), Duration::Steps(own)) = (shortest.min(), training.duration) else {
            return;
        };
        if own >= shortest {
            let message = format!("a rung of {own} steps is no shorter than a trial of {shortest}");
            self.fail(&path, message, "lower it");
        }
    }

    fn metric(&mut self, config: &TrialConfig, metric: &str) {
        let keys = final_metric_keys(config);
        if !keys.iter().any(|key| key == metric) {
            let keys = keys.iter().map(String::as_str);
            let judged = keys.filter(|key| metric_spec(key).better != Better::Neither);
            let help = suggest(metric, judged).unwrap_or_default();
            self.fail(
                "metric",
                format!("`eval` does not measure `{metric}`"),
                help,
            );
        } else if metric_spec(metric).better == Better::Neither {
            let message = format!("neither way is `{metric}` better");
            self.fail("metric", message, "name a metric that has a better side");
        } else if metric.starts_with("training/") {
            self.fail(
                "metric",
                "what a training costs does not say how good it is",
                "name one of `eval`",
            );
        }
    }

    /// What decides is measured on other files than what is compared.
    fn rows(&mut self, halving: &Halving) {
        let mut compared = BTreeSet::new();
        for trial in self.trials {
            files_of(self.root, &trial.config.eval.recipe, &mut compared);
        }
        let mut deciding = BTreeSet::new();
        for trial in halving.trials.iter().flatten() {
            files_of(self.root, &trial.config.eval.recipe, &mut deciding);
        }
        if let Some(both) = deciding.intersection(&compared).next() {
            let root = std::fs::canonicalize(self.root).unwrap_or_else(|_| self.root.to_owned());
            let shown = both.strip_prefix(root).unwrap_or(both).display();
            let message = format!("`{shown}` also stands in the trials' `eval.recipe`");
            let help = "what configurations are chosen by must not be what they are compared by: name a \
                        validation file";
            self.fail("eval", message, help);
        }
    }

    /// A comparison must not be with what may have been stopped.
    fn report(&mut self, spec: &HalvingSpec) {
        let claims = self.report.claims.iter().enumerate();
        let sides = claims.flat_map(|(at, claim)| {
            let at = format!("claim.{at}");
            let named = [
                ("where", &claim.filter),
                ("ours", &claim.ours),
                ("baseline", &claim.baseline),
            ];
            named.map(|(key, values)| (format!("{at}.{key}"), values))
        });
        let tables = self.report.tables.iter().enumerate();
        let rows = tables.map(|(at, table)| (format!("table.{at}.baseline"), &table.baseline));
        let samples = self.report.samples.iter().enumerate();
        let texts = samples.flat_map(|(at, samples)| {
            [("left", &samples.left), ("right", &samples.right)]
                .map(|(key, values)| (format!("samples.{at}.{key}"), values))
        });
        for (path, values) in sides.chain(rows).chain(texts) {
            for axis in spec.over.iter().filter(|axis| values.contains_key(*axis)) {
                let place = self.report_node.nearest_place(&format!("{path}.{axis}"));
                let message = format!("halving may stop what has this `{axis}`");
                let found = Diagnostic::new(place, message);
                self.problems.insert(
                    found.help("name axes that are not in `over`, and keep 1 at the last rung"),
                );
            }
        }
    }
}

/// The rows that an evaluation asks about, by where their files really lie. Prompts, and models that judge, may be
/// the same.
fn files_of(root: &Path, recipe: &EvalRecipe, found: &mut BTreeSet<PathBuf>) {
    fn walk(value: &Value, add: &mut dyn FnMut(&str)) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("path" | "questions-path" | "baseline-path", Value::String(text)) => {
                            add(text);
                        }
                        // A task names its files without more.
                        ("data", Value::Array(items)) => {
                            items.iter().filter_map(Value::as_str).for_each(&mut *add);
                            walk_all(items, add);
                        }
                        (_, other) => walk(other, add),
                    }
                }
            }
            Value::Array(items) => walk_all(items, add),
            _ => {}
        }
    }
    fn walk_all(items: &[Value], add: &mut dyn FnMut(&str)) {
        items.iter().for_each(|item| walk(item, add));
    }
    let mut add = |text: &str| {
        let path = root.join(text);
        let real = std::fs::canonicalize(&path);
        found.insert(real.unwrap_or_else(|_| path.components().collect()));
    };
    if let Ok(value) = serde_json::to_value(recipe) {
        walk(&value, &mut add);
    }
}
