//! What a filter of training data would use.

use crate::base::{chain, counted};
use crate::config::select::{GapSource, SelectMethod};
use crate::config::spec::{DataSource, PairLimits, SelectConfig, SelectOf, TrialConfig};
use crate::config::suggest;
use crate::data::{TextFormat, Wanted};
use crate::preflight::folders::{Folder, Role};
use crate::preflight::inputs::Inputs;
use crate::preflight::problem::Asker;
use crate::preflight::rows::{extras, named};
use crate::preflight::stages::{Files, Stage};
use crate::select::{check_ids, choosable, score_at};
use serde_json::Value;

const METHOD: &str = "select.recipe.method";

/// The models and files of a filter, and whether the rows are such as it needs.
pub(super) fn look_at_selection(
    inputs: &mut Inputs,
    stage: &Stage<'_>,
    config: &TrialConfig,
    select: &SelectConfig,
) {
    let dpo = config.dpo.as_ref().map(|dpo| &dpo.recipe);
    let rows = match select.of {
        SelectOf::Sft => config.sft.as_ref().map(|sft| &sft.recipe.rows),
        SelectOf::Dpo => dpo.map(|dpo| &dpo.rows),
    };
    let Some(rows) = rows else { return };
    let of = match select.of {
        SelectOf::Sft => ("sft.recipe", Wanted::Chats),
        SelectOf::Dpo => ("dpo.recipe", Wanted::Pairs),
    };
    let files = stage.candidates(inputs, rows, of);
    let keep = select.recipe.keep.get();
    let mut at_most = vec![files.used.map(|used| (used, files.only(used, "row")))];
    // Where rows come several times there are more to choose from than stand in the files.
    let repeats = |source: &DataSource| source.fraction.is_some_and(|part| part.get() > 1.0);
    if files.all && !rows.data.iter().any(repeats) {
        at_most.push(by_columns(&select.recipe.method, &files));
        let dpo = dpo.filter(|_| select.of == SelectOf::Dpo);
        at_most.push(dpo.and_then(|dpo| within_limits(inputs, stage, &files, &dpo.pairs.limits)));
    }
    // What is short already is short for whatever follows.
    let short = at_most.into_iter().flatten().find(|(most, _)| keep > *most);
    if let Some((most, only)) = short {
        let message = format!("`keep` is {keep}, but {only}");
        let problem = stage.problem("select.recipe.keep", message);
        inputs.add(problem.help(format!("write {most} or less")));
    }
    // Rows that are left out beforehand need no score.
    let sure = !rows.dedup && rows.decontaminate.is_none() && !rows.is_sampled();
    for (field, column) in columns(&select.recipe.method) {
        look_at_column(inputs, stage, &files, (&field, column, sure));
    }
    for (field, folder, role) in models(&select.recipe.method) {
        let path = format!("{METHOD}.{field}");
        let asker = stage.asker(&path);
        if let Some(format) = inputs.folder(Folder::new(folder, role), asker) {
            let uses_all = sure;
            read_whole(inputs, &format, &files, Asker { uses_all, ..asker });
        }
    }
    match &select.recipe.method {
        SelectMethod::Less(less) => target(inputs, stage, config, (&less.data, select.of)),
        SelectMethod::Ids(ids) if inputs.root().join(&ids.ids_path).is_file() => {
            let named = || files.read.iter().flat_map(|(file, _)| named(file));
            let rows = files.all.then(named);
            if let Err(error) = check_ids(inputs.root(), &ids.ids_path, keep, rows) {
                let path = format!("{METHOD}.ids.ids-path");
                let help = "write one id a line, each of a row of the data, or CSV with a column `id`; or \
                            lower `keep`";
                inputs.add(stage.problem(path, chain(&error)).help(help));
            }
        }
        _ => {}
    }
}

/// How many rows a method that reads columns could choose, if it does; and what that says.
fn by_columns(method: &SelectMethod, files: &Files) -> Option<(usize, String)> {
    let seen: usize = files.read.iter().map(|(file, _)| file.len()).sum();
    let rows = files.read.iter().flat_map(|(file, _)| extras(file));
    let most = choosable(method, rows.map(|(extra, _)| extra))?;
    let only = format!("its method can choose {most} of {}", counted(seen, "row"));
    Some((most, only))
}

