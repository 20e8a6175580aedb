//! Results in the files of lm-evaluation-harness 0.4: `results_….json` and `samples_<task>_….jsonl`.

use super::aggregate::ScoredRow;
use super::document::{Document, Target};
use super::measure::PreparedTask;
use super::score::{Answer, Likelihood, RowScore};
use crate::base::{Timestamp, sha256_text};
use crate::config::spec::{AddedValue, FewShotRecipe, TaskRecipe, TaskRequest};
use crate::data::python_json;
use crate::eval::record::SetResult;
use crate::metrics::metric_spec;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A task with what came of it.
#[derive(Debug)]
pub struct DoneTask<'a> {
    /// The task.
    pub task: &'a PreparedTask<'a>,
    /// What was answered, a row each.
    pub answers: &'a [Answer],
    /// Its scores, a row each.
    pub scored: &'a [ScoredRow],
    /// Its metrics.
    pub result: &'a SetResult,
    /// Rows as Python writes them, by file and number (`data::row_texts`).
    pub rows: &'a BTreeMap<(String, usize), String>,
}

/// The lines of samples by the names of tasks and parts, each of which has a file.
pub type HarnessSamples = BTreeMap<String, Vec<Value>>;

/// What results are of: the model, when, and how it was asked.
#[derive(Debug)]
pub struct HarnessHead<'a> {
    /// What the model is called.
    pub model: &'a str,
    /// Tokens that it holds.
    pub max_length: usize,
    /// When it was asked.
    pub date: Timestamp,
}

/// The results file, and the lines of the files of samples.
pub fn harness_files(head: &HarnessHead<'_>, tasks: &[DoneTask<'_>]) -> (Value, HarnessSamples) {
    let names: Vec<Names> = tasks.iter().map(|done| Names::of(done, tasks)).collect();
    let mut samples = HarnessSamples::new();
    let mut tables = Tables::default();
    for (done, names) in tasks.iter().zip(&names) {
        add_metrics(&mut tables, done, names);
        add_tasks(&mut tables, done, names);
        add_groups(&mut tables, done, names);
        samples.extend(samples_of(done, names));
    }
    let hashes = samples.iter().map(|(name, lines)| {
        let hash = |line: &Value| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            text("doc_hash") + &text("prompt_hash") + &text("target_hash")
        };
        let all: String = lines.iter().map(hash).collect();
        (name.clone(), json!(sha256_text(&all)))
    });
    tables.0.insert("task_hashes", hashes.collect());
    let mut file = json!(tables.0);
    let asked = tasks.first().map(|done| done.task.recipe);
    let chat = asked.and_then(|recipe| recipe.chat.as_ref());
    let system = match chat {
        Some(chat) => chat.system.as_ref(),
        None => asked.and_then(|recipe| recipe.system.as_ref()),
    };
    let limit = asked.and_then(|recipe| recipe.max_rows);
    file["config"] = json!({
        "model": "lions", "model_args": head.model, "batch_size": 1, "random_seed": 0, "numpy_seed": 1234,
        "torch_seed": 1234, "fewshot_seed": 1234, "gen_kwargs": null, "limit": limit,
    });
    for (key, value) in [
        ("date", json!(head.date.0 as f64 / 1000.0)),
        ("lions_version", json!(env!("CARGO_PKG_VERSION"))),
        ("max_length", json!(head.max_length)),
        ("model_source", json!("lions")),
        ("model_name", json!(head.model)),
        ("model_name_sanitized", json!(sanitized(head.model))),
        ("system_instruction", json!(system)),
        ("fewshot_as_multiturn", json!(chat.map(|chat| chat.shots))),
    ] {
        file[key] = value;
    }
    file["fewshot_as_multiturn"] = json!(file["fewshot_as_multiturn"] == "turns");
    (file, samples)
}

/// `sanitize_model_name` of the harness: what no name of a file can hold becomes two low lines.
fn sanitized(model: &str) -> String {
    let parts = model.split(['"', '<', '>', ':', '/', '|', '\\', '?', '*', '[', ']']);
    let mut out = String::new();
    for (at, part) in parts.enumerate() {
        if at > 0 && !out.ends_with("__") {
            out.push_str("__");
        }
        out.push_str(part);
    }
    out
}

