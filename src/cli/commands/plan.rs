//! `lions plan`.

use crate::base::digest_bytes;
use crate::cli::cost::{
    DeviceArgs, assumed, device_json, device_lines, hours, hours_of, uncalibrated_line,
};
use crate::cli::database::earlier;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::halving::{cost_range, halving_json, halving_lines, next_phase};
use crate::cli::pick::{OnlyStage, TrialFilter, part_of};
use crate::cli::preflight::Look;
use crate::cli::project::Project;
use crate::cli::quick::{QuickSweep, SWEEP_FILES};
use crate::cli::sweep_file::{Changes, SweepFile};
use crate::cli::text::{bytes, counted, si};
use crate::cli::ui::{Tone, Ui};
use crate::config::sweep::Sweep;
use crate::config::{BackendChoice, Inputs};
use crate::plan::{
    DeviceRate, FieldChange, Plan, PlannedRun, RunCost, RunId, StageKind, nearest_difference,
};
use crate::preflight::Depth;
use crate::report::{
    ColumnFit::{Cut, Whole, Wrap},
    power_lines,
};
use crate::rundir::{RunDir, Verify, needed_again, run_folders, verified_outcome};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Expand a sweep and show the runs it needs
///
/// Nothing is executed and the store is only read. Each run is new or done; `--explain` says for
/// each new one how it differs from the nearest earlier run. Weights and data need not be there:
/// what is missing is listed, and counts with the sizes that the base file gives.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Sweep file
    #[arg(id = SWEEP_FILES, value_name = "FILE", required_unless_present = "axes")]
    file: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    quick: QuickSweep,
    #[command(flatten)]
    picked: TrialFilter,
    #[command(flatten)]
    only: OnlyStage,
    /// Say, for every new run, how it differs from the nearest earlier one
    #[arg(long)]
    explain: bool,
    /// List every run, however many there are
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Most runs listed without `--all`.
const LISTED: usize = 80;

pub(crate) fn run(ui: &Ui, global: &Global, args: &PlanArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), args.file.as_deref())?;
    let (sweep, places) = match &args.file {
        Some(file) => {
            let word = SweepFile {
                file: file.clone(),
                changes: args.changes.clone(),
            };
            word.load_placed(ui, &project, Inputs::Optional)?
        }
        None => args
            .quick
            .load(ui, &project, &args.changes, Inputs::Optional)?,
    };
    let mut look = Look::new(&project, Depth::Sample);
    let told = look.tell(ui, &sweep, &places);
    let phase = next_phase(&project, &sweep, look.lengths())?;
    let is_done = |run: &RunId| RunDir::new(&project.root, run).outcome().is_file();
    let range = cost_range(
        &project,
        (&sweep, &phase),
        (&look, told.errors > 0),
        &is_done,
    )?;
    let halved = range.map(|range| {
        let lines = halving_lines(&sweep, &phase, range);
        (lines, halving_json(&sweep, &phase, range))
    });
    let (sweep, mut plan, is_rung) = (phase.sweep, phase.plan, phase.rung.is_some());
    part_of(&mut plan, &sweep.axes, &args.picked, args.only)?;
    if told.errors > 0 {
        ui.warn("this is what would run; `lions run` refuses it for the problems above");
    }
    warn_of_equal_trials(ui, &plan);
    let local = project.file(ui.colors_err())?;
    let shared = match local.backend("local") {
        Ok(BackendChoice::Local(spec)) => spec.runs_per_gpu,
        _ => None,
    };
    let (rates, said) = args.device.rates(&plan, shared)?;
    said.iter().for_each(|said| ui.warn(said));
    let view = View::of(&plan, &project.root, args.explain, rates);
    let earlier = earlier(&project, &sweep.name);
    let mut power = power_lines(&sweep, earlier.as_ref()).map_err(CommandError::user)?;
    if is_rung {
        // A rung ranks, and tests nothing.
        power.clear();
    }
    if ui.json {
        let mut value = view.to_json(&sweep, &plan, &power);
        if let Some((_, halved)) = halved {
            value["halving"] = halved;
        }
        ui.print_json(&value)?;
        return Ok(DONE);
    }
    for line in halved.into_iter().flat_map(|(lines, _)| lines) {
        ui.text(&line);
    }
    print(ui, &sweep, &plan, &view, args);
    if !power.is_empty() {
        ui.out("");
        power.iter().for_each(|line| ui.text(line));
    }
    Ok(DONE)
}

