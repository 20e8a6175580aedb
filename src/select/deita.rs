//! Deita (Liu et al. 2023): complexity times quality, then diversity of embeddings.

use super::context::{SelectContext, given};
use super::error::SelectError;
use super::models::{folder, open};
use super::order::{Direction, Selection, ranked, take_explained};
use super::projection::{dot, unit};
use super::rows::RowsRef;
use super::work::Work;
use crate::config::select::{DeitaRecipe, ModelSource, SelectRecipe};
use crate::data::{Message, PlainTokenizer, TextFormat};
use crate::model::{SequenceReader, in_passes};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// What the scorers answer with; the score is the mean of these by probability.
const DIGITS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

/// What the complexity scorer is asked; both scorers were trained on exactly these words
/// (`deita.selection.scorer` of hkust-nlp/deita).
fn complexity_prompt(instruction: &str) -> String {
    format!(
        "You are a helpful assistant. Please identify the complexity score of the following user \
         query. \n##Query: {instruction}  \n##Complexity: "
    )
}

/// What the quality scorer is asked.
fn quality_prompt(instruction: &str, reply: &str) -> String {
    format!(
        "You are a helpful assistant. Please identify the quality score of the Response \
         corresponding to the Question. \n #Question#:\n{instruction}\n#Response#:\n{reply} \n\
         ##Quality: "
    )
}

/// Scores, then greedily the highest whose embedding is not too similar to one kept. The policy embeds,
/// unless the recipe names another model.
pub(super) fn select(
    deita: &DeitaRecipe,
    recipe: &SelectRecipe,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    policy: Option<&mut dyn SequenceReader>,
    work: &mut Work<'_, '_>,
) -> Result<Selection, SelectError> {
    let exchanges = exchanges(rows);
    work.plan(2 * exchanges.len() + rows.len());
    let mut unscored = BTreeMap::new();
    let mut ask = |scorer: &str, source: &ModelSource, prompt: fn(&Exchange) -> String| {
        let prompts = exchanges.iter().map(prompt).collect();
        let (scores, limit) = expected_scores(source, prompts, recipe, context, work)?;
        for (exchange, _) in exchanges.iter().zip(&scores).filter(|(_, s)| s.is_none()) {
            let reason = || {
                format!("what the {scorer} scorer is asked is longer than its {limit} positions")
            };
            unscored.entry(exchange.row).or_insert_with(reason);
        }
        Ok::<_, SelectError>(scores)
    };
    let complexity = ask("complexity", &deita.complexity, |e| {
        complexity_prompt(&e.instruction)
    })?;
    let quality = ask("quality", &deita.quality, |e| {
        quality_prompt(&e.instruction, &e.reply)
    })?;
    let mut scores = vec![Some(0.0); rows.len()];
    for ((exchange, c), q) in exchanges.iter().zip(complexity).zip(quality) {
        let score = &mut scores[exchange.row];
        *score = score.zip(c.zip(q)).map(|(sum, (c, q))| sum + c * q);
    }
    let embeddings = embeddings(deita, recipe, rows, context, policy, work)?;
    for (row, _) in embeddings.iter().enumerate().filter(|(_, e)| e.is_none()) {
        let reason = || "its embedding is all zeros".to_owned();
        unscored.entry(row).or_insert_with(reason);
        scores[row] = None;
    }
    let keep = recipe.keep.get();
    let order = diverse(&scores, &embeddings, deita.threshold.get(), keep);
    take_explained(order, scores, unscored, keep, "too-similar")
}

/// A reply and what the user said before it.
struct Exchange {
    row: usize,
    instruction: String,
    reply: String,
}

/// Every exchange of every row; the score of a conversation is the sum over them, as in Deita's code.
fn exchanges(rows: &RowsRef<'_>) -> Vec<Exchange> {
    let mut found = Vec::new();
    for row in 0..rows.len() {
        let mut instruction = String::new();
        for Message { role, content, .. } in rows.conversation(row) {
            match role.as_str() {
                "user" => instruction = content,
                "assistant" => found.push(Exchange {
                    row,
                    instruction: instruction.clone(),
                    reply: content,
                }),
                _ => {}
            }
        }
    }
    found
}

