//! Batched sampling with a cache; finished rows make room at once.

use crate::base::SeedTree;
use crate::config::spec::SamplingRecipe;
use crate::generate::draw::{draw_token, uniform};
use crate::generate::error::GenerateError;
use crate::generate::generator::{Generator, Room, Rows};
use crate::generate::until::StopTexts;
use crate::model::phase_timer::{Phase, end_phase};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

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
    /// Texts that end a completion; what is drawn of them stays in it.
    pub until: Option<&'a StopTexts<'a>>,
    /// Sample `k` of prompt `p` draws from `seed.index(p * samples + k)`.
    pub seed: &'a SeedTree,
    /// Most samples in flight; a device may hold fewer. Does not change a bit of the result.
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
    /// Whether a stop token or text ended it, and not the budget.
    pub finished: bool,
}

/// A token, told as it is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'a> {
    /// Index of the prompt.
    pub prompt: usize,
    /// Which sample of the prompt.
    pub sample: usize,
    /// The token.
    pub token: u32,
    /// Whether it is a stop token, which is no part of the completion.
    pub stops: bool,
    /// What it was drawn from, (V,).
    pub logits: &'a [f32],
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
    model: &mut dyn Generator,
    job: &SampleJob<'_>,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Completion>, GenerateError> {
    sample_with(model, job, None, progress)
}

