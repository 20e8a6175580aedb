//! From trials to runs: base model → [sft] → [ref-logps, dpo] → rounds of [sample, judge, ref-logps,
//! dpo] → eval, each run once. A `select` run stands before the stage whose data it filters.

use crate::arch::DecoderConfig;
use crate::base::{Digest, SeedTree};
use crate::config::spec::{
    DataSource, DpoRecipe, EvalRecipe, OnlineDpoConfig, PairLimits, PipelineStage, Reference,
    RowsRecipe, SelectOf, SftConfig, SftRecipe, TrainRuntime, TrialConfig,
};
use crate::config::sweep::{AxisValue, Sweep, Trial};
use crate::plan::digests::DigestCache;
use crate::plan::documents::KnownLengths;
use crate::plan::error::PlanError;
use crate::plan::estimate::{Estimator, RunCost};
use crate::plan::identity::{Identity, Memo, RecipeDocument, recipe_document, run_id};
use crate::plan::resolve::{MissingInput, Resolver};
use crate::plan::stage::{
    InputRef, InputRole, JudgeStageRecipe, MODEL_ARTIFACT, PAIRS_ARTIFACT, PairSet,
    REF_LOGPS_ARTIFACT, RefLogpsRecipe, RunId, SAMPLES_ARTIFACT, SELECTION_ARTIFACT, STAGE_FORMAT,
    SampleStageRecipe, SelectRows, SelectStageRecipe, StageFile, StageKind, StageRecipe,
    checkpoint_artifact,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// What a sweep needs: runs, each once, and which trial uses which.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In topological order: parents before children, first need first.
    pub runs: Vec<PlannedRun>,
    /// In the order of the sweep.
    pub trials: Vec<PlannedTrial>,
    /// Inputs that are not there; such a plan can be shown but not run.
    pub missing: Vec<MissingInput>,
}

/// One node of the DAG.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// Digest of `identity`.
    pub id: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// What its executor is told.
    pub stage: StageFile,
    /// The exact JSON text that was hashed.
    pub identity: String,
    /// Runs whose artifacts it reads.
    pub parents: Vec<RunId>,
    /// Indices of the trials that use it.
    pub trials: Vec<usize>,
    /// What it will cost.
    pub estimate: RunCost,
}

impl PlannedRun {
    /// The models behind endpoints that judge its chat benchmarks, as they are known there.
    pub fn judges(&self) -> impl Iterator<Item = String> {
        let judged = match &self.stage.task {
            StageRecipe::Eval(recipe) => Some(recipe.judged.values()),
            _ => None,
        };
        judged
            .into_iter()
            .flatten()
            .filter_map(|eval| eval.judge.model.clone())
    }
}

/// A trial and its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTrial {
    /// Position in the sweep.
    pub index: usize,
    /// Its assignments in words, without the seed.
    pub label: String,
    /// Its seed.
    pub seed: u64,
    /// Axis name to value.
    pub assignments: BTreeMap<String, AxisValue>,
    /// In stage order, the evaluation last.
    pub runs: Vec<RunId>,
    /// The evaluation, whose metrics are the trial's.
    pub eval: RunId,
}

/// Lowers every trial; runs with the same identity become one. What they cost is estimated from
/// `lengths`, and roughly where those say nothing.
///
/// # Errors
/// An input cannot be read, or a recipe holds a number that is not finite. Inputs that are absent
/// are no error: see [`Plan::missing`].
pub fn plan_sweep(
    sweep: &Sweep,
    root: &Path,
    digests: &mut DigestCache,
    lengths: &KnownLengths,
) -> Result<Plan, PlanError> {
    let mut planner = Planner {
        resolver: Resolver::new(root, digests).expecting(&sweep.inputs),
        lengths,
        runs: Vec::new(),
        known: HashMap::new(),
        sft_documents: Memo::default(),
        dpo_documents: Memo::default(),
        eval_documents: Memo::default(),
        reference_documents: Memo::default(),
        estimates: BTreeMap::new(),
    };
    let trials = sweep
        .trials
        .iter()
        .map(|trial| planner.trial(trial))
        .collect::<Result<_, _>>()?;
    let missing = planner.resolver.missing.into_iter().collect();
    Ok(Plan {
        runs: planner.runs,
        trials,
        missing,
    })
}

