//! Asks a model the questions of a task.

use super::error::TaskError;
use super::kept::{KeptAnswers, Said, question_name};
use super::score::Answer;
use super::stop::cut_at;
use crate::base::SeedTree;
use crate::config::spec::{GenerateRequest, NonNegative, SamplingRecipe, Share};
use crate::data::{ContextGroup, ContinuationTokenizer, TokenizedRequest, continuation_batches};
use crate::generate::{Generator, SampleJob, StopTexts, sample};
use crate::train::{Scorer, TrainError};

/// Prompts that are answered before the answers are put on disk: what a crash can cost.
const CHUNK: usize = 64;

/// Told how many rows are done; an error ends the work.
pub type RowProgress<'a> = dyn FnMut(usize) -> Result<(), TrainError> + 'a;

/// How likely each choice of each row is, in passes of at most `max_positions` positions.
///
/// # Errors
/// The device refuses, `progress` ends the work, or answers cannot be kept.
pub fn answer_choices(
    model: &mut dyn Scorer,
    requests: &[Vec<TokenizedRequest>],
    max_positions: usize,
    kept: &mut KeptAnswers,
    progress: &mut RowProgress<'_>,
) -> Result<Vec<Answer>, TaskError> {
    let name = |request: &TokenizedRequest| question_name(request, "");
    // Rows whose contexts begin alike stand together.
    let mut open: Vec<&[TokenizedRequest]> = requests
        .iter()
        .map(Vec::as_slice)
        .filter(|row| row.iter().any(|request| kept.get(&name(request)).is_none()))
        .collect();
    open.sort_by(|a, b| a[0].context.cmp(&b[0].context));
    let done = requests.len() - open.len();
    let groups: Vec<ContextGroup<'_>> = open.iter().flat_map(|row| by_context(row)).collect();
    let per_row = requests.iter().map(Vec::len).sum::<usize>() / requests.len().max(1);
    let mut answered = 0;
    for part in continuation_batches(&groups, max_positions) {
        let scores = model.score(&part.batch)?;
        let mut said = Vec::new();
        let mut segments = part.segments.iter();
        for group in &groups[part.groups] {
            for (continuation, &segment) in group.continuations.iter().zip(segments.by_ref()) {
                let request = TokenizedRequest {
                    context: group.context.to_vec(),
                    continuation: continuation.to_vec(),
                };
                let score = scores[segment];
                said.push((
                    name(&request),
                    Said::Logp(score.logp, score.tokens, score.is_greedy()),
                ));
            }
        }
        answered += said.len();
        kept.add(said).map_err(crate::data::DataError::from)?;
        progress((done + answered / per_row.max(1)).min(requests.len()))?;
    }
    let of_row = |(at, row): (usize, &Vec<TokenizedRequest>)| {
        let likelihoods = row.iter().map(|request| {
            let said = kept.get(&name(request)).and_then(Said::likelihood);
            said.ok_or_else(|| kept.unanswered(at))
        });
        Ok(Answer::Choices(likelihoods.collect::<Result<_, _>>()?))
    };
    requests.iter().enumerate().map(of_row).collect()
}

/// Requests of a row that have their context in common.
fn by_context(row: &[TokenizedRequest]) -> Vec<ContextGroup<'_>> {
    let mut groups: Vec<ContextGroup<'_>> = Vec::new();
    for request in row {
        match groups.last_mut() {
            Some(group) if group.context == request.context => {
                group.continuations.push(&request.continuation);
            }
            _ => groups.push(ContextGroup {
                context: &request.context,
                continuations: vec![&request.continuation],
            }),
        }
    }
    groups
}

/// A greedy answer to each prompt, cut at the task's stop texts and the end-of-text token's.
///
/// # Errors
/// The device refuses, `progress` ends the work, or answers cannot be kept.
pub fn answer_texts(
    model: &mut dyn Generator,
    (tokenizer, request): (&ContinuationTokenizer, &GenerateRequest),
    requests: &[Vec<TokenizedRequest>],
    kept: &mut KeptAnswers,
    progress: &mut RowProgress<'_>,
) -> Result<Vec<Answer>, TaskError> {
    let mut until = request.until.clone();
    until.extend(tokenizer.eos_text().map(str::to_owned));
    let stop = tokenizer.ends();
    let mut how = format!("{} {until:?}", request.max_new_tokens);
    if stop.len() > 1 {
        how = format!("{how} {stop:?}");
    }
    let names: Vec<String> = requests
        .iter()
        .map(|row| question_name(&row[0], &how))
        .collect();
    let mut open: Vec<usize> = (0..requests.len())
        .filter(|&at| kept.get(&names[at]).is_none())
        .collect();
    // Rows of like length run and end together.
    open.sort_by_key(|&at| requests[at][0].context.len());
    let stop_texts = StopTexts::new(tokenizer, &until)?;
    let recipe = greedy(request);
    let mut done = requests.len() - open.len();
    for chunk in open.chunks(CHUNK) {
        let prompts: Vec<Vec<u32>> = chunk
            .iter()
            .map(|&at| requests[at][0].context.clone())
            .collect();
        let job = SampleJob {
            prompts: &prompts,
            samples: 1,
            recipe: &recipe,
            stop,
            until: Some(&stop_texts),
            seed: &SeedTree::root(0),
            batch: usize::MAX,
        };
        let mut failed = None;
        let completions = sample(model, &job, &mut |own| {
            failed = failed.take().or(progress(done + own).err());
            failed.is_none()
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let mut said = Vec::new();
        for completion in completions? {
            let text = tokenizer.decode(&completion.tokens)?;
            let name = names[chunk[completion.prompt]].clone();
            said.push((
                name,
                Said::Text(text, completion.tokens.len(), completion.finished),
            ));
        }
        kept.add(said).map_err(crate::data::DataError::from)?;
        done += chunk.len();
    }
    let answer = |(at, name): (usize, &String)| match kept.get(name) {
        Some(Said::Text(text, tokens, finished)) => Ok(Answer::Text {
            text: cut_at(text, &until).to_owned(),
            tokens: *tokens,
            finished: *finished,
        }),
        _ => Err(kept.unanswered(at)),
    };
    names.iter().enumerate().map(answer).collect()
}

fn greedy(request: &GenerateRequest) -> SamplingRecipe {
    SamplingRecipe {
        temperature: NonNegative::ZERO,
        top_p: Share::WHOLE,
        max_new_tokens: request.max_new_tokens,
    }
}
