//! What a selection is given beside the rows.

use super::error::SelectError;
use crate::config::select::SelectMethod;
use crate::data::TextFormat;
use crate::model::{ModelOpener, SequenceReader};
use crate::train::{Learner, Scorer};
use std::path::Path;

/// Files and limits of a selection.
#[derive(Clone, Copy)]
pub struct SelectContext<'a> {
    /// The project; paths of the recipe are relative to it.
    pub root: &'a Path,
    /// Tokenizer and template that made the rows' tokens.
    pub format: &'a TextFormat,
    /// Opens models of the method's own.
    pub opener: &'a dyn ModelOpener,
    /// Most positions in one pass.
    pub max_positions: usize,
}

/// The pipeline's models, as what a method asks of them.
#[derive(Default)]
pub struct SelectModels<'a> {
    /// The checkpoint at this point, where the method [needs it](SelectMethod::needs_policy).
    pub policy: Option<&'a mut dyn Scorer>,
    /// The same, where the method [needs gradients](SelectMethod::needs_gradients).
    pub learner: Option<&'a mut dyn Learner>,
    /// The same for `deita`, which embeds by it unless its recipe names another model.
    pub embedder: Option<&'a mut dyn SequenceReader>,
    /// The base model, where the method [needs it](SelectMethod::needs_base).
    pub base: Option<&'a mut dyn Scorer>,
}

/// What a method was given, or that it needs `model`.
pub(super) fn given<T>(
    model: Option<T>,
    method: &SelectMethod,
    name: &'static str,
) -> Result<T, SelectError> {
    model.ok_or(SelectError::NoModel {
        method: method.name(),
        model: name,
    })
}
