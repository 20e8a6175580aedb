//! From trials to runs: base model → [sft] → [ref-logps, dpo] → eval, each run once.

use crate::base::Digest;
use crate::config::spec::{
    DataSource, DpoConfig, DpoRecipe, EvalRecipe, PairLimits, PipelineStage, Reference, SftConfig,
    SftRecipe, TrainRuntime, TrialConfig,
};
use crate::config::sweep::{AxisValue, Sweep, Trial};
use crate::plan::digests::DigestCache;
use crate::plan::error::PlanError;
use crate::plan::estimate::{Estimate, Estimator, ModelShape};
use crate::plan::identity::{Identity, Memo, RecipeDocument, recipe_document, run_id};
use crate::plan::resolve::{MissingInput, Resolver};
use crate::plan::stage::{
    InputRef, InputRole, MODEL_ARTIFACT, PairSet, REF_LOGPS_ARTIFACT, RefLogpsRecipe, RunId,
    STAGE_FORMAT, StageFile, StageKind, StageRecipe,
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
    pub estimate: Estimate,
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

/// Lowers every trial; runs with the same identity become one.
///
/// # Errors
/// An input cannot be read, or a recipe holds a number that is not finite. Inputs that are absent
/// are no error: see [`Plan::missing`].
pub fn plan_sweep(
    sweep: &Sweep,
    root: &Path,
    digests: &mut DigestCache,
) -> Result<Plan, PlanError> {
    let mut planner = Planner {
        resolver: Resolver::new(root, digests),
        runs: Vec::new(),
        known: HashMap::new(),
        sft_documents: Memo::default(),
        dpo_documents: Memo::default(),
        eval_documents: Memo::default(),
        reference_documents: Memo::default(),
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
    runs: Vec<PlannedRun>,
    /// Identity id to position in `runs`.
    known: HashMap<RunId, usize>,
    sft_documents: Memo<(SftRecipe, bool)>,
    dpo_documents: Memo<(DpoRecipe, bool)>,
    eval_documents: Memo<EvalRecipe>,
    reference_documents: Memo<RefLogpsRecipe, (RefLogpsRecipe, RecipeDocument)>,
}

/// What the stages of one trial have in common.
struct TrialContext<'t> {
    trial: &'t Trial,
    config: &'t TrialConfig,
    template: Option<Digest>,
    base: InputRef,
    shape: Option<ModelShape>,
}

/// A run before it is known whether there is one like it.
struct Draft<'t> {
    task: StageRecipe,
    seed: u64,
    document: &'t RecipeDocument,
    inputs: BTreeMap<InputRole, InputRef>,
    runtime: &'t TrainRuntime,
}

fn model_of(run: &RunId) -> InputRef {
    InputRef::Run {
        id: run.clone(),
        artifact: MODEL_ARTIFACT.to_owned(),
    }
}

