//! Whether each stage has the rows that it is told to use, and would train.

use crate::base::SeedTree;
use crate::config::spec::{
    BatchSize, Batching, DataSource, DpoRecipe, Duration, LossMask, OptimizerRecipe, PairLimits,
    PipelineStage, SftRecipe, StoriesEval, TrainingRecipe, TrialConfig,
};
use crate::config::sweep::{Trial, show_value};
use crate::data::{FileRows, PairPlan, SftPlan, TextFormat, Wanted};
use crate::preflight::inputs::{Encoded, Inputs};
use crate::preflight::leaks::{Sources, find_leaks};
use crate::preflight::problem::Problem;
use crate::train::LrSchedule;
use std::num::NonZeroUsize;
use std::rc::Rc;

/// Sets of at most so many rows are planned in full: only in those a stage has so few steps that their
/// number decides whether it trains.
const PLANNED: usize = 256;

/// A peak learning rate from which AdamW, whose steps are as long as the rate, destroys any model.
const RUNAWAY_RATE: f64 = 0.1;

/// Everything about one trial.
pub(super) fn look_at_trial(inputs: &mut Inputs, trial: &Trial) {
    let config = &trial.config;
    let format = inputs.format(&config.model);
    let format = format.as_deref();
    let stage = Stage {
        trial: trial.index,
        format,
    };
    let mut held_out = Sources::new();
    for name in config.pipeline.iter().map(|stage| stage.name()) {
        match (name, &config.sft, &config.dpo, &config.online_dpo) {
            ("sft", Some(sft), _, _) => stage.sft(inputs, &sft.recipe, trial.seed, &mut held_out),
            ("dpo", _, Some(dpo), _) => {
                stage.dpo(inputs, &dpo.recipe, "dpo.recipe", &mut held_out);
            }
            ("online-dpo", _, _, Some(online)) => {
                let path = "online-dpo.recipe.prompts.data";
                let recipe = &online.recipe;
                stage.prompts(inputs, &recipe.prompts.data, path);
                let path = "online-dpo.recipe.dpo";
                stage.dpo(inputs, &recipe.dpo, path, &mut held_out);
            }
            _ => {}
        }
    }
    stage.evaluation(inputs, config, &mut held_out);
    find_leaks(inputs, trial.index, config, &held_out);
}

/// What the stages of a trial have in common.
struct Stage<'a> {
    trial: usize,
    format: Option<&'a TextFormat>,
}

/// The files of a mixture.
struct Files {
    /// The rows of each that can be read, and how many of them are used.
    read: Vec<(Rc<FileRows>, usize)>,
    /// Whether all can be read.
    all: bool,
    /// How many rows of all are used: absent if a file is not there or was not read to its end.
    used: Option<usize>,
}

impl Files {
    /// What becomes of the rows of all files.
    fn encoded(&self, mut encode: impl FnMut(&Rc<FileRows>) -> Encoded) -> Encoded {
        let mut sum = Encoded {
            all: self.all,
            ..Encoded::default()
        };
        for (rows, _) in &self.read {
            let file = encode(rows);
            sum.left += file.left;
            sum.seen += file.seen;
            sum.all &= file.all;
        }
        sum
    }
}

