//! Models beside the pipeline's, opened from their folders.

use super::context::SelectContext;
use super::error::SelectError;
use crate::arch::DecoderConfig;
use crate::config::select::{ModelSource, SelectRecipe};
use crate::config::spec::Precision;
use crate::model::{ModelError, SequenceReader};
use std::path::PathBuf;

/// Number format of the models that a method asks.
pub(super) fn precision(recipe: &SelectRecipe) -> Precision {
    recipe.precision.unwrap_or(Precision::F32)
}

pub(super) fn folder(source: &ModelSource, context: &SelectContext<'_>) -> PathBuf {
    context.root.join(&source.model_path)
}

/// A model to be read, and its shape.
pub(super) fn open(
    source: &ModelSource,
    recipe: &SelectRecipe,
    context: &SelectContext<'_>,
) -> Result<(Box<dyn SequenceReader>, DecoderConfig), SelectError> {
    let dir = folder(source, context);
    let config = DecoderConfig::from_file(&dir).map_err(ModelError::from)?;
    let model = context.opener.reader(&dir, &config, precision(recipe))?;
    Ok((model, config))
}
