//! PairRM (Jiang et al. 2023, LLM-Blender): a DeBERTa encoder that reads a prompt with two replies
//! and says how much better the first is.
//!
//! Agrees with `llm_blender` 0.0.2 (`tokenize_pair`, `DebertaV2PairRM`, and `Blender.rank` with all
//! comparisons, whose score is the mean of a reply's logits less those against it).

use crate::base::ModelFile;
use crate::base::fs::read_to_string;
use crate::config::spec::PairrmJudge;
use crate::data::PlainTokenizer;
use crate::judge::candidates::Candidates;
use crate::judge::error::{JudgeError, finite};
use crate::judge::traits::Judge;
use crate::model::{ModelError, load_tensors, weight_shapes};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::debertav2::{Config, DebertaV2Model};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Marks of the three parts, with the field of `config.json` that holds their ids.
const MARKS: [(&str, &str); 3] = [
    ("<|source|>", "source_prefix_id"),
    ("<|candidate1|>", "cand1_prefix_id"),
    ("<|candidate2|>", "cand2_prefix_id"),
];

/// A loaded PairRM.
pub struct PairRm {
    encoder: DebertaV2Model,
    /// Two linear layers of the head: weight (out, in) and bias (out).
    head: [(Tensor, Tensor); 2],
    tokenizer: PlainTokenizer,
    begin: u32,
    end: u32,
    device: Device,
}

impl PairRm {
    /// Opens a folder in the layout of `llm-blender/PairRM-hf`: `config.json` of a DeBERTa-v2 with
    /// the ids of the marks, `tokenizer.json`, and weights named `pretrained_model.…` (the encoder)
    /// and `head_layer.1.…`, `head_layer.4.…`. Computes in f32.
    ///
    /// # Errors
    /// A file is missing or broken, or the folder holds something else.
    pub fn open(dir: &Path, device: &Device) -> Result<Self, JudgeError> {
        let (config, tokenizer) = read(dir)?;
        let tensors = load_tensors(dir, device, DType::F32)?;
        Self::assemble(dir, (config, tokenizer), tensors, device)
    }

    /// As [`Self::open`], but of the weights only the headers are read.
    ///
    /// # Errors
    /// As [`Self::open`], but for what stands in the weights themselves.
    pub fn check(dir: &Path) -> Result<(), JudgeError> {
        let (config, tokenizer) = read(dir)?;
        // One number, read again and again, stands for each tensor.
        let nothing = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        let placeholder = |(name, shape): (String, Vec<usize>)| {
            Ok::<_, JudgeError>((name, nothing.broadcast_as(shape)?))
        };
        let tensors = weight_shapes(dir)?.into_iter().map(placeholder);
        let tensors: BTreeMap<_, _> = tensors.collect::<Result<_, _>>()?;
        Self::assemble(dir, (config, tokenizer), tensors, &Device::Cpu).map(drop)
    }