/// Warns of trials of one seed that share all their runs: an axis that sets what no result depends on.
pub(crate) fn warn_of_equal_trials(ui: &Ui, plan: &Plan) {
    let mut first = BTreeMap::new();
    let mut equal = plan.trials.iter().filter_map(|trial| {
        let known = *first.entry((trial.seed, &trial.eval)).or_insert(trial);
        (known.index != trial.index).then_some((known, trial))
    });
    let Some((one, other)) = equal.next() else {
        return;
    };
    let more = match equal.count() {
        0 => String::new(),
        more => format!("; so it is with {}", counted(more, "further trial")),
    };
    ui.warn(&format!(
        "`{}` and `{}` are the same runs: no result depends on what they differ in{more}",
        one.label, other.label
    ));
}

/// The runs of a plan that are done, without those that have to be made again since `lions gc` deleted what
/// one that is not done needs; and those.
pub(crate) fn done_and_again(plan: &Plan, root: &Path) -> (BTreeSet<RunId>, BTreeSet<RunId>) {
    let is_done = |run: &&PlannedRun| {
        matches!(
            verified_outcome(&RunDir::new(root, &run.id), Verify::Sizes),
            Ok(Some(_))
        )
    };
    let done = plan.runs.iter().filter(is_done);
    let mut done: BTreeSet<_> = done.map(|run| run.id.clone()).collect();
    // What was deleted that cannot be read is told by `lions run`.
    let again = needed_again(root, plan, |id| done.contains(id)).unwrap_or_default();
    done.retain(|id| !again.contains(id));
    (done, again)
}

/// What the plan looks like against what is already there.
struct View {
    done: BTreeSet<RunId>,
    /// Runs that were done.
    again: BTreeSet<RunId>,
    /// On which GPUs, if on any.
    rates: Vec<DeviceRate>,
    about: BTreeMap<RunId, String>,
    explained: BTreeMap<RunId, (RunId, Vec<FieldChange>)>,
}

impl View {
    fn of(plan: &Plan, root: &Path, explain: bool, rates: Vec<DeviceRate>) -> Self {
        let (done, again) = done_and_again(plan, root);
        let mut explained = BTreeMap::new();
        if explain {
            let known = known_identities(root);
            let is_new = |run: &&PlannedRun| !done.contains(&run.id) && !again.contains(&run.id);
            for run in plan.runs.iter().filter(is_new) {
                if let Some((id, changes)) = nearest_difference(&run.identity, &known) {
                    explained.insert(run.id.clone(), (id, changes));
                }
            }
        }
        Self {
            done,
            again,
            rates,
            about: describe(plan),
            explained,
        }
    }

    /// The GPU that columns are for.
    fn rate(&self) -> Option<DeviceRate> {
        self.rates.first().copied()
    }

    /// The runs that are not done.
    fn todo<'p>(&self, plan: &'p Plan) -> Vec<&'p PlannedRun> {
        let runs = plan.runs.iter();
        runs.filter(|run| !self.done.contains(&run.id)).collect()
    }

    fn reason(&self, run: &PlannedRun) -> String {
        if self.done.contains(&run.id) {
            return "done: its outcome is there".to_owned();
        }
        if self.again.contains(&run.id) {
            return "again: `lions gc` deleted what is needed of it".to_owned();
        }
        let waits = run.parents.iter().any(|parent| !self.done.contains(parent));
        match self.explained.get(&run.id) {
            Some((near, changes)) if !changes.is_empty() => {
                let shown: Vec<_> = changes.iter().take(3).map(show_change).collect();
                let more = changes.len().saturating_sub(3);
                let rest = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                format!("new: nearest is {near}, {}{rest}", shown.join(", "))
            }
            _ if waits => "new: after its inputs".to_owned(),
            _ => "new: no run has this recipe and these inputs".to_owned(),
        }
    }

    fn to_json(&self, sweep: &Sweep, plan: &Plan, power: &[String]) -> Value {
        let runs = plan.runs.iter().map(|run| {
            json!({
                "id": run.id.0, "stage": run.kind.name(), "done": self.done.contains(&run.id),
                "reason": self.reason(run), "about": self.about.get(&run.id),
                "parents": run.parents.iter().map(|id| &id.0).collect::<Vec<_>>(),
                "trials": run.trials, "tokens": run.estimate.tokens, "flops": run.estimate.flops,
                "peak_memory_bytes": run.estimate.peak_memory_bytes,
                "weights_bytes": run.estimate.weights_bytes,
                "judge_requests": run.estimate.judge_requests, "judge_tokens": run.estimate.judge_tokens,
                "card_memory_bytes": run.estimate.card_memory_bytes,
                "least_card_memory_bytes": run.estimate.least_card_memory_bytes,
                "gpu_hours": self.rate().map(|rate| hours_of(rate, &[run])),
            })
        });
        let trials = plan.trials.iter().map(|trial| {
            json!({
                "index": trial.index, "label": trial.label, "seed": trial.seed,
                "assignments": trial.assignments,
                "runs": trial.runs.iter().map(|id| &id.0).collect::<Vec<_>>(), "eval": trial.eval.0,
            })
        });
        let missing = plan.missing.iter().map(|input| {
            json!({"what": input.what, "path": input.path, "from": origin(sweep, &input.path)})
        });
        let (assumed, unknown) = assumed(sweep, plan);
        json!({
            "sweep": sweep.name, "question": sweep.question,
            "missing": missing.collect::<Vec<_>>(), "assumed": assumed, "not_counted": unknown,
            "device": self.rate().map(|rate| device_json(rate, &self.todo(plan))),
            "devices": self.rates.iter().map(|&rate| device_json(rate, &self.todo(plan))).collect::<Vec<_>>(),
            "power": power,
            "runs": runs.collect::<Vec<_>>(), "trials": trials.collect::<Vec<_>>(),
        })
    }
}

