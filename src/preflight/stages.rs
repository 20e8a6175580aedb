//! Whether each stage has the rows that it is told to use, and would train.

use crate::base::{SeedTree, chain, counted};
use crate::config::spec::{
    BatchSize, Batching, DataSource, DpoRecipe, Duration, JudgedEval, LossMask, OptimizerRecipe,
    PairLimits, PipelineStage, PromptRecipe, RowsRecipe, SftRecipe, StoriesEval, TrainingRecipe,
    TrialConfig,
};
use crate::config::sweep::show_value;
use crate::data::{
    ChatRow, DataError, FileRows, PairPlan, SftPlan, TextFormat, Wanted, training_chats_of,
};
use crate::eval::judged::Bench;
use crate::preflight::folders::{Folder, Role};
use crate::preflight::inputs::{Inputs, Planned};
use crate::preflight::leaks::Sources;
use crate::preflight::lengths::{Measured, lengths};
use crate::preflight::problem::{Asker, Problem};
use crate::preflight::rows::{Encoded, bad_row, extras};
use crate::train::LrSchedule;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::rc::Rc;

/// Sets of at most so many rows are planned in full: only in those a stage has so few steps that their
/// number decides whether it trains.
const PLANNED: usize = 256;

/// A peak learning rate from which AdamW, whose steps are as long as the rate, destroys any model.
const RUNAWAY_RATE: f64 = 0.1;

/// What helps where no row has anything to learn.
const SHORTER: &str = "raise the limit, or take rows with shorter prompts";

fn nothing_to_learn(rows: usize, limit: usize) -> String {
    let rows = counted(rows, "row");
    format!("none of the {rows} looked at has a token to learn among its first {limit}")
}

/// What the stages of a trial have in common.
pub(super) struct Stage<'a> {
    pub(super) trial: usize,
    pub(super) seed: u64,
    /// The folder of the policy.
    pub(super) model: &'a str,
    pub(super) format: Option<&'a TextFormat>,
    /// Rows that a filter keeps of those of this stage.
    pub(super) keep: Option<usize>,
}

/// The files of a mixture.
pub(super) struct Files {
    /// The rows of each that can be read, and how many of them are used.
    pub(super) read: Vec<(Rc<FileRows>, usize)>,
    /// Whether these are all rows of all files.
    pub(super) all: bool,
    /// Whether every row is used.
    every: bool,
    /// How many rows of all are used: absent if a file is not there or was not read to its end.
    pub(super) used: Option<usize>,
    /// How many there were before repeats and texts of an evaluation were left out, if some were.
    before: Option<usize>,
}

impl Files {
    /// Whether every row is written as tokens by a training stage, or `before`, by a filter or for the
    /// reference, which do not stop at `max-examples`.
    fn all_written(&self, rows: &RowsRecipe, before: bool) -> bool {
        let most = rows.max_examples.filter(|_| !before);
        let cuts = most.is_some_and(|most| self.used != Some(most.get()));
        self.every && !cuts && !rows.dedup && rows.decontaminate.is_none()
    }

    /// That there are so many rows, fewer than were asked for.
    pub(super) fn only(&self, used: usize, what: &str) -> String {
        match self.before {
            Some(before) if used < before => {
                let are = if used == 1 { "is" } else { "are" };
                format!("only {used} of {} {are} left", counted(before, what))
            }
            _ => format!("the data has {}", counted(used, what)),
        }
    }

    /// The files by their path: a set that is measured along training is those of one.
    fn by_path(&self) -> Vec<Self> {
        let mut paths: BTreeMap<&str, Vec<(Rc<FileRows>, usize)>> = BTreeMap::new();
        for (rows, share) in &self.read {
            if let Some((_, origin)) = extras(rows).next() {
                let own = paths.entry(&origin.path).or_default();
                own.push((Rc::clone(rows), *share));
            }
        }
        let of_path = |read: Vec<(Rc<FileRows>, usize)>| Self {
            all: read.iter().all(|(rows, _)| rows.whole),
            read,
            every: self.every,
            used: None,
            before: None,
        };
        paths.into_values().map(of_path).collect()
    }
}

