//! Rules across the fields of one trial, each pointing at the value that breaks it.

use crate::arch::DecoderConfig;
use crate::base::ModelFile;
use crate::config::diagnose::{Diagnostic, FieldProblem, Problems, nearest};
use crate::config::expected::{ExpectedInputs, Inputs};
use crate::config::file::is_plain;
use crate::config::keys::{file_stem, has_reference};
use crate::config::preference::loss_problems;
use crate::config::spec::{
    BatchSize, COLUMNS, DataSource, DpoRecipe, Duration, EvalRecipe, Monitor, PairLimits,
    PipelineStage, SftRecipe, TrainingRecipe, TrialConfig,
};
use crate::config::tree::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::path::{Path, PathBuf};

/// Counts of steps, tokens or rows above this are a slip of the pen, and products of them overflow.
const MOST: u64 = 1_000_000_000;

/// Rounds, samples of a prompt and requests at a time above this are one, too: each is made by itself.
const MOST_TIMES: usize = 10_000;

/// Most optimiser steps of a stage: the rows of each are listed beforehand.
pub(crate) const MOST_STEPS: u64 = 10_000_000;

/// Or what is wrong, and what may help.
type Verdict<T> = Result<T, (String, Option<String>)>;

/// What was found out about files, asked for once each.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    inputs: Inputs,
    data: BTreeMap<String, Verdict<()>>,
    models: BTreeMap<String, Verdict<Option<String>>>,
    decoders: BTreeMap<String, Verdict<Option<DecoderConfig>>>,
}

impl Files {
    pub(crate) fn new(root: &Path, inputs: Inputs) -> Self {
        Self {
            root: root.to_owned(),
            inputs,
            data: BTreeMap::new(),
            models: BTreeMap::new(),
            decoders: BTreeMap::new(),
        }
    }

    /// Whether `path` is a data file; if not, what is wrong and what is near.
    fn data_file(&mut self, path: &str) -> Verdict<()> {
        if self.inputs == Inputs::Optional {
            return Ok(());
        }
        let root = &self.root;
        let look = || {
            let full = root.join(path);
            if full.is_dir() {
                return Err((
                    format!("`{path}` is a folder, not a data file"),
                    near_file(root, path),
                ));
            }
            if !full.is_file() {
                return Err((
                    format!("there is no data file `{path}`"),
                    near_file(root, path),
                ));
            }
            if is_data_file(path) {
                return Ok(());
            }
            Err((
                format!("`{path}` is no data file by its name"),
                Some(
                    "known are `.jsonl`, `.ndjson`, `.json` (each also with `.gz` or `.zst`) and \
                     `.parquet`"
                        .to_owned(),
                ),
            ))
        };
        self.data
            .entry(path.to_owned())
            .or_insert_with(look)
            .clone()
    }

    /// The decoder in folder `path`, unless inputs are optional and it is not there.
    pub(super) fn decoder(&mut self, path: &str) -> Verdict<Option<DecoderConfig>> {
        if let Some(known) = self.decoders.get(path) {
            return known.clone();
        }
        let found = self.read_decoder(path);
        self.decoders.insert(path.to_owned(), found.clone());
        found
    }

    fn read_decoder(&mut self, path: &str) -> Verdict<Option<DecoderConfig>> {
        let Some(text) = self.model(path)? else {
            return Ok(None);
        };
        let file = ModelFile::Config.within(Path::new(path));
        DecoderConfig::from_json(&file, &text)
            .map(Some)
            .map_err(|error| {
                let reason = error.source().map(|source| format!(": {source}"));
                (format!("{error}{}", reason.unwrap_or_default()), None)
            })
    }

