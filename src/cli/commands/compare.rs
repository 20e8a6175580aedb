//! `lions compare`.

use crate::cli::database::results_to;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::pick::TrialFilter;
use crate::cli::project::Project;
use crate::cli::sweep_file::{SweepWord, name_typed};
use crate::cli::ui::{Ui, ours};
use crate::config::sweep::TableSpec;
use crate::config::{nearest, published, suggest};
use crate::metrics::{FAMILIES, metric_spec};
use crate::plan::RunId;
use crate::report::{
    Depth, Grid, HarnessResults, ReportError, SweepResults, SweepTable, claims, compare,
    default_table, default_table_of, grid_latex, grid_markdown, grid_text, harness_sweep,
    join_results, null_columns, page_grid, published_grid, read_harness_results, some_keys,
    table_csv, table_grid, table_json, with_rows_of,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Compare the configurations of a sweep in tables
///
/// One row a configuration: the fields that differ, then mean and 95 % interval for new seeds and new rows,
/// and the difference to the baseline, paired by seed and by row: better, worse, equivalent or unresolved. `--beside` adds
/// rows for other models, from files that lm-evaluation-harness wrote of the same tasks and rows.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    sweep: SweepWord,
    /// Further sweeps, whose configurations stand in one table with those of the first
    #[arg(value_name = "SWEEP", conflicts_with_all = ["table", "null"])]
    others: Vec<String>,
    /// Results of lm-evaluation-harness or `lions eval`, a file or a folder, as a row of the table; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["table", "null"])]
    beside: Vec<PathBuf>,
    #[command(flatten)]
    picked: TrialFilter,
    /// Form of the tables [default: text]
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// Only this table of the sweep file
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Compare these metrics over all trials instead of the sweep file's tables
    #[arg(long, value_delimiter = ',', value_name = "KEYS")]
    metrics: Vec<String>,
    /// Instead, compare halves of each configuration's seeds, which differ by nothing: how often is the test
    /// of the tables wrong on these rows?
    #[arg(long, conflicts_with = "format")]
    null: bool,
}

/// Form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
enum Form {
    Text,
    Markdown,
    Csv,
    Latex,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &CompareArgs) -> Result<u8, CommandError> {
    if let Some(form) = args.format.filter(|_| ui.json) {
        let form: &str = form.into();
        let message = format!("`--json` and `--format {form}` ask for two forms");
        return Err(CommandError::user(message).hint("leave one of them out"));
    }
    let project = Project::find(global.root.as_deref(), args.sweep.near())?;
    let results = compared(ui, &project, args)?;
    let specs = specs(&results, args)?;
    if args.null {
        return print_null(ui, &results, &specs);
    }
    let tables = specs
        .iter()
        .map(|spec| Ok((compare(&results, spec)?, spec)));
    let tables: Result<Vec<_>, ReportError> = tables.collect();
    let mut tables = tables.map_err(CommandError::user)?;
    if !args.picked.is_empty() {
        // A table of other trials has none of those that were picked.
        tables.retain(|(table, _)| !table.rows.is_empty());
        if tables.is_empty() {
            ui.say("no table of the sweep file has these trials; `--metrics KEYS` compares them in one");
        }
    }
    if ui.json {
        let values: Vec<_> = tables.iter().map(|(table, _)| table_json(table)).collect();
        ui.print_json(&values)?;
        return Ok(DONE);
    }
    let form = args.format.unwrap_or(Form::Text);
    // What is claimed is claimed of all trials.
    let whole = args.table.is_none() && args.metrics.is_empty() && args.picked.is_empty();
    if form == Form::Text && whole {
        print_claims(ui, &results)?;
    }
    for (table, spec) in &tables {
        ui.raw(&shown(ui, table, form));
        ui.out("");
        print_published(ui, spec, form);
    }
    Ok(DONE)
}

/// A sentence on each claim of the sweep file.
fn print_claims(ui: &Ui, results: &SweepResults) -> Result<(), CommandError> {
    let claims = claims(results).map_err(CommandError::user)?;
    for claim in &claims {
        ui.text(&claim.words().replace(['*', '`'], ""));
    }
    if !claims.is_empty() {
        ui.out("");
    }
    Ok(())
}

/// False alarms of the tables' test where there is nothing to find.
fn print_null(ui: &Ui, results: &SweepResults, specs: &[TableSpec]) -> Result<u8, CommandError> {
    let columns = specs.iter().map(|spec| null_columns(results, spec));
    let columns = columns
        .collect::<Result<Vec<_>, _>>()
        .map_err(CommandError::user)?;
    let columns: Vec<_> = columns.into_iter().flatten().collect();
    if ui.json {
        ui.print_json(&columns)?;
        return Ok(DONE);
    }
    for column in &columns {
        ui.text(&format!("{}, {}", column.table, column.words()));
    }
    Ok(DONE)
}

