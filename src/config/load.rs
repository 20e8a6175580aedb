//! The passes, one after another: parse, extends, overlay, type, check.

use crate::config::base_file::{OtherBase, plain_path};
use crate::config::check::{Checker, Files};
use crate::config::check_halving::{HalvingChecker, RungReader};
use crate::config::check_report::ReportChecker;
use crate::config::diagnose::{
    ConfigError, Diagnostic, Place, Problems, SourceFile, Sources, nearest,
};
use crate::config::expand::{GridPoint, axis_infos, expand};
use crate::config::expected::Inputs;
use crate::config::file::{Assignment, Axis, Reader, SweepFile};
use crate::config::halving::Halving;
use crate::config::keep::KeepPolicy;
use crate::config::overrides::{Overrides, Setting, TEXT_SOURCE, lay_sets};
use crate::config::places::{Places, PointTrees, overlaid};
use crate::config::presets::fill_presets;
use crate::config::removed::{take_out_removed, unknown_removals};
use crate::config::schema::nearest_path;
use crate::config::spec::{PipelineStage, TrialConfig};
use crate::config::sweep::{AxisInfo, ReportSpec, Sweep, Trial};
use crate::config::task_file::TaskFiles;
use crate::config::text::read_text;
use crate::config::tree::{Key, Node};
use crate::config::typed;
use crate::metrics::{Better, metric_spec};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads, expands and checks a sweep file; all its inputs must be there.
///
/// Paths in the file are relative to the project `root`, those in `extends` to the file that names
/// them.
///
/// # Errors
/// Everything that is wrong, each thing at its file, line and column.
pub fn load_sweep(path: &Path, root: &Path) -> Result<Sweep, ConfigError> {
    load_placed_sweep(&Overrides::default(), path, root, Inputs::Required).map(|(sweep, _)| sweep)
}

/// As [`load_sweep`], with where the values of each trial stand in the files. With
/// [`Inputs::Optional`] missing data and models are no mistake.
///
/// What `overrides` changes is added to the sweep's name: `study@gemma-2b+dpo.recipe.beta=0.1`.
///
/// # Errors
/// As [`load_sweep`]; another base is asked for and the sweep extends no file in `base/`, or two.
pub fn load_placed_sweep(
    overrides: &Overrides,
    path: &Path,
    root: &Path,
    inputs: Inputs,
) -> Result<(Sweep, Places), ConfigError> {
    let mut loader = Loader {
        root: root.to_owned(),
        base: overrides
            .base
            .as_deref()
            .map(|base| OtherBase::new(base, path)),
        overrides: overrides.clone(),
        sources: Sources::default(),
        done: Vec::new(),
        tasks: TaskFiles::default(),
        problems: Problems::new(),
    };
    let sweep = loader.sweep(path, inputs);
    match sweep {
        Some((sweep, points)) if loader.problems.is_empty() => {
            let places = Places {
                sources: loader.sources,
                points,
            };
            Ok((sweep, places))
        }
        _ => Err(ConfigError::new(
            loader.sources,
            loader.problems.into_iter().collect(),
        )),
    }
}

struct Loader {
    root: PathBuf,
    base: Option<OtherBase>,
    overrides: Overrides,
    sources: Sources,
    /// Files that were laid on already, by their real path.
    done: Vec<PathBuf>,
    tasks: TaskFiles,
    problems: Problems,
}

/// Points are not looked at any more behind so many problems.
const MOST_PROBLEMS: usize = 200;

