//! Model folders that a training stage leaves behind: at chosen steps, and at the end.
//!
//! A checkpoint of step k appears by rename in the attempt's own `out/checkpoints/`, before any
//! resumable state of step k or later is written. An attempt that goes on from such a state therefore
//! finds the checkpoint in an earlier attempt's `out/` and takes it over into its own; one that goes on
//! from an earlier state makes it again, to the same bytes. The digests of a checkpoint are written to
//! the attempt's `work/` before it appears: only what still has them is taken over.

use crate::arch::FloatFormat;
use crate::base::fs::is_gone;
use crate::base::{ModelFile, PathError, is_as_written, with_check, write_atomic, write_new};
use crate::config::spec::{LoraRecipe, Precision, TrainingRecipe};
use crate::data::DataError;
use crate::metrics::families::{TRAINING, TrainingCost};
use crate::metrics::values;
use crate::model::{Companions, changed_weights, save_adapter, save_arrays};
use crate::plan::{InputRef, InputRole, MODEL_ARTIFACT, StageKind, checkpoint_artifact};
use crate::rundir::{Artifact, MetricValue, RunDir, digest_folder};
use crate::stage::attempt::{Attempt, check_inputs, known_digests};
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::train::{Part, TrainState, Training};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the file in a trained model folder that tells what its last stage cost.
const TRAINING_FILE: &str = "training.json";

/// Name of the artifact with adapters in PEFT's layout.
const ADAPTER_ARTIFACT: &str = "adapter";

/// What a stage had spent when a model folder was written; beside the weights as `training.json`. It
/// is no part of the folder's digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TrainingRecord {
    /// `sft` or `dpo`.
    stage: String,
    /// Optimiser steps.
    steps: u64,
    /// Real tokens processed forward in training.
    tokens: u64,
    /// Positions computed in training, padding included.
    positions: u64,
    /// Estimated floating-point operations of training.
    flops: f64,
}

impl TrainingRecord {
    fn new(stage: StageKind, state: &TrainState) -> Self {
        Self {
            stage: stage.name().to_owned(),
            steps: state.step,
            tokens: state.tokens,
            positions: state.positions,
            flops: state.flops,
        }
    }

    /// The record of a model folder; none if it is not of our training.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StageError> {
        let path = dir.join(TRAINING_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = crate::base::fs::read_to_string(&path)?;
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Adds the metrics of the training: where on its course an evaluated model stands.
    pub(super) fn tell(&self, made: &mut StageOutput) {
        let cost = TrainingCost {
            flops: self.flops,
            tokens: self.tokens,
            steps: self.steps,
        };
        for (key, value) in values(TRAINING, &cost) {
            made.metrics
                .insert(key.to_owned(), MetricValue::single(value));
        }
    }
}

/// Writes the model folders of one attempt.
pub(super) struct CheckpointWriter {
    stage: StageKind,
    /// After which steps, ascending.
    steps: Vec<u64>,
    /// Number format of the weights in the folders.
    format: FloatFormat,
    /// The adapters that are trained.
    lora: Option<LoraRecipe>,
    /// Whether the weights of `source` are read again for every folder: adapters are added to them, not
    /// to those in training, which are their rounded copies.
    rereads: bool,
    /// What was trained on, for its weights.
    source: PathBuf,
    /// The project's folder and what the run was planned with, `source` among it.
    planned: (PathBuf, BTreeMap<InputRole, InputRef>),
    /// The configuration and tokenizer that the folders get.
    companions: Companions,
    /// A chat template that replaces the model's own.
    template: Option<String>,
    out: PathBuf,
    /// Where the digests of kept checkpoints go.
    work: PathBuf,
}

impl CheckpointWriter {
    /// For a training of `total` steps.
    pub(super) fn new(
        job: &Attempt<'_>,
        stage: StageKind,
        recipe: &TrainingRecipe,
        source: &Path,
        total: u64,
    ) -> Result<Self, StageError> {
        let steps = &recipe.save_steps;
        if let Some(step) = steps.iter().find(|&&step| step > total) {
            return Err(DataError::Limits(format!(
                "`save-steps` names step {step}, but the run has {total}"
            ))
            .into());
        }
        let template = job.template();
        let template = template.map(|path| crate::base::fs::read_to_string(&path));
        Ok(Self {
            stage,
            steps: steps.clone(),
            format: recipe.save_precision.unwrap_or(Precision::F32).into(),
            lora: recipe.lora.clone(),
            rereads: recipe.lora.is_some() && recipe.precision != Precision::F32,
            source: source.to_owned(),
            planned: (job.context.root.clone(), job.file.inputs.clone()),
            companions: Companions::read(source)?,
            template: template.transpose()?,
            out: job.dir.out(),
            work: job.dir.work(),
        })
    }