/// How many pairs are within the limits, where all were looked at and some are; and what that says.
fn within_limits(
    inputs: &mut Inputs,
    stage: &Stage<'_>,
    files: &Files,
    limits: &PairLimits,
) -> Option<(usize, String)> {
    let pairs = stage.fitting(inputs, files, limits, "dpo.recipe.limits");
    let only = format!(
        "{} of {} are within the limits",
        pairs.left,
        counted(pairs.seen, "pair")
    );
    (pairs.all && pairs.left > 0).then_some((pairs.left, only))
}

/// The conversations that a model of its own reads.
fn read_whole(inputs: &mut Inputs, format: &TextFormat, files: &Files, asker: Asker<'_>) {
    for (rows, _) in &files.read {
        inputs.whole(format, rows, asker);
    }
}

/// The models of a method: field, folder and role of each.
fn models(method: &SelectMethod) -> Vec<(&'static str, &str, Role)> {
    let role = |field: &str| match field {
        "deita.embedding.model-path" => Role::Chat,
        "reward-gap.model-path" => Role::Reward,
        _ => Role::Scorer,
    };
    let paths = method.model_paths().into_iter();
    paths
        .map(|(field, path)| (field, path, role(field)))
        .collect()
}

/// The target set of LESS, written as the rows to choose from.
fn target(
    inputs: &mut Inputs,
    stage: &Stage<'_>,
    config: &TrialConfig,
    (data, of): (&[DataSource], SelectOf),
) {
    let path = format!("{METHOD}.less.data");
    match (of, &config.sft, &config.dpo) {
        (SelectOf::Sft, Some(sft), _) => {
            let limit = sft.recipe.layout.max_seq_len;
            let files = stage.sources(inputs, data, (&path, Wanted::Chats));
            stage.chats(inputs, &files, (&path, Some(limit)));
        }
        (SelectOf::Dpo, _, Some(dpo)) => {
            let limits = &dpo.recipe.pairs.limits;
            let files = stage.sources(inputs, data, (&path, Wanted::Pairs));
            stage.pairs(inputs, &files, limits, "dpo.recipe.limits");
        }
        _ => {}
    }
}

/// The columns of scores that a method reads, each with its field.
fn columns(method: &SelectMethod) -> Vec<(String, &str)> {
    let name = method.name();
    match method {
        SelectMethod::PreferenceStrength(strength) => match &strength.gap {
            GapSource::Column(column) => vec![(format!("{name}.gap.column"), column)],
            GapSource::Difference { chosen, rejected } => vec![
                (format!("{name}.gap.difference.chosen"), chosen),
                (format!("{name}.gap.difference.rejected"), rejected),
            ],
        },
        SelectMethod::ChosenQuality(rule) | SelectMethod::RejectedQuality(rule) => {
            vec![(format!("{name}.column"), &rule.column)]
        }
        _ => Vec::new(),
    }
}

/// Says so if a row has no number in a column.
fn look_at_column(
    inputs: &mut Inputs,
    stage: &Stage<'_>,
    files: &Files,
    (field, column, sure): (&str, &str, bool),
) {
    let mut rows = files.read.iter().flat_map(|(file, _)| extras(file));
    let Some((extra, at)) = rows.find(|(extra, _)| score_at(extra, column).is_none()) else {
        return;
    };
    let message = format!("the row at {at} has no number at `{column}`");
    let known = numbers(extra);
    let none = || "it holds no number beside its texts; take rows with scores".to_owned();
    let help = suggest(column, known.iter().map(String::as_str)).unwrap_or_else(none);
    let problem = stage.problem(format!("{METHOD}.{field}"), message);
    inputs.add(problem.warning_unless(sure).help(help));
}

/// Most paths of numbers that are looked at.
const NUMBERS: usize = 64;

/// The paths at which there are numbers.
fn numbers(value: &Value) -> Vec<String> {
    let mut open = vec![(String::new(), value)];
    let mut found = Vec::new();
    while let Some((path, value)) = open.pop() {
        let below = |part: &str| match path.as_str() {
            "" => part.to_owned(),
            path => format!("{path}.{part}"),
        };
        match value {
            Value::Number(_) if found.len() < NUMBERS => found.push(path),
            Value::Object(map) => {
                open.extend(map.iter().rev().map(|(key, value)| (below(key), value)));
            }
            Value::Array(items) => {
                let items = items.iter().enumerate().rev();
                open.extend(items.map(|(at, value)| (below(&at.to_string()), value)));
            }
            _ => {}
        }
    }
    found
}