/// The tables of the results file, each by name of task, part or group.
#[derive(Default)]
struct Tables(BTreeMap<&'static str, Map<String, Value>>);

impl Tables {
    fn put(&mut self, table: &'static str, name: &str, value: Value) {
        self.0
            .entry(table)
            .or_default()
            .insert(name.to_owned(), value);
    }
}

/// Values and errors of a task, its parts and groups.
fn add_metrics(tables: &mut Tables, done: &DoneTask<'_>, names: &Names) {
    let task = done.task;
    for (key, value) in &done.result.metrics {
        let suffix = metric_spec(key).suffix;
        let place = key
            .strip_suffix(suffix)
            .unwrap_or(key)
            .trim_end_matches('/');
        let middle = place
            .strip_prefix(task.name)
            .unwrap_or("")
            .trim_start_matches('/');
        let (name, filter) = match task.recipe.parts {
            Some(_) => (names.part(middle), "none"),
            None if middle.is_empty() => (names.whole.clone(), "none"),
            None => (names.whole.clone(), middle),
        };
        let metric = harness_metric(suffix);
        let rows = names.rows(task, &name);
        let entry = tables.0.entry("results").or_default();
        let alias = if middle.is_empty() || task.recipe.parts.is_none() {
            name.clone()
        } else if names.groups.contains_key(&name) {
            middle.replace('_', " ")
        } else {
            middle.to_owned()
        };
        let entry = entry
            .entry(name.clone())
            .or_insert_with(|| json!({ "name": name, "alias": alias, "sample_len": rows }));
        entry[format!("{metric},{filter}")] = json!(value.value);
        let stderr = value.stderr.map_or(json!("N/A"), |error| json!(error));
        entry[format!("{metric}_stderr,{filter}")] = stderr;
        if names.groups.contains_key(&name) {
            entry["sample_count"][format!("{metric},{filter}")] = json!(rows);
        }
        if !names.is_of_groups(&name) {
            let better = tables.0.entry("higher_is_better").or_default();
            better.entry(name).or_insert_with(|| json!({}))[metric] = json!(true);
        }
    }
}

/// How a task, or each of its parts that has rows, was asked.
fn add_tasks(tables: &mut Tables, done: &DoneTask<'_>, names: &Names) {
    let recipe = done.task.recipe;
    let shots = recipe.few_shot.as_ref().map_or(0, |few| few.count);
    let version = recipe.harness.as_ref().and_then(|h| h.version);
    for (part, name) in names.leaves(done.task) {
        let rows = names.rows(done.task, &name);
        let original = done.task.all_rows.get(&part).copied().unwrap_or(rows);
        tables.put("n-shot", &name, json!(shots));
        let counts = json!({ "original": original, "effective": rows });
        tables.put("n-samples", &name, counts);
        tables.put("configs", &name, task_config(&name, recipe));
        tables.put("versions", &name, json!(version));
    }
}

/// The groups that have rows, and what they consist of.
fn add_groups(tables: &mut Tables, done: &DoneTask<'_>, names: &Names) {
    let shots = done.task.recipe.few_shot.as_ref().map_or(0, |f| f.count);
    let results = tables.0.get("results").cloned().unwrap_or_default();
    let known = |own: &&String| results.contains_key(*own);
    for (group, parts) in &names.groups {
        let Some(result) = results.get(group) else {
            continue;
        };
        tables.put("groups", group, result.clone());
        let parts: Vec<&String> = parts.iter().filter(known).collect();
        tables.put("group_subtasks", group, json!(parts));
        if !names.is_of_groups(group) {
            tables.put("n-shot", group, json!(shots));
        }
    }
}

/// The lines of the samples of a task by the name of their file, one for each filter and row, as
/// `EvaluationTracker.save_results_samples` writes them: its `sanitize_list` makes texts of answers.
fn samples_of(done: &DoneTask<'_>, names: &Names) -> HarnessSamples {
    let mut files = HarnessSamples::new();
    // Filter by filter; scorers without a name share a line, as the metrics of one filter do.
    let scores = done.scored.first().map(|row| row.scores.as_slice());
    let mut filters: Vec<&Option<String>> = Vec::new();
    for (name, _) in scores.unwrap_or_default() {
        if !filters.contains(&name) {
            filters.push(name);
        }
    }
    let rows = || {
        done.task
            .documents
            .iter()
            .zip(done.answers)
            .zip(done.scored)
    };
    for filter in filters {
        for ((document, answer), row) in rows() {
            let own = row.scores.iter().filter(|(name, _)| name == filter);
            let own: Vec<&RowScore> = own.map(|(_, score)| score).collect();
            let mut line = asked(done, document);
            line.extend(answered(answer, &own));
            line.insert(
                "filter".to_owned(),
                json!(filter.as_deref().unwrap_or("none")),
            );
            let name = names.part(document.part.as_deref().unwrap_or(""));
            files.entry(name).or_default().push(Value::Object(line));
        }
    }
    files
}

/// The part of a line about the question.
fn asked(done: &DoneTask<'_>, document: &Document) -> Map<String, Value> {
    let task = done.task;
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
    let arguments: Map<String, Value> = arguments.collect();
    let (doc, text) = harness_row(done, document);
    let target = target(document);
    let context = document.questions.first().map(|q| q.context.as_str());
    let line = json!({
        "doc_id": document.place, "doc": doc, "arguments": arguments,
        "doc_hash": text.map(|text| sha256_text(&text)),
        "prompt_hash": sha256_text(context.unwrap_or_default()),
        "target_hash": sha256_text(&target), "target": target,
    });
    line.as_object().cloned().unwrap_or_default()
}

/// The row with the columns that the harness adds, and its text as Python writes it, if that is at hand.
fn harness_row(done: &DoneTask<'_>, document: &Document) -> (Value, Option<String>) {
    let mut columns = document.row.columns.clone();
    let origin = &document.row.origin;
    let mut text = done.rows.get(&(origin.path.clone(), origin.row)).cloned();
    let harness = done.task.recipe.harness.as_ref();
    for added in harness.into_iter().flat_map(|harness| &harness.adds) {
        let value = match (added.holds, &document.target) {
            (AddedValue::Prompt, _) => json!(document.prompt),
            (AddedValue::Choices, _) => json!(document.choices),
            (AddedValue::Target, Target::Choice(right)) => json!(right),
            (AddedValue::Target, _) => json!(target(document)),
        };
        let one = Map::from_iter([(added.column.clone(), value.clone())]);
        // `{`, the column in a line of its own, `}`.
        let one = python_json(&Value::Object(one).to_string()).ok();
        let one = one.and_then(|one| Some(one.strip_prefix('{')?.to_owned()));
        text = text.and_then(|text| Some(format!("{},{}", text.strip_suffix("\n}")?, one?)));
        columns.insert(added.column.clone(), value);
    }
    (Value::Object(columns), text)
}

/// The part of a line about the answer and its scores by one filter.
fn answered(answer: &Answer, scores: &[&RowScore]) -> Map<String, Value> {
    let mut metrics = Map::new();
    let mut extracted = None;
    for score in scores {
        extracted = extracted.or_else(|| score.extracted.clone());
        // Of instructions it keeps truth values, of everything else numbers.
        let told = |value: f64| {
            if score.items.is_empty() {
                json!(value)
            } else {
                json!(value > 0.5)
            }
        };
        let values = score.values.iter();
        metrics.extend(values.map(|(k, v)| (harness_metric(k).to_owned(), told(*v))));
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
    let mut line = Map::new();
    line.insert("metrics".to_owned(), metrics.keys().cloned().collect());
    line.insert("resps".to_owned(), responses);
    line.insert("filtered_resps".to_owned(), filtered);
    line.extend(metrics);
    line
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

/// The names of a task, its parts and groups in the files.
struct Names {
    whole: String,
    /// Groups by name, the whole among them, with the names of what they consist of.
    groups: BTreeMap<String, Vec<String>>,
}

impl Names {
    /// The harness's name, unless several of `all` tasks would have it.
    fn of(done: &DoneTask<'_>, all: &[DoneTask<'_>]) -> Self {
        let named = |done: &DoneTask<'_>| {
            let harness = done.task.recipe.harness.as_ref();
            harness.map_or(done.task.name.to_owned(), |harness| harness.name.clone())
        };
        let own = named(done);
        let alone = all.iter().filter(|other| named(other) == own).count() == 1;
        let mut names = Self {
            whole: if alone {
                own
            } else {
                done.task.name.to_owned()
            },
            groups: BTreeMap::new(),
        };
        if let Some(parts) = &done.task.recipe.parts {
            for (group, of_group) in &parts.groups {
                let of_group = of_group.iter().map(|part| names.part(part)).collect();
                let group = names.part(group);
                names.groups.insert(group, of_group);
            }
            let groups: Vec<String> = names.groups.keys().cloned().collect();
            names.groups.insert(names.whole.clone(), groups);
        }
        names
    }

    /// Whether this is the whole of groups, of which the harness says less than of the groups.
    fn is_of_groups(&self, name: &str) -> bool {
        self.groups.len() > 1 && name == self.whole
    }

    fn part(&self, part: &str) -> String {
        match part {
            "" => self.whole.clone(),
            part => format!("{}_{part}", self.whole),
        }
    }

    /// The task, or its parts that have rows, with their names.
    fn leaves(&self, task: &PreparedTask<'_>) -> BTreeMap<Option<String>, String> {
        let parts = task.documents.iter().map(|document| document.part.clone());
        let named = |part: Option<String>| {
            let name = self.part(part.as_deref().unwrap_or(""));
            (part, name)
        };
        parts.map(named).collect()
    }

    /// The rows of a task, group or part.
    fn rows(&self, task: &PreparedTask<'_>, name: &str) -> usize {
        let group = self.groups.get(name);
        let own = |part: &str| {
            let part = self.part(part);
            part == name || group.is_some_and(|parts| parts.contains(&part))
        };
        let rows = task.documents.iter();
        rows.filter(|document| name == self.whole || document.part.as_deref().is_some_and(own))
            .count()
    }
}
