//! Reward models: a decoder with a scalar head in place of the head for tokens.

use crate::arch::DecoderConfig;
use crate::base::ModelFile;
use crate::base::fs::read_to_string;
use crate::model::decoder::model::Decoder;
use crate::model::error::ModelError;
use crate::model::sequences::{Packed, SequenceScorer};
use crate::model::weights::{FrozenParams, WeightFiles};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Names of the head's weight (1, D), and how the position that is read is found.
const HEADS: [(&str, Pooling); 2] = [
    ("score.weight", Pooling::LastOther),
    ("regression_head.weight", Pooling::Last),
];

/// Which position of a sequence the head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pooling {
    /// The last token that is not the padding token of `config.json`; without one the last.
    LastOther,
    /// The last token.
    Last,
}

/// The scalar head of a reward model's folder, and which position of a sequence it reads.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct ScalarHead {
    /// Name of its weight (1, D).
    pub(in crate::model) name: &'static str,
    padding: Option<u32>,
}

impl ScalarHead {
    /// The head that the files of the folder `dir` hold.
    ///
    /// # Errors
    /// There is none, or `config.json` cannot be read.
    pub(in crate::model) fn find(weights: &WeightFiles, dir: &Path) -> Result<Self, ModelError> {
        let (name, pooling) = find_head(weights, dir)?;
        let padding = match pooling {
            Pooling::LastOther => padding_token(dir)?,
            Pooling::Last => None,
        };
        Ok(Self { name, padding })
    }

    /// The position that the head reads; a sequence of padding alone is read at its start.
    pub(in crate::model) fn read_at(&self, sequence: &[u32]) -> usize {
        match self.padding {
            None => sequence.len() - 1,
            Some(pad) => sequence.iter().rposition(|t| *t != pad).unwrap_or(0),
        }
    }
}

/// A frozen decoder that gives a sequence one number.
///
/// Reads folders of transformers' `…ForSequenceClassification` with one label (`score.weight`) and
/// of UltraRM (`regression_head.weight`; Cui et al. 2023). The score is the head's dot product with
/// the hidden state, after the final norm, of the last token; with `score.weight` of the last token
/// that is not `pad_token_id`, as in transformers, so that an end token which also serves as padding
/// is passed over.
#[derive(Clone, Debug)]
pub struct RewardModel {
    decoder: Decoder,
    /// (1, D)
    head: Tensor,
    reads: ScalarHead,
}

/// What is read of `config.json` besides the decoder's shape.
#[derive(Deserialize)]
struct Fields {
    pad_token_id: Option<i64>,
}

