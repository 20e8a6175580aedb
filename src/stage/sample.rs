//! The `sample` stage: replies of a policy to the prompts of a round.

use crate::arch::Pass;
use crate::base::fs::create_dir;
use crate::base::{SeedTree, counted, is_as_written, with_check, write_atomic};
use crate::config::spec::SamplingRecipe;
use crate::data::{Message, PromptRow, TextFormat, load_prompts, mixture_seed, round_prompts};
use crate::eval::mean_metrics;
use crate::generate::{Completion, Drawn, Generator, SampleJob, sample, sample_watched};
use crate::metrics::families::{Completed, SAMPLED};
use crate::plan::{SAMPLES_ARTIFACT, SampleStageRecipe};
use crate::rundir::AttemptEvent;
use crate::stage::attempt::Attempt;
use crate::stage::error::StageError;
use crate::stage::output::{StageOutput, count_rows};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::Path;

/// Prompts that are sampled before their replies are put on disk: what a crash can cost. Twice the
/// rows that a CPU decodes together, so that they run full until the chunk's last prompts.
const CHUNK: usize = 64;

/// A prompt and its replies: one line of the artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SampledPrompt {
    /// Id of the data row.
    pub(super) id: String,
    /// The turns before the reply.
    pub(super) prompt: Vec<Message>,
    /// Keys of the data row that its form does not name.
    pub(super) extra: Value,
    /// The offline replies, preferred first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) original: Option<(Vec<Message>, Vec<Message>)>,
    pub(super) replies: Vec<SampledReply>,
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SampledReply {
    pub(super) text: String,
    /// Tokens drawn, without the end token.
    pub(super) tokens: usize,
    /// Whether it ended by itself.
    pub(super) finished: bool,
}

/// Samples in chunks, each of which is kept, so that an interrupted attempt goes on behind the last.
pub(super) fn run(
    job: &mut Attempt<'_>,
    recipe: &SampleStageRecipe,
) -> Result<StageOutput, StageError> {
    let mut made = StageOutput::default();
    let source = job.model_dir()?;
    let (format, config) = job.open_format(&source)?;
    let (prompts, tokens) = load(job, &mut made, recipe, &format)?;
    let mut model = job.open_model(&source, &config, recipe.precision)?;
    job.telemetry
        .begin("samples", (prompts.len() * recipe.samples.get()) as u64)?;

    let mut sampled = Vec::with_capacity(prompts.len());
    for (chunk, own) in prompts.chunks(CHUNK).enumerate() {
        let file = format!("chunk-{chunk:06}.json");
        let kept = job.newest_work(&file);
        let read = kept.as_deref().and_then(read_chunk);
        if let (Some(path), None) = (&kept, &read) {
            let message = format!("`{}` is damaged: sampled anew", path.display());
            job.warn(&mut made, message)?;
        }
        let done = if let Some(done) = read {
            done
        } else {
            let at = chunk * CHUNK;
            let done = sample_chunk(job, recipe, &mut *model, &format, own, &tokens[at..], chunk)?;
            let path = job.work().join(&file);
            create_dir(&job.work())?;
            let chunk = Chunk { replies: done };
            write_atomic(
                &path,
                with_check(&serde_json::to_string(&chunk)?).as_bytes(),
            )?;
            let step = chunk.replies.len() as u64;
            job.telemetry.tell(&AttemptEvent::Checkpointed { step })?;
            chunk.replies
        };
        sampled.extend(done);
        job.report(sampled.len() * recipe.samples.get())?;
    }
    let (mut positions, mut pass) = (0, Pass::default());
    for (prompt, tokens) in sampled.iter().zip(&tokens) {
        let replies = prompt.replies.iter();
        positions += replies
            .clone()
            .map(|r| tokens.len() + r.tokens)
            .sum::<usize>();
        // The end token is drawn, too.
        let drawn = replies.map(|r| (r.tokens + usize::from(r.finished)) as f64);
        pass.add_samples(tokens.len() as f64, drawn);
    }
    made.spend(&config, positions, &pass);
    measure(&mut made, &sampled);
    job.write_lines(&mut made, SAMPLES_ARTIFACT, &sampled)?;
    Ok(made)
}