impl Loader {
    fn sweep(&mut self, path: &Path, inputs: Inputs) -> Option<(Sweep, PointTrees)> {
        let mut stack = Vec::new();
        let mut tree = self.merged(path, None, &mut stack)?;
        let extends = tree.get("extends").map(|node| node.place);
        if let Some(base) = &self.base {
            base.used(extends, &mut self.problems)?;
        }
        let above = u32::try_from(self.done.len()).ok()? + 1;
        let sets = lay_sets(
            &self.overrides.sets,
            &mut tree,
            above,
            &mut self.sources,
            &mut self.problems,
        );
        if !self.problems.is_empty() {
            return None;
        }
        let mut reader = Reader {
            sources: &self.sources,
            problems: &mut self.problems,
        };
        let file = reader.sweep_file(&tree);
        if !self.problems.is_empty() {
            // A grid built on a wrong frame would only echo its mistakes, but the base can be read.
            self.wrong_in_base(&tree);
            return None;
        }
        let file = file?;
        let points = expand(&file, &mut self.problems);
        let trials = self.trials(&file, &points, inputs);
        if self.problems.is_empty() {
            self.idle_sets(&sets, &file, &points, &trials);
        }
        let axes = axis_infos(&file);
        let mut report = file.report.clone();
        let halving = self.halving(&file, &axes, &points, &trials, inputs);
        if self.problems.is_empty() {
            let left = halving
                .as_ref()
                .and_then(|halving| halving.as_if_done(&trials));
            let mut checker = ReportChecker {
                node: &file.report_node,
                axes: &axes,
                trials: left.as_deref().unwrap_or(&trials),
                problems: &mut self.problems,
            };
            checker.report(&mut report);
            self.best_is_known(&file, &report);
        }
        let trees = PointTrees::new(&file, &points, std::mem::take(&mut self.tasks));
        let sweep = Sweep {
            name: self.overrides.name(&file.name),
            question: file.question,
            tags: file.tags,
            keep: file.keep,
            axes,
            trials,
            halving,
            report,
            inputs: file.inputs,
        };
        Some((sweep, trees))
    }

    /// What keeps the best needs a table that says which is.
    fn best_is_known(&mut self, file: &SweepFile, report: &ReportSpec) {
        let first = report.tables.first();
        let better = first.and_then(|table| {
            let spec = metric_spec(table.metrics.first()?);
            Some(table.direction.is_some() || spec.better != Better::Neither)
        });
        if file.keep == KeepPolicy::Best && better != Some(true) {
            let message = "`keep = \"best\"` needs a table whose first metric has a better side";
            let help =
                "add a `[[report.table]]`; its first metric says which configuration is the best";
            let found = Diagnostic::new(file.keep_place, message);
            self.problems.insert(found.help(help));
        }
    }

