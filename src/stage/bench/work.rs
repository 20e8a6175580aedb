//! The work of a bench: model, data, and what each step sees.

use crate::arch::DecoderConfig;
use crate::base::{SeedTree, write_atomic};
use crate::config::spec::{
    BatchSize, DataSource, Duration, LayoutRecipe, PairLimits, SamplingRecipe, Truncation,
};
use crate::data::{
    PairCut, PairPlan, SftPlan, TextFormat, TokenBatch, TokenizedExample, TokenizedPair, load_chat,
    load_pairs, mixture_seed, select, select_seed,
};
use crate::eval::story_prompt;
use crate::model::{FrozenParams, ModelError, Params, dtype_of};
use crate::stage::bench::place::Place;
use crate::stage::bench::recipe::BenchRecipe;
use crate::stage::bench::request::{BenchKind, BenchModel, BenchRequest, BenchShape};
use crate::stage::error::StageError;
use crate::train::{DpoObjective, ReferenceLogps, SftObjective, score_pairs};
use candle_core::Device;
use rand::RngCore as _;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::Path;

/// The `config.json` of [`BenchShape::Llama15M`].
const LLAMA_15M: &str = r#"{
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 288, "num_hidden_layers": 6,
    "num_attention_heads": 6, "intermediate_size": 768, "max_position_embeddings": 2048,
    "tie_word_embeddings": true
}"#;

impl BenchShape {
    fn config(&self) -> Result<DecoderConfig, ModelError> {
        Ok(match self {
            Self::Llama15M => DecoderConfig::from_json(Path::new("15m"), LLAMA_15M)?,
            Self::Folder(folder) => DecoderConfig::from_file(folder)?,
        })
    }
}

/// Everything a measurement needs.
pub(super) struct Prepared {
    pub(super) place: Place,
    pub(super) config: DecoderConfig,
    pub(super) params: Params,
    pub(super) work: Work,
    /// Steps in all.
    pub(super) steps: u64,
}

/// What the steps do.
pub(super) enum Work {
    Train(SftObjective),
    Dpo(DpoObjective),
    Generate(Sampling),
}

/// Samples to draw in each step.
pub(super) struct Sampling {
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) samples: usize,
    pub(super) recipe: SamplingRecipe,
    pub(super) stop: Vec<u32>,
    pub(super) seed: SeedTree,
}

/// Where tokens come from.
enum Source {
    Text(Box<TextFormat>),
    Random(SeedTree),
}

/// Reads or makes the model and the data.
pub(super) fn prepare(request: &BenchRequest) -> Result<Prepared, StageError> {
    let place = Place::open(request)?;
    let seed = SeedTree::root(request.seed);
    let (config, frozen, source) = match &request.model {
        BenchModel::Folder(folder) => {
            let folder = request.root.join(folder);
            let config = DecoderConfig::from_file(&folder).map_err(ModelError::from)?;
            let format = TextFormat::open(&folder, None)?;
            let frozen =
                FrozenParams::load(&folder, &config, &Device::Cpu, dtype_of(request.precision))?;
            (config, frozen, Source::Text(Box::new(format)))
        }
        BenchModel::Shape(shape) => {
            let config = shape.config()?;
            let frozen = FrozenParams::random(&config, &mut seed.child("bench/weights").rng())?;
            (config, frozen, Source::Random(seed.child("bench/tokens")))
        }
    };
    let params = Params::from_frozen(&frozen, dtype_of(request.precision))?;
    drop(frozen);
    let work = match request.kind {
        BenchKind::Train => Work::Train(training(request, &config, &source)?),
        BenchKind::Dpo => Work::Dpo(preference(request, &place, (&config, &params), &source)?),
        BenchKind::Generate => Work::Generate(sampling(request, &config, &source)?),
    };
    Ok(Prepared {
        place,
        config,
        params,
        work,
        steps: request.steps + request.warmup,
    })
}

/// The request's files, or the given ones of the project.
fn sources(request: &BenchRequest, shipped: &[&str]) -> Vec<DataSource> {
    let given: Vec<&str> = request.data.iter().map(String::as_str).collect();
    let paths = if given.is_empty() { shipped } else { &given };
    let source = |path: &&str| DataSource {
        path: (*path).into(),
        fraction: None,
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    };
    paths.iter().map(source).collect()
}

