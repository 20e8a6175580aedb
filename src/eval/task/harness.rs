//! Results in the files of lm-evaluation-harness 0.4: `results_….json` and `samples_<task>_….jsonl`.

use super::aggregate::ScoredRow;
use super::document::{Document, Target};
use super::measure::PreparedTask;
use super::score::{Answer, Likelihood};
use crate::config::spec::{FewShotRecipe, TaskRecipe, TaskRequest};
use crate::eval::record::SetResult;
use crate::metrics::metric_spec;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Writes the results of several tasks; `model` is what the model is called.
pub fn harness_results(model: &str, tasks: &[(&PreparedTask<'_>, &SetResult)]) -> Value {
    let mut all: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (task, result) in tasks {
        let own = Names::of(task);
        let recipe = task.recipe;
        let parts = recipe.parts.as_ref();
        for (key, value) in &result.metrics {
            let suffix = metric_spec(key).suffix;
            let place = key
                .strip_suffix(suffix)
                .unwrap_or(key)
                .trim_end_matches('/');
            let middle = place
                .strip_prefix(task.name)
                .unwrap_or("")
                .trim_start_matches('/');
            let (name, filter) = match parts {
                Some(_) => (own.part(middle), "none"),
                None if middle.is_empty() => (own.whole.clone(), "none"),
                None => (own.whole.clone(), middle),
            };
            let metric = harness_metric(suffix);
            let rows = own.rows(task, &name);
            let entry = all.entry("results").or_default();
            let entry = entry
                .entry(name.clone())
                .or_insert_with(|| json!({ "alias": name, "sample_len": rows }));
            entry[format!("{metric},{filter}")] = json!(value.value);
            let stderr = value.stderr.map_or(json!("N/A"), |error| json!(error));
            entry[format!("{metric}_stderr,{filter}")] = stderr;
            let better = all.entry("higher_is_better").or_default();
            better.entry(name).or_insert_with(|| json!({}))[metric] = json!(true);
        }
        for name in own.leaves(task) {
            let shots = recipe.few_shot.as_ref().map_or(0, |few| few.count);
            let rows = own.rows(task, &name);
            let mut put = |table: &'static str, value: Value| {
                all.entry(table).or_default().insert(name.clone(), value);
            };
            put("n-shot", json!(shots));
            put("n-samples", json!({ "original": rows, "effective": rows }));
            put("configs", task_config(&name, recipe));
            let version = recipe.harness.as_ref().and_then(|h| h.version);
            put("versions", json!(version));
        }
        if let Some(parts) = parts {
            let mut groups = Map::new();
            for (group, names) in &parts.groups {
                let names: Vec<String> = names.iter().map(|name| own.part(name)).collect();
                groups.insert(own.part(group), json!(names));
            }
            let names: Vec<&String> = groups.keys().collect();
            let whole = json!(names);
            groups.insert(own.whole.clone(), whole);
            let results = all.get("results").cloned().unwrap_or_default();
            for name in groups.keys() {
                if let Some(result) = results.get(name) {
                    all.entry("groups")
                        .or_default()
                        .insert(name.clone(), result.clone());
                }
            }
            all.entry("group_subtasks").or_default().extend(groups);
        }
    }
    let mut file = json!(all);
    file["config"] = json!({
        "model": "lions", "model_args": model, "batch_size": 1, "random_seed": 0, "numpy_seed": 1234,
        "torch_seed": 1234, "fewshot_seed": 1234, "gen_kwargs": null, "limit": null,
    });
    file["lions_version"] = json!(env!("CARGO_PKG_VERSION"));
    file
}

/// The lines of the samples of a task, a row and filter each, as `EvaluationTracker.save_results_samples` writes them: its
/// `sanitize_list` makes texts of answers. Its `doc_hash` and the like are left out, since they are of rows as Python writes them.
pub fn harness_samples(
    task: &PreparedTask<'_>,
    answers: &[Answer],
    scored: &[ScoredRow],
) -> Vec<Value> {
    let mut lines = Vec::new();
    for ((document, answer), row) in task.documents.iter().zip(answers).zip(scored) {
        // Scorers without a name share a line, as the metrics of one filter do.
        let mut filters: Vec<&Option<String>> = row.scores.iter().map(|(name, _)| name).collect();
        filters.dedup();
        for filter in filters {
            let own = row
                .scores
                .iter()
                .filter(|(name, _)| name == filter)
                .map(|(_, score)| score);
            let mut metrics = Map::new();
            let mut extracted = None;
            for score in own {
                extracted = extracted.or_else(|| score.extracted.clone());
                metrics.extend(
                    score
                        .values
                        .iter()
                        .map(|(k, v)| (harness_metric(k).to_owned(), json!(v))),
                );
                let keys = score.items.first().into_iter().flat_map(BTreeMap::keys);
                metrics.extend(keys.map(|key| {
                    let each: Vec<bool> = score.items.iter().map(|item| item[key] > 0.5).collect();
                    ((*key).to_owned(), json!(each))
                }));
            }
            let (responses, filtered) = match answer {
                Answer::Choices(all) => {
                    let each: Vec<Value> = all.iter().map(said_of).collect();
                    let nested: Vec<Value> = each.iter().map(|one| json!([one])).collect();
                    (json!(nested), json!(each))
                }
                Answer::Text { text, .. } => {
                    let part = extracted.unwrap_or_else(|| text.clone());
                    (json!([[text]]), json!([part]))
                }
            };
            let arguments = document.questions.iter().enumerate().map(|(at, question)| {
                let second = match &task.recipe.request {
                    TaskRequest::Choices(_) => json!(question.continuation),
                    TaskRequest::Generate(request) => json!({
                        "until": request.until, "do_sample": false, "temperature": 0.0, "max_gen_toks": request.max_new_tokens,
                    }),
                };
                let pair = json!({ "arg_0": question.context, "arg_1": second });
                (format!("gen_args_{at}"), pair)
            });
            let mut line = json!({
                "doc_id": document.place,
                "doc": document.row.columns,
                "target": target(document),
                "arguments": arguments.collect::<Map<_, _>>(),
                "resps": responses,
                "filtered_resps": filtered,
                "filter": filter.as_deref().unwrap_or("none"),
                "metrics": metrics.keys().collect::<Vec<_>>(),
            });
            if let Some(line) = line.as_object_mut() {
                line.extend(metrics);
            }
            lines.push(line);
        }
    }
    lines
}

/// A likelihood as Python's `str` gives its parts.
fn said_of(one: &Likelihood) -> Value {
    let greedy = if one.greedy { "True" } else { "False" };
    json!([one.logp.to_string(), greedy])
}

/// What the harness says is right: a number of a choice, or the text that every choice is followed by; of a row with several
/// right choices 0, whichever they are.
fn target(document: &Document) -> String {
    match &document.target {
        Target::Choice(_) if document.follows => document.choices[0].clone(),
        Target::Choice(right) => right.to_string(),
        Target::Text(text) => text.clone(),
        Target::Choices(_) | Target::None => "0".to_owned(),
    }
}

/// The harness's name of a metric.
fn harness_metric(suffix: &str) -> &str {
    match suffix {
        "mc2" => "acc",
        suffix => suffix,
    }
}

/// What the harness says of a task that it was told.
fn task_config(name: &str, recipe: &TaskRecipe) -> Value {
    let mut config = json!({
        "task": name,
        "doc_to_text": recipe.prompt,
        "doc_to_target": recipe.target,
        "description": recipe.description.as_deref().unwrap_or(""),
        "target_delimiter": recipe.delimiter,
        "fewshot_delimiter": "\n\n",
        "num_fewshot": recipe.few_shot.as_ref().map_or(0, |few| few.count),
        "output_type": "multiple_choice",
    });
    if let TaskRequest::Generate(request) = &recipe.request {
        config["output_type"] = json!("generate_until");
        config["generation_kwargs"] = json!({
            "until": request.until, "do_sample": false, "max_gen_toks": request.max_new_tokens,
        });
    }
    if let Some(FewShotRecipe { delimiter, .. }) = &recipe.few_shot {
        config["fewshot_delimiter"] = json!(delimiter);
    }
    config
}

/// The names of a task and its parts in the files.
struct Names {
    whole: String,
}

impl Names {
    fn of(task: &PreparedTask<'_>) -> Self {
        let harness = task.recipe.harness.as_ref();
        Self {
            whole: harness
                .map_or(task.name, |harness| harness.name.as_str())
                .to_owned(),
        }
    }

    fn part(&self, part: &str) -> String {
        match part {
            "" => self.whole.clone(),
            part => format!("{}_{part}", self.whole),
        }
    }

    /// The task, or its parts that have rows.
    fn leaves(&self, task: &PreparedTask<'_>) -> Vec<String> {
        let mut parts: Vec<String> = task
            .documents
            .iter()
            .map(|document| self.part(document.part.as_deref().unwrap_or("")))
            .collect();
        parts.sort();
        parts.dedup();
        parts
    }

    /// The rows of a task, group or part.
    fn rows(&self, task: &PreparedTask<'_>, name: &str) -> usize {
        let parts = task.recipe.parts.as_ref();
        let of_group = |part: &str| {
            let groups = parts.into_iter().flat_map(|parts| &parts.groups);
            groups
                .filter(|(_, names)| names.iter().any(|own| own == part))
                .any(|(group, _)| self.part(group) == name)
        };
        let own = |part: &str| self.part(part) == name || of_group(part);
        let rows = task.documents.iter();
        rows.filter(|document| name == self.whole || document.part.as_deref().is_some_and(own))
            .count()
    }
}
