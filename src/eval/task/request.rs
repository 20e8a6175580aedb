//! Questions as tokens, within what the model can hold.

use super::document::Document;
use super::error::TaskError;
use crate::config::spec::{TaskRecipe, TaskRequest};
use crate::data::{ContinuationTokenizer, TokenizedRequest};
use rayon::prelude::*;

/// Tokens of every question of every document, in their order; for an answer the continuation is empty.
///
/// What is too long loses its beginning, the token that begins a text included, as in `lm_eval`: a context with its
/// continuation beyond `max_positions + 1` tokens (the last is not read), a prompt beyond what leaves room for its
/// answer.
///
/// # Errors
/// The tokenizer refuses a question, or the model cannot hold a continuation or any of a prompt.
pub(super) fn encode_questions(
    name: &str,
    recipe: &TaskRecipe,
    documents: &[Document],
    tokenizer: &ContinuationTokenizer,
    max_positions: usize,
) -> Result<Vec<Vec<TokenizedRequest>>, TaskError> {
    let encode = |document: &Document| {
        let refused = |reason: String| TaskError::Row {
            task: name.to_owned(),
            origin: document.row.origin.clone(),
            what: "request".to_owned(),
            reason,
        };
        let requests = document.questions.iter().map(|question| {
            let request = match &recipe.request {
                TaskRequest::Choices(_) => tokenizer
                    .encode_pair(&question.context, &question.continuation)
                    .map_err(|e| refused(e.to_string()))?,
                TaskRequest::Generate(_) => TokenizedRequest {
                    context: tokenizer
                        .encode(&question.context)
                        .map_err(|e| refused(e.to_string()))?,
                    continuation: Vec::new(),
                },
            };
            match &recipe.request {
                TaskRequest::Choices(_) => within(request, max_positions),
                TaskRequest::Generate(generate) => {
                    last_of(request, max_positions, generate.max_new_tokens.get())
                }
            }
            .map_err(refused)
        });
        requests.collect()
    };
    documents.par_iter().map(encode).collect()
}

/// The end of a context and its continuation that the model can hold.
fn within(mut request: TokenizedRequest, most: usize) -> Result<TokenizedRequest, String> {
    let continuation = request.continuation.len();
    // The last token is predicted and not read; one of the context is needed to predict the first.
    if continuation > most {
        return Err(format!(
            "its continuation has {continuation} tokens, and the model holds {most}"
        ));
    }
    let over = (request.context.len() + continuation).saturating_sub(most + 1);
    request.context.drain(..over);
    Ok(request)
}

/// The end of a prompt that leaves room for an answer.
fn last_of(
    mut request: TokenizedRequest,
    most: usize,
    answer: usize,
) -> Result<TokenizedRequest, String> {
    let room = most.saturating_sub(answer);
    if room == 0 || request.context.is_empty() {
        return Err(format!(
            "the model holds {most} tokens, which leaves no room for a prompt before `max-new-tokens` {answer}"
        ));
    }
    let over = request.context.len().saturating_sub(room);
    request.context.drain(..over);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(context: usize, continuation: usize) -> TokenizedRequest {
        TokenizedRequest {
            context: (0..context as u32).collect(),
            continuation: vec![9; continuation],
        }
    }

    // Eight positions hold nine tokens of which the last is not read.
    #[test]
    fn what_is_too_long_loses_its_beginning() {
        assert_eq!(within(request(6, 3), 8).unwrap(), request(6, 3));
        let cut = within(request(8, 3), 8).unwrap();
        assert_eq!(
            (cut.context, cut.continuation.len()),
            (vec![2, 3, 4, 5, 6, 7], 3)
        );
        assert_eq!(within(request(8, 8), 8).unwrap().context, [7]);
        assert!(within(request(8, 9), 8).is_err());
        assert_eq!(last_of(request(8, 0), 10, 4).unwrap().context[0], 2);
        assert!(last_of(request(8, 0), 4, 4).is_err());
    }
}