/// The published numbers that a table names, in a table of their own; none as CSV, which holds one
/// table.
fn print_published(ui: &Ui, spec: &TableSpec, form: Form) {
    let entry = spec.published.as_deref().and_then(published);
    let Some(grid) = entry.and_then(published_grid) else {
        return;
    };
    match form {
        Form::Text => ui.raw(&text(ui, &grid)),
        Form::Markdown => ui.raw(&format!("### {}\n\n{}", grid.title, grid_markdown(&grid))),
        Form::Latex => ui.raw(&grid_latex(
            &grid,
            spec.published.as_deref().unwrap_or_default(),
        )),
        Form::Csv => return,
    }
    ui.out("");
}

/// For a terminal, in its colours.
fn text(ui: &Ui, grid: &Grid) -> String {
    ours(&grid_text(grid, ui.colors_out(), ui.width_out()))
}

fn shown(ui: &Ui, table: &SweepTable, form: Form) -> String {
    let grid = || table_grid(table);
    match form {
        Form::Text => text(ui, &grid()),
        Form::Markdown => format!("### {}\n\n{}", table.title, grid_markdown(&grid())),
        Form::Csv => table_csv(table),
        Form::Latex => grid_latex(&page_grid(table), &table.name),
    }
}

/// The results of the sweep, or of several as one.
fn compared(ui: &Ui, project: &Project, args: &CompareArgs) -> Result<SweepResults, CommandError> {
    let first = results_to(ui, project, &args.sweep.name()?, Depth::Scores)?;
    let mut sweeps: Vec<SweepResults> = Vec::new();
    for other in &args.others {
        let name = args.sweep.changes.overrides().name(&name_typed(other)?);
        let mut known = std::iter::once(&first).chain(&sweeps);
        if known.any(|known| known.sweep.name == name) {
            return Err(CommandError::user(format!("`{name}` is named twice")));
        }
        sweeps.push(results_to(ui, project, &name, Depth::Scores)?);
    }
    let mut files: Vec<HarnessResults> = Vec::new();
    for path in &args.beside {
        let mut file = read_harness_results(path).map_err(CommandError::user)?;
        let own = file.name.clone();
        // Two files may be of one model.
        let taken = |name: &str| {
            let sweeps = std::iter::once(&first).chain(&sweeps);
            sweeps.map(|s| &s.sweep.name).any(|other| other == name)
        };
        let mut number = 2;
        while taken(&file.name) {
            file.name = format!("{own} ({number})");
            number += 1;
        }
        let seed = first.trials.first().map_or(0, |trial| trial.seed);
        sweeps.push(harness_sweep(&file, seed));
        files.push(file);
    }
    let sole = sweeps.is_empty();
    let mut joined = join_results(first, sweeps);
    if !sole && !files.is_empty() {
        check_shared(&joined, &files)?;
        joined = with_rows_of(joined, &project.root, files);
    }
    args.picked.keep_results(&mut joined)?;
    Ok(joined)
}

/// Refuses a file that measures nothing that the sweep does.
fn check_shared(joined: &SweepResults, files: &[HarnessResults]) -> Result<(), CommandError> {
    let stand_ins: BTreeSet<&RunId> = files.iter().map(|file| &file.run).collect();
    let evals = joined.trials.iter().map(|trial| &trial.eval);
    let evals = evals.filter(|eval| !stand_ins.contains(eval));
    let ours: BTreeSet<&String> = evals
        .filter_map(|eval| joined.runs.get(eval))
        .flat_map(|run| run.metrics.keys())
        .collect();
    for file in files {
        if !ours.is_empty() && !file.metrics.keys().any(|key| ours.contains(key)) {
            let name = &file.name;
            let error = format!("the results of `{name}` hold no metric that the sweep measures");
            let keys = some_keys(file);
            return Err(CommandError::user(error).hint(format!(
                "they hold {keys}; tasks that a sweep names under `eval.tasks` have the same keys"
            )));
        }
    }
    Ok(())
}