    /// The text of `config.json` in the model folder `path`, unless inputs are optional and there is
    /// none.
    pub(super) fn model(&mut self, path: &str) -> Verdict<Option<String>> {
        let (root, inputs) = (&self.root, self.inputs);
        let look = || {
            let config = ModelFile::Config.within(&root.join(path));
            if inputs == Inputs::Optional && !config.is_file() {
                return Ok(None);
            }
            if !root.join(path).is_dir() {
                return Err((
                    format!("there is no model folder `{path}`"),
                    near_file(root, path),
                ));
            }
            let text = std::fs::read_to_string(&config).map_err(|_| {
                (
                    format!("the model folder `{path}` has no `config.json` that can be read"),
                    None,
                )
            })?;
            serde_json::from_str::<serde::de::IgnoredAny>(&text)
                .map_err(|error| (format!("`{path}/config.json` is not JSON: {error}"), None))?;
            Ok(Some(text))
        };
        self.models
            .entry(path.to_owned())
            .or_insert_with(look)
            .clone()
    }
}

/// Whether a file is one of data rows by its name.
pub fn is_data_file(path: &str) -> bool {
    let name = path.to_ascii_lowercase();
    let ends = |name: &str, endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let unpacked = name.strip_suffix(".gz").or(name.strip_suffix(".zst"));
    let json = ends(unpacked.unwrap_or(&name), &[".jsonl", ".ndjson", ".json"]);
    json || name.ends_with(".parquet")
}

/// The existing file that `path` was probably meant to be.
fn near_file(root: &Path, path: &str) -> Option<String> {
    let full = root.join(path);
    let mut folder = full.parent()?;
    while !folder.is_dir() {
        if folder == root {
            return None;
        }
        folder = folder.parent()?;
    }
    let wrong = full.strip_prefix(folder).ok()?.components().next()?;
    let wrong = wrong.as_os_str().to_string_lossy().into_owned();
    let entries = std::fs::read_dir(folder).ok()?;
    let names: BTreeSet<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let near = nearest(&wrong, names.iter().map(String::as_str))?;
    let shown = folder.join(near);
    let shown = shown.strip_prefix(root).unwrap_or(&shown);
    Some(format!("did you mean `{}`?", shown.display()))
}

/// Checks one trial.
pub(crate) struct Checker<'a> {
    /// The trial's tree, for places.
    pub(crate) node: &'a Node,
    /// Where missing inputs come from.
    pub(crate) expected: &'a ExpectedInputs,
    pub(crate) files: &'a mut Files,
    pub(crate) problems: &'a mut Problems,
}

