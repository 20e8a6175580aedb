//! Whether each stage has the rows that it is told to use, and would train.

use crate::base::SeedTree;
use crate::config::spec::{
    DataSource, DpoRecipe, Duration, OptimizerRecipe, ScheduleRecipe, SftRecipe, TrialConfig,
};
use crate::config::sweep::{Trial, show_value};
use crate::data::{FileRows, SftPlan, TextFormat, Wanted};
use crate::preflight::inputs::Inputs;
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
    for name in config.pipeline.iter().map(|stage| stage.name()) {
        match (name, &config.sft, &config.dpo, &config.online_dpo) {
            ("sft", Some(sft), _, _) => stage.sft(inputs, &sft.recipe, trial.seed),
            ("dpo", _, Some(dpo), _) => stage.dpo(inputs, &dpo.recipe, "dpo.recipe"),
            ("online-dpo", _, _, Some(online)) => {
                let path = "online-dpo.recipe.prompts.data";
                let data = &online.recipe.prompts.data;
                stage.prompts(inputs, data, path);
                stage.dpo(inputs, &online.recipe.dpo, "online-dpo.recipe.dpo");
            }
            _ => {}
        }
    }
    let held_out = stage.held_out(inputs, config);
    find_leaks(inputs, trial.index, config, &held_out);
}

/// What the stages of a trial have in common.
struct Stage<'a> {
    trial: usize,
    format: Option<&'a TextFormat>,
}