fn specs(results: &SweepResults, args: &CompareArgs) -> Result<Vec<TableSpec>, CommandError> {
    if !args.metrics.is_empty() {
        check_metrics(results, &args.metrics)?;
        return Ok(vec![TableSpec {
            title: "All configurations".to_owned(),
            metrics: args.metrics.clone(),
            ..default_table(results)
        }]);
    }
    let all = &results.sweep.report.tables;
    match &args.table {
        None if !args.others.is_empty() || !args.beside.is_empty() => {
            Ok(vec![across(results, args)])
        }
        None if all.is_empty() => Ok(vec![default_table(results)]),
        None => Ok(all.clone()),
        Some(name) => {
            let found: Vec<_> = all
                .iter()
                .filter(|table| table.name == *name)
                .cloned()
                .collect();
            if found.is_empty() {
                return Err(no_table(&results.sweep.name, name, all));
            }
            Ok(found)
        }
    }
}

/// A table over several sweeps: what all of them measure, each against the first.
fn across(results: &SweepResults, args: &CompareArgs) -> TableSpec {
    let axis = results.sweep.axes.first();
    let sweeps = axis.map(|axis| axis.values.as_slice()).unwrap_or_default();
    let name = axis.map(|axis| axis.name.clone()).unwrap_or_default();
    let shared = |key: &str| {
        sweeps.iter().all(|sweep| {
            let mut of_sweep = results.trials.iter();
            of_sweep.any(|trial| {
                trial.assignments.get(&name) == Some(sweep) && results.metric(trial, key).is_some()
            })
        })
    };
    let mut spec = default_table_of(results, &shared);
    spec.title = format!("All configurations of {}", results.sweep.name);
    // Beside one other model every configuration is compared with that.
    let against = match (args.others.len(), args.beside.len()) {
        (0, 1) => sweeps.last(),
        _ => sweeps.first(),
    };
    if let Some(against) = against {
        spec.baseline = BTreeMap::from([(name, against.clone())]);
    }
    spec
}

fn no_table(sweep: &str, name: &str, tables: &[TableSpec]) -> CommandError {
    let failure = CommandError::user(format!("sweep `{sweep}` has no table `{name}`"));
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    failure.hint(match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => {
            "its file names none; without `--table` there is one of all configurations".to_owned()
        }
        None => format!("its tables: {}", names.join(", ")),
    })
}

/// A metric that no finished evaluation has is a slip of the pen; before any is finished, one that no
/// evaluation could have.
fn check_metrics(results: &SweepResults, keys: &[String]) -> Result<(), CommandError> {
    let evals = results
        .trials
        .iter()
        .filter_map(|trial| results.runs.get(&trial.eval));
    let known: BTreeSet<&str> = evals
        .flat_map(|run| run.metrics.keys().map(String::as_str))
        .collect();
    if known.is_empty() {
        let unheard_of = keys.iter().find(|key| metric_spec(key).suffix.is_empty());
        return unheard_of.map_or(Ok(()), |key| Err(unheard_of_metric(key)));
    }
    let Some(key) = keys.iter().find(|key| !known.contains(key.as_str())) else {
        return Ok(());
    };
    let name = &results.sweep.name;
    let failure = CommandError::user(format!("no evaluation of `{name}` has a metric `{key}`"));
    Err(match suggest(key, known) {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

fn unheard_of_metric(key: &str) -> CommandError {
    let specs = FAMILIES.iter().flat_map(|family| family.specs());
    let endings: BTreeSet<&str> = specs.map(|spec| spec.suffix).collect();
    let own = key.split_once('/').map_or(key, |(_, ending)| ending);
    let failure = CommandError::user(format!("there is no metric `{key}`"));
    match suggest(own, endings) {
        Some(hint) => failure.hint(format!("behind the name of the set, {hint}")),
        None => failure,
    }
}

/// Every table of the sweep file as text, but for those without a result.
pub(crate) fn print_tables(
    ui: &Ui,
    results: &SweepResults,
    only: Option<&str>,
) -> Result<(), CommandError> {
    let args = CompareArgs {
        sweep: SweepWord::of(results.sweep.name.clone()),
        others: Vec::new(),
        beside: Vec::new(),
        picked: TrialFilter::default(),
        format: None,
        table: only.map(str::to_owned),
        metrics: Vec::new(),
        null: false,
    };
    if only.is_none() {
        print_claims(ui, results)?;
    }
    for spec in specs(results, &args)? {
        let table = compare(results, &spec).map_err(CommandError::user)?;
        let mut cells = table.rows.iter().flat_map(|row| &row.cells);
        if !cells.any(|cell| cell.estimate.is_some()) {
            continue;
        }
        ui.raw(&shown(ui, &table, Form::Text));
        ui.out("");
        print_published(ui, &spec, Form::Text);
    }
    Ok(())
}