fn print(ui: &Ui, sweep: &Sweep, plan: &Plan, view: &View, args: &PlanArgs) {
    ui.text(&format!(
        "{}  {}",
        ui.tone(Tone::Strong, &sweep.name),
        sweep.question
    ));
    let asked: usize = plan.trials.iter().map(|trial| trial.runs.len()).sum();
    let (runs, done) = (plan.runs.len(), view.done.len());
    let trials = plan.trials.len();
    ui.text(&format!(
        "{} {} {} ({} if nothing were shared): {} done, {} to do",
        counted(trials, "trial"),
        if trials == 1 { "needs" } else { "need" },
        counted(runs, "run"),
        asked,
        done,
        runs - done,
    ));
    missing_inputs(ui, sweep, plan);
    ui.out("");
    let stages = stage_table(ui, plan, view);
    ui.table(&stages, &vec![Whole; stages[0].len()]);
    let lines = |&rate: &DeviceRate| device_lines(rate, &view.todo(plan));
    let device = view.rates.iter().flat_map(lines);
    let calibrated = uncalibrated_line(&view.rates, &view.todo(plan));
    let assumptions = assumption_lines(sweep, plan);
    let asked = judge_line(&view.todo(plan));
    let weights = weights_line(&view.todo(plan));
    let told = device.chain(calibrated).chain(asked).chain(weights);
    for line in told.chain(assumptions) {
        ui.text(&line);
    }
    ui.out("");
    let listed = if args.all { runs } else { runs.min(LISTED) };
    let columns = [
        ("run", Whole),
        ("stage", Whole),
        ("trials", Whole),
        ("what differs", Cut),
        ("why", Wrap),
    ];
    let rows = plan.runs.iter().take(listed);
    ui.headed_table(columns, rows.map(|run| run_row(ui, run, view)));
    if listed < runs {
        ui.out(&format!(
            "… and {} (`--all` lists them)",
            counted(runs - listed, "run")
        ));
    }
}

/// What judges of chat benchmarks are asked in runs that are to be done.
fn judge_line(todo: &[&PlannedRun]) -> Option<String> {
    let sum = |of: fn(&RunCost) -> u64| todo.iter().map(|run| of(&run.estimate)).sum::<u64>();
    let (requests, tokens) = (
        sum(|cost| cost.judge_requests),
        sum(|cost| cost.judge_tokens),
    );
    let judges: BTreeSet<String> = todo.iter().flat_map(|run| run.judges()).collect();
    let names: Vec<String> = judges.iter().map(|judge| format!("`{judge}`")).collect();
    (requests > 0).then(|| {
        format!(
            "{} or more to the judge {}, which writes at most {} tokens for them",
            counted(requests as usize, "request"),
            names.join(", "),
            si(tokens as f64)
        )
    })
}