/// The prompts whose turn it is, with their tokens.
fn load(
    job: &Attempt<'_>,
    made: &mut StageOutput,
    recipe: &SampleStageRecipe,
    format: &TextFormat,
) -> Result<(Vec<PromptRow>, Vec<Vec<u32>>), StageError> {
    let seed = job.seed();
    let sources = &recipe.prompts.data;
    let (rows, report) = load_prompts(&job.context.root, sources, &mixture_seed(job.file.seed))?;
    count_rows(made, &report);
    made.count("prompts_found", rows.len());
    let mut fitting = Vec::with_capacity(rows.len());
    for row in rows {
        let tokens = format.encode_prompt(&row.messages)?;
        if tokens.len() <= recipe.prompts.max_prompt_len {
            fitting.push((row, tokens));
        }
    }
    let too_long = made.counts["prompts_found"] - fitting.len() as u64;
    made.counts
        .insert("prompts_dropped_too_long".to_owned(), too_long);
    if too_long > 0 {
        made.notes.push(format!(
            "{} left out for length",
            counted(too_long, "prompt")
        ));
    }
    let turn = round_prompts(
        fitting.len(),
        recipe.prompts.per_round.map(NonZeroUsize::get),
        recipe.round,
        &seed.child("online/prompts"),
    );
    if turn.is_empty() {
        return Err(StageError::EmptySet {
            set: "prompts".to_owned(),
            why: format!(
                "no row has one within `max-prompt-len` {}",
                recipe.prompts.max_prompt_len
            ),
        });
    }
    made.count("prompts", turn.len());
    Ok(turn.into_iter().map(|i| fitting[i].clone()).unzip())
}

/// Chunk `chunk` has a seed of its own, so that it does not matter which attempt draws it.
fn sample_chunk(
    job: &mut Attempt<'_>,
    recipe: &SampleStageRecipe,
    generator: &mut dyn Generator,
    format: &TextFormat,
    prompts: &[PromptRow],
    tokens: &[Vec<u32>],
    chunk: usize,
) -> Result<Vec<SampledPrompt>, StageError> {
    let seed: SeedTree = job.seed().child("online/samples");
    let draw = Draw {
        prompts: &tokens[..prompts.len()],
        samples: recipe.samples.get(),
        sampling: &recipe.sampling,
        seed: &seed.index(recipe.round as u64).index(chunk as u64),
        before: chunk * CHUNK * recipe.samples.get(),
    };
    let completions = job.draw(generator, format, &draw)?;
    let mut sampled = Vec::with_capacity(prompts.len());
    for (row, own) in prompts.iter().zip(completions.chunks(recipe.samples.get())) {
        let replies = own.iter().map(|completion| reply(format, completion));
        sampled.push(SampledPrompt {
            id: row.id.clone(),
            prompt: row.messages.clone(),
            extra: row.extra.clone(),
            original: row.original.clone(),
            replies: replies.collect::<Result<_, _>>()?,
        });
    }
    Ok(sampled)
}

fn reply(format: &TextFormat, completion: &Completion) -> Result<SampledReply, StageError> {
    Ok(SampledReply {
        text: format.decode(&completion.tokens)?.trim().to_owned(),
        tokens: completion.tokens.len(),
        finished: completion.finished,
    })
}

/// Prompts whose replies are kept together; the file carries a digest of itself.
#[derive(Serialize, Deserialize)]
struct Chunk {
    replies: Vec<SampledPrompt>,
}

/// A chunk that an earlier attempt kept, if it is as it was written.
fn read_chunk(path: &Path) -> Option<Vec<SampledPrompt>> {
    let text = std::fs::read_to_string(path).ok()?;
    let chunk: Chunk = serde_json::from_str(&text).ok()?;
    (is_as_written(&text) == Some(true)).then_some(chunk.replies)
}

/// Metrics of the replies; a prompt is one observation.
fn measure(made: &mut StageOutput, sampled: &[SampledPrompt]) {
    let completed = |reply: &SampledReply| Completed {
        tokens: reply.tokens,
        finished: reply.finished,
    };
    let prompts = sampled.iter();
    let prompts: Vec<Vec<Completed>> = prompts
        .map(|prompt| prompt.replies.iter().map(completed).collect())
        .collect();
    let replies = prompts.iter().map(Vec::as_slice);
    made.metrics.extend(mean_metrics(SAMPLED, replies));
}

/// What is drawn.
pub(super) struct Draw<'a> {
    /// Tokens of each prompt.
    pub(super) prompts: &'a [Vec<u32>],
    /// Samples of each.
    pub(super) samples: usize,
    pub(super) sampling: &'a SamplingRecipe,
    pub(super) seed: &'a SeedTree,
    /// Units of progress that were done before.
    pub(super) before: usize,
}