    fn assemble(
        dir: &Path,
        (config, tokenizer): (Config, PlainTokenizer),
        tensors: BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self, JudgeError> {
        let head = [
            linear(dir, &tensors, "head_layer.1", 2 * config.hidden_size)?,
            linear(dir, &tensors, "head_layer.4", config.hidden_size)?,
        ];
        let weights = VarBuilder::from_tensors(tensors.into_iter().collect(), DType::F32, device);
        Ok(Self {
            encoder: DebertaV2Model::load(weights.pp("pretrained_model"), &config)?,
            head,
            begin: tokenizer.special("[CLS]")?,
            end: tokenizer.special("[SEP]")?,
            tokenizer,
            device: device.clone(),
        })
    }

    /// Logit of `left` being the better reply. `lengths` are the longest prompt and the longest
    /// reply, tokens with special tokens; what a prompt does not use is shared out to the replies.
    ///
    /// # Errors
    /// The tokenizer or the device fails.
    pub fn logit(
        &self,
        prompt: &str,
        left: &str,
        right: &str,
        lengths: (usize, usize),
    ) -> Result<f64, JudgeError> {
        let [source, first, second] = MARKS.map(|(mark, _)| mark);
        let mut tokens = self.part(source, prompt, lengths.0)?;
        let room = (lengths.0 + 2 * lengths.1).saturating_sub(tokens.len()) / 2;
        let left_at = tokens.len() + 1;
        tokens.extend(self.part(first, left, room)?);
        let right_at = tokens.len() + 1;
        tokens.extend(self.part(second, right, room)?);
        let tokens = Tensor::new(tokens, &self.device)?.unsqueeze(0)?; // (1, T)
        let hidden = self.encoder.forward(&tokens, None, None)?.squeeze(0)?; // (T, D)
        let score = |at: usize| {
            let both = Tensor::cat(&[hidden.get(1)?, hidden.get(at)?], 0)?; // (2D)
            self.score(&both.unsqueeze(0)?)
        };
        Ok(score(left_at)? - score(right_at)?)
    }

    /// Mean over the tasks of the head; `both` (1, 2D).
    fn score(&self, both: &Tensor) -> candle_core::Result<f64> {
        let [(w1, b1), (w2, b2)] = &self.head;
        let inner = both.matmul(&w1.t()?)?.broadcast_add(b1)?.tanh()?; // (1, D)
        let tasks = inner.matmul(&w2.t()?)?.broadcast_add(b2)?; // (1, tasks)
        let mean = tasks.mean(D::Minus1)?.to_dtype(DType::F64)?; // (1)
        mean.get(0)?.to_scalar()
    }

    /// `[CLS] mark text [SEP]`, the text cut at its end to `most` tokens in all. What the text has of
    /// special tokens becomes blanks.
    fn part(&self, mark: &str, text: &str, most: usize) -> Result<Vec<u32>, JudgeError> {
        let text = self.tokenizer.without_special(text);
        let mut inner = self.tokenizer.encode_bare(&format!("{mark}{text}"))?;
        inner.truncate(most.saturating_sub(2).max(1));
        let mut tokens = Vec::with_capacity(inner.len() + 2);
        tokens.push(self.begin);
        tokens.append(&mut inner);
        tokens.push(self.end);
        Ok(tokens)
    }
}

/// `config.json` and the tokenizer of a folder, whose marks agree.
fn read(dir: &Path) -> Result<(Config, PlainTokenizer), JudgeError> {
    let path = ModelFile::Config.within(dir);
    let text = read_to_string(&path).map_err(ModelError::File)?;
    let bad_json = |source| ModelError::Json {
        path: path.clone(),
        source,
    };
    let mut json: Value = serde_json::from_str(&text).map_err(bad_json)?;
    let tokenizer = PlainTokenizer::open(dir)?;
    for (mark, field) in MARKS {
        let id = tokenizer.special(mark)?;
        if json[field].as_u64() != Some(u64::from(id)) {
            let problem = format!(
                "`{field}` in `config.json` is {}, but the tokenizer has `{mark}` as {id}",
                json[field]
            );
            return Err(no_pairrm(dir, problem));
        }
    }
    // Names of classes, which the encoder does not need and whose form varies.
    if let Some(fields) = json.as_object_mut() {
        fields.retain(|name, _| name != "id2label" && name != "label2id");
    }
    let config: Config = serde_json::from_value(json).map_err(bad_json)?;
    if config.conv_kernel_size.is_some_and(|size| size > 0) {
        let problem = "its encoder has a convolution, which is not implemented";
        return Err(no_pairrm(dir, problem.to_owned()));
    }
    Ok((unbounded(config), tokenizer))
}

/// The same encoder for texts of any length. It has relative positions only, which are cut at
/// `max_relative_positions`; but the library also keeps a list of `max_position_embeddings` absolute
/// ones and refuses longer texts, which transformers does not.
fn unbounded(mut config: Config) -> Config {
    if config.max_relative_positions < 1 {
        config.max_relative_positions =
            isize::try_from(config.max_position_embeddings).unwrap_or(isize::MAX);
    }
    if !config.position_biased_input {
        config.max_position_embeddings = config.max_position_embeddings.max(1 << 16);
    }
    config
}

fn no_pairrm(dir: &Path, problem: String) -> JudgeError {
    JudgeError::Folder {
        dir: dir.to_owned(),
        wanted: "PairRM",
        problem,
    }
}

/// Weight and bias of a linear layer with `inputs` inputs.
fn linear(
    dir: &Path,
    tensors: &BTreeMap<String, Tensor>,
    name: &str,
    inputs: usize,
) -> Result<(Tensor, Tensor), JudgeError> {
    let get = |part: &str| {
        let name = format!("{name}.{part}");
        let tensor = tensors.get(&name).cloned();
        tensor.ok_or_else(|| no_pairrm(dir, format!("there is no tensor `{name}`")))
    };
    let (weight, bias) = (get("weight")?, get("bias")?);
    match (weight.dims(), bias.dims()) {
        ([out, found], [biases]) if *found == inputs && out == biases => Ok((weight, bias)),
        (found, biases) => {
            let problem =
                format!("`{name}` has the shapes {found:?} and {biases:?}, with {inputs} inputs");
            Err(no_pairrm(dir, problem))
        }
    }
}

/// Ranks replies by PairRM: the score of reply i of n is the sum over j of logit(i, j) less
/// logit(j, i), divided by n.
pub struct PairrmJudgment {
    model: PairRm,
    lengths: (usize, usize),
}

impl PairrmJudgment {
    /// Opens the model of the recipe, whose folder is relative to `root`.
    ///
    /// # Errors
    /// As [`PairRm::open`].
    pub fn open(recipe: &PairrmJudge, root: &Path, device: &Device) -> Result<Self, JudgeError> {
        Ok(Self {
            model: PairRm::open(&root.join(&recipe.model_path), device)?,
            lengths: recipe.lengths(),
        })
    }

    fn scores(
        &self,
        item: &Candidates,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<f64>, JudgeError> {
        let prompt = item.prompt_text();
        let replies = &item.replies;
        let mut sums = vec![0.0; replies.len()];
        for a in 0..replies.len() {
            for b in 0..replies.len() {
                let (left, right) = (&replies[a].text, &replies[b].text);
                // Equal texts would add and take away the same number.
                if left == right {
                    continue;
                }
                if !go_on() {
                    return Err(JudgeError::Stopped);
                }
                let logit = self.model.logit(&prompt, left, right, self.lengths)?;
                sums[a] += logit;
                sums[b] -= logit;
            }
        }
        let n = replies.len() as f64;
        sums.into_iter()
            .map(|sum| finite(&item.id, sum / n))
            .collect()
    }
}

impl Judge for PairrmJudgment {
    fn judge(
        &mut self,
        items: &[Candidates],
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f64>>, JudgeError> {
        let mut all = Vec::with_capacity(items.len());
        for (done, item) in items.iter().enumerate() {
            all.push(self.scores(item, &mut || progress(done))?);
        }
        if !progress(items.len()) {
            return Err(JudgeError::Stopped);
        }
        Ok(all)
    }
}
