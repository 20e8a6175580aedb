//! Where a training begins, on whatever device.

use crate::arch::DecoderConfig;
use crate::base::SeedTree;
use crate::config::spec::{ReferenceUpdate, TrainingRecipe};
use crate::model::FrozenParams;
use std::path::Path;

/// What an engine is opened from.
#[derive(Clone, Copy, Debug)]
pub struct EngineStart<'a> {
    /// The folder of the model.
    pub source: &'a Path,
    /// Its weights, if they are to be taken from memory; not with adapters, which are written into those of the folder.
    pub weights: Option<&'a FrozenParams>,
    /// Its configuration.
    pub config: &'a DecoderConfig,
    /// What learns, in which precision, by which optimiser.
    pub recipe: &'a TrainingRecipe,
    /// A reference that moves, if one is kept.
    pub reference: Option<ReferenceUpdate>,
    /// By which new adapters are drawn.
    pub seed: &'a SeedTree,
    /// Layers are computed again in the backward pass: less memory, the same bits.
    pub recompute: bool,
    /// Positions of the largest pass that is to be expected, for which a device beside the CPU takes memory at once. Larger
    /// ones take more when they come.
    pub positions: usize,
}