impl Stage<'_> {
    fn problem(&self, path: impl Into<String>, message: String) -> Problem {
        Problem::of_value(self.trial, path, message)
    }

    /// The rows of each source.
    fn sources(
        &self,
        inputs: &mut Inputs,
        data: &[DataSource],
        (path, wanted): (&str, Wanted),
    ) -> Files {
        let mut files = Files {
            read: Vec::new(),
            all: true,
            used: Some(0),
        };
        for (index, source) in data.iter().enumerate() {
            let Some(rows) = inputs.rows(source, wanted) else {
                files.all = false;
                files.used = None;
                continue;
            };
            let found = rows.len();
            let share = match (source.count, source.fraction) {
                (Some(count), _) => count.get(),
                (None, Some(share)) => (share.get() * found as f64).round() as usize,
                (None, None) => found,
            };
            if source.count.is_some() && share > found && rows.whole {
                let message = format!("`count` is {share}, but `{}` has {found} rows", source.path);
                let problem = self.problem(format!("{path}.{index}.count"), message);
                inputs.add(problem.help(format!("write {found} or less, or leave `count` out")));
            }
            let known = rows.whole || source.count.is_some();
            let used = files.used.filter(|_| known);
            files.used = used.map(|sum| sum.saturating_add(share));
            files.read.push((rows, share));
        }
        files
    }

    fn enough(&self, inputs: &mut Inputs, most: Option<usize>, used: Option<usize>, path: &str) {
        if let (Some(most), Some(used)) = (most, used)
            && most > used
        {
            let message = format!("`max-examples` is {most}, but the data has {used} examples");
            let problem = self.problem(format!("{path}.max-examples"), message);
            inputs.add(problem.help(format!("write {used} or less, or leave it out to use all")));
        }
    }

    fn sft<'c>(
        &self,
        inputs: &mut Inputs,
        recipe: &'c SftRecipe,
        seed: u64,
        held_out: &mut Sources<'c>,
    ) {
        let at = |name: &str| format!("sft.recipe.{name}");
        let (rows, layout, training) = (&recipe.rows, &recipe.layout, &recipe.training);
        let files = self.sources(inputs, &rows.data, (&at("data"), Wanted::Chats));
        let most = rows.max_examples.map(NonZeroUsize::get);
        self.enough(inputs, most, files.used, "sft.recipe");
        self.rate(inputs, &training.optimizer, &at("optimizer"));
        if let Some(monitor) = &training.monitor {
            let path = at("monitor.data");
            let files = self.sources(inputs, &monitor.data, (&path, Wanted::Chats));
            self.chats(inputs, &files, (&path, None));
            held_out.push((path, &monitor.data, Wanted::Chats));
        }
        let padded = layout.batching == Batching::Padded;
        // Where all tokens count, every one behind the first is a target.
        let cuts = padded && layout.loss_mask == LossMask::AssistantOnly;
        let limit = cuts.then_some(layout.max_seq_len);
        self.chats(inputs, &files, (&at("max-seq-len"), limit));

        let most = most.unwrap_or(usize::MAX);
        let few = files.all && files.used.is_some_and(|used| used.min(most) <= PLANNED);
        let planned = self.format.filter(|_| few).and_then(|format| {
            let key = format!("{:p} {recipe:?}", std::ptr::from_ref(format));
            let seed = SeedTree::root(training.seed.unwrap_or(seed));
            inputs.planned(key, || steps_of(format, &files, recipe, &seed))
        });
        let steps = match (planned, training.duration) {
            (Some(steps), _) => steps,
            (None, Duration::Steps(steps)) => Ok(steps),
            (None, Duration::Epochs(_)) => return,
        };
        // Other rows than these may be drawn, and fill more or fewer windows.
        let drawn =
            rows.is_sampled() || rows.max_examples.is_some() || rows.empty_system_turn.is_some();
        let counts_rows = padded && matches!(layout.batch, BatchSize::Rows(_));
        let problem = match steps {
            Ok(steps) => {
                let sure = matches!(training.duration, Duration::Steps(_)) || counts_rows || !drawn;
                let problem = self.trains(training, steps, "sft.recipe");
                problem.map(|problem| problem.warning_unless(sure))
            }
            Err(reason) => {
                let sure = layout.max_masked_fraction.is_none() || !drawn;
                Some(self.problem(at("batch"), reason).warning_unless(sure))
            }
        };
        if let Some(problem) = problem {
            inputs.add(problem);
        }
    }

    /// Offline, or the training of a round.
    fn dpo<'c>(
        &self,
        inputs: &mut Inputs,
        recipe: &'c DpoRecipe,
        path: &str,
        held_out: &mut Sources<'c>,
    ) {
        let at = |name: &str| format!("{path}.{name}");
        let (rows, limits, training) = (&recipe.rows, &recipe.pairs.limits, &recipe.training);
        let files = self.sources(inputs, &rows.data, (&at("data"), Wanted::Pairs));
        let offline = path == "dpo.recipe";
        let most = rows.max_examples.map(NonZeroUsize::get);
        self.enough(inputs, most.filter(|_| offline), files.used, path);
        self.rate(inputs, &training.optimizer, &at("optimizer"));
        if let Some(monitor) = &training.monitor {
            let path = at("monitor.data");
            let files = self.sources(inputs, &monitor.data, (&path, Wanted::Pairs));
            self.pairs(inputs, &files, limits, &path);
            held_out.push((path, &monitor.data, Wanted::Pairs));
        }
        self.pairs(inputs, &files, limits, &at("limits"));
        let pairs = files.used.map(|used| used.min(most.unwrap_or(usize::MAX)));
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
                        inputs.add(self.problem(at("duration"), error.to_string()));
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
    }

    fn prompts(&self, inputs: &mut Inputs, data: &[DataSource], path: &str) {
        let files = self.sources(inputs, data, (path, Wanted::Prompts));
        let Some(format) = self.format else { return };
        for (rows, _) in &files.read {
            inputs.prompts(format, rows);
        }
    }

    fn stories(&self, inputs: &mut Inputs, set: &StoriesEval, path: &str) {
        let files = self.sources(inputs, &set.data, (path, Wanted::Chats));
        let Some(format) = self.format else { return };
        let is_drawn = |source: &DataSource| source.fraction.is_some() || source.count.is_some();
        let drawn = set.data.iter().any(is_drawn);
        let mut left = set.max_prompts.map_or(usize::MAX, NonZeroUsize::get);
        for (rows, share) in &files.read {
            let most = if drawn { usize::MAX } else { left };
            inputs.stories(format, rows, most, drawn);
            left = left.saturating_sub(*share);
        }
    }

    /// What is measured at the end, each set read.
    fn evaluation<'c>(
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
            held_out.push((at, &set.data, Wanted::Pairs));
        }
        for (name, set) in &eval.stories {
            self.stories(inputs, set, &format!("eval.recipe.stories.{name}.data"));
        }
    }

    /// Encodes conversations; says so if none of those looked at has a target within the limit.
    fn chats(&self, inputs: &mut Inputs, files: &Files, (path, limit): (&str, Option<usize>)) {
        let Some(format) = self.format else { return };
        let rows = files.encoded(|rows| inputs.chats(format, rows, limit));
        if let Some(limit) = limit.filter(|_| rows.seen > 0 && rows.left == 0) {
            let message = format!(
                "none of the {} rows looked at has a token to learn among its first {limit}",
                rows.seen
            );
            let problem = self.problem(path, message).warning_unless(rows.all);
            inputs.add(problem.help("raise the limit, or take rows with shorter prompts"));
        }
    }

    /// Encodes pairs; says so if none of those looked at is left.
    fn pairs(&self, inputs: &mut Inputs, files: &Files, limits: &PairLimits, path: &str) {
        let Some(format) = self.format else { return };
        let pairs = files.encoded(|rows| inputs.pairs(format, rows, limits));
        if pairs.seen > 0 && pairs.left == 0 {
            let message = format!(
                "none of the {} pairs looked at is left within `max-seq-len` {} and \
                 `max-prompt-len` {}",
                pairs.seen, limits.max_seq_len, limits.max_prompt_len
            );
            let problem = self.problem(format!("{path}.max-seq-len"), message);
            let problem = problem.warning_unless(pairs.all);
            inputs.add(problem.help("raise the limits, or take pairs with shorter replies"));
        }
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

/// The steps of a stage that sees few rows, or why it has none; absent if a row cannot be used, which
/// was said.
fn steps_of(
    format: &TextFormat,
    files: &Files,
    recipe: &SftRecipe,
    seed: &SeedTree,
) -> Option<Result<u64, String>> {
    let shares = files.read.iter();
    let rows = shares.flat_map(|(file, share)| file.chats.iter().cycle().take(*share));
    let most = recipe
        .rows
        .max_examples
        .map_or(usize::MAX, NonZeroUsize::get);
    let examples = rows.take(most).map(|row| format.encode_chat(row));
    let examples = examples.collect::<Result<Vec<_>, _>>().ok()?;
    let duration = recipe.training.duration;
    let pad = format.pad_token();
    let plan = SftPlan::new(examples, &recipe.layout, duration, seed, pad);
    Some(plan.map(|plan| plan.steps()).map_err(|e| e.to_string()))
}