    /// Artifacts that the stage names when it is done, besides the final model.
    pub(super) fn artifacts(&self) -> Vec<String> {
        self.steps
            .iter()
            .copied()
            .map(checkpoint_artifact)
            .collect()
    }

    /// Writes the checkpoint of this step if the recipe asks for one.
    pub(super) fn after_step(&self, training: &Training) -> Result<(), StageError> {
        let state = &training.state;
        if !self.steps.contains(&state.step) {
            return Ok(());
        }
        let step = state.step;
        self.write(&checkpoint_artifact(step), Some(step), training)
    }

    /// Writes the final model, and adapters also by themselves, and counts the weights that it
    /// changed.
    pub(super) fn finish(
        &self,
        made: &mut StageOutput,
        training: &Training,
    ) -> Result<(), StageError> {
        self.write(MODEL_ARTIFACT, None, training)?;
        self.tell_changes(made);
        made.artifacts.push(MODEL_ARTIFACT.to_owned());
        made.artifacts.extend(self.artifacts());
        if let Some(recipe) = &self.lora {
            self.write_adapter(recipe, training)?;
            made.artifacts.push(ADAPTER_ARTIFACT.to_owned());
        }
        Ok(())
    }

    /// Counts the weights that the training changed. A training that is done does not fail for want of
    /// what it began with.
    fn tell_changes(&self, made: &mut StageOutput) {
        let model = self.out.join(MODEL_ARTIFACT);
        let checked = self.check_inputs();
        let counted = checked.and_then(|()| Ok(changed_weights(&self.source, &model)?));
        let (changed, all) = match counted {
            Ok(counts) => counts,
            Err(error) => {
                let why = error.chain_text();
                made.notes
                    .push(format!("how many weights changed cannot be told: {why}"));
                return;
            }
        };
        made.count("weights", all);
        made.count("weights_changed", changed);
        if self.format == FloatFormat::Bf16 {
            made.notes.push(format!(
                "{changed} of {all} weights changed by half a unit of bf16 or more; smaller updates are \
                 lost to what reads this model, unless `save-precision` is `f32`"
            ));
        }
    }

    fn check_inputs(&self) -> Result<(), StageError> {
        let (root, inputs) = &self.planned;
        check_inputs(&mut known_digests(root), root, inputs)
    }

    fn write_adapter(&self, recipe: &LoraRecipe, training: &Training) -> Result<(), StageError> {
        let dir = self.out.join(ADAPTER_ARTIFACT);
        let temp = beside(&dir)?;
        let (engine, part) = (&training.engine, Part::Weights);
        save_adapter(&temp, recipe, &engine.arrays(part), |take| {
            engine.visit(part, take)
        })?;
        rename(&temp, &dir)
    }

    /// Everything is written into a folder beside the final one, which then gets its name.
    fn write(
        &self,
        artifact: &str,
        kept: Option<u64>,
        training: &Training,
    ) -> Result<(), StageError> {
        let dir = self.out.join(artifact);
        let temp = beside(&dir)?;
        let (engine, part) = (&training.engine, Part::Model(self.format));
        let arrays = engine.arrays(part);
        let written = save_arrays(&temp, &self.companions, &arrays, |take| {
            engine.visit(part, take)
        });
        // After it was read, and first: whatever came of the write, this is the cause.
        if self.rereads {
            self.check_inputs()?;
        }
        written?;
        if let Some(text) = &self.template {
            write_new(&ModelFile::ChatTemplate.within(&temp), text.as_bytes())?;
        }
        let record = TrainingRecord::new(self.stage, &training.state);
        let text = serde_json::to_vec_pretty(&record)?;
        write_new(&temp.join(TRAINING_FILE), &text)?;
        if let Some(step) = kept {
            self.record(step, &temp)?;
        }
        rename(&temp, &dir)
    }

