//! The `judge` stage: from sampled replies to preference pairs, the best against the worst.

use crate::base::counted;
use crate::base::fs::read_to_string;
use crate::config::spec::{JudgeRecipe, UnitInterval};
use crate::data::record::{CHOSEN_FINISHED, REJECTED_FINISHED};
use crate::data::{Message, permutation};
use crate::eval::{constraints_of, mean_metrics};
use crate::judge::{Candidates, JudgePlace, Reply, best_and_worst, open_judge, replies_differ};
use crate::metrics::families::JUDGED;
use crate::plan::{InputRole, JudgeStageRecipe, PAIRS_ARTIFACT};
use crate::stage::attempt::Attempt;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::stage::sample::{SampledPrompt, SampledReply};
use crate::train::TrainError;
use serde::Serialize;
use serde_json::{Value, json};

/// Name of the artifact with every score.
const JUDGED_ARTIFACT: &str = "judged.jsonl";

/// Name of the file, and artifact, with every raw answer of an endpoint.
const ANSWERS_ARTIFACT: &str = "answers.jsonl";

/// A line of [`JUDGED_ARTIFACT`].
#[derive(Debug, Serialize)]
struct Judged<'a> {
    id: &'a str,
    /// One for each reply of the `sample` run that is not empty, in order; higher is better.
    scores: &'a [f64],
    /// The replies of the pair, or why there is none.
    verdict: &'a Verdict,
}

/// What a prompt became.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// Best and worst reply, by position among those that are not empty.
    Pair { best: usize, worst: usize },
    /// All replies are the same text.
    Equal,
    /// All scores are the same.
    Tie,
    /// The pair is the offline one.
    OriginalPair,
    /// The offline chosen reply against the worst sample.
    OriginalChosen { worst: usize },
}

/// Scores every prompt's replies and writes the pairs.
pub(super) fn run(
    job: &mut Attempt<'_>,
    recipe: &JudgeStageRecipe,
) -> Result<StageOutput, StageError> {
    let mut made = StageOutput::default();
    let mut prompts = read_samples(job)?;
    made.count("prompts", prompts.len());
    let replies: usize = prompts.iter().map(|prompt| prompt.replies.len()).sum();
    for prompt in &mut prompts {
        prompt.replies.retain(|reply| !reply.text.is_empty());
    }
    let left: usize = prompts.iter().map(|prompt| prompt.replies.len()).sum();
    made.count("replies", replies);
    made.count("replies_dropped_empty", replies - left);

    let differ: Vec<&SampledPrompt> = prompts.iter().filter(|prompt| differs(prompt)).collect();
    let mut items = Vec::with_capacity(differ.len());
    for prompt in &differ {
        items.push(candidates(prompt)?);
    }
    job.telemetry.begin("prompts", items.len() as u64)?;
    let scores = judge_all(job, &mut made, recipe, &items)?;

    let mut verdicts: Vec<(usize, Verdict)> = Vec::new();
    let mut of_prompt = vec![Vec::new(); prompts.len()];
    let mut next = scores.into_iter();
    for (index, prompt) in prompts.iter().enumerate() {
        if !differs(prompt) {
            verdicts.push((index, Verdict::Equal));
            continue;
        }
        let own = next.next().unwrap_or_default();
        let verdict = match best_and_worst(&own) {
            Some((best, worst)) => Verdict::Pair { best, worst },
            None => Verdict::Tie,
        };
        of_prompt[index] = own;
        verdicts.push((index, verdict));
    }
    mix_originals(job, recipe, &prompts, &mut verdicts)?;
    write(job, &mut made, &prompts, &of_prompt, &verdicts)?;
    Ok(made)
}

