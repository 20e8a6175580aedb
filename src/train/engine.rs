//! What a training asks of a device: passes over batches, updates, and its weights by pieces.
//!
//! Passes are asked for, not tensors, so that an engine may keep what it likes where it likes. Whoever
//! asks sees token ids, sums of log-probabilities, and bytes.

use crate::arch::{FloatFormat, Learned};
use crate::data::TokenBatch;
use crate::model::{self, Arrays};
use crate::train::error::TrainError;
use crate::train::score::{ReplyScore, Scorer};

/// Given the scores of a batch's segments, (S,), how the loss changes with the log-probability of
/// each, (S,).
pub type Weigh<'a> = dyn FnMut(&[ReplyScore]) -> Result<Vec<f64>, TrainError> + 'a;

/// [`Weigh`] for one of several batches, by its number.
pub type WeighEach<'a> = dyn FnMut(usize, &[ReplyScore]) -> Result<Vec<f64>, TrainError> + 'a;

/// Takes the next bytes of a [`Part`].
pub type Take<'a> = model::Take<'a, TrainError>;

/// Fills a buffer with the next bytes of a [`Part`].
pub type Give<'a> = dyn FnMut(&mut [u8]) -> Result<(), TrainError> + 'a;

/// What a pass for the negative log-likelihood found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nll {
    /// Sum of the targets' log-probabilities, nats, added up in f64 in their order.
    pub logp: f64,
    /// Targets that were the likeliest token.
    pub hits: usize,
}

/// A model whose passes leave gradients behind.
///
/// Gradients are those of every learning parameter, summed in f32 over passes. How a sum is cut into
/// passes changes it by rounding only; the same passes give the same bits.
pub trait Learner: Scorer {
    /// Adds the gradient of `-factor` times the sum of the log-probabilities of a batch's targets, of
    /// which there is at least one.
    ///
    /// # Errors
    /// A token lies outside the vocabulary, a parameter receives no gradient, or the device refuses.
    fn nll(&mut self, batch: &TokenBatch, factor: f64) -> Result<Nll, TrainError>;

    /// Adds the gradient of `Σ_s w_s log π(segment s)`; `weigh` gives `w` once the log-probabilities
    /// are known.
    ///
    /// # Errors
    /// As [`Self::nll`]; what `weigh` says.
    fn weighted(&mut self, batch: &TokenBatch, weigh: &mut Weigh<'_>) -> Result<(), TrainError>;

    /// [`Self::nll`] of several batches, one after the other; engines of several devices compute some at a time.
    ///
    /// # Errors
    /// As [`Self::nll`].
    fn nll_of(&mut self, batches: &[TokenBatch], factor: f64) -> Result<Vec<Nll>, TrainError> {
        let batches = batches.iter();
        batches.map(|batch| self.nll(batch, factor)).collect()
    }

    /// [`Self::weighted`] of several batches, likewise; `weigh` is told which of them it weighs, and asked in their order.
    ///
    /// # Errors
    /// As [`Self::weighted`].
    fn weighted_of(
        &mut self,
        batches: &[&TokenBatch],
        weigh: &mut WeighEach<'_>,
    ) -> Result<(), TrainError> {
        for (at, batch) in batches.iter().enumerate() {
            self.weighted(batch, &mut |scores| weigh(at, scores))?;
        }
        Ok(())
    }

    /// Gives the gradients by parameter in name order, by pieces, and forgets them.
    ///
    /// # Errors
    /// The device refuses.
    fn take_gradients(&mut self, take: &mut dyn FnMut(&[f32])) -> Result<(), TrainError>;
}

/// What an update did.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Global L2 norm of the gradients before clipping, without rows that do not learn.
    pub norm: f64,
    /// The first parameter, by name, whose gradient holds NaN or an infinity. No weight was changed
    /// then.
    pub not_finite: Option<String>,
}

/// Arrays of an engine that lie together in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the optimiser updates: all weights of the model, or its adapters by PEFT's names.
    Weights,
    /// Its moments and master weights: `m.<name>`, `v.<name>`, and `master.<name>` where the weights
    /// are short.
    Optimizer,
    /// The weights of the reference that moves; none where there is no such reference.
    Reference,
    /// The trained model as later stages read it, in this format: in f32 with every update, however
    /// small beside its weight. Adapters are added to the weights of the model's folder, of which those
    /// in training may be rounded copies.
    Model(FloatFormat),
}

/// That no reference is kept.
pub(super) fn none_kept() -> TrainError {
    TrainError::Reference("none is kept".to_owned())
}

/// That nothing is put in the place of a part.
pub(super) fn not_filled(part: Part) -> TrainError {
    TrainError::Reference(format!("{part:?} cannot be filled"))
}

/// A model in training on some device.
///
/// [`Scorer::score`] is the model as a step sees it, which is what gradients belong to. On the CPU
/// the same calls give the same bytes, whatever the number of threads, and so do those that follow on
/// arrays that were visited and filled.
pub trait Engine: Learner {
    /// What training changes, for counting operations.
    fn learned(&self) -> Learned;

    /// Takes step `step`, from 1, at learning rate `rate` along the gradients, clipped to the global
    /// norm `max_norm` (0: not at all), by AdamW; and forgets them. Without a pass they are 0.
    ///
    /// # Errors
    /// The device refuses.
    fn update(&mut self, step: u64, rate: f64, max_norm: f64) -> Result<Update, TrainError>;

    /// The model as it would be written in the precision of training: adapters rounded into their
    /// weights, where a step sees the sum unrounded.
    ///
    /// # Errors
    /// The device refuses.
    fn written(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError>;

    /// The reference that moves, as it stands.
    ///
    /// # Errors
    /// None is kept, or the device refuses.
    fn reference(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError>;

    /// Moves the reference towards the model by the share that it was made with.
    ///
    /// # Errors
    /// None is kept, or the device refuses.
    fn move_reference(&mut self) -> Result<(), TrainError>;

    /// Names, shapes and format of what a part holds when it is whole.
    fn arrays(&self, part: Part) -> Arrays;

    /// Whether a part is there: a reference that is replaced whole is not kept before its first move.
    fn holds(&self, part: Part) -> bool;

    /// Gives the bytes of a part, array by array in the order of [`Self::arrays`], little-endian, in
    /// pieces of the engine's choice.
    ///
    /// # Errors
    /// The device refuses, or `take` does.
    fn visit(&self, part: Part, take: &mut Take<'_>) -> Result<(), TrainError>;

    /// Asks for the bytes of a part, as [`Self::visit`] gives them, and puts them in its place.
    ///
    /// # Errors
    /// The device refuses, or `give` does; or the part is [`Part::Model`], which follows from others.
    fn fill(&mut self, part: Part, give: &mut Give<'_>) -> Result<(), TrainError>;
}
