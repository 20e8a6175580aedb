//! Rules for online DPO, for judged benchmarks, for filters and for the checkpoint that is evaluated.

use crate::config::check::Checker;
use crate::config::judge::judge_problems;
use crate::config::judged::judged_problems;
use crate::config::spec::{
    EvalRecipe, JudgeRuntime, OnlineDpoConfig, PipelineStage, SamplingRecipe, SelectConfig,
    SelectMethod, SelectOf, SelectTarget, TrialConfig, select_problems,
};
use std::num::NonZeroUsize;

/// Seconds of a year, more than any answer is waited for.
const YEAR: u64 = 365 * 24 * 60 * 60;

impl Checker<'_> {
    /// Rounds, prompts, samples, judge and the training of a round.
    pub(super) fn online_dpo(&mut self, online: &OnlineDpoConfig, most: Option<usize>) {
        let recipe = &online.recipe;
        let at = |name: &str| format!("online-dpo.recipe.{name}");
        self.few(recipe.rounds.get(), &at("rounds"));
        self.data(&recipe.prompts.data, &at("prompts.data"));
        let prompts = recipe.prompts.per_round.map_or(1, NonZeroUsize::get);
        self.count(prompts, &at("prompts.per-round"));
        let longest = recipe.prompts.max_prompt_len;
        self.length(longest, &at("prompts.max-prompt-len"), most);
        self.must(
            recipe.samples.get() >= 2,
            &at("samples"),
            recipe.samples,
            "2 or more, so that there is a best and a worst",
        );
        self.few(recipe.samples.get(), &at("samples"));
        self.sampling(&recipe.sampling, &at("sampling"));
        if recipe.sampling.temperature.get() == 0.0 {
            let message = "with temperature 0 all samples of a prompt are equal";
            self.fail(&at("sampling.temperature"), message, "for example 1.0");
        }
        let shares = [recipe.p_ori_pair, recipe.p_ori_chosen];
        let sum: f64 = shares.iter().flatten().map(|share| share.get()).sum();
        if sum > 1.0 {
            let message = format!("`p-ori-pair` and `p-ori-chosen` together are {sum}, above 1");
            self.fail(&at("p-ori-chosen"), message, "lower one of them");
        }
        self.fail_all(&at("judge"), judge_problems(&recipe.judge));
        if let Some(path) = recipe.judge.model_path() {
            let name = recipe.judge.name();
            self.model_folder(path, &at(&format!("judge.{name}.model-path")));
        }
        let dpo = &recipe.dpo;
        if !dpo.rows.data.is_empty() {
            self.data(&dpo.rows.data, &at("dpo.data"));
        }
        self.preference(dpo, "online-dpo.recipe.dpo", most);
        self.judge_runtime(&online.judge_runtime, "online-dpo.judge-runtime");
    }

    /// How much is drawn.
    pub(super) fn sampling(&mut self, sampling: &SamplingRecipe, path: &str) {
        let at = format!("{path}.max-new-tokens");
        self.count(sampling.max_new_tokens.get(), &at);
    }

    /// Chat benchmarks and how their judge is asked.
    pub(super) fn judged(&mut self, config: &TrialConfig, recipe: &EvalRecipe) {
        for (name, set) in &recipe.judged {
            let path = format!("eval.recipe.judged.{name}");
            self.fail_all(&path, judged_problems(set));
            if let Some(folder) = &set.judge.model_path {
                self.model_folder(folder, &format!("{path}.judge.model-path"));
            }
            for (key, file) in set.benchmark.files() {
                let benchmark = set.benchmark.name();
                self.plain_file(file, &format!("{path}.benchmark.{benchmark}.{key}"));
            }
            let at = format!("{path}.max-new-tokens");
            self.count(set.max_new_tokens.get(), &at);
        }
        if let Some(runtime) = &config.eval.judge_runtime {
            self.judge_runtime(runtime, "eval.judge-runtime");
        }
    }

    fn judge_runtime(&mut self, runtime: &JudgeRuntime, path: &str) {
        self.few(runtime.concurrency(), &format!("{path}.concurrency"));
        let (seconds, at) = (runtime.timeout_secs(), format!("{path}.timeout-secs"));
        self.must(seconds <= YEAR, &at, seconds, "at most 31536000, a year");
    }

    /// The filter fits the data of its stage.
    pub(super) fn select(&mut self, config: &TrialConfig, select: &SelectConfig) {
        let (stage, target) = match select.of {
            SelectOf::Sft => (PipelineStage::Sft, SelectTarget::Chat),
            SelectOf::Dpo => (PipelineStage::Dpo, SelectTarget::Pairs),
        };
        if !config.pipeline.contains(&stage) {
            let name = stage.name();
            let message = format!("`select` filters the data of `{name}`, which is not trained");
            let help = format!("add `{name}` to `pipeline`, or leave `select` away");
            self.fail("select.of", message, help);
        }
        self.fail_all("select.recipe", select_problems(&select.recipe, target));
        if let SelectMethod::Less(less) = &select.recipe.method {
            let at = "select.recipe.method.less.dimension";
            self.count(less.dimension.get(), at);
        }
        for (field, path) in select.recipe.method.model_paths() {
            self.model_folder(path, &format!("select.recipe.method.{field}"));
        }
        let ids = select.recipe.method.ids_path();
        if let Some(path) = ids.filter(|path| !path.is_empty()) {
            self.plain_file(path, "select.recipe.method.ids.ids-path");
        }
        let data = select.recipe.method.data();
        if !data.is_empty() {
            let name = select.recipe.method.name();
            self.data(data, &format!("select.recipe.method.{name}.data"));
        }
    }

    /// The evaluated checkpoint is one that the last stage keeps.
    pub(super) fn checkpoint_step(&mut self, config: &TrialConfig) {
        let Some(step) = config.eval.checkpoint_step else {
            return;
        };
        let kept = match config.pipeline.last() {
            Some(PipelineStage::Sft) => config.sft.as_ref().map(|s| &s.recipe.training.save_steps),
            Some(PipelineStage::Dpo) => config.dpo.as_ref().map(|d| &d.recipe.training.save_steps),
            Some(PipelineStage::OnlineDpo) => {
                let online = config.online_dpo.as_ref();
                online.map(|o| &o.recipe.dpo.training.save_steps)
            }
            None => None,
        };
        let kept = kept.map(Vec::as_slice).unwrap_or_default();
        if !kept.contains(&step) {
            let shown: Vec<String> = kept.iter().map(u64::to_string).collect();
            let help = if shown.is_empty() {
                "name the step in the recipe's `save-steps`".to_owned()
            } else {
                format!("its `save-steps` are {}", shown.join(", "))
            };
            let message = format!("the last stage keeps no weights after step {step}");
            self.fail("eval.checkpoint-step", message, help);
        }
    }
}