/// What runs that are to be done leave on the disk.
fn weights_line(todo: &[&PlannedRun]) -> Option<String> {
    let all: u64 = todo.iter().map(|run| run.estimate.weights_bytes).sum();
    (all > 0).then(|| {
        format!(
            "{} of weights to write; `keep` in the sweep file says what `lions gc` leaves of them",
            bytes(all as f64)
        )
    })
}

/// What is not there, and where to get it.
fn missing_inputs(ui: &Ui, sweep: &Sweep, plan: &Plan) {
    for input in &plan.missing {
        let from = origin(sweep, &input.path).map(|from| format!(" ({from})"));
        ui.warn(&format!(
            "{} `{}` is not there{}",
            input.what,
            input.path,
            from.unwrap_or_default()
        ));
    }
    if !plan.missing.is_empty() {
        ui.warn("the plan stands, and `lions run` would refuse it");
    }
}

/// Where the base file says that an input comes from.
fn origin<'s>(sweep: &'s Sweep, path: &str) -> Option<&'s str> {
    sweep.inputs.get(path)?.from.as_deref()
}

/// On what the numbers rest where inputs are missing.
fn assumption_lines(sweep: &Sweep, plan: &Plan) -> Vec<String> {
    let (assumed, unknown) = assumed(sweep, plan);
    let mut lines = Vec::new();
    if !assumed.is_empty() {
        lines.push(format!(
            "the estimate rests on assumptions: {} not there, with the sizes that the base file's \
             `[inputs]` gives",
            counted(assumed.len(), "input")
        ));
    }
    if !unknown.is_empty() {
        lines.push(format!(
            "not counted, as their size is not known: {}",
            unknown.join(", ")
        ));
    }
    lines
}

fn run_row(ui: &Ui, run: &PlannedRun, view: &View) -> Vec<String> {
    let done = view.done.contains(&run.id);
    let reason = ui.tone(
        if done { Tone::Good } else { Tone::Accent },
        &view.reason(run),
    );
    let about = view.about.get(&run.id).cloned().unwrap_or_default();
    let shared = if run.trials.len() > 1 {
        format!("shared by {}", run.trials.len())
    } else {
        "1".to_owned()
    };
    vec![
        run.id.to_string(),
        run.kind.name().to_owned(),
        shared,
        about,
        reason,
    ]
}

fn stage_table(ui: &Ui, plan: &Plan, view: &View) -> Vec<Vec<String>> {
    let head = [
        "stage",
        "runs",
        "done",
        "to do",
        "used",
        "tokens to do",
        "FLOPs to do",
        "peak memory",
        "on a GPU",
        "GPU-hours",
    ];
    let head = &head[..head.len() - if view.rates.is_empty() { 2 } else { 0 }];
    let mut rows = vec![
        head.iter()
            .copied()
            .map(|h| ui.tone(Tone::Dim, h))
            .collect(),
    ];
    for &kind in StageKind::ALL {
        let all: Vec<&PlannedRun> = plan.runs.iter().filter(|run| run.kind == kind).collect();
        if all.is_empty() {
            continue;
        }
        let todo: Vec<&PlannedRun> = all
            .iter()
            .copied()
            .filter(|run| !view.done.contains(&run.id))
            .collect();
        let tokens: f64 = todo.iter().map(|run| run.estimate.tokens as f64).sum();
        let flops: f64 = todo.iter().map(|run| run.estimate.flops).sum();
        let most = |of: fn(&PlannedRun) -> u64| todo.iter().map(|run| of(run)).max().unwrap_or(0);
        let peak = most(|run| run.estimate.peak_memory_bytes);
        let on_card = most(|run| run.estimate.card_memory_bytes);
        let mut row = vec![
            kind.name().to_owned(),
            all.len().to_string(),
            (all.len() - todo.len()).to_string(),
            todo.len().to_string(),
            counted(
                all.iter().map(|run| run.trials.len()).sum::<usize>(),
                "time",
            ),
            si(tokens),
            si(flops),
            bytes(peak as f64),
        ];
        if let Some(rate) = view.rate() {
            row.extend([bytes(on_card as f64), hours(hours_of(rate, &todo))]);
        }
        rows.push(row);
    }
    rows
}