struct Planner<'a> {
    resolver: Resolver<'a>,
    lengths: &'a KnownLengths,
    runs: Vec<PlannedRun>,
    /// Identity id to position in `runs`.
    known: HashMap<RunId, usize>,
    sft_documents: Memo<(SftRecipe, bool)>,
    dpo_documents: Memo<(DpoRecipe, bool)>,
    eval_documents: Memo<EvalRecipe>,
    reference_documents: Memo<RefLogpsRecipe, (RefLogpsRecipe, RecipeDocument)>,
    /// The last estimate of each kind: neighbouring trials mostly share it, too.
    estimates: BTreeMap<StageKind, (EstimateKey, RunCost)>,
}

/// All that an estimate rests on, but for what is trained on online.
#[derive(PartialEq)]
struct EstimateKey {
    task: StageRecipe,
    runtime: TrainRuntime,
    model: String,
    kept: Option<usize>,
}

/// What the stages of one trial have in common.
struct TrialContext<'t> {
    trial: &'t Trial,
    config: &'t TrialConfig,
    template: Option<Digest>,
    base: InputRef,
    model: Option<DecoderConfig>,
}

/// A run before it is known whether there is one like it.
struct RunDraft<'t> {
    task: StageRecipe,
    seed: u64,
    document: &'t RecipeDocument,
    inputs: BTreeMap<InputRole, InputRef>,
    runtime: &'t TrainRuntime,
}

/// What the stages of a trial hand on.
struct PipelineState {
    /// So far, in stage order.
    runs: Vec<RunId>,
    /// The current weights.
    policy: InputRef,
    /// Log-probabilities of held-out pairs under the reference of the first stage of preference learning.
    reference: Option<RunId>,
}

impl PipelineState {
    fn trained(&mut self, run: RunId) {
        self.policy = artifact_of(&run, MODEL_ARTIFACT);
        self.runs.push(run);
    }
}

/// One DPO pass, offline or of a round.
struct DpoPass<'t> {
    recipe: &'t DpoRecipe,
    runtime: &'t TrainRuntime,
    seed: u64,
    /// The `judge` run that made pairs for it.
    made: Option<RunId>,
    /// The `select` run that says which pairs of its data are used.
    kept: Option<RunId>,
}