impl Planner<'_> {
    fn trial(&mut self, trial: &Trial) -> Result<PlannedTrial, PlanError> {
        let config = &trial.config;
        let (digest, shape) = self.resolver.model(&config.model.path)?;
        let template = match &config.model.chat_template {
            Some(path) => Some(self.resolver.file("chat template", path)?),
            None => None,
        };
        let base = InputRef::Folder {
            path: config.model.path.clone(),
            digest,
        };
        let context = TrialContext {
            trial,
            config,
            template,
            base: base.clone(),
            shape,
        };
        let no_stage = |stage| PlanError::NoStage {
            trial: trial.label(),
            stage,
        };

        let mut runs = Vec::new();
        let mut policy = base;
        let mut reference: Option<RunId> = None;
        for stage in &config.pipeline {
            let run = match stage {
                PipelineStage::Sft => {
                    let sft = config.sft.as_ref().ok_or_else(|| no_stage("sft"))?;
                    self.sft(&context, sft, policy)?
                }
                PipelineStage::Dpo => {
                    let dpo = config.dpo.as_ref().ok_or_else(|| no_stage("dpo"))?;
                    reference = self.ref_logps(&context, dpo, &policy)?;
                    runs.extend(reference.clone());
                    let needed = reference.as_ref();
                    let needed = needed.filter(|_| dpo.recipe.needs_reference());
                    self.dpo(&context, dpo, policy, needed)?
                }
            };
            policy = model_of(&run);
            runs.push(run);
        }
        let eval = self.eval(&context, policy, reference)?;
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

    fn sft(
        &mut self,
        context: &TrialContext<'_>,
        sft: &SftConfig,
        policy: InputRef,
    ) -> Result<RunId, PlanError> {
        let seed = sft.recipe.seed.unwrap_or(context.trial.seed);
        let key = (sft.recipe.clone(), sft.recipe.data_seed == Some(seed));
        let document = self.sft_documents.get(&key, || {
            recipe_document(&key.0, "the sft recipe", Some(seed), &mut self.resolver)
        })?;
        self.add(
            context,
            Draft {
                task: StageRecipe::Sft(key.0),
                seed,
                document: &document,
                inputs: BTreeMap::from([(InputRole::Model, policy)]),
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
        dpo: &DpoConfig,
        policy: &InputRef,
    ) -> Result<Option<RunId>, PlanError> {
        let sets = asked_sets(context, dpo);
        if sets.is_empty() {
            return Ok(None);
        }
        let model = match dpo.recipe.reference {
            Reference::Init => policy.clone(),
            Reference::Base => context.base.clone(),
        };
        let asked = RefLogpsRecipe {
            sets,
            precision: dpo.recipe.precision,
        };
        let made = self.reference_documents.get(&asked, || {
            let recipe = without_repeats(&asked, &mut self.resolver)?;
            let what = "the ref-logps recipe";
            let document = recipe_document(&recipe, what, None, &mut self.resolver)?;
            Ok((recipe, document))
        })?;
        let draft = Draft {
            task: StageRecipe::RefLogps(made.0.clone()),
            seed: 0,
            document: &made.1,
            inputs: BTreeMap::from([(InputRole::Model, model)]),
            runtime: &dpo.runtime,
        };
        self.add(context, draft).map(Some)
    }

    fn dpo(
        &mut self,
        context: &TrialContext<'_>,
        dpo: &DpoConfig,
        policy: InputRef,
        logps: Option<&RunId>,
    ) -> Result<RunId, PlanError> {
        let mut inputs = BTreeMap::from([(InputRole::Model, policy)]);
        inputs.extend(logps.map(|run| (InputRole::RefLogps, logps_of(run))));
        let seed = dpo.recipe.seed.unwrap_or(context.trial.seed);
        let key = (dpo.recipe.clone(), dpo.recipe.data_seed == Some(seed));
        let document = self.dpo_documents.get(&key, || {
            recipe_document(&key.0, "the dpo recipe", Some(seed), &mut self.resolver)
        })?;
        self.add(
            context,
            Draft {
                task: StageRecipe::Dpo(key.0),
                seed,
                document: &document,
                inputs,
                runtime: &dpo.runtime,
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
                inputs.insert(InputRole::RefLogps, logps_of(&logps));
            }
            Some(_) => {}
            None => recipe.preference.clear(),
        }
        let document = self.eval_documents.get(&recipe, || {
            recipe_document(&recipe, "the eval recipe", None, &mut self.resolver)
        })?;
        self.add(
            context,
            Draft {
                task: StageRecipe::Eval(recipe),
                seed: 0,
                document: &document,
                inputs,
                runtime: &eval.runtime,
            },
        )
    }

    /// The run of this identity, added if it is new.
    fn add(&mut self, context: &TrialContext<'_>, draft: Draft<'_>) -> Result<RunId, PlanError> {
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
        let mut estimator = Estimator {
            shape: context.shape.as_ref(),
            resolver: &mut self.resolver,
        };
        let estimate = match &draft.task {
            StageRecipe::Sft(recipe) => estimator.sft(recipe, draft.runtime)?,
            StageRecipe::RefLogps(recipe) => {
                estimator.ref_logps(&recipe.sets, recipe.precision, draft.runtime)?
            }
            StageRecipe::Dpo(recipe) => estimator.dpo(recipe, draft.runtime)?,
            StageRecipe::Eval(recipe) => estimator.eval(recipe, draft.runtime)?,
        };
        let parents = draft.inputs.values().filter_map(|input| match input {
            InputRef::Run { id, .. } => Some(id.clone()),
            InputRef::Folder { .. } => None,
        });
        let parents = parents.collect();
        self.known.insert(id.clone(), self.runs.len());
        self.runs.push(PlannedRun {
            id: id.clone(),
            kind,
            stage: StageFile {
                format: STAGE_FORMAT,
                run: id.clone(),
                task: draft.task,
                seed: draft.seed,
                chat_template: context.config.model.chat_template.clone(),
                inputs: draft.inputs,
                data: draft.document.data.clone(),
                runtime: draft.runtime.clone(),
            },
            identity,
            parents,
            trials: vec![context.trial.index],
            estimate,
        });
        Ok(id)
    }
}

fn logps_of(run: &RunId) -> InputRef {
    InputRef::Run {
        id: run.clone(),
        artifact: REF_LOGPS_ARTIFACT.to_owned(),
    }
}

/// The pairs that this trial asks the reference about: the training pairs, then the monitored and
/// the evaluated ones. A loss without a reference asks about the evaluated ones alone.
fn asked_sets(context: &TrialContext<'_>, dpo: &DpoConfig) -> Vec<PairSet> {
    let recipe = &dpo.recipe;
    let fixed = recipe.data_seed.or(recipe.seed);
    let seed = fixed.unwrap_or(context.trial.seed);
    let mut sets = Vec::new();
    if recipe.needs_reference() {
        sets.push(pair_set(&recipe.data, recipe.limits, seed));
        let monitor = recipe.monitor.as_ref();
        sets.extend(monitor.map(|m| pair_set(&m.data, recipe.limits, seed)));
    }
    for set in context.config.eval.recipe.preference.values() {
        sets.push(pair_set(&set.data, set.limits, 0));
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
        precision: asked.precision,
    })
}

/// The seed matters only where a source is sampled.
fn pair_set(data: &[DataSource], limits: PairLimits, seed: u64) -> PairSet {
    let sampled = data
        .iter()
        .any(|source| source.fraction.is_some() || source.count.is_some());
    PairSet {
        data: data.to_vec(),
        limits,
        data_seed: sampled.then_some(seed),
    }
}