/// For each run the fields in which the runs of its stage differ: `beta=0.1 seed=2`.
fn describe(plan: &Plan) -> BTreeMap<RunId, String> {
    let mut about = BTreeMap::new();
    // An evaluation is best told by the configuration that it scores.
    for trial in &plan.trials {
        about
            .entry(trial.eval.clone())
            .or_insert_with(|| format!("{} seed={}", trial.label, trial.seed));
    }
    let kinds = StageKind::ALL.iter().copied();
    for kind in kinds.filter(|kind| *kind != StageKind::Eval) {
        let runs = plan.runs.iter().filter(|run| run.kind == kind);
        let leaves: Vec<_> = runs
            .map(|run| (&run.id, leaves_of(&run.identity)))
            .collect();
        let varied = varied_keys(leaves.iter().map(|(_, map)| map));
        for (id, map) in &leaves {
            let differs = map.iter().filter(|(key, _)| varied.contains(key.as_str()));
            let parts: Vec<_> = differs
                .map(|(key, value)| format!("{}={value}", last_part(key)))
                .collect();
            about.insert((*id).clone(), parts.join(" "));
        }
    }
    about
}

/// The keys that have not the same value in every document; absence is a value. One pass over the
/// documents: a plan may have ten thousand.
fn varied_keys<'a>(
    documents: impl ExactSizeIterator<Item = &'a BTreeMap<String, String>>,
) -> BTreeSet<&'a str> {
    let all = documents.len();
    // A key's first value, how many documents have it, and whether another was seen.
    let mut seen: BTreeMap<&str, (&str, usize, bool)> = BTreeMap::new();
    for (key, value) in documents.flatten() {
        let (first, count, differs) = seen.entry(key).or_insert((value, 0, false));
        *count += 1;
        *differs |= *first != value;
    }
    seen.into_iter()
        .filter(|(_, (_, count, differs))| *differs || *count < all)
        .map(|(key, _)| key)
        .collect()
}

/// The word a person would use for a dotted path.
fn last_part(key: &str) -> &str {
    let short = key.rsplit('.').next().unwrap_or(key);
    if short.chars().all(|c| c.is_ascii_digit()) || ["id", "digest", "artifact"].contains(&short) {
        key.rsplit('.').nth(1).unwrap_or(key)
    } else {
        short
    }
}

/// The leaves of a JSON document by dotted path; long hex names are shortened.
fn leaves_of(identity: &str) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
        let below = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, value)| walk(&below(key), value, found)),
            Value::Array(list) if list.iter().any(|v| v.is_object() || v.is_array()) => {
                let short = digest_bytes(value.to_string().as_bytes()).short()[..6].to_owned();
                found.insert(path.to_owned(), format!("#{short}"));
            }
            Value::String(text) if text.len() == 64 => {
                found.insert(path.to_owned(), text.chars().take(6).collect());
            }
            Value::String(text) => {
                found.insert(path.to_owned(), text.clone());
            }
            other => {
                found.insert(path.to_owned(), other.to_string());
            }
        }
    }
    let mut found = BTreeMap::new();
    if let Ok(value) = serde_json::from_str(identity) {
        walk("", &value, &mut found);
    }
    found
}

/// `beta 0.1 → 0.5`.
fn show_change(change: &FieldChange) -> String {
    let shown = |value: &Option<String>| value.as_deref().map_or("absent".to_owned(), shorten);
    format!(
        "{} {} → {}",
        change.field,
        shown(&change.old),
        shown(&change.new)
    )
}

/// Digests and run ids are shown by their first digits.
fn shorten(value: &str) -> String {
    let hex = value.trim_matches('"');
    if hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()) {
        return hex.chars().take(6).collect();
    }
    value.to_owned()
}

/// Identities of every run folder that can be read.
fn known_identities(root: &Path) -> Vec<(RunId, String)> {
    let folders = run_folders(root).unwrap_or_default();
    let texts = folders
        .iter()
        .filter_map(|folder| std::fs::read_to_string(folder.join("identity.json")).ok());
    texts
        .map(|text| (RunId(digest_bytes(text.as_bytes()).0), text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_varies_if_a_document_has_another_value_or_none() {
        let documents = [
            [("same", "1"), ("other", "1"), ("some", "1")].as_slice(),
            &[("same", "1"), ("other", "2"), ("some", "1")],
            &[("same", "1"), ("other", "1")],
        ];
        let documents = documents.map(|fields| {
            let fields = fields.iter();
            fields
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        });
        assert_eq!(varied_keys(documents.iter()), ["other", "some"].into());
        assert_eq!(varied_keys(documents[..1].iter()), BTreeSet::new());
    }
}
