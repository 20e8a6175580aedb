//! Batched sampling with a cache; finished rows make room at once.

use crate::base::SeedTree;
use crate::config::spec::SamplingRecipe;
use crate::generate::sampler::draw_token;
use crate::model::phase_timer::{Phase, end_phase};
use crate::model::{CachedPrompt, Decoder, KvCache};
use candle_core::{DType, Tensor};
use rand_chacha::ChaCha8Rng;

/// Most rows of a decoding pass: enough that a weight, once read, serves many tokens (decoding is bound
/// by reading weights), few enough that the cache of long samples stays small. Where matrix products choose their kernel, and with it the order
/// of their sums, by the number of rows, that number is always the same, and rows that nobody asked
/// for fill it up.
const LANES: usize = 32;

/// What is to be sampled.
#[derive(Clone, Copy, Debug)]
pub struct SampleJob<'a> {
    /// Tokens of each prompt.
    pub prompts: &'a [Vec<u32>],
    /// Samples of each prompt.
    pub samples: usize,
    /// Temperature, nucleus and budget.
    pub recipe: &'a SamplingRecipe,
    /// Tokens that end a completion.
    pub stop: &'a [u32],
    /// Sample `k` of prompt `p` draws from `seed.index(p * samples + k)`.
    pub seed: &'a SeedTree,
    /// Samples in flight, at most 32; does not change a bit of the result.
    pub batch: usize,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Index of its prompt.
    pub prompt: usize,
    /// Which sample of the prompt.
    pub sample: usize,
    /// What was drawn, without the token that ended it.
    pub tokens: Vec<u32>,
    /// Whether a stop token ended it, and not the budget.
    pub finished: bool,
}

/// Sampling cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A prompt leaves no room for a token.
    #[error("prompt {prompt} has {len} tokens; the model has room for {limit}")]
    PromptTooLong {
        /// Index of the prompt.
        prompt: usize,
        /// Its tokens.
        len: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// The model gave NaN.
    #[error("the logits of prompt {prompt}, sample {sample} are not finite at token {token}")]
    NotFinite {
        /// Index of the prompt.
        prompt: usize,
        /// Which sample.
        sample: usize,
        /// Which new token, from 0.
        token: usize,
    },
    /// Someone asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

/// Draws `samples` completions of each prompt, ordered by prompt and sample.
///
/// A row's arithmetic never depends on the rows beside it and each sample has its own generator, so
/// the result is the same, bit for bit, whatever `batch` is. `progress` is told how many samples are
/// done; `false` ends the work with [`GenerateError::Stopped`].
///
/// # Errors
/// A prompt is too long, logits are not finite, or the device fails.
pub fn sample(
    decoder: &Decoder,
    job: &SampleJob<'_>,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Completion>, GenerateError> {
    let limit = decoder.config().max_positions;
    let too_long = job
        .prompts
        .iter()
        .enumerate()
        .find(|(_, p)| p.len() >= limit);
    if let Some((prompt, tokens)) = too_long {
        let len = tokens.len();
        return Err(GenerateError::PromptTooLong { prompt, len, limit });
    }
    let mut engine = Engine {
        decoder,
        job,
        limit,
        cache: KvCache::new(decoder)?,
        prefill: None,
        live: Vec::new(),
        done: Vec::new(),
    };
    let total = job.prompts.len() * job.samples;
    let mut next = 0;
    while engine.done.len() < total {
        if !progress(engine.done.len()) {
            return Err(GenerateError::Stopped);
        }
        let room = job
            .batch
            .clamp(1, LANES)
            .saturating_sub(engine.live.len())
            .min(total - next);
        engine.admit(next..next + room)?;
        next += room;
        engine.drop_finished()?;
        engine.advance()?;
        engine.drop_finished()?;
    }
    progress(total);
    engine.done.sort_by_key(|c| (c.prompt, c.sample));
    Ok(engine.done)
}

/// One sample in flight; row `i` of the cache belongs to `live[i]`, rows behind them are filling.
struct Live {
    completion: Completion,
    rng: ChaCha8Rng,
    over: bool,
}

/// A prompt in the cache and the logits after it.
struct Prefill {
    prompt: usize,
    cached: CachedPrompt,
    logits: Vec<f32>,
}

struct Engine<'a> {
    decoder: &'a Decoder,
    job: &'a SampleJob<'a>,
    limit: usize,
    cache: KvCache,
    /// The prompt admitted last: its samples may start one by one, as others end.
    prefill: Option<Prefill>,
    live: Vec<Live>,
    done: Vec<Completion>,
}