impl Attempt<'_> {
    /// Draws, and tells how far it has come. Nobody sees logits, so that a device draws where they are.
    pub(super) fn draw(
        &mut self,
        generator: &mut dyn Generator,
        format: &TextFormat,
        draw: &Draw<'_>,
    ) -> Result<Vec<Completion>, StageError> {
        self.draw_watched(generator, format, draw, None)
    }

    /// The same; `watch`, if there is one, is told every token that is drawn, for which logits come to the host.
    pub(super) fn draw_watched(
        &mut self,
        generator: &mut dyn Generator,
        format: &TextFormat,
        draw: &Draw<'_>,
        watch: Option<&mut dyn FnMut(&Drawn<'_>)>,
    ) -> Result<Vec<Completion>, StageError> {
        let sample_job = SampleJob {
            prompts: draw.prompts,
            samples: draw.samples,
            recipe: draw.sampling,
            stop: &[format.end_token()],
            until: None,
            seed: draw.seed,
            // As many as the device takes: it changes the speed and nothing else.
            batch: usize::MAX,
        };
        let mut failed = None;
        let mut progress = |done: usize| {
            let told = self.report(draw.before + done);
            failed = failed.take().or(told.err());
            failed.is_none()
        };
        let completions = match watch {
            Some(watch) => sample_watched(generator, &sample_job, watch, &mut progress),
            None => sample(generator, &sample_job, &mut progress),
        };
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(completions?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{GenerateError, Room, Rows};
    use crate::rundir::read_stage;
    use crate::stage::telemetry::Telemetry;
    use crate::stage::tests::{CHAT, Inputs, Project, sft_task};
    use std::cell::OnceCell;

    const VOCABULARY: usize = 512;

    /// A model that draws by itself, always the token 7, and whose logits behind a prompt alone are to be had.
    struct DrawsItself;

    struct ItsRows {
        logits: Vec<f32>,
        live: usize,
    }

    impl Generator for DrawsItself {
        fn max_positions(&self) -> usize {
            64
        }

        fn rows(&mut self, _: Room) -> Result<Box<dyn Rows + '_>, GenerateError> {
            let logits = Vec::new();
            Ok(Box::new(ItsRows { logits, live: 0 }))
        }
    }

    impl Rows for ItsRows {
        fn most(&self) -> usize {
            3
        }

        fn prefill(&mut self, prompts: &[&[u32]]) -> Result<&[f32], GenerateError> {
            self.logits = vec![0.0; prompts.len() * VOCABULARY];
            for row in self.logits.chunks_mut(VOCABULARY) {
                row[9] = 1.0;
            }
            Ok(&self.logits)
        }

        fn start(&mut self, prompts: &[usize]) -> Result<(), GenerateError> {
            self.live += prompts.len();
            Ok(())
        }

        fn decode(&mut self, _: &[u32]) -> Result<&[f32], GenerateError> {
            panic!("logits are asked for")
        }

        fn decode_drawn(
            &mut self,
            tokens: &[u32],
            _: &SamplingRecipe,
            uniforms: &[f64],
        ) -> Result<Vec<Option<u32>>, GenerateError> {
            assert_eq!((tokens.len(), uniforms.len()), (self.live, self.live));
            Ok(vec![Some(7); self.live])
        }

        fn keep(&mut self, rows: &[usize]) -> Result<(), GenerateError> {
            self.live = rows.len();
            Ok(())
        }
    }

    #[test]
    fn stages_leave_drawing_to_the_device() {
        let project = Project::new();
        let dir = project.prepare("a", sft_task(1), Inputs::new(), &[CHAT]);
        let (context, file) = (project.context(&dir, 1), read_stage(&dir).unwrap());
        let attempt = dir.attempt(1);
        create_dir(&attempt.work()).unwrap();
        let mut telemetry = Telemetry::start(&attempt).unwrap();
        let mut job = Attempt {
            context: &context,
            dir: attempt,
            file: &file,
            device: candle_core::Device::Cpu,
            gpu: OnceCell::new(),
            most_of_ranks: std::sync::Arc::default(),
            telemetry: &mut telemetry,
        };
        let (format, _) = job
            .open_format(&project.root().join("models/stories260k"))
            .unwrap();
        let sampling = SamplingRecipe {
            temperature: 0.0_f64.try_into().unwrap(),
            top_p: 1.0_f64.try_into().unwrap(),
            max_new_tokens: 4.try_into().unwrap(),
        };
        let draw = Draw {
            prompts: &[vec![1, 2], vec![3]],
            samples: 2,
            sampling: &sampling,
            seed: &SeedTree::root(1),
            before: 0,
        };
        let drawn = job.draw(&mut DrawsItself, &format, &draw).unwrap();
        let tokens: Vec<&[u32]> = drawn.iter().map(|c| c.tokens.as_slice()).collect();
        assert_eq!(tokens, [&[9_u32, 7, 7, 7]; 4]);
    }
}
