//! What every kind of stage needs: inputs found and checked, the model, the telemetry.

use crate::arch::DecoderConfig;
use crate::base::{Digest, SeedTree, write_new};
use crate::config::spec::{DataSource, Positive, Share};
use crate::data::{PairRow, TextFormat, load_pairs, mixture_seed};
use crate::gpu::SharedGpu;
use crate::model::ModelError;
use crate::plan::{
    DIGESTS_PATH, DigestCache, InputRef, InputRole, PAIRS_ARTIFACT, REF_LOGPS_ARTIFACT, StageFile,
};
use crate::rundir::{AttemptDir, AttemptEvent, RunDir, RundirError, verify_artifact};
use crate::stage::context::StageContext;
use crate::stage::error::StageError;
use crate::stage::output::{StageOutput, count_rows};
use crate::stage::telemetry::Telemetry;
use crate::train::{ReferenceLogps, TrainError};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// One attempt at one stage.
pub(super) struct Attempt<'a> {
    pub(super) context: &'a StageContext,
    pub(super) dir: AttemptDir,
    pub(super) file: &'a StageFile,
    /// Where candle computes.
    pub(super) device: Device,
    /// The device beside the processor, once it was opened; none if there is none.
    pub(super) gpu: OnceCell<Option<SharedGpu>>,
    /// Most bytes that a card had at a time of a training on several.
    pub(super) most_of_ranks: Arc<AtomicU64>,
    pub(super) telemetry: &'a mut Telemetry,
}

/// Where the input of a run lies, in the project of this root.
pub fn run_input(root: &Path, input: &InputRef) -> PathBuf {
    match input {
        InputRef::Folder { path, .. } => root.join(path),
        InputRef::Run { id, artifact } => RunDir::new(root, id).artifacts().join(artifact),
    }
}

impl Attempt<'_> {
    /// The stage's seed, a root for its purposes.
    pub(super) fn seed(&self) -> SeedTree {
        SeedTree::root(self.file.seed)
    }

    /// Most positions in one pass.
    pub(super) fn micro_batch_tokens(&self) -> usize {
        let wanted = self.file.runtime.micro_batch_tokens;
        let chosen = || self.context.device.usual_micro_batch();
        let whole = wanted.map_or_else(chosen, NonZeroUsize::get);
        if self.context.halved {
            (whole / 2).max(1)
        } else {
            whole
        }
    }

    /// Refuses anything that is not what was planned with, or not what its run published.
    pub(super) fn check_inputs(&self) -> Result<(), StageError> {
        let root = &self.context.root;
        let mut known = known_digests(root);
        for (path, planned) in &self.file.data {
            check_planned(&mut known, root, path, planned)?;
        }
        check_inputs(&mut known, root, &self.file.inputs)
    }

    /// Whether the run has an input of that role.
    pub(super) fn has_input(&self, role: InputRole) -> bool {
        self.file.inputs.contains_key(&role)
    }

    /// The newest `name` that this or an earlier attempt left in its `work/`.
    pub(super) fn newest_work(&self, name: &str) -> Option<PathBuf> {
        let attempts = (1..=self.context.attempt).rev();
        let mut files = attempts.map(|n| self.context.run_dir.attempt(n).work().join(name));
        files.find(|path| path.is_file())
    }

    /// Every `name` that this or an earlier attempt left in its `work/`, the oldest first.
    pub(super) fn all_work(&self, name: &str) -> Vec<PathBuf> {
        let attempts = 1..=self.context.attempt;
        let files = attempts.map(|n| self.context.run_dir.attempt(n).work().join(name));
        files.filter(|path| path.is_file()).collect()
    }

    /// Where the input of a role lies.
    pub(super) fn input(&self, role: InputRole, name: &'static str) -> Result<PathBuf, StageError> {
        let input = self
            .file
            .inputs
            .get(&role)
            .ok_or(StageError::NoInput(name))?;
        let path = run_input(&self.context.root, input);
        if path.exists() {
            Ok(path)
        } else {
            Err(StageError::MissingInput { role: name, path })
        }
    }

    /// The model folder to start from, or to evaluate.
    pub(super) fn model_dir(&self) -> Result<PathBuf, StageError> {
        self.input(InputRole::Model, "model")
    }

    /// The stored reference log-probabilities.
    pub(super) fn references(&self) -> Result<ReferenceLogps, StageError> {
        let mut path = self.input(InputRole::RefLogps, "ref-logps")?;
        if path.is_dir() {
            path = path.join(REF_LOGPS_ARTIFACT);
        }
        Ok(ReferenceLogps::read(&path)?)
    }

    /// The pairs that a `judge` run made, or a seeded share of them; none without such an input.
    pub(super) fn made_pairs(
        &self,
        made: &mut StageOutput,
        fraction: Option<Share>,
        seed: u64,
    ) -> Result<Vec<PairRow>, StageError> {
        if !self.has_input(InputRole::Pairs) {
            return Ok(Vec::new());
        }
        let path = self.input(InputRole::Pairs, "pairs")?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let source = DataSource {
            path: PAIRS_ARTIFACT.into(),
            fraction: fraction.map(Positive::from),
            count: None,
            columns: std::collections::BTreeMap::new(),
            fold: None,
        };
        let (rows, report) = load_pairs(folder, &[source], &mixture_seed(seed))?;
        count_rows(made, &report);
        made.count("pairs_from_judge", rows.len());
        Ok(rows)
    }

    /// Places of the rows that a `select` run kept, in its order; none without such an input.
    pub(super) fn kept(&self, made: &mut StageOutput) -> Result<Option<Vec<usize>>, StageError> {
        if !self.has_input(InputRole::Selection) {
            return Ok(None);
        }
        let path = self.input(InputRole::Selection, "selection")?;
        let kept = kept_rows(&path)?;
        made.count("rows_kept_by_select", kept.len());
        Ok(Some(kept))
    }

    /// A chat template that replaces the model's own.
    pub(super) fn template(&self) -> Option<PathBuf> {
        let path = self.file.chat_template.as_ref()?;
        Some(self.context.root.join(path))
    }

    /// Tokenizer, template and shape of the model at `dir`, which must belong together.
    pub(super) fn open_format(
        &self,
        dir: &Path,
    ) -> Result<(TextFormat, DecoderConfig), StageError> {
        Self::open_format_of(dir, self.template().as_deref())
    }

    /// The same of another model, with its own template unless one is given.
    pub(super) fn open_format_of(
        dir: &Path,
        template: Option<&Path>,
    ) -> Result<(TextFormat, DecoderConfig), StageError> {
        let format = TextFormat::open(dir, template)?;
        let config = DecoderConfig::from_file(dir).map_err(ModelError::from)?;
        if format.vocab_size() > config.vocab_size {
            return Err(StageError::Vocabulary {
                tokenizer: format.vocab_size(),
                model: config.vocab_size,
                path: dir.to_owned(),
            });
        }
        Ok((format, config))
    }

    /// Tells something that a person should read; also kept in the result.
    pub(super) fn warn(
        &mut self,
        made: &mut StageOutput,
        message: String,
    ) -> Result<(), StageError> {
        self.telemetry.tell(&AttemptEvent::Warning {
            message: message.clone(),
        })?;
        made.notes.push(message);
        Ok(())
    }

    /// Says where sequences are longer than the model was made for.
    pub(super) fn check_length(
        &mut self,
        made: &mut StageOutput,
        config: &DecoderConfig,
        max_seq_len: usize,
    ) -> Result<(), StageError> {
        let limit = config.max_positions;
        if max_seq_len <= limit {
            return Ok(());
        }
        self.warn(
            made,
            format!("`max-seq-len` is {max_seq_len}, but the model was made for {limit} positions"),
        )
    }

    /// Passes progress on; an error if someone asked to stop.
    pub(super) fn report(&mut self, done: usize) -> Result<(), TrainError> {
        if self.context.shutdown.requested() {
            return Err(TrainError::Stopped);
        }
        let told = self.telemetry.progress(done as u64);
        told.map_err(|e| TrainError::Observer(Box::new(e)))
    }

    /// Writes JSON lines as an artifact.
    pub(super) fn write_lines<T: Serialize>(
        &self,
        made: &mut StageOutput,
        name: &str,
        records: &[T],
    ) -> Result<(), StageError> {
        let mut text = String::new();
        for record in records {
            text.push_str(&serde_json::to_string(record)?);
            text.push('\n');
        }
        // Synced with all else that it made.
        write_new(&self.dir.out().join(name), text.as_bytes())?;
        made.artifacts.push(name.to_owned());
        Ok(())
    }
}