    /// The rungs of a sweep that is halved, and whether its rules are kept.
    fn halving(
        &mut self,
        file: &SweepFile,
        axes: &[AxisInfo],
        points: &[GridPoint<'_>],
        trials: &[Trial],
        inputs: Inputs,
    ) -> Option<Halving> {
        // Trials of rungs would only echo what is wrong with those of the sweep.
        let asked = file.halving.as_ref().filter(|_| self.problems.is_empty())?;
        let mut reader = RungReader {
            root: &self.root,
            file,
            files: &mut Files::new(&self.root, inputs),
            tasks: &mut self.tasks,
            sources: &mut self.sources,
            problems: &mut self.problems,
        };
        let halving = Halving {
            trials: reader.trials(asked, points),
            spec: asked.spec.clone(),
            standings: Vec::new(),
        };
        let mut checker = HalvingChecker {
            root: &self.root,
            asked,
            axes,
            seeds: &file.seeds,
            trials,
            report: &file.report,
            report_node: &file.report_node,
            problems: &mut self.problems,
        };
        checker.check(&halving);
        Some(halving)
    }

    /// The file with all that it extends below it; each file is laid on once, the later wins.
    fn merged(
        &mut self,
        path: &Path,
        named_at: Option<Place>,
        stack: &mut Vec<PathBuf>,
    ) -> Option<Node> {
        let shown = shown_path(path, &self.root);
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if stack.contains(&real) {
            let message = format!("`{shown}` extends itself in a circle");
            let found = match named_at {
                Some(place) => Diagnostic::new(place, message),
                None => Diagnostic::nowhere(message),
            };
            self.problems.insert(found.help("remove it from `extends`"));
            return None;
        }
        if self.done.contains(&real) {
            return Some(Node::empty(named_at?));
        }
        let given = self.overrides.text.take();
        let name = match given {
            // The file may not be there yet.
            Some(_) => TEXT_SOURCE.to_owned(),
            None => shown.clone(),
        };
        let text = given.map_or_else(|| read_text(path), |text| Ok(Ok(text)));
        let text = match text {
            Ok(text) => text,
            Err(reason) => {
                self.unreadable(path, (&shown, &reason), named_at);
                return None;
            }
        };
        let number = u32::try_from(self.sources.0.len()).ok()?;
        let (text, broken): (Arc<str>, _) = match text {
            Ok(text) => (Arc::from(text), None),
            Err((text, at)) => (Arc::from(text), Some(at)),
        };
        self.sources.0.push(SourceFile {
            name,
            text: Arc::clone(&text),
        });
        if let Some(start) = broken {
            let end = start + char::REPLACEMENT_CHARACTER.len_utf8();
            let place = Place {
                file: number,
                start,
                end,
            };
            let found = Diagnostic::new(place, "this is not UTF-8");
            self.problems.insert(found.help("save the file as UTF-8"));
            return None;
        }
        let mut own = match Node::parse(&text, number) {
            Ok(own) => own,
            Err(problem) => {
                self.problems.insert(*problem);
                return None;
            }
        };
        stack.push(real.clone());
        let mut merged: Option<Node> = None;
        for extended in self.extends(&own) {
            let folder = path.parent().unwrap_or(Path::new(""));
            let mut next = folder.join(extended.0);
            if let Some(base) = &mut self.base {
                next = base.instead(path, next, extended.1, &mut self.problems);
            }
            let below = self.merged(&next, Some(extended.1), stack);
            if let Some(below) = below {
                match &mut merged {
                    Some(merged) => merged.merge(&below, None),
                    None => merged = Some(below),
                }
            }
        }
        stack.pop();
        self.done.push(real);
        let layer = u32::try_from(self.done.len()).ok()?;
        own.set_layers(layer);
        fill_presets(&mut own, merged.as_ref(), layer, &mut self.problems);
        self.problems
            .extend(unknown_removals(&own, merged.as_ref()));
        let Some(mut merged) = merged else {
            return Some(own);
        };
        merged.place = own.place;
        merged.merge(&own, None);
        Some(merged)
    }

    fn unreadable(&mut self, path: &Path, told: (&str, &str), named_at: Option<Place>) {
        let (shown, reason) = told;
        let Some(place) = named_at else {
            let message = format!("cannot read the sweep file `{shown}`: {reason}");
            let found = Diagnostic::nowhere(message);
            self.problems
                .insert(found.help("name a sweep file, for example `sweeps/quickstart.toml`"));
            return;
        };
        let found = Diagnostic::new(place, format!("cannot read `{shown}`: {reason}"));
        let of_folder =
            || "paths in `extends` begin at the folder of the file that names them".to_owned();
        if path.exists() {
            self.problems
                .insert(found.help("name a sweep file or a base file"));
            return;
        }
        let wrong = path.file_name().unwrap_or_default().to_string_lossy();
        let entries = path
            .parent()
            .and_then(|folder| std::fs::read_dir(folder).ok());
        let names = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let near = nearest(&wrong, names.iter().map(String::as_str));
        let help = near.map_or_else(of_folder, |near| format!("did you mean `{near}`?"));
        self.problems.insert(found.help(help));
    }

    fn extends(&mut self, own: &Node) -> Vec<(String, Place)> {
        let Some(node) = own.get("extends") else {
            return Vec::new();
        };
        let items = match node.list() {
            Some(items) => items,
            None => std::slice::from_ref(node),
        };
        let mut files = Vec::new();
        for item in items {
            if let Some(text) = item.text() {
                files.push((text.to_owned(), item.place));
            } else {
                let message = format!("expected a file name, found {}", item.kind_name());
                let found = Diagnostic::new(item.place, message);
                self.problems
                    .insert(found.help("for example `extends = [\"base/mini.toml\"]`"));
            }
        }
        files
    }

    /// What is wrong with the base as it stands; what it lacks an axis may give.
    fn wrong_in_base(&mut self, tree: &Node) {
        let Some(mut base) = tree.get("base").cloned() else {
            return;
        };
        take_out_removed(&mut base);
        let read = typed::read_all::<TrialConfig>(&base, "", nearest_path);
        let wrong = read.err().unwrap_or_default();
        self.problems
            .extend(wrong.into_iter().filter(|found| !found.absent));
    }

    /// Overlay, type and check every point; then one trial for each seed.
    fn trials(&mut self, file: &SweepFile, points: &[GridPoint<'_>], inputs: Inputs) -> Vec<Trial> {
        let mut files = Files::new(&self.root, inputs);
        let mut trials: Vec<Trial> = Vec::new();
        for point in points {
            if self.problems.len() > MOST_PROBLEMS {
                break; // thousands of points would mostly repeat what the first of them said
            }
            let (mut node, wrong) = overlaid(&file.base, point.sets.iter().copied());
            self.problems.extend(wrong);
            self.tasks
                .read(&node, &self.root, &mut self.sources, &mut self.problems);
            self.tasks.lay_below(&mut node);
            let config: TrialConfig = match typed::read_all(&node, "", nearest_path) {
                Ok(config) => config,
                Err(problems) => {
                    self.problems.extend(problems);
                    continue;
                }
            };
            let mut checker = Checker {
                node: &node,
                expected: &file.inputs,
                files: &mut files,
                problems: &mut self.problems,
            };
            checker.trial(&config);
            self.idle_axes(file, point, &config);
            for seed in point.seeds {
                trials.push(Trial {
                    index: trials.len(),
                    assignments: point.assignments.clone(),
                    seed: *seed,
                    config: config.for_seed(*seed),
                });
            }
        }
        trials
    }

    /// Values of the command line that no trial has: an axis sets them in all that run the stage, or none does.
    fn idle_sets(
        &mut self,
        sets: &[Setting],
        file: &SweepFile,
        points: &[GridPoint<'_>],
        trials: &[Trial],
    ) {
        let covers = |over: &Assignment, path: &[Key]| {
            let mut pairs = over.path.iter().zip(path);
            over.path.len() <= path.len() && pairs.all(|(a, b)| a.name == b.name)
        };
        let firsts = points.iter().scan(0, |at, point| {
            let first = *at;
            *at += point.seeds.len();
            Some(first)
        });
        let configs = firsts.filter_map(|first| trials.get(first));
        let points: Vec<_> = points.iter().zip(configs).collect();
        for set in sets {
            let stage = set.path.first().and_then(|key| stage_named(&key.name));
            let runs = |trial: &Trial| stage.is_none_or(|s| trial.config.pipeline.contains(&s));
            let mut running = points.iter().filter(|(_, trial)| runs(trial)).peekable();
            if let (None, Some(stage)) = (running.peek(), stage) {
                let message = format!("no trial runs `{}`, so this changes nothing", stage.name());
                let found = Diagnostic::new(set.place, message);
                self.problems
                    .insert(found.help("set `pipeline`, too, or leave it out"));
                continue;
            }
            let replaced = |point: &GridPoint<'_>| point.sets.iter().any(|s| covers(s, &set.path));
            let axis = file.axes.iter().find(|axis| {
                let mut over = axis.points.iter().flat_map(|point| &point.sets);
                over.any(|over| covers(over, &set.path))
            });
            if let (true, Some(axis)) = (running.all(|(point, _)| replaced(point)), axis) {
                let message = format!("axis `{}` sets this in every trial", axis.name);
                let help = format!("`--where {}=…` picks trials of the axis", axis.name);
                let found = Diagnostic::new(set.place, message).also(axis.name_place, "the axis");
                self.problems.insert(found.help(help));
            }
        }
    }

    /// An axis that sets only fields of a stage that the trial does not have would make trials
    /// that differ in name alone.
    fn idle_axes(&mut self, file: &SweepFile, point: &GridPoint<'_>, config: &TrialConfig) {
        for (index, _) in &point.chosen {
            let axis = &file.axes[*index];
            let Some(stage) = only_stage(axis) else {
                continue;
            };
            let name = stage.name();
            if !config.pipeline.contains(&stage) {
                let message = format!(
                    "axis `{}` sets only `{name}`, which some of its trials do not run",
                    axis.name
                );
                let help = "restrict it, for example `when = { stage = \"…\" }`";
                self.problems
                    .insert(Diagnostic::new(axis.name_place, message).help(help));
            }
        }
    }
}

/// The name that the text of a sweep file states, whatever else is wrong with it.
pub(crate) fn stated_name(text: &str) -> Option<String> {
    let tree = Node::parse(text, 0).ok()?;
    tree.at("sweep.name")?.text().map(str::to_owned)
}

/// The one stage whose fields the axis sets, if it sets nothing else.
fn only_stage(axis: &Axis) -> Option<PipelineStage> {
    let mut firsts = axis
        .points
        .iter()
        .flat_map(|point| &point.sets)
        .map(|set| set.path.first());
    let first = firsts.next()??;
    let same = firsts.all(|other| other.is_some_and(|key| key.name == first.name));
    stage_named(&first.name).filter(|_| same)
}

/// The stage whose table has this name.
fn stage_named(name: &str) -> Option<PipelineStage> {
    let all = [
        PipelineStage::Sft,
        PipelineStage::Dpo,
        PipelineStage::OnlineDpo,
    ];
    all.into_iter().find(|stage| stage.name() == name)
}

/// Relative to the root where it lies below it, without `.` and `a/..`.
fn shown_path(path: &Path, root: &Path) -> String {
    let plain = plain_path(path);
    let shown = plain.strip_prefix(root).unwrap_or(&plain);
    shown.display().to_string()
}