impl Planner<'_> {
    fn trial(&mut self, trial: &Trial) -> Result<PlannedTrial, PlanError> {
        let config = &trial.config;
        let (digest, model) = self.resolver.model(&config.model.path)?;
        let template = match &config.model.chat_template {
            Some(path) => Some(self.resolver.file("chat template", path)?),
            None => None,
        };
        let base = InputRef::Folder {
            path: config.model.path.to_string(),
            digest,
        };
        let context = TrialContext {
            trial,
            config,
            template,
            base: base.clone(),
            model,
        };
        let mut chain = PipelineState {
            runs: Vec::new(),
            policy: base,
            reference: None,
        };
        for stage in &config.pipeline {
            self.stage(&context, *stage, &mut chain)?;
        }
        let policy = match (config.eval.checkpoint_step, &chain.policy) {
            (Some(step), InputRef::Run { id, .. }) => InputRef::Run {
                id: id.clone(),
                artifact: checkpoint_artifact(step),
            },
            _ => chain.policy,
        };
        let eval = self.eval(&context, policy, chain.reference)?;
        let mut runs = chain.runs;
        runs.push(eval.clone());
        Ok(PlannedTrial {
            index: trial.index,
            label: trial.label(),
            seed: trial.seed,
            assignments: trial.assignments.clone(),
            runs,
            eval,
        })
    }

    /// The runs of one stage of the pipeline.
    fn stage(
        &mut self,
        context: &TrialContext<'_>,
        stage: PipelineStage,
        chain: &mut PipelineState,
    ) -> Result<(), PlanError> {
        let config = context.config;
        let no_stage = |stage| PlanError::NoStage {
            trial: context.trial.label(),
            stage,
        };
        match stage {
            PipelineStage::Sft => {
                let sft = config.sft.as_ref().ok_or_else(|| no_stage("sft"))?;
                let kept = self.select(context, SelectOf::Sft, chain)?;
                let run = self.sft(context, sft, chain.policy.clone(), kept)?;
                chain.trained(run);
            }
            PipelineStage::Dpo => {
                let dpo = config.dpo.as_ref().ok_or_else(|| no_stage("dpo"))?;
                let kept = self.select(context, SelectOf::Dpo, chain)?;
                let pass = DpoPass {
                    recipe: &dpo.recipe,
                    runtime: &dpo.runtime,
                    seed: dpo.recipe.training.seed.unwrap_or(context.trial.seed),
                    made: None,
                    kept,
                };
                self.preference(context, &pass, chain)?;
            }
            PipelineStage::OnlineDpo => {
                let online = config.online_dpo.as_ref();
                let online = online.ok_or_else(|| no_stage("online-dpo"))?;
                for round in 0..online.recipe.rounds.get() {
                    self.round(context, online, round, chain)?;
                }
            }
        }
        Ok(())
    }

    /// Reference log-probabilities, if any pairs ask for them, and a DPO pass.
    fn preference(
        &mut self,
        context: &TrialContext<'_>,
        pass: &DpoPass<'_>,
        chain: &mut PipelineState,
    ) -> Result<(), PlanError> {
        // Held-out pairs are measured against the reference of the first stage of preference
        // learning, so that offline and online stages can be compared.
        let first = chain.reference.is_none();
        let logps = self.ref_logps(context, pass, &chain.policy, first)?;
        chain.runs.extend(logps.clone());
        if first {
            chain.reference.clone_from(&logps);
        }
        let needed = logps.filter(|_| pass.recipe.needs_reference());
        let run = self.dpo(context, pass, chain.policy.clone(), needed)?;
        chain.trained(run);
        Ok(())
    }

    /// One round of online DPO.
    fn round(
        &mut self,
        context: &TrialContext<'_>,
        online: &OnlineDpoConfig,
        round: usize,
        chain: &mut PipelineState,
    ) -> Result<(), PlanError> {
        let recipe = &online.recipe;
        let seed = recipe.seed.unwrap_or(context.trial.seed);
        let sample = SampleStageRecipe {
            prompts: recipe.prompts.clone(),
            round,
            samples: recipe.samples,
            sampling: recipe.sampling,
            precision: recipe.precision,
        };
        let document = recipe_document(&sample, "the sample recipe", None, &mut self.resolver)?;
        let samples = self.add(
            context,
            RunDraft {
                task: StageRecipe::Sample(sample),
                seed,
                document: &document,
                inputs: BTreeMap::from([(InputRole::Model, chain.policy.clone())]),
                runtime: &online.runtime,
            },
        )?;
        let judge = JudgeStageRecipe {
            judge: recipe.judge.clone(),
            p_ori_pair: recipe.p_ori_pair,
            p_ori_chosen: recipe.p_ori_chosen,
        };
        let document = recipe_document(&judge, "the judge recipe", None, &mut self.resolver)?;
        let judged = self.add(
            context,
            RunDraft {
                task: StageRecipe::Judge(judge),
                seed,
                document: &document,
                inputs: BTreeMap::from([(
                    InputRole::Samples,
                    artifact_of(&samples, SAMPLES_ARTIFACT),
                )]),
                runtime: &online.runtime,
            },
        )?;
        chain.runs.extend([samples, judged.clone()]);
        let pass = DpoPass {
            recipe: &recipe.dpo,
            runtime: &online.runtime,
            seed: round_seed(recipe.dpo.training.seed.unwrap_or(seed), round),
            made: Some(judged),
            kept: None,
        };
        self.preference(context, &pass, chain)
    }

    /// The run that filters the data of `target`, if the trial filters them.
    fn select(
        &mut self,
        context: &TrialContext<'_>,
        target: SelectOf,
        chain: &mut PipelineState,
    ) -> Result<Option<RunId>, PlanError> {
        let config = context.config;
        let Some(select) = config.select.as_ref().filter(|s| s.of == target) else {
            return Ok(None);
        };
        let (own, training, rows) = match (target, &config.sft, &config.dpo) {
            (SelectOf::Sft, Some(sft), _) => {
                let recipe = &sft.recipe;
                let rows = SelectRows::Chat {
                    rows: recipe.rows.to_choose_from(),
                    max_seq_len: recipe.layout.max_seq_len,
                };
                (&recipe.rows, &recipe.training, rows)
            }
            (SelectOf::Dpo, _, Some(dpo)) => {
                let recipe = &dpo.recipe;
                let rows = SelectRows::Pairs {
                    rows: recipe.rows.to_choose_from(),
                    limits: recipe.pairs.limits,
                };
                (&recipe.rows, &recipe.training, rows)
            }
            _ => return Ok(None),
        };
        let fixed = own.data_seed.or(training.seed);
        let seed = fixed.unwrap_or(context.trial.seed);
        let recipe = SelectStageRecipe {
            rows,
            select: select.recipe.clone(),
            data_seed: own.is_sampled().then_some(seed),
        };
        let mut inputs = BTreeMap::new();
        let method = &recipe.select.method;
        if method.needs_policy() {
            inputs.insert(InputRole::Model, chain.policy.clone());
        } else {
            // Only its tokenizer and template are asked, and those of the base serve all.
            inputs.insert(InputRole::Model, context.base.clone());
        }
        if method.needs_base() {
            inputs.insert(InputRole::Base, context.base.clone());
        }
        let seed = if method.uses_seed() { seed } else { 0 };
        let document = recipe_document(&recipe, "the select recipe", None, &mut self.resolver)?;
        let run = self.add(
            context,
            RunDraft {
                task: StageRecipe::Select(recipe),
                seed,
                document: &document,
                inputs,
                runtime: &select.runtime,
            },
        )?;
        chain.runs.push(run.clone());
        Ok(Some(run))
    }

    fn sft(
        &mut self,
        context: &TrialContext<'_>,
        sft: &SftConfig,
        policy: InputRef,
        kept: Option<RunId>,
    ) -> Result<RunId, PlanError> {
        let mut inputs = BTreeMap::from([(InputRole::Model, policy)]);
        inputs
            .extend(kept.map(|run| (InputRole::Selection, artifact_of(&run, SELECTION_ARTIFACT))));
        let seed = sft.recipe.training.seed.unwrap_or(context.trial.seed);
        let key = (sft.recipe.clone(), sft.recipe.rows.data_seed == Some(seed));
        let document = self.sft_documents.get(&key, || {
            recipe_document(&key.0, "the sft recipe", Some(seed), &mut self.resolver)
        })?;
        self.add(
            context,
            RunDraft {
                task: StageRecipe::Sft(key.0),
                seed,
                document: &document,
                inputs,
                runtime: &sft.runtime,
            },
        )
    }

    /// The reference's log-probabilities of all pairs that this trial asks about. What it computes
    /// follows from the trial's own configuration alone, so that other trials never rename it, and
    /// from data, limits and reference alone, so that β or a learning rate never repeat it. None if
    /// it asks about no pairs.
    fn ref_logps(
        &mut self,
        context: &TrialContext<'_>,
        pass: &DpoPass<'_>,
        policy: &InputRef,
        evaluated: bool,
    ) -> Result<Option<RunId>, PlanError> {
        let sets = asked_sets(context, pass, evaluated);
        let made = pass.made.as_ref().filter(|_| pass.recipe.needs_reference());
        if sets.is_empty() && made.is_none() {
            return Ok(None);
        }
        let model = match pass.recipe.reference.model {
            Reference::Init => policy.clone(),
            Reference::Base => context.base.clone(),
        };
        let asked = RefLogpsRecipe {
            sets,
            online: made.map(|_| pass.recipe.pairs.limits),
            precision: pass.recipe.training.precision,
        };
        let known = self.reference_documents.get(&asked, || {
            let recipe = without_repeats(&asked, &mut self.resolver)?;
            let what = "the ref-logps recipe";
            let document = recipe_document(&recipe, what, None, &mut self.resolver)?;
            Ok((recipe, document))
        })?;
        let mut inputs = BTreeMap::from([(InputRole::Model, model)]);
        inputs.extend(made.map(|run| (InputRole::Pairs, artifact_of(run, PAIRS_ARTIFACT))));
        let draft = RunDraft {
            task: StageRecipe::RefLogps(known.0.clone()),
            seed: 0,
            document: &known.1,
            inputs,
            runtime: pass.runtime,
        };
        self.add(context, draft).map(Some)
    }

    fn dpo(
        &mut self,
        context: &TrialContext<'_>,
        pass: &DpoPass<'_>,
        policy: InputRef,
        logps: Option<RunId>,
    ) -> Result<RunId, PlanError> {
        let mut inputs = BTreeMap::from([(InputRole::Model, policy)]);
        let mut give = |role, run: Option<&RunId>, artifact| {
            inputs.extend(run.map(|run| (role, artifact_of(run, artifact))));
        };
        give(InputRole::RefLogps, logps.as_ref(), REF_LOGPS_ARTIFACT);
        give(InputRole::Pairs, pass.made.as_ref(), PAIRS_ARTIFACT);
        give(InputRole::Selection, pass.kept.as_ref(), SELECTION_ARTIFACT);
        let seed = pass.seed;
        let key = (
            pass.recipe.clone(),
            pass.recipe.rows.data_seed == Some(seed),
        );
        let document = self.dpo_documents.get(&key, || {
            recipe_document(&key.0, "the dpo recipe", Some(seed), &mut self.resolver)
        })?;
        self.add(
            context,
            RunDraft {
                task: StageRecipe::Dpo(key.0),
                seed,
                document: &document,
                inputs,
                runtime: pass.runtime,
            },
        )
    }

    /// Without a reference, or without pairs to ask it about, there is no such input.
    fn eval(
        &mut self,
        context: &TrialContext<'_>,
        policy: InputRef,
        reference: Option<RunId>,
    ) -> Result<RunId, PlanError> {
        let eval = &context.config.eval;
        let mut recipe: EvalRecipe = eval.recipe.clone();
        let mut inputs = BTreeMap::from([(InputRole::Model, policy)]);
        match reference {
            Some(logps) if !recipe.preference.is_empty() => {
                inputs.insert(InputRole::RefLogps, artifact_of(&logps, REF_LOGPS_ARTIFACT));
            }
            Some(_) => {}
            None => recipe.preference.clear(),
        }
        let document = self.eval_documents.get(&recipe, || {
            recipe_document(&recipe, "the eval recipe", None, &mut self.resolver)
        })?;
        self.add(
            context,
            RunDraft {
                task: StageRecipe::Eval(recipe),
                seed: 0,
                document: &document,
                inputs,
                runtime: &eval.runtime,
            },
        )
    }

    /// What a run costs.
    fn estimate(
        &mut self,
        context: &TrialContext<'_>,
        draft: &RunDraft<'_>,
    ) -> Result<RunCost, PlanError> {
        let online = context.config.online_dpo.as_ref();
        let online = online.filter(|_| draft.inputs.contains_key(&InputRole::Pairs));
        let filter = context.config.select.as_ref();
        let filter = filter.filter(|_| draft.inputs.contains_key(&InputRole::Selection));
        let key = EstimateKey {
            task: draft.task.clone(),
            runtime: draft.runtime.clone(),
            model: context.config.model.path.to_string(),
            kept: filter.map(|select| select.recipe.keep.get()),
        };
        let kind = draft.task.kind();
        if let Some((known, cost)) = self.estimates.get(&kind)
            && *known == key
            && online.is_none()
        {
            return Ok(*cost);
        }
        let mut estimator = Estimator {
            model: context.model.as_ref(),
            folder: &context.config.model.path,
            lengths: self.lengths,
            resolver: &mut self.resolver,
            online: online.map(|online| &online.recipe),
            kept: key.kept,
            recompute: draft.runtime.recompute_layers == Some(true),
        };
        let estimate = match &draft.task {
            StageRecipe::Select(recipe) => estimator.select(recipe, draft.runtime)?,
            StageRecipe::Sft(recipe) => estimator.sft(recipe, draft.runtime)?,
            StageRecipe::Sample(recipe) => estimator.sample(recipe, draft.runtime)?,
            StageRecipe::Judge(_) => Estimator::judge(),
            StageRecipe::RefLogps(recipe) => {
                estimator.ref_logps(&recipe.sets, recipe.precision, draft.runtime)?
            }
            StageRecipe::Dpo(recipe) => estimator.dpo(recipe, draft.runtime)?,
            StageRecipe::Eval(recipe) => estimator.eval(recipe, draft.runtime)?,
        };
        if online.is_none() {
            self.estimates.insert(kind, (key, estimate));
        }
        Ok(estimate)
    }

    /// The run of this identity, added if it is new.
    fn add(&mut self, context: &TrialContext<'_>, draft: RunDraft<'_>) -> Result<RunId, PlanError> {
        let kind = draft.task.kind();
        let identity = Identity {
            kind,
            seed: draft.seed,
            recipe: &draft.document.text,
            chat_template: context.template.as_ref(),
            inputs: &draft.inputs,
        }
        .document();
        let id = run_id(&identity);
        if let Some(at) = self.known.get(&id) {
            let trials = &mut self.runs[*at].trials;
            if trials.last() != Some(&context.trial.index) {
                trials.push(context.trial.index);
            }
            return Ok(id);
        }
        let estimate = self.estimate(context, &draft)?;
        let online = context.config.online_dpo.as_ref();
        let judge_runtime = match &draft.task {
            StageRecipe::Judge(_) => online.map(|online| online.judge_runtime.clone()),
            StageRecipe::Eval(recipe) if !recipe.judged.is_empty() => {
                context.config.eval.judge_runtime.clone()
            }
            _ => None,
        };
        let parents = draft.inputs.values().filter_map(|input| match input {
            InputRef::Run { id, .. } => Some(id.clone()),
            InputRef::Folder { .. } => None,
        });
        let parents = parents.collect();
        let mut data = draft.document.data.clone();
        if let (Some(path), Some(digest)) = (&context.config.model.chat_template, &context.template)
        {
            data.insert(path.to_string(), digest.clone());
        }
        self.known.insert(id.clone(), self.runs.len());
        self.runs.push(PlannedRun {
            id: id.clone(),
            kind,
            stage: StageFile {
                format: STAGE_FORMAT,
                run: id.clone(),
                task: draft.task,
                seed: draft.seed,
                chat_template: context
                    .config
                    .model
                    .chat_template
                    .as_ref()
                    .map(ToString::to_string),
                inputs: draft.inputs,
                data,
                runtime: draft.runtime.clone(),
                judge_runtime,
            },
            identity,
            parents,
            trials: vec![context.trial.index],
            estimate,
        });
        Ok(id)
    }
}