/// What the runner has digested, and only that: an attempt keeps nothing outside its folder.
pub(super) fn known_digests(root: &Path) -> DigestCache {
    DigestCache::load(&root.join(DIGESTS_PATH))
}

/// Refuses models and artifacts that are not what was planned with, or not what their runs published.
pub(super) fn check_inputs(
    known: &mut DigestCache,
    root: &Path,
    inputs: &BTreeMap<InputRole, InputRef>,
) -> Result<(), StageError> {
    for (role, input) in inputs {
        match input {
            InputRef::Folder { path, digest } => check_planned(known, root, path, digest)?,
            InputRef::Run { id, artifact } => {
                let dir = RunDir::new(root, id);
                let path = dir.artifacts().join(artifact);
                verify_artifact(&dir, artifact).map_err(|source| match source {
                    RundirError::Damaged { .. } if !path.exists() && !dir.outcome().exists() => {
                        let role = role.name();
                        StageError::MissingInput { role, path }
                    }
                    RundirError::Damaged { .. } => StageError::DamagedInput {
                        role: role.name(),
                        run: id.clone(),
                        source,
                    },
                    other => other.into(),
                })?;
            }
        }
    }
    Ok(())
}

/// Refuses a file or model folder whose digest is not the planned one.
fn check_planned(
    known: &mut DigestCache,
    root: &Path,
    path: &str,
    planned: &Digest,
) -> Result<(), StageError> {
    let full = root.join(path);
    let found = if full.is_dir() {
        known.model_folder(&full)?
    } else {
        known.file(&full)?
    };
    if found.as_ref() == Some(planned) {
        return Ok(());
    }
    Err(StageError::DataChanged {
        path: path.to_owned(),
        found: found.map_or_else(|| "none".to_owned(), |found| found.short().to_owned()),
        planned: planned.short().to_owned(),
    })
}

/// A row that a `select` run kept: a line of its artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SelectedRow {
    /// Among the rows of the loaded mixture, from 0.
    pub(super) index: usize,
    /// Id of the row.
    pub(super) id: String,
    /// What the method gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
    /// Why it has none, where the method says it of single rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

/// Places of the rows that a `select` run kept, in its order, from its artifact.
///
/// # Errors
/// If the file cannot be read or is no such artifact.
pub fn kept_rows(path: &Path) -> Result<Vec<usize>, StageError> {
    let text = crate::base::fs::read_to_string(path)?;
    let rows = text.lines().map(serde_json::from_str::<SelectedRow>);
    Ok(rows
        .map(|row| row.map(|row| row.index))
        .collect::<Result<_, _>>()?)
}