impl Engine<'_> {
    /// Starts samples `range`. Each prompt runs alone, so that its bits do not depend on others;
    /// samples of one prompt share the pass.
    fn admit(&mut self, range: std::ops::Range<usize>) -> Result<(), GenerateError> {
        let mut rows: Vec<usize> = (0..self.live.len()).collect();
        for index in range {
            let prompt = index / self.job.samples;
            let prefill = self.prefill_of(prompt)?;
            self.cache.push(&prefill.cached);
            rows.push(self.cache.rows() - 1);
            let mut live = Live {
                completion: Completion {
                    prompt,
                    sample: index % self.job.samples,
                    tokens: Vec::new(),
                    finished: false,
                },
                rng: self.job.seed.index(index as u64).rng(),
                over: false,
            };
            self.draw(&mut live, &prefill.logits)?;
            self.live.push(live);
            self.prefill = Some(prefill);
        }
        end_phase(Phase::Prefill);
        self.keep_rows(rows)
    }

    /// The prefill of a prompt, out of the cache if it is the last one.
    fn prefill_of(&mut self, prompt: usize) -> Result<Prefill, GenerateError> {
        if let Some(prefill) = self.prefill.take_if(|prefill| prefill.prompt == prompt) {
            return Ok(prefill);
        }
        let tokens: &[u32] = &self.job.prompts[prompt];
        let (cached, logits) = self.decoder.prefill_one(tokens, &self.cache)?;
        Ok(Prefill {
            prompt,
            cached,
            logits: logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?,
        })
    }

    /// Arranges the cache: these rows, and copies of the last one up to [`LANES`] if their number
    /// matters.
    fn keep_rows(&mut self, mut rows: Vec<usize>) -> Result<(), GenerateError> {
        if let Some(&last) = rows.last().filter(|_| !self.cache.rows_are_independent()) {
            rows.resize(LANES, last);
        }
        if !rows.iter().copied().eq(0..self.cache.rows()) {
            self.cache.select(&rows)?;
        }
        end_phase(Phase::Cache);
        Ok(())
    }

    /// One token more for every row.
    fn advance(&mut self) -> Result<(), GenerateError> {
        if self.live.is_empty() {
            return Ok(());
        }
        let last = |live: &Live| live.completion.tokens.last().copied();
        let mut tokens: Vec<u32> = self.live.iter().filter_map(last).collect();
        tokens.resize(self.cache.rows(), tokens[tokens.len() - 1]);
        let logits = to_rows(&self.decoder.decode_step(&tokens, &mut self.cache)?)?;
        end_phase(Phase::Decode);
        let mut rows = std::mem::take(&mut self.live);
        for (live, logits) in rows.iter_mut().zip(&logits) {
            self.draw(live, logits)?;
        }
        self.live = rows;
        end_phase(Phase::Draw);
        Ok(())
    }

    /// Draws a row's next token and sees whether that ends it.
    fn draw(&self, live: &mut Live, logits: &[f32]) -> Result<(), GenerateError> {
        let completion = &mut live.completion;
        let token = draw_token(logits, self.job.recipe, &mut live.rng).ok_or({
            GenerateError::NotFinite {
                prompt: completion.prompt,
                sample: completion.sample,
                token: completion.tokens.len(),
            }
        })?;
        if self.job.stop.contains(&token) {
            completion.finished = true;
            live.over = true;
            return Ok(());
        }
        completion.tokens.push(token);
        let drawn = completion.tokens.len();
        let context = self.job.prompts[completion.prompt].len() + drawn;
        live.over = drawn >= self.job.recipe.max_new_tokens.get() || context >= self.limit;
        Ok(())
    }

    /// Takes finished rows out of the cache.
    fn drop_finished(&mut self) -> Result<(), GenerateError> {
        let keep: Vec<usize> = (0..self.live.len())
            .filter(|&i| !self.live[i].over)
            .collect();
        if keep.len() < self.live.len() {
            self.keep_rows(keep)?;
            let (over, live) = std::mem::take(&mut self.live)
                .into_iter()
                .partition(|l| l.over);
            self.live = live;
            let over: Vec<Live> = over;
            self.done.extend(over.into_iter().map(|l| l.completion));
        }
        Ok(())
    }
}