    /// Takes over what attempts kept up to `step`, newest attempt first, if it is as it was written.
    /// Otherwise says what is missing or damaged; the training has to make it again.
    pub(super) fn adopt(
        &self,
        run: &RunDir,
        attempt: u32,
        step: u64,
    ) -> Result<Vec<String>, StageError> {
        let mut lacking = Vec::new();
        for kept in self.steps.iter().copied().filter(|&kept| kept <= step) {
            let name = checkpoint_artifact(kept);
            let (mut found, mut damage) = (None, Vec::new());
            for number in (1..=attempt).rev() {
                let from = run.attempt(number);
                let dir = from.out().join(&name);
                if !dir.is_dir() {
                    continue;
                }
                match verified_record(&dir, &record_of(&from.work(), kept))? {
                    Ok(record) => {
                        found = Some((dir, record));
                        break;
                    }
                    Err(why) => damage.push(format!("`{}` {why}", dir.display())),
                }
            }
            let Some((found, record)) = found else {
                let gone = || vec![format!("the checkpoint of step {kept} is gone")];
                lacking.extend(if damage.is_empty() { gone() } else { damage });
                continue;
            };
            let dir = self.out.join(&name);
            if found != dir {
                let temp = beside(&dir)?;
                copy_files(&found, &temp)?;
                // The record that was verified, not one of the copy: it tells if the copy is bad.
                write_atomic(&record_of(&self.work, kept), record.as_bytes())?;
                rename(&temp, &dir)?;
            }
        }
        Ok(lacking)
    }

    /// Keeps the digests of a checkpoint before it gets its name, so that none is without.
    fn record(&self, step: u64, folder: &Path) -> Result<(), StageError> {
        let text = serde_json::to_string_pretty(&digest_folder(folder)?)?;
        // In a table, as only an object can carry its own digest.
        let text = with_check(&format!("{{\n\"files\": {text}\n}}\n"));
        write_atomic(&record_of(&self.work, step), text.as_bytes())?;
        Ok(())
    }
}

/// Where the digests of a checkpoint lie.
fn record_of(work: &Path, step: u64) -> PathBuf {
    work.join(format!("kept-{step:06}.json"))
}

/// The digests of a checkpoint's files.
#[derive(Deserialize)]
struct Record {
    files: Vec<Artifact>,
}

/// The record of a kept checkpoint that is as it was written, or how it differs.
fn verified_record(folder: &Path, record: &Path) -> Result<Result<String, String>, StageError> {
    let bytes = match fs::read(record) {
        Ok(bytes) => bytes,
        Err(e) if is_gone(&e) => return Ok(Err("has no record of its digests".to_owned())),
        Err(e) => return Err(PathError::new("read", record, e).into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let record: Record = match serde_json::from_str(&text) {
        Ok(record) if is_as_written(&text) == Some(true) => record,
        _ => return Ok(Err("has a damaged record of its digests".to_owned())),
    };
    let found = digest_folder(folder)?;
    Ok(
        match record.files.iter().find(|file| !found.contains(file)) {
            None => Ok(text.into_owned()),
            Some(file) => Err(format!(
                "is damaged: `{}` is not as it was written",
                file.path
            )),
        },
    )
}

/// The empty place beside a folder where it is made; what an interruption left there is removed.
fn beside(dir: &Path) -> Result<PathBuf, PathError> {
    let temp = dir.with_extension("tmp");
    remove_if_there(&temp)?;
    if let Some(parent) = temp.parent() {
        fs::create_dir_all(parent).map_err(|e| PathError::new("create", parent, e))?;
    }
    Ok(temp)
}

fn remove_if_there(dir: &Path) -> Result<(), PathError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(PathError::new("remove", dir, e)),
        _ => Ok(()),
    }
}

/// An attempt that is carried out again finds what it made the first time, and replaces it.
fn rename(temp: &Path, dir: &Path) -> Result<(), StageError> {
    remove_if_there(dir)?;
    fs::rename(temp, dir).map_err(|e| PathError::new("write", dir, e))?;
    Ok(())
}

/// Copies a model folder, which has no folders in it. A link saves the room where the disk can.
fn copy_files(from: &Path, to: &Path) -> Result<(), PathError> {
    fs::create_dir_all(to).map_err(|e| PathError::new("create", to, e))?;
    let entries = fs::read_dir(from).map_err(|e| PathError::new("read", from, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| PathError::new("read", from, e))?;
        let (path, new) = (entry.path(), to.join(entry.file_name()));
        if fs::hard_link(&path, &new).is_err() {
            fs::copy(&path, &new).map_err(|e| PathError::new("copy", &path, e))?;
        }
    }
    Ok(())
}