fn artifact_of(run: &RunId, artifact: &str) -> InputRef {
    InputRef::Run {
        id: run.clone(),
        artifact: artifact.to_owned(),
    }
}

/// The seed of a round's training: the first is that of an offline stage.
fn round_seed(seed: u64, round: usize) -> u64 {
    if round == 0 {
        return seed;
    }
    SeedTree::root(seed)
        .child("online/round")
        .index(round as u64)
        .number()
}

/// The pairs of files that this pass asks the reference about: the training pairs, then the
/// monitored and, if `evaluated`, the evaluated ones. A loss without a reference asks about the
/// evaluated ones alone.
fn asked_sets(context: &TrialContext<'_>, pass: &DpoPass<'_>, evaluated: bool) -> Vec<PairSet> {
    let recipe = pass.recipe;
    let seed = recipe.rows.data_seed.unwrap_or(pass.seed);
    let mut sets = Vec::new();
    if recipe.needs_reference() {
        if !recipe.rows.data.is_empty() {
            sets.push(training_set(recipe, seed));
        }
        let monitor = recipe.training.monitor.as_ref();
        sets.extend(monitor.map(|m| pair_set(&m.data, recipe.pairs.limits, seed)));
    }
    if evaluated {
        for set in context.config.eval.recipe.preference.values() {
            sets.push(pair_set(&set.data, set.limits, 0));
        }
    }
    sets
}