/// `len` random tokens of the vocabulary.
fn random_tokens(seed: &SeedTree, len: usize, vocab: usize) -> Vec<u32> {
    let mut rng = seed.rng();
    let vocab = vocab.max(1) as u64;
    (0..len).map(|_| (rng.next_u64() % vocab) as u32).collect()
}

fn training(
    request: &BenchRequest,
    config: &DecoderConfig,
    source: &Source,
) -> Result<SftObjective, StageError> {
    let steps = request.steps + request.warmup;
    let data = sources(
        request,
        &[
            "data/sft/stories_train.jsonl",
            "data/sft/instruct_train.jsonl",
        ],
    );
    let (examples, pad) = match source {
        Source::Text(format) => {
            let (rows, _) = load_chat(&request.root, &data, &mixture_seed(request.seed))?;
            (format.encode_chats(&rows)?, format.pad_token())
        }
        Source::Random(seed) => {
            let rows = request.batch_tokens.div_ceil(request.max_seq_len.max(1)) as u64 * steps;
            (random_documents(seed, rows, request.max_seq_len, config), 0)
        }
    };
    let layout = LayoutRecipe {
        max_masked_fraction: None,
        max_seq_len: request.max_seq_len,
        batching: request.batching,
        loss_mask: request.loss_mask,
        batch: BatchSize::Tokens(request.batch_tokens),
    };
    let seed = SeedTree::root(request.seed);
    Ok(SftObjective {
        plan: SftPlan::new(examples, &layout, Duration::Steps(steps), &seed, pad)?,
        max_seq_len: request.max_seq_len,
        micro_batch_tokens: request.device.usual_micro_batch(),
        config: config.clone(),
        monitors: Vec::new(),
        monitor_every: None,
    })
}

fn random_documents(
    seed: &SeedTree,
    count: u64,
    len: usize,
    config: &DecoderConfig,
) -> Vec<TokenizedExample> {
    (0..count)
        .map(|i| TokenizedExample {
            id: format!("random-{i}"),
            tokens: random_tokens(&seed.index(i), len, config.vocab_size),
            loss_mask: (0..len).map(|at| at > 0).collect(),
            source: String::new(),
        })
        .collect()
}

fn preference(
    request: &BenchRequest,
    place: &Place,
    (config, params): (&DecoderConfig, &Params),
    source: &Source,
) -> Result<DpoObjective, StageError> {
    let steps = request.steps + request.warmup;
    let wanted = usize::try_from(steps)
        .unwrap_or(usize::MAX)
        .saturating_mul(request.pairs);
    let pairs = match source {
        Source::Text(format) => {
            let data = sources(request, &["data/pref/polite_train.jsonl"]);
            let limits = PairLimits {
                max_seq_len: request.max_seq_len,
                max_prompt_len: request.max_seq_len / 2,
                truncation: Truncation::KeepEnd,
            };
            let (rows, _) = load_pairs(&request.root, &data, &mixture_seed(request.seed))?;
            let rows = select(rows, None, &select_seed(request.seed))?;
            let (mut pairs, _) = format.encode_pairs(&rows, &limits)?;
            pairs.truncate(wanted);
            pairs
        }
        Source::Random(seed) => random_pairs(seed, wanted, request.max_seq_len, config),
    };
    let mut model = place.model(request.precision, config, params)?;
    let limit = request.device.usual_micro_batch();
    let scores = score_pairs(&mut *model, &pairs, limit, &mut |_| Ok(()))?;
    let keys = pairs.iter().map(|pair| pair.key.as_str());
    let reference = ReferenceLogps::from_scores(keys.zip(&scores));
    let seed = SeedTree::root(request.seed);
    Ok(DpoObjective {
        plan: PairPlan::new(pairs.len(), request.pairs, Duration::Steps(steps), &seed)?,
        pairs,
        reference: Some(reference),
        moving: None,
        loss: BenchRecipe::read()?.objective,
        micro_batch_tokens: limit,
        config: config.clone(),
        monitors: Vec::new(),
        monitor_every: None,
    })
}