/// Logits (B, V) as rows of f32.
fn to_rows(logits: &Tensor) -> candle_core::Result<Vec<Vec<f32>>> {
    logits.to_dtype(DType::F32)?.to_vec2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use crate::model::FrozenParams;
    use candle_core::Device;
    use std::path::Path;

    fn shipped() -> Decoder {
        let dir = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(dir).unwrap();
        let params = FrozenParams::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
        Decoder::frozen(&config, &params).unwrap()
    }

    fn run(
        decoder: &Decoder,
        prompts: &[Vec<u32>],
        recipe: SamplingRecipe,
        batch: usize,
    ) -> Vec<Completion> {
        let job = SampleJob {
            prompts,
            samples: 3,
            recipe: &recipe,
            stop: &[2],
            seed: &SeedTree::root(11),
            batch,
        };
        sample(decoder, &job, &mut |_| true).unwrap()
    }

    fn prompts() -> Vec<Vec<u32>> {
        (0..6u32)
            .map(|i| {
                (0..=i * 3)
                    .map(|k| if k == 0 { 1 } else { 260 + k * 7 + i })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_samples_whatever_the_batch() {
        let decoder = shipped();
        let recipe = SamplingRecipe {
            temperature: 1.0.try_into().unwrap(),
            top_p: 0.95.try_into().unwrap(),
            max_new_tokens: 12.try_into().unwrap(),
        };
        let prompts = prompts();
        let one = run(&decoder, &prompts, recipe, 1);
        assert_eq!(one.len(), 18);
        for batch in [3, 16] {
            assert!(
                run(&decoder, &prompts, recipe, batch) == one,
                "batch {batch} differs"
            );
        }
        let distinct: std::collections::BTreeSet<_> = one.iter().map(|c| &c.tokens).collect();
        assert!(distinct.len() > 15, "samples should differ from each other");
    }

    #[test]
    fn the_bits_of_a_row_depend_neither_on_its_place_nor_on_the_rows_beside_it() {
        let decoder = shipped();
        let row = |place: usize, other: u32| {
            let mut cache = KvCache::new(&decoder).unwrap();
            decoder.prefill(&[&[1, 403, 407]], &mut cache).unwrap();
            decoder.prefill(&[&[1, other]], &mut cache).unwrap();
            let mut rows = vec![1; LANES];
            rows[place] = 0;
            cache.select(&rows).unwrap();
            let mut logits = Vec::new();
            for token in 400..410 {
                let mut tokens = vec![other; LANES];
                tokens[place] = token;
                logits = to_rows(&decoder.decode_step(&tokens, &mut cache).unwrap()).unwrap();
            }
            let bits = logits.swap_remove(place).into_iter().map(f32::to_bits);
            bits.collect::<Vec<_>>()
        };
        let first = row(0, 300);
        for place in [1, 5, 14, 15, 16, 30, 31] {
            assert!(row(place, 310) == first, "at place {place}");
        }
    }

    // models/stories260k/expected.json: greedy continuation of BOS by transformers.
    #[test]
    fn greedy_sampling_gives_the_text_of_transformers() {
        let text = crate::base::fs::read_to_string(Path::new("models/stories260k/expected.json"));
        let expected: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        let ids = expected["greedy_from_bos"]["ids"].as_array().unwrap();
        let ids: Vec<u32> = ids.iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let recipe = SamplingRecipe {
            temperature: 0.0.try_into().unwrap(),
            top_p: 1.0.try_into().unwrap(),
            max_new_tokens: 60.try_into().unwrap(),
        };
        let got = run(&shipped(), &[vec![1]], recipe, 2);
        assert_eq!(got[0].tokens, ids[1..61]);
    }

    #[test]
    fn a_stop_token_finishes_a_sample_and_the_budget_does_not() {
        let recipe = SamplingRecipe {
            temperature: 0.0.try_into().unwrap(),
            top_p: 1.0.try_into().unwrap(),
            max_new_tokens: 5.try_into().unwrap(),
        };
        let decoder = shipped();
        let plain = run(&decoder, &[vec![1]], recipe, 4);
        assert!(!plain[0].finished && plain[0].tokens.len() == 5);
        let job = SampleJob {
            prompts: &[vec![1]],
            samples: 1,
            recipe: &recipe,
            stop: &plain[0].tokens[3..4],
            seed: &SeedTree::root(0),
            batch: 1,
        };
        let stopped = sample(&decoder, &job, &mut |_| true).unwrap();
        let first = plain[0]
            .tokens
            .iter()
            .position(|t| *t == plain[0].tokens[3])
            .unwrap();
        assert!(stopped[0].finished);
        assert_eq!(stopped[0].tokens, plain[0].tokens[..first]);
    }
}