impl Checker<'_> {
    pub(crate) fn fail(&mut self, path: &str, message: String, help: Option<String>) {
        let mut found = Diagnostic::new(self.node.nearest_place(path), message);
        found.help = help;
        self.problems.insert(found);
    }

    /// Each problem at its field below `path`.
    pub(super) fn fail_all(&mut self, path: &str, problems: Vec<FieldProblem>) {
        for problem in problems {
            let at = format!("{path}.{}", problem.field);
            self.fail(&at, problem.message, problem.help);
        }
    }

    /// `ok`, or `` `last part of path` must be <rule>, not <value> `` at the path.
    pub(crate) fn must<T: std::fmt::Display>(
        &mut self,
        ok: bool,
        path: &str,
        value: T,
        rule: &str,
    ) {
        if !ok {
            let name = path.rsplit('.').next().unwrap_or(path);
            self.fail(path, format!("`{name}` must be {rule}, not {value}"), None);
        }
    }

    /// Everything about the trial.
    pub(crate) fn trial(&mut self, config: &TrialConfig) {
        self.pipeline(config);
        let most = match self.files.decoder(&config.model.path) {
            Ok(model) => model.map(|model| model.max_positions),
            Err((message, help)) => {
                let help = self.origin(&config.model.path).or(help);
                self.fail("model.path", message, help);
                None
            }
        };
        if let Some(template) = &config.model.chat_template {
            self.plain_file(template, "model.chat-template");
        }
        if let Some(sft) = &config.sft {
            self.sft(&sft.recipe, most);
        }
        if let Some(dpo) = &config.dpo {
            self.dpo(&dpo.recipe, most);
        }
        if let Some(online) = &config.online_dpo {
            self.online_dpo(online, most);
        }
        if let Some(select) = &config.select {
            self.select(config, select);
        }
        self.checkpoint_step(config);
        self.eval(config, &config.eval.recipe, most);
    }

    fn pipeline(&mut self, config: &TrialConfig) {
        for (index, stage) in config.pipeline.iter().enumerate() {
            let path = format!("pipeline.{index}");
            let name = stage.name();
            let there = match stage {
                PipelineStage::Sft => config.sft.is_some(),
                PipelineStage::Dpo => config.dpo.is_some(),
                PipelineStage::OnlineDpo => config.online_dpo.is_some(),
            };
            if !there {
                let help = format!("add `[base.{name}.recipe]`");
                self.fail(
                    &path,
                    format!("the pipeline names `{name}`, but there is no `{name}` table"),
                    Some(help),
                );
            }
            match config.pipeline.get(..index).and_then(<[_]>::last) {
                Some(last) if last == stage => {
                    self.fail(&path, format!("the pipeline names `{name}` twice"), None);
                }
                Some(last) if last > stage => {
                    let mut sorted = config.pipeline.clone();
                    sorted.sort();
                    sorted.dedup();
                    let names: Vec<_> =
                        sorted.iter().map(|s| format!("\"{}\"", s.name())).collect();
                    let help = Some(format!("write `[{}]`", names.join(", ")));
                    let message = format!("`{name}` comes before `{}`", last.name());
                    self.fail(&path, message, help);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn data(&mut self, data: &[DataSource], path: &str) {
        if data.is_empty() {
            self.fail(path, format!("`{path}` names no data"), None);
        }
        let mut seen = BTreeSet::new();
        for (index, source) in data.iter().enumerate() {
            let at = format!("{path}.{index}");
            if let Err((message, help)) = self.files.data_file(&source.path) {
                let help = self.origin(&source.path).or(help);
                self.fail(&format!("{at}.path"), message, help);
            }
            if !seen.insert(&source.path) {
                let help = Some("to repeat a file, give it a `fraction` above 1".to_owned());
                self.fail(
                    &format!("{at}.path"),
                    format!("`{}` stands in this mixture twice", source.path),
                    help,
                );
            }
            if source.fraction.is_some() && source.count.is_some() {
                let message = "`fraction` and `count` cannot stand together".to_owned();
                self.fail(
                    &format!("{at}.count"),
                    message,
                    Some("keep one of them".to_owned()),
                );
            }
            for ours in source.columns.keys() {
                if !COLUMNS.contains(&ours.as_str()) {
                    let help = nearest(ours, COLUMNS.iter().copied()).map_or_else(
                        || format!("known are `{}`", COLUMNS.join("`, `")),
                        |near| format!("did you mean `{near}`?"),
                    );
                    self.fail(
                        &format!("{at}.columns.{ours}"),
                        format!("no form of rows has a column `{ours}`"),
                        Some(help),
                    );
                }
            }
        }
    }

    /// A file that is read as it is.
    pub(super) fn plain_file(&mut self, path: &str, at: &str) {
        if self.files.inputs == Inputs::Required && !self.files.root.join(path).is_file() {
            let help = self.origin(path).or(near_file(&self.files.root, path));
            self.fail(at, format!("there is no file `{path}`"), help);
        }
    }

    /// How to get an input that the base file describes.
    pub(super) fn origin(&self, path: &str) -> Option<String> {
        let from = self.expected.get(path)?.from.as_ref()?;
        Some(format!("put it there: {from}"))
    }

    /// A number of tokens, rows or the like.
    pub(super) fn count(&mut self, value: usize, path: &str) {
        self.must(value > 0, path, value, "1 or more");
        self.must(value as u64 <= MOST, path, value, "at most 1000000000");
    }

    /// A number of things of which each is made by itself.
    pub(super) fn few(&mut self, value: usize, path: &str) {
        self.must(value <= MOST_TIMES, path, value, "at most 10000");
    }

    /// A length in tokens, at least 2, within the model's positions.
    pub(super) fn length(&mut self, value: usize, path: &str, most: Option<usize>) {
        self.must(value >= 2, path, value, "2 or more");
        self.must(value as u64 <= MOST, path, value, "at most 1000000000");
        if let Some(most) = most.filter(|most| value > *most) {
            let name = path.rsplit('.').next().unwrap_or(path);
            self.fail(
                path,
                format!("`{name}` is {value}, but the model has only {most} positions"),
                Some(format!("write {most} or less")),
            );
        }
    }

    fn limits(&mut self, limits: &PairLimits, path: &str, most: Option<usize>) {
        self.length(limits.max_seq_len, &format!("{path}.max-seq-len"), most);
        let at = format!("{path}.max-prompt-len");
        let shortest = limits.max_prompt_len;
        self.must(shortest >= 1, &at, shortest, "1 or more");
        if limits.max_prompt_len >= limits.max_seq_len {
            let message = format!(
                "`max-prompt-len` is {}, which leaves no room for a completion in `max-seq-len` = {}",
                limits.max_prompt_len, limits.max_seq_len
            );
            let help = Some(format!(
                "lower `max-prompt-len`, or raise `max-seq-len` above {}",
                limits.max_prompt_len
            ));
            self.fail(&at, message, help);
        }
    }

    fn monitor(&mut self, monitor: Option<&Monitor>, path: &str) {
        let Some(monitor) = monitor else { return };
        self.data(&monitor.data, &format!("{path}.data"));
        let mut stems = BTreeMap::new();
        for (index, source) in monitor.data.iter().enumerate() {
            let stem = file_stem(&source.path);
            if let Some(other) = stems.insert(stem.clone(), &source.path)
                && *other != source.path
            {
                let message = format!(
                    "`{other}` and `{}` would both be measured as `eval_{stem}`",
                    source.path
                );
                self.fail(
                    &format!("{path}.data.{index}.path"),
                    message,
                    Some("rename one file".to_owned()),
                );
            }
        }
    }

    fn sft(&mut self, recipe: &SftRecipe, most: Option<usize>) {
        let at = |name: &str| format!("sft.recipe.{name}");
        let layout = &recipe.layout;
        self.data(&recipe.rows.data, &at("data"));
        self.decontaminate(recipe.rows.decontaminate.as_ref(), &at("decontaminate"));
        self.length(layout.max_seq_len, &at("max-seq-len"), most);
        match layout.batch {
            BatchSize::Tokens(tokens) if tokens > 0 && tokens < layout.max_seq_len => {
                let message = format!(
                    "a step of {tokens} tokens cannot hold one row of `max-seq-len` = {}",
                    layout.max_seq_len
                );
                self.fail(&at("batch.tokens"), message, None);
            }
            BatchSize::Tokens(n) => self.count(n, &at("batch.tokens")),
            BatchSize::Rows(n) => self.count(n, &at("batch.rows")),
        }
        self.training(&recipe.training, "sft.recipe");
    }

    fn dpo(&mut self, recipe: &DpoRecipe, most: Option<usize>) {
        self.data(&recipe.rows.data, "dpo.recipe.data");
        if recipe.pairs.online_fraction.is_some() {
            let message = "`online-fraction` is for the pairs of online DPO".to_owned();
            let help = Some("give the sources of `data` a `fraction`".to_owned());
            self.fail("dpo.recipe.online-fraction", message, help);
        }
        self.preference(recipe, "dpo.recipe", most);
    }

    /// What offline DPO and a round of online DPO have in common.
    pub(super) fn preference(&mut self, recipe: &DpoRecipe, path: &str, most: Option<usize>) {
        let at = |name: &str| format!("{path}.{name}");
        self.decontaminate(recipe.rows.decontaminate.as_ref(), &at("decontaminate"));
        self.limits(&recipe.pairs.limits, &at("limits"), most);
        let batch = recipe.pairs.global_batch_size.get();
        self.count(batch, &at("global-batch-size"));
        self.reference_update(&recipe.reference, &at("reference-update"));
        self.fail_all(path, loss_problems(recipe));
        self.training(&recipe.training, path);
    }

    /// What all training stages have in common.
    fn training(&mut self, training: &TrainingRecipe, path: &str) {
        let at = |name: &str| format!("{path}.{name}");
        match training.duration {
            Duration::Epochs(n) => {
                let sound = n > 0.0 && n <= 1e4;
                self.must(
                    sound,
                    &at("duration.epochs"),
                    n,
                    "above 0, and at most 10000",
                );
            }
            Duration::Steps(n) => {
                self.must(n > 0, &at("duration.steps"), n, "1 or more");
                self.must(
                    n <= MOST_STEPS,
                    &at("duration.steps"),
                    n,
                    "at most 10000000",
                );
            }
        }
        self.decay_ratio(&training.schedule, &at("schedule"));
        self.monitor(training.monitor.as_ref(), &at("monitor"));
        self.save_steps(&training.save_steps, training.duration, &at("save-steps"));
        self.lora(training.lora.as_ref(), &at("lora"));
        let (lora, rows) = (training.lora.is_some(), training.trainable_embeddings);
        self.lora_alone(lora, rows, &at("trainable-embeddings"));
    }

    fn eval(&mut self, config: &TrialConfig, recipe: &EvalRecipe, most: Option<usize>) {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        let sets = recipe.likelihood.keys().map(|name| (name, "likelihood"));
        let sets = sets.chain(recipe.preference.keys().map(|name| (name, "preference")));
        for (name, kind) in sets.chain(recipe.stories.keys().map(|name| (name, "stories"))) {
            let path = format!("eval.recipe.{kind}.{name}");
            if !is_plain(name, "-_") {
                let message = format!(
                    "the set `{name}` has other characters than letters, digits, `-` and `_`"
                );
                self.fail(&path, message, Some("metric keys begin with it".to_owned()));
            }
            if let Some(other) = names.insert(name, kind) {
                let message = format!(
                    "two evaluation sets are called `{name}`: in `{other}` and in `{kind}`"
                );
                self.fail(
                    &path,
                    message,
                    Some("metric keys begin with the name; rename one".to_owned()),
                );
            }
        }
        if names.is_empty() {
            self.fail(
                "eval.recipe",
                "nothing is evaluated".to_owned(),
                Some("add `[base.eval.recipe.likelihood.NAME]`".to_owned()),
            );
        }
        for (name, set) in &recipe.likelihood {
            let path = format!("eval.recipe.likelihood.{name}");
            self.data(&set.data, &format!("{path}.data"));
            self.length(set.max_seq_len, &format!("{path}.max-seq-len"), most);
        }
        for (name, set) in &recipe.preference {
            let path = format!("eval.recipe.preference.{name}");
            self.data(&set.data, &format!("{path}.data"));
            self.limits(&set.limits, &format!("{path}.limits"), most);
        }
        for (name, set) in &recipe.stories {
            let path = format!("eval.recipe.stories.{name}");
            self.data(&set.data, &format!("{path}.data"));
            self.few(set.samples.get(), &format!("{path}.samples"));
            self.sampling(&set.sampling, &format!("{path}.sampling"));
        }
        let only_preference = recipe.likelihood.is_empty() && recipe.stories.is_empty();
        if only_preference && !names.is_empty() && !has_reference(config) {
            let message =
                "a trial without preference learning has no reference, so nothing of this can be measured"
                    .to_owned();
            self.fail(
                "eval.recipe.preference",
                message,
                Some("add a likelihood or stories set".to_owned()),
            );
        }
    }
}
