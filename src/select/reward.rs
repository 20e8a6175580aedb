//! The gap in reward between the two replies of a pair.

use super::context::SelectContext;
use super::error::SelectError;
use super::models::{folder, precision};
use super::rows::RowsRef;
use super::work::Work;
use crate::arch::DecoderConfig;
use crate::config::select::{ModelSource, SelectRecipe};
use crate::data::{Message, TextFormat};
use crate::model::{ModelError, score_sequences};

/// Sequences that are scored between two reports of progress.
const REPORT_EVERY: usize = 16;

/// `r(x, y_w) - r(x, y_l)` of every pair under the reward model's own tokenizer and chat template;
/// none where a conversation is longer than the model's positions.
///
/// A conversation is rendered whole and tokenised as it is, as `apply_chat_template` does.
pub(super) fn gaps(
    source: &ModelSource,
    recipe: &SelectRecipe,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<Option<f64>>, SelectError> {
    let RowsRef::Pairs { rows: pairs, .. } = rows else {
        return Err(SelectError::Recipe(
            "the method chooses among preference pairs".to_owned(),
        ));
    };
    let dir = folder(source, context);
    let format = TextFormat::open(&dir, None)?;
    let config = DecoderConfig::from_file(&dir).map_err(ModelError::from)?;
    let mut model = context.opener.scorer(&dir, &config, precision(recipe))?;
    let encode = |prompt: &[Message], reply: &[Message]| {
        format.encode_text(&format.render(&[prompt, reply].concat(), false)?)
    };
    let mut gaps = vec![None; pairs.len()];
    let mut fitting = Vec::new();
    let mut sequences = Vec::new();
    for (row, pair) in pairs.iter().enumerate() {
        let chosen = encode(&pair.prompt, &pair.chosen)?;
        let rejected = encode(&pair.prompt, &pair.rejected)?;
        if chosen.len().max(rejected.len()) <= config.max_positions {
            fitting.push(row);
            sequences.extend([chosen, rejected]);
        }
    }
    work.plan(sequences.len());
    let mut scores = Vec::with_capacity(sequences.len());
    for part in sequences.chunks(2 * REPORT_EVERY) {
        scores.extend(score_sequences(&mut *model, part, context.max_positions)?);
        work.advance(part.len())?;
    }
    for (row, pair) in fitting.into_iter().zip(scores.chunks_exact(2)) {
        gaps[row] = Some(pair[0] - pair[1]);
    }
    Ok(gaps)
}