impl RewardModel {
    /// Reads the folder `dir`, whose configuration is `config`, in `dtype`.
    ///
    /// # Errors
    /// There is no scalar head, it has more than one label, or as for [`FrozenParams::load`].
    pub fn load(
        dir: &Path,
        config: &DecoderConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, ModelError> {
        let config = headless(config);
        let weights = WeightFiles::open(dir)?;
        let reads = ScalarHead::find(&weights, dir)?;
        let expected = tensors_with(&config, reads.name);
        let ignorable = |name: &str| config.may_ignore(name);
        let params = FrozenParams::load_tensors(weights, expected, ignorable, device, dtype)?;
        let head = params
            .get(reads.name)
            .ok_or_else(|| ModelError::MissingParameter {
                name: reads.name.to_owned(),
            })?;
        Ok(Self {
            head: head.clone(),
            decoder: Decoder::frozen(&config, &params)?,
            reads,
        })
    }
}

impl SequenceScorer for RewardModel {
    fn score(&mut self, sequences: &[Vec<u32>]) -> Result<Vec<f64>, ModelError> {
        let pass = Packed::new(sequences)?;
        let starts = sequences.iter().zip(&pass.cu_seqlens);
        let rows: Vec<u32> = starts
            .map(|(sequence, start)| start + self.reads.read_at(sequence) as u32)
            .collect();
        let decoder = &self.decoder;
        let hidden = decoder.hidden(&pass.tokens, &pass.positions, &pass.cu_seqlens)?; // (T, D)
        let rows = Tensor::new(rows, hidden.device())?; // (S,)
        let read = hidden.index_select(&rows, 0)?; // (S, D)
        let head = self.head.to_dtype(read.dtype())?; // (1, D)
        let scores = read.matmul(&head.t()?)?.squeeze(1)?; // (S,)
        Ok(scores.to_dtype(DType::F64)?.to_vec1()?)
    }
}

/// Everything about the reward model in `dir` that the headers of its weights show not to fit.
pub fn check_reward_weights(dir: &Path, config: &DecoderConfig) -> Vec<ModelError> {
    let config = headless(config);
    let found = WeightFiles::open(dir).and_then(|files| {
        let (name, _) = find_head(&files, dir)?;
        Ok((files, name))
    });
    match found {
        Ok((files, name)) => {
            files.misfits(tensors_with(&config, name), |name| config.may_ignore(name))
        }
        Err(error) => vec![error],
    }
}

/// The decoder without its head for tokens, which is never used and mostly not in the files.
pub(in crate::model) fn headless(config: &DecoderConfig) -> DecoderConfig {
    DecoderConfig {
        tied: true,
        ..config.clone()
    }
}

/// The tensors of the decoder and of the scalar head called `name`, by name with their shapes.
pub(in crate::model) fn tensors_with(
    config: &DecoderConfig,
    name: &str,
) -> BTreeMap<String, Vec<usize>> {
    let mut expected = config.tensors();
    expected.insert(name.to_owned(), vec![1, config.hidden_size]);
    expected
}

/// The head that the folder's files hold.
fn find_head(weights: &WeightFiles, dir: &Path) -> Result<(&'static str, Pooling), ModelError> {
    let files = &weights.files;
    let holds = |name: &str| files.iter().any(|file| file.tensors().contains_key(name));
    let found = HEADS.into_iter().find(|(name, _)| holds(name));
    found.ok_or_else(|| ModelError::NoScalarHead {
        dir: dir.to_path_buf(),
        known: HEADS.map(|(name, _)| format!("`{name}`")).join(" or "),
    })
}

fn padding_token(dir: &Path) -> Result<Option<u32>, ModelError> {
    let path = ModelFile::Config.within(dir);
    let fields: Fields = serde_json::from_str(&read_to_string(&path)?)
        .map_err(|source| ModelError::Json { path, source })?;
    // Some files write -1 for none.
    Ok(fields.pad_token_id.and_then(|id| u32::try_from(id).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sequences::score_sequences;

    /// The shipped decoder with a head of ones, saved under `name`.
    fn with_head(dir: &Path, name: &str, labels: usize, pad: Option<u32>) -> DecoderConfig {
        let source = Path::new("models/stories260k");
        let mut config = DecoderConfig::from_file(source).unwrap();
        config.tied = true;
        let params = FrozenParams::load(source, &config, &Device::Cpu, DType::F32).unwrap();
        let mut tensors: BTreeMap<String, Tensor> = params
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
            .collect();
        let head = Tensor::ones((labels, config.hidden_size), DType::F32, &Device::Cpu).unwrap();
        tensors.insert(name.to_owned(), head);
        let out = dir.join("model");
        let companions = crate::model::Companions::read(source).unwrap();
        let params = FrozenParams::from_tensors(tensors);
        crate::model::save_checkpoint(&out, &companions, &params).unwrap();
        let path = out.join("config.json");
        let mut json: serde_json::Value =
            serde_json::from_str(&read_to_string(&path).unwrap()).unwrap();
        json["pad_token_id"] = serde_json::json!(pad);
        json["architectures"] = serde_json::json!(["LlamaForSequenceClassification"]);
        crate::base::write_atomic(&path, json.to_string().as_bytes()).unwrap();
        DecoderConfig::from_file(&out).unwrap()
    }

    fn load(dir: &Path, config: &DecoderConfig) -> Result<RewardModel, ModelError> {
        RewardModel::load(&dir.join("model"), config, &Device::Cpu, DType::F32)
    }

    #[test]
    fn the_score_is_the_sum_of_the_last_hidden_state_when_the_head_is_ones() {
        let temp = tempfile::tempdir().unwrap();
        let config = with_head(temp.path(), "regression_head.weight", 1, Some(9));
        let mut model = load(temp.path(), &config).unwrap();
        let hidden = model
            .decoder
            .hidden(&[1, 5, 9], &[0, 1, 2], &[0, 3])
            .unwrap();
        let last: Vec<f32> = hidden.get(2).unwrap().to_vec1().unwrap();
        let want: f64 = last.iter().map(|x| f64::from(*x)).sum();
        let got = model.score(&[vec![1, 5, 9]]).unwrap();
        assert!((got[0] - want).abs() < 1e-4, "{got:?} {want}");
    }

    #[test]
    fn padding_at_the_end_is_passed_over_by_the_head_of_transformers() {
        let temp = tempfile::tempdir().unwrap();
        let config = with_head(temp.path(), "score.weight", 1, Some(9));
        let mut model = load(temp.path(), &config).unwrap();
        let scores = model.score(&[vec![1, 5], vec![1, 5, 9, 9]]).unwrap();
        assert!((scores[0] - scores[1]).abs() < 1e-5, "{scores:?}");
        assert_eq!(model.reads.read_at(&[9, 9]), 0);
    }

    #[test]
    fn the_split_into_passes_changes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let config = with_head(temp.path(), "score.weight", 1, None);
        let mut model = load(temp.path(), &config).unwrap();
        let sequences: Vec<Vec<u32>> = (1..9).map(|n| (1..=n).collect()).collect();
        let together = score_sequences(&mut model, &sequences, 1000).unwrap();
        for limit in [1, 7, 10] {
            let apart = score_sequences(&mut model, &sequences, limit).unwrap();
            assert_eq!(apart.len(), 8);
            for (a, b) in apart.iter().zip(&together) {
                assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_folder_without_a_scalar_head_or_with_several_labels_is_refused() {
        let source = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(source).unwrap();
        let error = RewardModel::load(source, &config, &Device::Cpu, DType::F32).unwrap_err();
        assert!(
            error.to_string().starts_with("no scalar head in `models"),
            "{error}"
        );
        let temp = tempfile::tempdir().unwrap();
        let config = with_head(temp.path(), "score.weight", 3, None);
        let error = load(temp.path(), &config).unwrap_err();
        assert!(error.to_string().contains("has shape [3, 64]"), "{error}");
        let error = {
            let temp = tempfile::tempdir().unwrap();
            let config = with_head(temp.path(), "score.weight", 1, None);
            load(temp.path(), &config)
                .unwrap()
                .score(&[vec![1], vec![]])
        };
        assert_eq!(error.unwrap_err().to_string(), "sequence 2 of 2 is empty");
    }
}