/// As [`sample`]; `watch` is told every token that is drawn.
///
/// # Errors
/// As [`sample`].
pub fn sample_watched(
    model: &mut dyn Generator,
    job: &SampleJob<'_>,
    watch: &mut dyn FnMut(&Drawn<'_>),
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Completion>, GenerateError> {
    sample_with(model, job, Some(watch), progress)
}

/// Who is told every token with the logits that it was drawn from. If there is nobody, logits stay where they are.
type Watch<'a> = Option<&'a mut dyn FnMut(&Drawn<'_>)>;

fn sample_with(
    model: &mut dyn Generator,
    job: &SampleJob<'_>,
    watch: Watch<'_>,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Completion>, GenerateError> {
    let limit = model.max_positions();
    let lengths = job.prompts.iter().map(Vec::len);
    if let Some((prompt, len)) = lengths.clone().enumerate().find(|&(_, len)| len >= limit) {
        return Err(GenerateError::PromptTooLong { prompt, len, limit });
    }
    let total = job.prompts.len() * job.samples;
    let longest = lengths.max().unwrap_or(0);
    let most = longest.saturating_add(job.recipe.max_new_tokens.get());
    let rows = model.rows(Room {
        rows: job.batch.clamp(1, total.max(1)),
        prompt: longest,
        positions: most.min(limit),
    })?;
    let mut sampler = Sampler {
        job,
        limit,
        rows,
        watch: watch.map(|watch| watch as &mut dyn FnMut(&Drawn<'_>)),
        read: 0..0,
        first: Vec::new(),
        live: Vec::new(),
        done: Vec::new(),
    };
    let mut next = 0;
    while sampler.done.len() < total {
        if !progress(sampler.done.len()) {
            return Err(GenerateError::Stopped);
        }
        let room = sampler.rows.most().saturating_sub(sampler.live.len());
        let room = room.min(total - next);
        sampler.admit(next..next + room)?;
        next += room;
        sampler.drop_finished()?;
        sampler.advance()?;
        sampler.drop_finished()?;
    }
    progress(total);
    sampler.done.sort_by_key(|c| (c.prompt, c.sample));
    Ok(sampler.done)
}

/// One sample in flight; row `i` of the cache belongs to `live[i]`.
struct Live {
    completion: Completion,
    rng: ChaCha8Rng,
    over: bool,
}

struct Sampler<'a> {
    job: &'a SampleJob<'a>,
    limit: usize,
    rows: Box<dyn Rows + 'a>,
    watch: Watch<'a>,
    /// The prompts that were read last: samples of the last one may start one by one, as others end.
    read: Range<usize>,
    /// Logits after them, (P, V).
    first: Vec<f32>,
    live: Vec<Live>,
    done: Vec<Completion>,
}

impl Sampler<'_> {
    /// Starts samples `range`; those of one prompt share its pass.
    fn admit(&mut self, range: Range<usize>) -> Result<(), GenerateError> {
        let samples = self.job.samples;
        let known = (self.read.end * samples).clamp(range.start, range.end);
        self.start(range.start..known)?;
        if known < range.end {
            self.read = known / samples..(range.end - 1) / samples + 1;
            let prompts = self.job.prompts[self.read.clone()].iter();
            let prompts: Vec<&[u32]> = prompts.map(Vec::as_slice).collect();
            self.first = self.rows.prefill(&prompts)?.to_vec();
            self.start(known..range.end)?;
        }
        end_phase(Phase::Prefill);
        Ok(())
    }

    /// Starts samples of prompts that were read.
    fn start(&mut self, range: Range<usize>) -> Result<(), GenerateError> {
        let samples = self.job.samples;
        let of_read: Vec<usize> = range
            .clone()
            .map(|index| index / samples - self.read.start)
            .collect();
        if of_read.is_empty() {
            return Ok(());
        }
        self.rows.start(&of_read)?;
        let width = self.first.len() / self.read.len().max(1);
        for (index, at) in range.zip(of_read) {
            let mut live = Live {
                completion: Completion {
                    prompt: index / samples,
                    sample: index % samples,
                    tokens: Vec::new(),
                    finished: false,
                },
                rng: self.job.seed.index(index as u64).rng(),
                over: false,
            };
            let logits = &self.first[at * width..(at + 1) * width];
            let number = uniform(self.job.recipe, &mut live.rng);
            let token = draw_token(logits, self.job.recipe, number);
            let watch = self.watch.as_deref_mut();
            let from = watch.map(|watch| (watch as &mut dyn FnMut(&Drawn<'_>), logits));
            take((self.job, self.limit), &mut live, token, from)?;
            self.live.push(live);
        }
        Ok(())
    }

    /// One token more for every row.
    fn advance(&mut self) -> Result<(), GenerateError> {
        if self.live.is_empty() {
            return Ok(());
        }
        let last = |live: &Live| live.completion.tokens.last().copied();
        let tokens: Vec<u32> = self.live.iter().filter_map(last).collect();
        let recipe = self.job.recipe;
        let numbers = self
            .live
            .iter_mut()
            .map(|live| uniform(recipe, &mut live.rng));
        let numbers: Vec<f64> = numbers.collect();
        let Some(watch) = self.watch.as_deref_mut() else {
            let drawn = self.rows.decode_drawn(&tokens, recipe, &numbers)?;
            for (live, token) in self.live.iter_mut().zip(drawn) {
                take((self.job, self.limit), live, token, None)?;
            }
            end_phase(Phase::Decode);
            return Ok(());
        };
        let logits = self.rows.decode(&tokens)?;
        end_phase(Phase::Decode);
        let width = logits.len() / tokens.len().max(1);
        let rows = logits.chunks_exact(width.max(1)).zip(numbers);
        for (live, (logits, number)) in self.live.iter_mut().zip(rows) {
            let token = draw_token(logits, recipe, number);
            let from = (&mut *watch as &mut dyn FnMut(&Drawn<'_>), logits);
            take((self.job, self.limit), live, token, Some(from))?;
        }
        end_phase(Phase::Draw);
        Ok(())
    }

    /// Takes finished rows out of the cache.
    fn drop_finished(&mut self) -> Result<(), GenerateError> {
        let keep: Vec<usize> = (0..self.live.len())
            .filter(|&i| !self.live[i].over)
            .collect();
        if keep.len() < self.live.len() {
            self.rows.keep(&keep)?;
            end_phase(Phase::Cache);
            let live = std::mem::take(&mut self.live).into_iter();
            let (over, live): (Vec<Live>, _) = live.partition(|live| live.over);
            self.live = live;
            self.done.extend(over.into_iter().map(|l| l.completion));
        }
        Ok(())
    }
}

/// Who is told of a token, and its logits.
type Told<'a> = (&'a mut dyn FnMut(&Drawn<'_>), &'a [f32]);

/// Takes a row's next token, tells it with its logits, and sees whether it ends the row.
fn take(
    (job, limit): (&SampleJob<'_>, usize),
    live: &mut Live,
    token: Option<u32>,
    told: Option<Told<'_>>,
) -> Result<(), GenerateError> {
    let completion = &mut live.completion;
    let token = token.ok_or({
        GenerateError::NotFinite {
            prompt: completion.prompt,
            sample: completion.sample,
            token: completion.tokens.len(),
        }
    })?;
    let stops = job.stop.contains(&token);
    if let Some((watch, logits)) = told {
        watch(&Drawn {
            prompt: completion.prompt,
            sample: completion.sample,
            token,
            stops,
            logits,
        });
    }
    if stops {
        completion.finished = true;
        live.over = true;
        return Ok(());
    }
    completion.tokens.push(token);
    let drawn = completion.tokens.len();
    let context = job.prompts[completion.prompt].len() + drawn;
    live.over = drawn >= job.recipe.max_new_tokens.get() || context >= limit;
    if job.until.is_some_and(|until| until.end(&completion.tokens)) {
        completion.finished = true;
        live.over = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use crate::model::{Decoder, FrozenParams};
    use candle_core::{DType, Device};
    use std::path::Path;

    fn shipped() -> Decoder {
        let dir = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(dir).unwrap();
        let params = FrozenParams::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
        Decoder::frozen(&config, &params).unwrap()
    }

    fn run(
        decoder: &mut Decoder,
        prompts: &[Vec<u32>],
        recipe: SamplingRecipe,
        batch: usize,
    ) -> Vec<Completion> {
        let job = SampleJob {
            prompts,
            samples: 3,
            recipe: &recipe,
            stop: &[2],
            until: None,
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
        let mut decoder = shipped();
        let recipe = SamplingRecipe {
            temperature: 1.0.try_into().unwrap(),
            top_p: 0.95.try_into().unwrap(),
            max_new_tokens: 12.try_into().unwrap(),
        };
        let prompts = prompts();
        let one = run(&mut decoder, &prompts, recipe, 1);
        assert_eq!(one.len(), 18);
        for batch in [3, 16] {
            assert!(
                run(&mut decoder, &prompts, recipe, batch) == one,
                "batch {batch} differs"
            );
        }
        let distinct: std::collections::BTreeSet<_> = one.iter().map(|c| &c.tokens).collect();
        assert!(distinct.len() > 15, "samples should differ from each other");
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
        let got = run(&mut shipped(), &[vec![1]], recipe, 2);
        assert_eq!(got[0].tokens, ids[1..61]);
    }

    #[test]
    fn a_stop_token_finishes_a_sample_and_the_budget_does_not() {
        let recipe = SamplingRecipe {
            temperature: 0.0.try_into().unwrap(),
            top_p: 1.0.try_into().unwrap(),
            max_new_tokens: 5.try_into().unwrap(),
        };
        let mut decoder = shipped();
        let plain = run(&mut decoder, &[vec![1]], recipe, 4);
        assert!(!plain[0].finished && plain[0].tokens.len() == 5);
        let job = SampleJob {
            prompts: &[vec![1]],
            samples: 1,
            recipe: &recipe,
            stop: &plain[0].tokens[3..4],
            until: None,
            seed: &SeedTree::root(0),
            batch: 1,
        };
        let stopped = sample(&mut decoder, &job, &mut |_| true).unwrap();
        let first = plain[0]
            .tokens
            .iter()
            .position(|t| *t == plain[0].tokens[3])
            .unwrap();
        assert!(stopped[0].finished);
        assert_eq!(stopped[0].tokens, plain[0].tokens[..first]);
    }
}
