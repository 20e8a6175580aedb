//! What a selection is given beside the rows.

use super::error::SelectError;
use crate::config::select::SelectMethod;
use crate::data::TextFormat;
use crate::model::Decoder;
use candle_core::{Device, Var};
use std::collections::BTreeMap;
use std::path::Path;

/// Models, files and machine of a selection.
#[derive(Clone, Copy)]
pub struct SelectContext<'a> {
    /// The project; paths of the recipe are relative to it.
    pub root: &'a Path,
    /// Tokenizer and template that made the rows' tokens.
    pub format: &'a TextFormat,
    /// The pipeline's checkpoint at this point, where the method
    /// [needs it](SelectMethod::needs_policy); with gradients ([`Decoder::trainable`]) for `less`.
    pub policy: Option<&'a Decoder>,
    /// The policy's variables by name, where the method
    /// [needs gradients](SelectMethod::needs_gradients).
    pub vars: Option<&'a BTreeMap<String, Var>>,
    /// The base model, where the method [needs it](SelectMethod::needs_base).
    pub base: Option<&'a Decoder>,
    /// Where models of the method's own are opened.
    pub device: &'a Device,
    /// Most positions in one pass.
    pub max_positions: usize,
}

impl<'a> SelectContext<'a> {
    pub(super) fn policy(&self, method: &SelectMethod) -> Result<&'a Decoder, SelectError> {
        self.policy.ok_or(SelectError::NoModel {
            method: method.name(),
            model: "the policy",
        })
    }

    pub(super) fn base(&self, method: &SelectMethod) -> Result<&'a Decoder, SelectError> {
        self.base.ok_or(SelectError::NoModel {
            method: method.name(),
            model: "the base model",
        })
    }

    pub(super) fn vars(
        &self,
        method: &SelectMethod,
    ) -> Result<&'a BTreeMap<String, Var>, SelectError> {
        self.vars.ok_or(SelectError::NoModel {
            method: method.name(),
            model: "the policy's variables",
        })
    }
}