/// Pairs whose prompt takes half of `len`, each reply the other half.
fn random_pairs(
    seed: &SeedTree,
    count: usize,
    len: usize,
    config: &DecoderConfig,
) -> Vec<TokenizedPair> {
    let part = |pair: usize, which: &str, len: usize| {
        let seed = seed.index(pair as u64).child(which);
        random_tokens(&seed, len.max(1), config.vocab_size)
    };
    (0..count)
        .map(|i| TokenizedPair {
            id: format!("random-{i}"),
            key: format!("random-{i}"),
            prompt: part(i, "prompt", len / 2),
            chosen: part(i, "chosen", len - len / 2),
            rejected: part(i, "rejected", len - len / 2),
            cut: PairCut::default(),
        })
        .collect()
}

fn sampling(
    request: &BenchRequest,
    config: &DecoderConfig,
    source: &Source,
) -> Result<Sampling, StageError> {
    let (prompts, stop): (Vec<Vec<u32>>, Vec<u32>) = match source {
        Source::Text(format) => {
            let data = sources(request, &["data/sft/stories_test.jsonl"]);
            let (rows, _) = load_chat(&request.root, &data, &mixture_seed(request.seed))?;
            let encode = |row| -> Result<Vec<u32>, StageError> {
                Ok(format.encode_prompt(&story_prompt(row)?.messages)?)
            };
            let prompts = rows.iter().take(request.prompts).map(encode);
            (prompts.collect::<Result<_, _>>()?, vec![format.end_token()])
        }
        Source::Random(seed) => {
            let len = request
                .max_seq_len
                .saturating_sub(request.max_new_tokens)
                .max(1);
            let prompt = |i| random_tokens(&seed.index(i), len, config.vocab_size);
            (
                (0..request.prompts as u64).map(prompt).collect(),
                Vec::new(),
            )
        }
    };
    if prompts.is_empty() || request.samples == 0 {
        return Err(StageError::EmptySet {
            set: "bench".to_owned(),
            why: "there are no prompts to sample from".to_owned(),
        });
    }
    Ok(Sampling {
        prompts,
        samples: request.samples,
        recipe: SamplingRecipe {
            max_new_tokens: NonZeroUsize::new(request.max_new_tokens).unwrap_or(NonZeroUsize::MIN),
            ..BenchRecipe::read()?.sampling
        },
        stop,
        seed: SeedTree::root(request.seed).child("bench/samples"),
    })
}

/// Writes what each step computes, one JSON object a line, so that another implementation can do
/// the same: token ids, segments and targets; pairs with their references; prompts.
pub(super) fn write(prepared: &Prepared, path: &Path) -> Result<(), StageError> {
    let mut text = String::new();
    let mut put = |line: serde_json::Value| {
        text.push_str(&line.to_string());
        text.push('\n');
    };
    match &prepared.work {
        Work::Train(objective) => {
            for step in (0..prepared.steps).filter_map(|step| objective.plan.step(step)) {
                for batch in step.micro_batches(usize::MAX) {
                    put(batch_line(&batch));
                }
            }
        }
        Work::Dpo(objective) => {
            for step in (0..prepared.steps).filter_map(|step| objective.plan.step(step)) {
                let pairs = step
                    .iter()
                    .map(|&i| pair_value(objective, &objective.pairs[i]));
                let pairs = pairs.collect::<Result<Vec<_>, StageError>>()?;
                put(json!({ "pairs": pairs }));
            }
        }
        Work::Generate(sampling) => put(json!({
            "prompts": sampling.prompts,
            "samples": sampling.samples,
            "max_new_tokens": sampling.recipe.max_new_tokens,
            "stop": sampling.stop,
        })),
    }
    Ok(write_atomic(path, text.as_bytes())?)
}

fn batch_line(batch: &TokenBatch) -> serde_json::Value {
    json!({
        "tokens": batch.tokens,
        "positions": batch.positions,
        "cu_seqlens": batch.cu_seqlens,
        "target_rows": batch.target_rows,
        "targets": batch.targets,
        "real_tokens": batch.real_tokens,
    })
}

fn pair_value(
    objective: &DpoObjective,
    pair: &TokenizedPair,
) -> Result<serde_json::Value, StageError> {
    let reference = match &objective.reference {
        Some(reference) => Some(reference.of(pair)?),
        None => None,
    };
    Ok(json!({
        "prompt": pair.prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "ref_chosen": reference.map(|r| r.chosen),
        "ref_rejected": reference.map(|r| r.rejected),
    }))
}