/// The expected digit behind every prompt: `Σ k p(k)`, p the softmax over the six digits' logits.
/// None where a prompt is longer than the model's positions, which are returned too.
fn expected_scores(
    source: &ModelSource,
    prompts: Vec<String>,
    recipe: &SelectRecipe,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<(Vec<Option<f64>>, usize), SelectError> {
    let (tokenizer, digits) = open_scorer(context.root, &source.model_path)?;
    let (mut model, config) = open(source, recipe, context)?;
    let mut scores = vec![None; prompts.len()];
    let mut fitting = Vec::new();
    let mut sequences = Vec::new();
    for (place, prompt) in prompts.iter().enumerate() {
        let tokens = tokenizer.encode(prompt)?;
        if (1..=config.max_positions).contains(&tokens.len()) {
            fitting.push(place);
            sequences.push(tokens);
        }
    }
    work.advance(prompts.len() - sequences.len())?;
    let mut fitting = fitting.into_iter();
    for pass in in_passes(&sequences, context.max_positions) {
        let logits = model.next_logits(pass, &digits)?; // (S, 6)
        for (logits, place) in logits.iter().zip(fitting.by_ref()) {
            scores[place] = Some(expected_digit(logits));
        }
        work.advance(logits.len())?;
    }
    Ok((scores, config.max_positions))
}

/// The tokenizer of a scorer in a folder of the project, and the ids of the digits.
fn open_scorer(root: &Path, model: &str) -> Result<(PlainTokenizer, Vec<u32>), SelectError> {
    let tokenizer = PlainTokenizer::open(&root.join(model))?;
    let id = |digit: &str| {
        tokenizer
            .token_id(digit)
            .ok_or_else(|| SelectError::NoToken {
                model: model.to_owned(),
                token: digit.to_owned(),
            })
    };
    let digits = DIGITS.into_iter().map(id).collect::<Result<_, _>>()?;
    Ok((tokenizer, digits))
}

/// Whether the folder `model` of the project has a tokenizer that a scorer of Deita needs.
///
/// # Errors
/// There is no tokenizer that can be used, or it lacks a digit.
pub fn check_scorer(root: &Path, model: &str) -> Result<(), SelectError> {
    open_scorer(root, model).map(drop)
}

fn expected_digit(logits: &[f64]) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|l| (l - highest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let weighted = weights.iter().zip(1u32..).map(|(w, k)| w * f64::from(k));
    weighted.sum::<f64>() / sum
}

/// The embedding of every row's conversation at length 1; none where it is all 0.
fn embeddings(
    deita: &DeitaRecipe,
    recipe: &SelectRecipe,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    policy: Option<&mut dyn SequenceReader>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<Option<Vec<f64>>>, SelectError> {
    let (documents, max_seq_len) = rows.documents();
    let mut own;
    let (model, limit, mut sequences): (&mut dyn SequenceReader, _, Vec<Vec<u32>>) =
        match &deita.embedding {
            None => {
                let policy = given(policy, &recipe.method, "the policy")?;
                let sequences = documents.iter().map(|d| d.tokens.clone());
                (policy, max_seq_len, sequences.collect())
            }
            Some(source) => {
                let format = TextFormat::open(&folder(source, context), None)?;
                let (model, config) = open(source, recipe, context)?;
                own = model;
                let chats: Vec<_> = (0..rows.len()).map(|row| rows.as_chat(row)).collect();
                let encoded = format.encode_chats(&chats)?.into_iter().map(|e| e.tokens);
                let limit = config.max_positions.min(max_seq_len);
                (&mut *own, limit, encoded.collect())
            }
        };
    sequences.iter_mut().for_each(|s| s.truncate(limit));
    let mut embeddings = Vec::with_capacity(sequences.len());
    for pass in in_passes(&sequences, context.max_positions) {
        let pooled = model.embed(pass, deita.pooling)?; // (S, D)
        work.advance(pooled.len())?;
        embeddings.extend(pooled.into_iter().map(unit));
    }
    Ok(embeddings)
}

/// Rows by descending score without those whose cosine similarity with one before them is above
/// `threshold`; rows behind the first `keep` are not compared.
fn diverse(
    scores: &[Option<f64>],
    embeddings: &[Option<Vec<f64>>],
    threshold: f64,
    keep: usize,
) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    let mut vectors: Vec<&Vec<f64>> = Vec::new();
    for row in ranked(scores, Direction::Highest) {
        if vectors.len() == keep {
            kept.push(row);
            continue;
        }
        let Some(embedding) = &embeddings[row] else {
            continue;
        };
        // A cosine is at most 1; that of equal texts can come out a little above.
        let similar = vectors
            .par_iter()
            .any(|other| dot(embedding, other).min(1.0) > threshold);
        if !similar {
            kept.push(row);
            vectors.push(embedding);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    // Softmax of ln 1 .. ln 6 is k / 21; the expectation of k is 91 / 21.
    #[test]
    fn the_score_is_the_expected_digit() {
        let logits: Vec<f64> = (1..=6).map(|k| f64::from(k).ln() + 1000.0).collect();
        assert!((expected_digit(&logits) - 91.0 / 21.0).abs() < 1e-9);
        let sure = [0.0, 0.0, 800.0, 0.0, 0.0, 0.0];
        assert!((expected_digit(&sure) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_row_too_similar_to_a_kept_one_is_passed_over() {
        let vectors = [[1.0, 0.0], [0.99, 0.1], [0.0, 1.0], [0.7, 0.7]];
        let embeddings: Vec<_> = vectors.iter().map(|v| unit(v.to_vec())).collect();
        let scores = [Some(4.0), Some(3.0), Some(2.0), Some(1.0)];
        assert_eq!(diverse(&scores, &embeddings, 0.9, 4), [0, 2, 3]);
        assert_eq!(diverse(&scores, &embeddings, 0.5, 4), [0, 2]);
        assert_eq!(diverse(&scores, &embeddings, 1.0, 3), [0, 1, 2, 3]);
        // The higher score of two that are alike is kept.
        let scores = [Some(3.0), Some(4.0), None, Some(1.0)];
        assert_eq!(diverse(&scores, &embeddings, 0.9, 4), [1, 3]);
    }
}