impl Stage<'_> {
    pub(super) fn problem(&self, path: impl Into<String>, message: String) -> Problem {
        Problem::of_value(self.trial, path, message)
    }

    pub(super) fn asker<'p>(&self, path: &'p str) -> Asker<'p> {
        Asker {
            trial: self.trial,
            path,
            uses_all: true,
        }
    }

    /// The same about single rows of files.
    fn asker_of<'p>(&self, files: &Files, path: &'p str) -> Asker<'p> {
        Asker {
            uses_all: files.every,
            ..self.asker(path)
        }
    }

    /// The rows of each source.
    pub(super) fn sources(
        &self,
        inputs: &mut Inputs,
        data: &[DataSource],
        (path, wanted): (&str, Wanted),
    ) -> Files {
        let mut files = Files {
            read: Vec::new(),
            all: true,
            every: true,
            used: Some(0),
            before: None,
        };
        for (index, source) in data.iter().enumerate() {
            let at = format!("{path}.{index}.path");
            let Some(rows) = inputs.rows(source, wanted, self.asker(&at)) else {
                files.all = false;
                files.used = None;
                continue;
            };
            files.all &= rows.whole;
            let found = rows.len();
            let share = match (source.count, source.fraction) {
                (Some(count), _) => count.get(),
                (None, Some(share)) => (share.get() * found as f64).round() as usize,
                (None, None) => found,
            };
            if source.count.is_some() && share > found && rows.whole {
                let (path_of, rows) = (&source.path, counted(found, "row"));
                let message = format!("`count` is {share}, but `{path_of}` has {rows}");
                let problem = self.problem(format!("{path}.{index}.count"), message);
                inputs.add(problem.help(format!("write {found} or less, or leave `count` out")));
            }
            if share == 0 && rows.whole {
                let message = format!(
                    "this `fraction` of {} is less than one",
                    counted(found, "row")
                );
                let problem = self.problem(format!("{path}.{index}.fraction"), message);
                inputs.add(problem.help("raise it, or leave it out to use all rows"));
            }
            files.every &= share >= found && (rows.whole || source.count.is_none());
            let known = share > 0 && (rows.whole || source.count.is_some());
            let used = files.used.filter(|_| known);
            files.used = used.map(|sum| sum.saturating_add(share));
            files.read.push((rows, share));
        }
        files
    }

    /// What becomes of the rows of all files; how long they are is noted.
    fn encoded(
        &self,
        inputs: &mut Inputs,
        files: &Files,
        encode: impl Fn(&mut Inputs, &Rc<FileRows>) -> Encoded,
    ) -> Encoded {
        let mut sum = Encoded {
            all: files.all,
            ..Encoded::default()
        };
        for (rows, _) in &files.read {
            let file = encode(inputs, rows);
            sum.left += file.left;
            sum.seen += file.seen;
            sum.all &= file.all;
            if let Some((_, origin)) = extras(rows).next().filter(|_| !file.measured.is_empty()) {
                let key = (self.model, &*origin.path, rows.chats.is_empty());
                let found = || lengths(rows, &file.measured);
                inputs.lengths.note(key, found, rows.whole && !rows.split);
            }
            sum.measured.extend(file.measured);
        }
        sum
    }

    fn enough(
        &self,
        inputs: &mut Inputs,
        (most, used): (Option<usize>, Option<usize>),
        files: &Files,
        path: &str,
    ) {
        if let (Some(most), Some(used)) = (most, used)
            && most > used
        {
            let only = files.only(used, "example");
            let message = format!("`max-examples` is {most}, but {only}");
            let problem = self.problem(format!("{path}.max-examples"), message);
            inputs.add(problem.help(format!("write {used} or less, or leave it out to use all")));
        }
    }

    /// The rows of a stage's training data, without repeats and texts of an evaluation where its recipe has them left
    /// out: what that leaves too few rows for is told.
    pub(super) fn candidates(
        &self,
        inputs: &mut Inputs,
        rows: &RowsRecipe,
        (path, wanted): (&str, Wanted),
    ) -> Files {
        let mut files = self.sources(inputs, &rows.data, (&format!("{path}.data"), wanted));
        let texts = rows.decontaminate.iter().flat_map(|rules| &rules.data);
        let mut all_texts = true;
        for (index, source) in texts.enumerate() {
            let at = format!("{path}.decontaminate.data.{index}.path");
            all_texts &= inputs.texts(source, self.asker(&at));
        }
        let filters = rows.dedup || rows.decontaminate.is_some();
        if filters && all_texts && files.read.len() == rows.data.len() {
            self.leave_out(inputs, &mut files, rows, path);
        }
        files
    }

    /// See [`Self::candidates`].
    fn leave_out(&self, inputs: &mut Inputs, files: &mut Files, rows: &RowsRecipe, path: &str) {
        let read: Vec<_> = files.read.iter().map(|(rows, _)| rows).collect();
        let found: usize = read.iter().map(|rows| rows.len()).sum();
        let Some(left) = inputs.left(&read, rows) else {
            return;
        };
        if found > 0 && left.iter().sum::<usize>() == 0 {
            let rows = counted(found, "row");
            let seen = if files.all { "" } else { " looked at" };
            let message =
                format!("none of the {rows}{seen} is left: all hold texts of the evaluation");
            let problem = self.problem(format!("{path}.decontaminate"), message);
            let problem = problem.warning_unless(files.all);
            inputs.add(problem.help("take other rows, or look for other texts"));
            files.used = None;
            return;
        }
        let (before, mut used, mut is_short) = (files.used, Some(0_usize), false);
        for (index, (source, left)) in rows.data.iter().zip(left.iter()).enumerate() {
            let (rows, share) = &mut files.read[index];
            if *left < rows.len() {
                let problem;
                (*share, problem) =
                    self.share_of_left(source, rows, *left, &format!("{path}.data.{index}"));
                is_short |= problem.is_some();
                problem.into_iter().for_each(|problem| inputs.add(problem));
            }
            let known = rows.whole || source.count.is_some();
            used = used.filter(|_| known).map(|sum| sum.saturating_add(*share));
        }
        files.before = before.filter(|before| used.is_some_and(|used| used < *before));
        files.used = used.filter(|_| before.is_some() && !is_short);
    }

    /// How many of the rows that are left of a file are used, and what is wrong with that.
    fn share_of_left(
        &self,
        source: &DataSource,
        rows: &FileRows,
        left: usize,
        path: &str,
    ) -> (usize, Option<Problem>) {
        let (file, found) = (&source.path, counted(rows.len(), "row"));
        let are = if left == 1 { "is" } else { "are" };
        if let Some(count) = source.count.map(NonZeroUsize::get) {
            // More than the file has was told before.
            let told = !rows.whole || count <= left || count > rows.len();
            let message = format!(
                "`count` is {count}, but only {left} of the {found} of `{file}` {are} left"
            );
            let problem = self.problem(format!("{path}.count"), message);
            let help = match left {
                0 => {
                    "take the file away: all its rows repeat others or hold texts of the evaluation"
                        .to_owned()
                }
                left => format!("write {left} or less, or leave `count` out"),
            };
            return (count, (!told).then(|| problem.help(help)));
        }
        let Some(fraction) = source.fraction else {
            return (left, None);
        };
        let share = (fraction.get() * left as f64).round() as usize;
        let message = format!(
            "of the {found} of `{file}` {left} {are} left, and this `fraction` of them is less than one"
        );
        let problem = self.problem(format!("{path}.fraction"), message);
        let none = share == 0 && rows.whole;
        (
            share,
            none.then(|| problem.help("raise it, or leave it out to use all rows")),
        )
    }

    /// How many of the rows of the files a filter leaves.
    fn kept(&self, files: &Files) -> Option<usize> {
        files.used.map(|used| used.min(self.keep.unwrap_or(used)))
    }

    /// Supervised fine-tuning; its optimiser steps, where they are known.
    pub(super) fn sft<'c>(
        &self,
        inputs: &mut Inputs,
        recipe: &'c SftRecipe,
        held_out: &mut Sources<'c>,
    ) -> Option<u64> {
        let at = |name: &str| format!("sft.recipe.{name}");
        let (rows, layout, training) = (&recipe.rows, &recipe.layout, &recipe.training);
        let mut files = self.candidates(inputs, rows, ("sft.recipe", Wanted::Chats));
        files.every = files.all_written(rows, self.keep.is_some());
        let (most, used) = (rows.max_examples.map(NonZeroUsize::get), self.kept(&files));
        self.enough(inputs, (most, used), &files, "sft.recipe");
        self.rate(inputs, &training.optimizer, &at("optimizer"));
        if let Some(monitor) = &training.monitor {
            let path = at("monitor.data");
            let files = self.sources(inputs, &monitor.data, (&path, Wanted::Chats));
            for files in files.by_path() {
                self.chats(inputs, &files, (&path, Some(layout.max_seq_len)));
            }
            held_out.push((path, &monitor.data, Wanted::Chats));
        }
        let enough = used.filter(|used| *used >= most.unwrap_or(0));
        let few = enough.is_some_and(|used| most.unwrap_or(used) <= PLANNED) && files.all;
        // Where all tokens count, every one behind the first is a target.
        let replies = layout.loss_mask == LossMask::AssistantOnly;
        let cuts = replies && layout.batching == Batching::Padded;
        let limit = cuts.then_some(layout.max_seq_len);
        let seen = self.chats(inputs, &files, (&at("max-seq-len"), limit));
        if !few && replies {
            self.masked(inputs, &seen, recipe);
        }
        self.steps(inputs, &files, recipe, few)
    }

    /// Warns if more than the recipe allows is masked of each row that was looked at: windows may be cut so that some are left.
    fn masked(&self, inputs: &mut Inputs, seen: &Encoded, recipe: &SftRecipe) {
        let Some(most) = recipe.layout.max_masked_fraction else {
            return;
        };
        let masked = |row: &Measured| 1.0 - row.replies as f64 / row.tokens.max(1) as f64;
        let mut rows = seen.measured.iter();
        if seen.measured.is_empty() || rows.any(|row| masked(row) <= most.get()) {
            return;
        }
        let message = format!(
            "of each of the {} looked at more than `max-masked-fraction` {} is masked: none would be left",
            counted(seen.measured.len(), "row"),
            show_value(&most.get().into())
        );
        let problem = self.problem("sft.recipe.max-masked-fraction", message);
        let help = "raise it, or take rows with longer replies";
        inputs.add(problem.warning().help(help));
    }

    /// Whether the steps of SFT would train, which a `few` rows tell; how many there are, where they are known.
    fn steps(
        &self,
        inputs: &mut Inputs,
        files: &Files,
        recipe: &SftRecipe,
        few: bool,
    ) -> Option<u64> {
        let training = &recipe.training;
        let planned = self.format.filter(|_| few).map(|format| {
            let seed = training.seed.unwrap_or(self.seed);
            // Trials that differ in a rate or the like see the same steps, and those that differ in the
            // seed, too, where it orders rows and chooses none.
            let of_seed = self.steps_of_seed(recipe).then_some(seed);
            let key = format!(
                "{:p} {of_seed:?} {:?} {:?} {:?} {:?}",
                std::ptr::from_ref(format),
                self.keep,
                recipe.rows,
                recipe.layout,
                training.duration
            );
            inputs.planned(key, |root| self.plan(root, (format, files), recipe, seed))
        });
        let steps = match (planned, training.duration) {
            (Some(steps), _) => steps,
            (None, Duration::Steps(steps)) => Ok(steps),
            (None, Duration::Epochs(_)) => return None,
        };
        // A filter may keep other rows than these, which fill more or fewer windows.
        let counts_rows = recipe.layout.batching == Batching::Padded
            && matches!(recipe.layout.batch, BatchSize::Rows(_));
        let fixed = matches!(training.duration, Duration::Steps(_)) || counts_rows;
        let known = steps.as_ref().ok().copied();
        let problem = match steps {
            Ok(steps) => {
                let problem = self.trains(training, steps, "sft.recipe");
                problem.map(|problem| problem.warning_unless(self.keep.is_none() || fixed))
            }
            Err(problem) => Some(problem.warning_unless(self.keep.is_none())),
        };
        if let Some(problem) = problem {
            inputs.add(problem.asked_by(self.asker("sft.recipe")));
        }
        known.filter(|_| self.keep.is_none() || fixed)
    }

    /// Whether the seed decides about the steps of SFT: it chooses rows or their system turns, or orders
    /// what is packed.
    fn steps_of_seed(&self, recipe: &SftRecipe) -> bool {
        let (rows, layout) = (&recipe.rows, &recipe.layout);
        let chooses =
            rows.is_sampled() || rows.max_examples.is_some() || rows.empty_system_turn.is_some();
        let packs = layout.batching != Batching::Padded
            || !matches!(layout.batch, BatchSize::Rows(_))
            || layout.max_masked_fraction.is_some();
        chooses || packs || self.keep.is_some()
    }

    /// The steps of a stage that sees few rows, or why it has none. The rows are those that it would take;
    /// where a filter chooses among them, they are as many.
    fn plan(
        &self,
        root: &Path,
        (format, files): (&TextFormat, &Files),
        recipe: &SftRecipe,
        seed: u64,
    ) -> Planned {
        let at = |name: &str, message: String| self.problem(format!("sft.recipe.{name}"), message);
        let chosen = self.chosen(root, (format, files), &recipe.rows, seed);
        let chosen = chosen.map_err(|error| {
            let (name, help) = match error {
                DataError::TooFew { .. } => ("max-examples", "write less, or leave it out"),
                DataError::Template { .. } => ("empty-system-turn", "leave it out"),
                _ => ("data", "take more rows, or other ones"),
            };
            at(name, chain(&error)).help(help)
        })?;
        let examples = chosen.iter().map(|row| format.encode_chat(row));
        let examples = examples.collect::<Result<Vec<_>, _>>();
        let examples = examples.map_err(|error| match &error {
            DataError::Row { origin, reason, .. } => bad_row(origin, reason),
            other => at("data", chain(other)),
        })?;
        let (seed, pad, count) = (SeedTree::root(seed), format.pad_token(), examples.len());
        let plan = SftPlan::new(
            examples,
            &recipe.layout,
            recipe.training.duration,
            &seed,
            pad,
        );
        let plan = plan.map_err(|error| {
            let help = "take more rows, a smaller step or another `max-masked-fraction`";
            at("batch", chain(&error)).help(help)
        })?;
        if plan.report().targets == 0 {
            let message = nothing_to_learn(count, recipe.layout.max_seq_len);
            return Err(at("max-seq-len", message).help(SHORTER));
        }
        Ok(plan.steps())
    }

    /// The rows that SFT would take out of its files.
    fn chosen(
        &self,
        root: &Path,
        (format, files): (&TextFormat, &Files),
        recipe: &RowsRecipe,
        seed: u64,
    ) -> Result<Vec<ChatRow>, DataError> {
        let mut rows = recipe.clone();
        if self.keep.is_some() {
            rows.max_examples = None;
        }
        let data_seed = rows.data_seed.unwrap_or(seed);
        let read = files
            .read
            .iter()
            .map(|(file, _)| file.chats.iter().collect::<Vec<_>>());
        let mut chosen = training_chats_of(read.collect(), root, &rows, data_seed, format)?;
        if let Some(keep) = self.keep {
            let most = recipe.max_examples.map_or(keep, NonZeroUsize::get);
            chosen.truncate(keep.min(most));
        }
        Ok(chosen)
    }

    /// Offline, or the training of a round; the optimiser steps of the first, where they are known.
    pub(super) fn dpo<'c>(
        &self,
        inputs: &mut Inputs,
        recipe: &'c DpoRecipe,
        path: &str,
        held_out: &mut Sources<'c>,
    ) -> Option<u64> {
        let at = |name: &str| format!("{path}.{name}");
        let (rows, limits, training) = (&recipe.rows, &recipe.pairs.limits, &recipe.training);
        let mut files = self.candidates(inputs, rows, (path, Wanted::Pairs));
        let before = self.keep.is_some() || recipe.needs_reference();
        files.every = files.all_written(rows, before);
        let offline = path == "dpo.recipe";
        let (most, used) = (rows.max_examples.map(NonZeroUsize::get), self.kept(&files));
        self.enough(inputs, (most.filter(|_| offline), used), &files, path);
        self.rate(inputs, &training.optimizer, &at("optimizer"));
        if let Some(monitor) = &training.monitor {
            let path = at("monitor.data");
            let files = self.sources(inputs, &monitor.data, (&path, Wanted::Pairs));
            for files in files.by_path() {
                self.pairs(inputs, &files, limits, &path);
            }
            held_out.push((path, &monitor.data, Wanted::Pairs));
        }
        self.pairs(inputs, &files, limits, &at("limits"));
        let pairs = used.map(|used| used.min(most.unwrap_or(used)));
        let steps = match (training.duration, pairs) {
            // The rounds of online DPO tell by themselves whether they would train.
            _ if !offline => None,
            (Duration::Steps(steps), _) => Some(steps),
            (epochs @ Duration::Epochs(_), Some(pairs)) if pairs > 0 => {
                let batch = recipe.pairs.global_batch_size.get();
                // The seed decides about the order alone.
                match PairPlan::new(pairs, batch, epochs, &SeedTree::root(0)) {
                    Ok(plan) => Some(plan.steps()),
                    Err(error) => {
                        let problem = self.problem(at("duration"), chain(&error));
                        inputs
                            .add(problem.help("take more pairs, or a smaller `global-batch-size`"));
                        None
                    }
                }
            }
            (Duration::Epochs(_), _) => None,
        };
        let problem = steps.and_then(|steps| self.trains(training, steps, path));
        if let Some(problem) = problem {
            inputs.add(problem);
        }
        steps
    }

    /// The prompts of online DPO, below `path`; says so if none of those looked at is within the limit.
    pub(super) fn prompts(&self, inputs: &mut Inputs, recipe: &PromptRecipe, path: &str) {
        let at = format!("{path}.data");
        let files = self.sources(inputs, &recipe.data, (&at, Wanted::Prompts));
        let Some(format) = self.format else { return };
        let limit = recipe.max_prompt_len;
        let asker = self.asker_of(&files, &at);
        let prompts = self.encoded(inputs, &files, |inputs, rows| {
            inputs.prompts(format, rows, limit, asker)
        });
        if prompts.seen > 0 && prompts.left == 0 {
            let seen = counted(prompts.seen, "prompt");
            let message =
                format!("none of the {seen} looked at is within `max-prompt-len` {limit}");
            let problem = self.problem(format!("{path}.max-prompt-len"), message);
            let problem = problem.warning_unless(prompts.all);
            inputs.add(problem.help("raise the limit, or take shorter prompts"));
        }
    }

    fn stories(&self, inputs: &mut Inputs, set: &StoriesEval, path: &str) {
        let files = self.sources(inputs, &set.data, (path, Wanted::Chats));
        let key = set.cluster.as_deref();
        let first = set.max_prompts.filter(|_| files.every);
        let used = first.map_or(usize::MAX, NonZeroUsize::get);
        self.clusters(inputs, &files, key.map(|key| (key, used)), path);
        let Some(format) = self.format else { return };
        let mut left = set.max_prompts.map_or(usize::MAX, NonZeroUsize::get);
        for (rows, share) in &files.read {
            let most = if files.every { left } else { usize::MAX };
            inputs.stories(format, rows, most, self.asker_of(&files, path));
            left = left.saturating_sub(*share);
        }
    }

    /// The clusters of an evaluated set, whose data stand at `path`, if a key says them: of the first so many
    /// rows.
    fn clusters(&self, inputs: &mut Inputs, files: &Files, by: Option<(&str, usize)>, path: &str) {
        let Some((key, mut left)) = by else { return };
        for (rows, share) in &files.read {
            inputs.clusters(rows, (key, left), self.asker_of(files, path));
            left = left.saturating_sub(*share);
        }
    }

    /// Whether the files of a chat benchmark are what they should be; what is not there is said elsewhere.
    fn judged(&self, inputs: &mut Inputs, set: &JudgedEval, path: &str) {
        let root = inputs.root().to_owned();
        let files = set.benchmark.files();
        if files.iter().any(|(_, file)| !root.join(file).is_file()) {
            return;
        }
        let most = set.max_questions.map_or(usize::MAX, NonZeroUsize::get);
        let read = Bench::read(&root, &set.benchmark, most);
        let message = match read {
            Ok(bench) if bench.is_empty() => "there is no question to answer".to_owned(),
            Ok(_) => return,
            Err(error) => error.to_string(),
        };
        inputs.add(self.problem(path, message));
    }

    /// What is measured at the end, each set read.
    pub(super) fn evaluation<'c>(
        &self,
        inputs: &mut Inputs,
        config: &'c TrialConfig,
        held_out: &mut Sources<'c>,
    ) {
        let eval = &config.eval.recipe;
        for (name, set) in &eval.likelihood {
            let path = format!("eval.recipe.likelihood.{name}");
            let at = format!("{path}.data");
            let files = self.sources(inputs, &set.data, (&at, Wanted::Chats));
            let limit = (&*format!("{path}.max-seq-len"), Some(set.max_seq_len));
            self.chats(inputs, &files, limit);
            let by = set.cluster.as_deref().map(|key| (key, usize::MAX));
            self.clusters(inputs, &files, by, &at);
            held_out.push((at, &set.data, Wanted::Chats));
        }
        // Without preference learning there is no reference, and no pair is measured.
        let has_reference = config
            .pipeline
            .iter()
            .any(|stage| matches!(stage, PipelineStage::Dpo | PipelineStage::OnlineDpo));
        for (name, set) in eval.preference.iter().filter(|_| has_reference) {
            let path = format!("eval.recipe.preference.{name}");
            let at = format!("{path}.data");
            let files = self.sources(inputs, &set.data, (&at, Wanted::Pairs));
            self.pairs(inputs, &files, &set.limits, &format!("{path}.limits"));
            let by = set.cluster.as_deref().map(|key| (key, usize::MAX));
            self.clusters(inputs, &files, by, &at);
            held_out.push((at, &set.data, Wanted::Pairs));
        }
        for (name, set) in &eval.stories {
            self.stories(inputs, set, &format!("eval.recipe.stories.{name}.data"));
        }
        for (name, set) in &eval.judged {
            let path = format!("eval.recipe.judged.{name}");
            self.judged(inputs, set, &format!("{path}.benchmark"));
            if let Some(folder) = &set.judge.model_path {
                let at = format!("{path}.judge.model-path");
                inputs.folder(Folder::new(folder, Role::Chat), self.asker(&at));
            }
        }
        for (name, task) in &eval.tasks {
            let Some(format) = self.format else { break };
            let path = format!("eval.recipe.tasks.{name}");
            inputs.task(format, (name, task), self.asker(&path));
        }
        if !eval.preference.is_empty() {
            self.one_precision(inputs, config);
        }
    }

    /// Warns where the reference of held-out pairs, that of the first stage of preference learning, is computed
    /// in another number format than the policy: the difference of two formats is no reward.
    fn one_precision(&self, inputs: &mut Inputs, config: &TrialConfig) {
        let first = config.pipeline.iter().find_map(|stage| match stage {
            PipelineStage::Sft => None,
            PipelineStage::Dpo => Some(("dpo.recipe", &config.dpo.as_ref()?.recipe)),
            PipelineStage::OnlineDpo => Some((
                "online-dpo.recipe.dpo",
                &config.online_dpo.as_ref()?.recipe.dpo,
            )),
        });
        let Some((of, recipe)) = first else { return };
        let (reference, policy) = (recipe.training.precision, config.eval.recipe.precision);
        if reference != policy {
            let message = format!(
                "pairs are measured in {} against a reference in {}: rewards and shifts hold what is lost by the \
                 rounding, too",
                policy.name(),
                reference.name()
            );
            let help = format!("write the `precision` of `{of}` here, or this one there");
            let problem = self.problem("eval.recipe.precision", message);
            inputs.add(problem.help(help).warning());
        }
    }

    /// Encodes conversations; says so if none of those looked at has a target within the limit.
    pub(super) fn chats(
        &self,
        inputs: &mut Inputs,
        files: &Files,
        (path, limit): (&str, Option<usize>),
    ) -> Encoded {
        let Some(format) = self.format else {
            return Encoded::default();
        };
        let asker = self.asker_of(files, path);
        let rows = self.encoded(inputs, files, |inputs, rows| {
            inputs.chats(format, rows, limit, asker)
        });
        if let Some(limit) = limit.filter(|_| rows.seen > 0 && rows.left == 0) {
            let message = nothing_to_learn(rows.seen, limit);
            let problem = self.problem(path, message).warning_unless(rows.all);
            inputs.add(problem.help(SHORTER));
        }
        rows
    }

    /// Encodes pairs; says so if none of those looked at is left.
    pub(super) fn pairs(
        &self,
        inputs: &mut Inputs,
        files: &Files,
        limits: &PairLimits,
        path: &str,
    ) {
        let pairs = self.fitting(inputs, files, limits, path);
        if pairs.seen > 0 && pairs.left == 0 {
            let message = format!(
                "none of the {} looked at is left within `max-seq-len` {} and \
                 `max-prompt-len` {}",
                counted(pairs.seen, "pair"),
                limits.max_seq_len,
                limits.max_prompt_len
            );
            let problem = self.problem(format!("{path}.max-seq-len"), message);
            let problem = problem.warning_unless(pairs.all);
            inputs.add(problem.help("raise the limits, or take pairs with shorter replies"));
        }
    }

    /// Encodes pairs: how many are within the limits.
    pub(super) fn fitting(
        &self,
        inputs: &mut Inputs,
        files: &Files,
        limits: &PairLimits,
        path: &str,
    ) -> Encoded {
        let Some(format) = self.format else {
            return Encoded::default();
        };
        let asker = self.asker_of(files, path);
        self.encoded(inputs, files, |inputs, rows| {
            inputs.pairs(format, rows, limits, asker)
        })
    }

    fn rate(&self, inputs: &mut Inputs, optimizer: &OptimizerRecipe, path: &str) {
        let rate = optimizer.learning_rate.get();
        if rate >= RUNAWAY_RATE {
            let shown = show_value(&rate.into());
            let message = format!(
                "a learning rate of {shown} moves every weight by about as much each step: the model would \
                 be destroyed"
            );
            let problem = self.problem(format!("{path}.learning-rate"), message);
            let help = "usual are 1e-6 to 1e-3, and up to 1e-2 for small models and adapters";
            inputs.add(problem.help(help).warning());
        }
    }

    /// What is wrong if every step has rate 0: a warm-up begins with it.
    fn trains(&self, training: &TrainingRecipe, steps: u64, path: &str) -> Option<Problem> {
        let rate = training.optimizer.learning_rate.get();
        if LrSchedule::new(&training.schedule, rate, steps).learns() {
            return None;
        }
        let message = format!(
            "nothing would be trained: the {} with rate 0, where the warm-up begins",
            if steps == 1 {
                "only step runs".to_owned()
            } else {
                format!("{steps} steps run")
            }
        );
        let problem = self.problem(format!("{path}.schedule.warmup-ratio"), message);
        Some(problem.help("write `warmup-ratio = 0`, or train for more steps"))
    }
}