impl Stage<'_> {
    fn problem(&self, path: String, message: String) -> Problem {
        Problem::of_value(self.trial, path, message)
    }

    /// The rows of each source that can be read, and how many of all are used: absent if a file is
    /// not there or was not read to its end.
    fn sources(
        &self,
        inputs: &mut Inputs,
        data: &[DataSource],
        (path, wanted): (&str, Wanted),
    ) -> (Vec<Rc<FileRows>>, Option<usize>) {
        let (mut files, mut used) = (Vec::new(), Some(0));
        for (index, source) in data.iter().enumerate() {
            let Some(rows) = inputs.rows(source, wanted) else {
                used = None;
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
            used = used.filter(|_| rows.whole || source.count.is_some());
            used = used.map(|sum: usize| sum.saturating_add(share));
            files.push(rows);
        }
        (files, used)
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

    fn sft(&self, inputs: &mut Inputs, recipe: &SftRecipe, seed: u64) {
        let at = |name: &str| format!("sft.recipe.{name}");
        let (files, used) = self.sources(inputs, &recipe.rows.data, (&at("data"), Wanted::Chats));
        self.enough(
            inputs,
            recipe.rows.max_examples.map(NonZeroUsize::get),
            used,
            "sft.recipe",
        );
        self.rate(inputs, &recipe.training.optimizer, &at("optimizer"));
        if let Some(monitor) = &recipe.training.monitor {
            let path = (&*at("monitor.data"), Wanted::Chats);
            let (files, _) = self.sources(inputs, &monitor.data, path);
            self.chats(inputs, &files, (&at("monitor.data"), None));
        }
        let padded = recipe.layout.batching == crate::config::spec::Batching::Padded;
        let limit = padded.then_some(recipe.layout.max_seq_len);
        self.chats(inputs, &files, (&at("max-seq-len"), limit));
        let few = used.is_some_and(|used| used <= PLANNED) && files.len() == recipe.rows.data.len();
        let key = format!("sft plan {} {recipe:?}", self.model_key());
        if !few || !inputs.is_new(key) {
            if let Duration::Steps(steps) = recipe.training.duration {
                self.trains(
                    inputs,
                    (&recipe.training.schedule, &recipe.training.optimizer),
                    steps,
                    "sft.recipe",
                );
            }
            return;
        }
        let Some(format) = self.format else { return };
        let rows = files.iter().flat_map(|file| &file.chats);
        let examples: Result<Vec<_>, _> = rows.map(|row| format.encode_chat(row)).collect();
        let Ok(mut examples) = examples else { return };
        examples.truncate(
            recipe
                .rows
                .max_examples
                .map_or(usize::MAX, NonZeroUsize::get),
        );
        let seed = SeedTree::root(recipe.training.seed.unwrap_or(seed));
        match SftPlan::new(
            examples,
            &recipe.layout,
            recipe.training.duration,
            &seed,
            format.pad_token(),
        ) {
            Ok(plan) => {
                let schedule = (&recipe.training.schedule, &recipe.training.optimizer);
                self.trains(inputs, schedule, plan.steps(), "sft.recipe");
            }
            Err(error) => inputs.add(self.problem(at("batch"), error.to_string())),
        }
    }

    /// Which model and template texts are written for.
    fn model_key(&self) -> String {
        self.format.map_or(String::new(), |format| {
            format!("{:p}", std::ptr::from_ref(format))
        })
    }

    fn dpo(&self, inputs: &mut Inputs, recipe: &DpoRecipe, path: &str) {
        let at = |name: &str| format!("{path}.{name}");
        let (files, used) = self.sources(inputs, &recipe.rows.data, (&at("data"), Wanted::Pairs));
        let offline = path == "dpo.recipe";
        self.enough(
            inputs,
            recipe
                .rows
                .max_examples
                .map(NonZeroUsize::get)
                .filter(|_| offline),
            used,
            path,
        );
        self.rate(inputs, &recipe.training.optimizer, &at("optimizer"));
        if let Some(monitor) = &recipe.training.monitor {
            let data = (&*at("monitor.data"), Wanted::Pairs);
            let (files, _) = self.sources(inputs, &monitor.data, data);
            self.pairs(inputs, &files, recipe, &at("monitor.data"));
        }
        self.pairs(inputs, &files, recipe, &at("limits"));
        let pairs = used.map(|used| {
            used.min(
                recipe
                    .rows
                    .max_examples
                    .map_or(usize::MAX, NonZeroUsize::get),
            )
        });
        let steps = match (recipe.training.duration, pairs) {
            // The rounds of online DPO tell by themselves whether they would train.
            _ if !offline => None,
            (Duration::Steps(steps), _) => Some(steps),
            (Duration::Epochs(epochs), Some(pairs)) if pairs > 0 => {
                let rows = ((epochs * pairs as f64).round() as u64).max(1);
                Some(rows.div_ceil(recipe.pairs.global_batch_size.get() as u64))
            }
            _ => None,
        };
        if let Some(steps) = steps {
            self.trains(
                inputs,
                (&recipe.training.schedule, &recipe.training.optimizer),
                steps,
                path,
            );
        }
    }

    fn prompts(&self, inputs: &mut Inputs, data: &[DataSource], path: &str) {
        let (files, _) = self.sources(inputs, data, (path, Wanted::Prompts));
        let Some(format) = self.format else { return };
        for rows in files {
            if inputs.is_new(format!(
                "prompts {} {:p}",
                self.model_key(),
                Rc::as_ptr(&rows)
            )) {
                inputs.prompts(format, &rows);
            }
        }
    }

    /// What is measured, each set read.
    fn held_out<'c>(&self, inputs: &mut Inputs, config: &'c TrialConfig) -> Sources<'c> {
        let eval = &config.eval.recipe;
        let mut all: Sources<'c> = Vec::new();
        for (name, set) in &eval.likelihood {
            let path = format!("eval.recipe.likelihood.{name}");
            let at = format!("{path}.data");
            let (files, _) = self.sources(inputs, &set.data, (&at, Wanted::Chats));
            let limit = (&*format!("{path}.max-seq-len"), Some(set.max_seq_len));
            self.chats(inputs, &files, limit);
            all.push((at, &set.data, Wanted::Chats));
        }
        for (name, set) in &eval.preference {
            let path = format!("eval.recipe.preference.{name}");
            let at = format!("{path}.data");
            let (files, _) = self.sources(inputs, &set.data, (&at, Wanted::Pairs));
            self.pairs_within(inputs, &files, &set.limits, &format!("{path}.limits"));
            all.push((at, &set.data, Wanted::Pairs));
        }
        for (name, set) in &eval.stories {
            self.prompts(
                inputs,
                &set.data,
                &format!("eval.recipe.stories.{name}.data"),
            );
        }
        let of_sft = config
            .sft
            .as_ref()
            .and_then(|sft| sft.recipe.training.monitor.as_ref());
        let of_dpo = config
            .dpo
            .as_ref()
            .and_then(|dpo| dpo.recipe.training.monitor.as_ref());
        let monitors = [
            ("sft", of_sft, Wanted::Chats),
            ("dpo", of_dpo, Wanted::Pairs),
        ];
        for (stage, monitor, wanted) in monitors {
            if let Some(monitor) = monitor {
                all.push((
                    format!("{stage}.recipe.training.monitor.data"),
                    &monitor.data,
                    wanted,
                ));
            }
        }
        all
    }

    /// Encodes conversations; says so if none of those looked at has a target within the limit.
    fn chats(&self, inputs: &mut Inputs, files: &[Rc<FileRows>], limit: (&str, Option<usize>)) {
        let Some(format) = self.format else { return };
        let (path, limit) = limit;
        let (mut targets, mut seen) = (0, 0);
        for rows in files {
            let key = format!(
                "chats {} {:p} {limit:?}",
                self.model_key(),
                Rc::as_ptr(rows)
            );
            if !inputs.is_new(key) {
                return;
            }
            let (with, of) = inputs.chats(format, rows, limit);
            targets += with;
            seen += of;
        }
        if let Some(limit) = limit.filter(|_| seen > 0 && targets == 0) {
            let message = format!(
                "none of the {seen} rows looked at has a token to learn among its first {limit}"
            );
            let problem = self.problem(path.to_owned(), message);
            inputs.add(problem.help("raise the limit, or take rows with shorter prompts"));
        }
    }

    fn pairs(&self, inputs: &mut Inputs, files: &[Rc<FileRows>], recipe: &DpoRecipe, path: &str) {
        self.pairs_within(inputs, files, &recipe.pairs.limits, path);
    }

    /// Encodes pairs; says so if none of those looked at is left.
    fn pairs_within(
        &self,
        inputs: &mut Inputs,
        files: &[Rc<FileRows>],
        limits: &crate::config::spec::PairLimits,
        path: &str,
    ) {
        let Some(format) = self.format else { return };
        let (mut kept, mut seen) = (0, 0);
        for rows in files {
            let key = format!(
                "pairs {} {:p} {limits:?}",
                self.model_key(),
                Rc::as_ptr(rows)
            );
            if !inputs.is_new(key) {
                return;
            }
            let (with, of) = inputs.pairs(format, rows, limits);
            kept += with;
            seen += of;
        }
        if seen > 0 && kept == 0 {
            let message = format!(
                "none of the {seen} pairs looked at is left within `max-seq-len` {} and \
                 `max-prompt-len` {}",
                limits.max_seq_len, limits.max_prompt_len
            );
            let problem = self.problem(format!("{path}.max-seq-len"), message);
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

    /// Says so if every step has rate 0: a warm-up begins with it.
    fn trains(
        &self,
        inputs: &mut Inputs,
        (schedule, optimizer): (&ScheduleRecipe, &OptimizerRecipe),
        steps: u64,
        path: &str,
    ) {
        let rates = LrSchedule::new(schedule, optimizer.learning_rate.get(), steps);
        // Only the steps of a very short run can all be those of rate 0.
        if steps > 4 || (0..steps).any(|step| rates.learning_rate(step) > 0.0) {
            return;
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
        inputs.add(problem.help("write `warmup-ratio = 0`, or train for more steps"));
    }
}
