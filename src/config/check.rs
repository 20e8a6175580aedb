//! Rules across the fields of one trial, each pointing at the value that breaks it.

use crate::arch::DecoderConfig;
use crate::base::{ModelFile, chain};
use crate::config::diagnose::{Diagnostic, FieldProblem, Problems, suggest};
use crate::config::expected::{ExpectedInputs, Inputs};
use crate::config::file::{is_plain, made_plain};
use crate::config::keys::{file_stem, has_reference};
use crate::config::near_file::{MODEL, content, no_such};
use crate::config::preference::loss_problems;
use crate::config::spec::{
    BatchSize, COLUMNS, DataSource, DpoRecipe, Duration, EvalRecipe, Monitor, PairLimits,
    PipelineStage, SftRecipe, TrainingRecipe, TrialConfig,
};
use crate::config::tree::Node;
use crate::config::usual::usual;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Counts of steps, tokens or rows above this are a slip of the pen, and products of them overflow.
const MOST: u64 = 1_000_000_000;

/// Rounds, samples of a prompt, requests at a time, repeats of a file and parts of a split above this are one, too: each is
/// made by itself.
const MOST_TIMES: usize = 10_000;

/// Most optimiser steps of a stage: the rows of each are listed beforehand.
pub(crate) const MOST_STEPS: u64 = 10_000_000;

/// Or what is wrong, and what to do about it.
type Verdict<T> = Result<T, (String, String)>;