fn read_samples(job: &Attempt<'_>) -> Result<Vec<SampledPrompt>, StageError> {
    let text = read_to_string(&job.input(InputRole::Samples, "samples")?)?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// Whether there are two replies that are not the same text.
fn differs(prompt: &SampledPrompt) -> bool {
    replies_differ(prompt.replies.iter().map(|reply| reply.text.as_str()))
}

fn candidates(prompt: &SampledPrompt) -> Result<Candidates, StageError> {
    let replies = prompt.replies.iter().map(|reply| Reply {
        text: reply.text.clone(),
        finished: reply.finished,
    });
    Ok(Candidates {
        id: prompt.id.clone(),
        prompt: prompt.prompt.clone(),
        constraints: constraints_of(&prompt.extra).map_err(|why| StageError::Prompt {
            id: prompt.id.clone(),
            why,
        })?,
        replies: replies.collect(),
    })
}

/// Replaces shares of the verdicts that are pairs: of `n` of them the first `p-ori-pair · n` of a
/// seeded permutation become the offline pair, the next `p-ori-chosen · n` the offline chosen reply
/// against the worst sample; both rounded to the nearest. (The released code takes them as shares
/// of each other.)
fn mix_originals(
    job: &Attempt<'_>,
    recipe: &JudgeStageRecipe,
    prompts: &[SampledPrompt],
    verdicts: &mut [(usize, Verdict)],
) -> Result<(), StageError> {
    let (pair, chosen) = (recipe.p_ori_pair, recipe.p_ori_chosen);
    if pair.is_none() && chosen.is_none() {
        return Ok(());
    }
    let at: Vec<usize> = (0..verdicts.len())
        .filter(|&i| matches!(verdicts[i].1, Verdict::Pair { .. }))
        .collect();
    let share = |share: Option<UnitInterval>| {
        (share.map_or(0.0, UnitInterval::get) * at.len() as f64).round() as usize
    };
    let pairs = share(pair).min(at.len());
    let order = permutation(at.len(), &job.seed().child("online/originals"));
    for (rank, place) in order.into_iter().take(pairs + share(chosen)).enumerate() {
        let (prompt, verdict) = &mut verdicts[at[place]];
        if prompts[*prompt].original.is_none() {
            return Err(StageError::NoOriginal {
                id: prompts[*prompt].id.clone(),
            });
        }
        let Verdict::Pair { worst, .. } = *verdict else {
            continue;
        };
        *verdict = if rank < pairs {
            Verdict::OriginalPair
        } else {
            Verdict::OriginalChosen { worst }
        };
    }
    Ok(())
}

/// Writes scores and pairs, and counts what became of the prompts.
fn write(
    job: &Attempt<'_>,
    made: &mut StageOutput,
    prompts: &[SampledPrompt],
    scores: &[Vec<f64>],
    verdicts: &[(usize, Verdict)],
) -> Result<(), StageError> {
    let mut pairs = Vec::new();
    for (index, verdict) in verdicts {
        let prompt = &prompts[*index];
        let reply = |at: usize| (said(&prompt.replies[at]), prompt.replies[at].finished);
        let original = prompt.original.clone();
        let pair = match (verdict, original) {
            (Verdict::Pair { best, worst }, _) => Some((reply(*best), reply(*worst))),
            (Verdict::OriginalPair, Some((chosen, rejected))) => {
                Some(((chosen, true), (rejected, true)))
            }
            (Verdict::OriginalChosen { worst }, Some((chosen, _))) => {
                Some(((chosen, true), reply(*worst)))
            }
            _ => None,
        };
        let count = match verdict {
            Verdict::Pair { .. } => "pairs_online",
            Verdict::Equal => "prompts_dropped_equal",
            Verdict::Tie => "prompts_dropped_tie",
            Verdict::OriginalPair => "pairs_original",
            Verdict::OriginalChosen { .. } => "pairs_original_chosen",
        };
        made.count(count, 1);
        if let Some((chosen, rejected)) = pair
            && chosen.0 != rejected.0
        {
            pairs.push(pair_line(prompt, &chosen, &rejected));
        }
    }
    let dropped = prompts.len() - pairs.len();
    if dropped > 0 {
        made.notes.push(format!(
            "{dropped} of {} gave no pair: their replies are equal or equally good",
            counted(prompts.len(), "prompt")
        ));
    }
    if pairs.is_empty() {
        return Err(StageError::EmptySet {
            set: "pairs".to_owned(),
            why: "the judge found no reply better than another".to_owned(),
        });
    }
    // A prompt is one observation; one that was not judged is none.
    let scores_of = scores.iter().map(Vec::as_slice);
    made.metrics.extend(mean_metrics(JUDGED, scores_of));
    let judged: Vec<Judged<'_>> = verdicts
        .iter()
        .map(|(index, verdict)| Judged {
            id: &prompts[*index].id,
            scores: &scores[*index],
            verdict,
        })
        .collect();
    job.write_lines(made, JUDGED_ARTIFACT, &judged)?;
    job.write_lines(made, PAIRS_ARTIFACT, &pairs)
}

fn said(reply: &SampledReply) -> Vec<Message> {
    vec![Message::new("assistant", reply.text.clone())]
}

/// A row of preference data.
fn pair_line(
    prompt: &SampledPrompt,
    chosen: &(Vec<Message>, bool),
    rejected: &(Vec<Message>, bool),
) -> Value {
    let mut line = json!({
        "id": prompt.id,
        "prompt": prompt.prompt,
        "chosen": chosen.0,
        "rejected": rejected.0,
    });
    for (key, finished) in [(CHOSEN_FINISHED, chosen.1), (REJECTED_FINISHED, rejected.1)] {
        if !finished {
            line[key] = Value::Bool(false);
        }
    }
    line
}

/// Scores of every item's replies. Answers that an earlier attempt received are not asked for again.
fn judge_all(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    recipe: &JudgeStageRecipe,
    items: &[Candidates],
) -> Result<Vec<Vec<f64>>, StageError> {
    let answers = job.answers_file(ANSWERS_ARTIFACT)?;
    let runtime = job.file.judge_runtime.clone().unwrap_or_default();
    let key = job.endpoint_key(&runtime)?;
    let root = job.context.root.clone();
    if let JudgeRecipe::Pairrm(_) = recipe.judge {
        job.on_processor("PairRM")?;
    }
    let (opener, device) = (job.opener()?, job.device.clone());
    let place = JudgePlace {
        root: &root,
        opener: &*opener,
        device: &device,
        answers: &answers,
        key: key.as_deref(),
    };
    let mut judge = open_judge(&recipe.judge, &runtime, place)?;
    let mut failed: Option<TrainError> = None;
    let scores = judge.judge(items, &mut |done| {
        if failed.is_none() {
            failed = job.report(done).err();
        }
        failed.is_none()
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    let scores = scores?;
    drop(judge);
    job.publish_answers(made, &answers, ANSWERS_ARTIFACT)?;
    Ok(scores)
}