/// The first set stays the first, the others follow in the order of their content; none twice.
fn without_repeats(
    asked: &RefLogpsRecipe,
    resolver: &mut Resolver<'_>,
) -> Result<RefLogpsRecipe, PlanError> {
    let mut keyed = Vec::with_capacity(asked.sets.len());
    for set in &asked.sets {
        keyed.push((
            recipe_document(set, "a set of pairs", None, resolver)?.text,
            set,
        ));
    }
    if let Some((_, others)) = keyed.split_first_mut() {
        others.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let mut seen = BTreeSet::new();
    keyed.retain(|(text, _)| seen.insert(text.clone()));
    Ok(RefLogpsRecipe {
        sets: keyed.into_iter().map(|(_, set)| set.clone()).collect(),
        online: asked.online,
        precision: asked.precision,
    })
}

/// Held-out pairs. The seed matters only where a source is sampled.
fn pair_set(data: &[DataSource], limits: PairLimits, seed: u64) -> PairSet {
    let mut rows = RowsRecipe::of(data.to_vec());
    rows.data_seed = rows.is_sampled().then_some(seed);
    PairSet { rows, limits }
}

/// The training pairs, with whatever decides which they are and how they are written.
fn training_set(recipe: &DpoRecipe, seed: u64) -> PairSet {
    let rows = &recipe.rows;
    let drawn = rows.is_sampled() || rows.empty_system_turn.is_some();
    PairSet {
        rows: RowsRecipe {
            max_examples: None,
            data_seed: drawn.then_some(seed),
            ..rows.clone()
        },
        limits: recipe.pairs.limits,
    }
}