/// What was found out about files, asked for once each.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    inputs: Inputs,
    data: BTreeMap<String, Verdict<()>>,
    /// By whether it must be there, and path.
    models: BTreeMap<(Inputs, String), Verdict<Option<String>>>,
    decoders: BTreeMap<(Inputs, String), Verdict<Option<DecoderConfig>>>,
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
            if !full.is_file() {
                return Err(no_such(root, path, "data file"));
            }
            if is_data_file(path) {
                return Ok(());
            }
            let known = "known are `.jsonl`, `.ndjson`, `.json` (each also with `.gz` or `.zst`) and \
                         `.parquet`";
            Err((
                format!("`{path}` is no data file by its name"),
                known.to_owned(),
            ))
        };
        self.data
            .entry(path.to_owned())
            .or_insert_with(look)
            .clone()
    }

    /// The decoder in folder `path`, unless inputs are optional and it is not there.
    fn decoder(&mut self, path: &str) -> Verdict<Option<DecoderConfig>> {
        let key = (self.inputs, path.to_owned());
        if let Some(known) = self.decoders.get(&key) {
            return known.clone();
        }
        let found = self.read_decoder(path);
        self.decoders.insert(key, found.clone());
        found
    }

    fn read_decoder(&mut self, path: &str) -> Verdict<Option<DecoderConfig>> {
        let Some(text) = self.model(path)? else {
            return Ok(None);
        };
        let file = ModelFile::Config.within(Path::new(path));
        DecoderConfig::from_json(&file, &text)
            .map(Some)
            .map_err(|error| (chain(&error), error.remedy().to_owned()))
    }

    /// The text of `config.json` in the model folder `path`, unless inputs are optional and there is
    /// none.
    fn model(&mut self, path: &str) -> Verdict<Option<String>> {
        let (root, inputs) = (&self.root, self.inputs);
        let look = || {
            let folder = root.join(path);
            let config = ModelFile::Config.within(&folder);
            if inputs == Inputs::Optional && !config.is_file() {
                return Ok(None);
            }
            if folder.is_file() {
                let message = format!("`{path}` is a file, not a model folder");
                return Err((message, "name the folder that it lies in".to_owned()));
            }
            if !folder.is_dir() {
                return Err(no_such(root, path, MODEL));
            }
            let text = std::fs::read_to_string(&config).map_err(|_| {
                let message =
                    format!("the model folder `{path}` has no `config.json` that can be read");
                let help = if folder.join("adapter_config.json").is_file() {
                    "it holds adapters, which `lions merge` puts into their model".to_owned()
                } else {
                    format!("put the model's own there; {}", content(&folder, path))
                };
                (message, help)
            })?;
            serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(|error| {
                let message = format!("`{path}/config.json` is not JSON: {error}");
                (message, "fetch the model's `config.json` again".to_owned())
            })?;
            Ok(Some(text))
        };
        self.models
            .entry((inputs, path.to_owned()))
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
    pub(crate) fn fail(&mut self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let found = Diagnostic::new(self.node.nearest_place(path), message);
        self.problems.insert(found.help(help));
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
            let message = format!("`{name}` must be {rule}, not {value}");
            self.fail(path, message, usual(path).unwrap_or_default());
        }
    }

    /// Everything about the trial.
    pub(crate) fn trial(&mut self, config: &TrialConfig) {
        self.pipeline(config);
        let model = self.files.decoder(&config.model.path);
        let model = self.found(model, &config.model.path, "model.path");
        let most = model.flatten().map(|model| model.max_positions);
        if let Some(template) = &config.model.chat_template {
            self.plain_file(template, "model.chat-template");
        }
        let runs = |stage| config.pipeline.contains(&stage);
        // A stage that no trial runs and that names no data is a base's, for whoever gives it some.
        if let Some(sft) = &config.sft {
            let used = runs(PipelineStage::Sft);
            if used || !sft.recipe.rows.data.is_empty() {
                self.read_if(used, |checker| checker.sft(&sft.recipe, most));
            }
        }
        if let Some(dpo) = &config.dpo {
            let used = runs(PipelineStage::Dpo);
            if used || !dpo.recipe.rows.data.is_empty() {
                self.read_if(used, |checker| checker.dpo(&dpo.recipe, most));
            }
        }
        if let Some(online) = &config.online_dpo {
            let used = runs(PipelineStage::OnlineDpo);
            self.read_if(used, |checker| checker.online_dpo(online, most));
        }
        if let Some(select) = &config.select {
            self.select(config, select);
        }
        self.checkpoint_step(config);
        self.eval(config, &config.eval.recipe, most);
    }

    /// Checks a table; what it names need not be there unless it is `used`, as a base file has stages for
    /// every study.
    fn read_if(&mut self, used: bool, check: impl FnOnce(&mut Self)) {
        let inputs = self.files.inputs;
        if !used {
            self.files.inputs = Inputs::Optional;
        }
        check(self);
        self.files.inputs = inputs;
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
                let message =
                    format!("the pipeline names `{name}`, but there is no `{name}` table");
                self.fail(&path, message, format!("add `[base.{name}.recipe]`"));
            }
            match config.pipeline.get(..index).and_then(<[_]>::last) {
                Some(last) if last == stage => {
                    let message = format!("the pipeline names `{name}` twice");
                    self.fail(&path, message, "remove one of the two");
                }
                Some(last) if last > stage => {
                    let mut sorted = config.pipeline.clone();
                    sorted.sort();
                    sorted.dedup();
                    let names = sorted.iter().map(|stage| format!("\"{}\"", stage.name()));
                    let names = names.collect::<Vec<_>>().join(", ");
                    let message = format!("`{name}` comes before `{}`", last.name());
                    self.fail(&path, message, format!("write `[{names}]`"));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn data(&mut self, data: &[DataSource], path: &str) {
        if data.is_empty() {
            let help = "for example `data = [{ path = \"data/….jsonl\" }]`";
            self.fail(path, format!("`{path}` names no data"), help);
        }
        let mut seen = BTreeSet::new();
        for (index, source) in data.iter().enumerate() {
            let at = |key: &str| format!("{path}.{index}.{key}");
            let file = self.files.data_file(&source.path);
            self.found(file, &source.path, &at("path"));
            if !seen.insert(&source.path) {
                let message = format!("`{}` is listed twice in this mixture", source.path);
                let help = "to repeat a file, give it a `fraction` above 1";
                self.fail(&at("path"), message, help);
            }
            if let Some(fraction) = source.fraction {
                let sound = fraction.get() <= MOST_TIMES as f64;
                self.must(sound, &at("fraction"), fraction, "at most 10000");
            }
            if source.fraction.is_some() && source.count.is_some() {
                let message = "`fraction` and `count` cannot stand together";
                self.fail(&at("count"), message, "keep one of them");
            }
            if let Some(fold) = source.fold {
                let of = fold.of.get();
                let sound = (2..=MOST_TIMES as u64).contains(&of);
                self.must(sound, &at("fold.of"), of, "2 to 10000");
                let index = fold.index.unwrap_or(0);
                self.must(
                    index < of,
                    &at("fold.index"),
                    index,
                    "below `of`, since parts are counted from 0",
                );
            }
            for ours in source.columns.keys() {
                if !COLUMNS.contains(&ours.as_str()) {
                    let message = format!("no form of rows has a column `{ours}`");
                    let help = suggest(ours, COLUMNS.iter().copied()).unwrap_or_default();
                    self.fail(&at(&format!("columns.{ours}")), message, help);
                }
            }
        }
    }

    /// A data file by itself.
    pub(super) fn data_path(&mut self, path: &str, at: &str) {
        let file = self.files.data_file(path);
        self.found(file, path, at);
    }

    /// A file that is read as it is.
    pub(super) fn plain_file(&mut self, path: &str, at: &str) {
        if self.files.inputs == Inputs::Required && !self.files.root.join(path).is_file() {
            let problem = no_such(&self.files.root, path, "file");
            self.found::<()>(Err(problem), path, at);
        }
    }

    /// A folder with a model of its own.
    pub(super) fn model_folder(&mut self, path: &str, at: &str) {
        let model = self.files.model(path);
        self.found(model, path, at);
    }

    /// What was found at `path`, or why not; where the base file describes it, how to get it.
    fn found<T>(&mut self, found: Verdict<T>, path: &str, at: &str) -> Option<T> {
        let (message, help) = match found {
            Ok(found) => return Some(found),
            Err(problem) => problem,
        };
        let input = self.expected.get(path);
        let from = input.and_then(|input| Some(format!("put it there: {}", input.from.as_ref()?)));
        self.fail(at, message, from.unwrap_or(help));
        None
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
            let message = format!("`{name}` is {value}, but the model has only {most} positions");
            self.fail(path, message, format!("write {most} or less"));
        }
    }

    fn limits(&mut self, limits: &PairLimits, path: &str, most: Option<usize>) {
        self.length(limits.max_seq_len, &format!("{path}.max-seq-len"), most);
        let at = format!("{path}.max-prompt-len");
        let prompt = limits.max_prompt_len;
        self.must(prompt >= 1, &at, prompt, "1 or more");
        let longest = limits.max_seq_len;
        if prompt >= longest {
            let message = format!(
                "`max-prompt-len` is {prompt}, which leaves no room for a completion in `max-seq-len` \
                 = {longest}"
            );
            let help = format!("lower `max-prompt-len`, or raise `max-seq-len` above {prompt}");
            self.fail(&at, message, help);
        }
    }

    fn monitor(&mut self, monitor: Option<&Monitor>, path: &str) {
        let Some(monitor) = monitor else { return };
        self.data(&monitor.data, &format!("{path}.data"));
        let mut stems = BTreeMap::new();
        for (index, source) in monitor.data.iter().enumerate() {
            let stem = file_stem(&source.path);
            let taken = (&source.path, source.fold);
            if let Some((other, _)) = stems.insert(stem.clone(), taken).filter(|t| *t != taken) {
                let own = &source.path;
                let message =
                    format!("`{other}` and `{own}` would both be measured as `eval_{stem}`");
                let at = format!("{path}.data.{index}.path");
                self.fail(
                    &at,
                    message,
                    "rename one file, or measure one side of a split",
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
        let longest = layout.max_seq_len;
        // What is wrong with a length that no model row has was said.
        let sound = longest <= most.unwrap_or(usize::MAX);
        match layout.batch {
            BatchSize::Tokens(tokens) if sound && tokens > 0 && tokens < longest => {
                let message = format!(
                    "a step of {tokens} tokens cannot hold one row of `max-seq-len` = {longest}"
                );
                let help = format!("write {longest} or more, or lower `max-seq-len`");
                self.fail(&at("batch.tokens"), message, help);
            }
            BatchSize::Tokens(n) => self.count(n, &at("batch.tokens")),
            BatchSize::Rows(n) => self.count(n, &at("batch.rows")),
        }
        self.training(&recipe.training, "sft.recipe");
    }

    fn dpo(&mut self, recipe: &DpoRecipe, most: Option<usize>) {
        self.data(&recipe.rows.data, "dpo.recipe.data");
        if recipe.pairs.online_fraction.is_some() {
            let message = "`online-fraction` is for the pairs of online DPO";
            let help = "give the sources of `data` a `fraction`";
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
                let (sound, at) = (n > 0.0 && n <= 1e4, at("duration.epochs"));
                self.must(sound, &at, n, "above 0, and at most 10000");
            }
            Duration::Steps(n) => {
                let at = at("duration.steps");
                self.must(n > 0, &at, n, "1 or more");
                self.must(n <= MOST_STEPS, &at, n, "at most 10000000");
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
        let sets = sets.chain(recipe.stories.keys().map(|name| (name, "stories")));
        let sets = sets.chain(recipe.tasks.keys().map(|name| (name, "tasks")));
        for (name, kind) in sets.chain(recipe.judged.keys().map(|name| (name, "judged"))) {
            let path = format!("eval.recipe.{kind}.{name}");
            if name.is_empty() {
                let help = "metric keys begin with it";
                self.fail(&path, "the name of the set is empty", help);
            } else if !is_plain(name, "-_") {
                let message = format!(
                    "the set `{name}` has other characters than letters, digits, `-` and `_`"
                );
                let help = format!(
                    "metric keys begin with it; for example `{}`",
                    made_plain(name)
                );
                self.fail(&path, message, help);
            }
            if let Some(other) = names.insert(name, kind) {
                let message = format!(
                    "two evaluation sets are called `{name}`: in `{other}` and in `{kind}`"
                );
                let help = "metric keys begin with the name; rename one";
                self.fail(&path, message, help);
            }
        }
        if names.is_empty() {
            let help = "add `[base.eval.recipe.likelihood.NAME]`";
            self.fail("eval.recipe", "nothing is evaluated", help);
        }
        for (name, set) in &recipe.likelihood {
            let path = format!("eval.recipe.likelihood.{name}");
            self.data(&set.data, &format!("{path}.data"));
            self.length(set.max_seq_len, &format!("{path}.max-seq-len"), most);
        }
        for (name, set) in &recipe.preference {
            let path = format!("eval.recipe.preference.{name}");
            // Without a reference no pair is measured.
            self.read_if(has_reference(config), |checker| {
                checker.data(&set.data, &format!("{path}.data"));
            });
            self.limits(&set.limits, &format!("{path}.limits"), most);
        }
        for (name, set) in &recipe.stories {
            let path = format!("eval.recipe.stories.{name}");
            self.data(&set.data, &format!("{path}.data"));
            self.few(set.samples.get(), &format!("{path}.samples"));
            self.sampling(&set.sampling, &format!("{path}.sampling"));
        }
        self.judged(config, recipe);
        for (name, task) in &recipe.tasks {
            self.task(name, task);
        }
        let others = [
            recipe.likelihood.is_empty(),
            recipe.stories.is_empty(),
            recipe.judged.is_empty(),
            recipe.tasks.is_empty(),
        ];
        let only_preference = others.iter().all(|&none| none);
        if only_preference && !names.is_empty() && !has_reference(config) {
            let message = "a trial without preference learning has no reference, so nothing of this can be \
                           measured";
            let help = "add a likelihood or stories set, or a task";
            self.fail("eval.recipe.preference", message, help);
        }
    }
}
