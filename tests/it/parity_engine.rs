//! The engine as the parity tests drive it: documents in, log-probabilities and gradients out.

use crate::parity_support::{flat, root, signs};
use candle_core::{DType, Device, Tensor, Var};
use lions::arch::DecoderConfig;
use lions::model::{Decoder, Params};
use lions::train::Gradients;
use std::collections::BTreeMap;
use std::path::Path;

/// Documents behind one another, with the targets that count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) cu_seqlens: Vec<u32>,
    pub(crate) rows: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) segments: Vec<u32>,
}

impl Packed {
    /// Packs documents; a token whose mask is true is a target.
    pub(crate) fn new(documents: &[(Vec<u32>, Vec<bool>)]) -> Self {
        let mut out = Self::default();
        out.cu_seqlens.push(0);
        for (segment, (tokens, mask)) in documents.iter().enumerate() {
            let start = out.tokens.len();
            for i in (1..tokens.len()).filter(|&i| mask[i]) {
                out.rows.push((start + i - 1) as u32);
                out.targets.push(tokens[i]);
                out.segments.push(segment as u32);
            }
            out.tokens.extend(tokens);
            out.positions.extend(0..tokens.len() as u32);
            out.cu_seqlens.push(out.tokens.len() as u32);
        }
        out
    }

    /// Hidden states `(T, D)` of all positions.
    pub(crate) fn hidden(&self, decoder: &Decoder) -> Tensor {
        decoder
            .hidden(&self.tokens, &self.positions, &self.cu_seqlens)
            .unwrap()
    }

    /// Log-probabilities of the targets `(N,)`.
    pub(crate) fn token_logps(&self, decoder: &Decoder) -> Tensor {
        let hidden = self.hidden(decoder);
        decoder
            .token_logps(&hidden, &self.rows, &self.targets)
            .unwrap()
    }
}

/// A model folder, opened for training on the CPU.
pub(crate) struct Model {
    pub(crate) config: DecoderConfig,
    pub(crate) params: Params,
    /// The parameters by name, sharing their storage.
    pub(crate) vars: BTreeMap<String, Var>,
}

impl Model {
    pub(crate) fn open(dir: &Path, dtype: DType) -> Self {
        let config = DecoderConfig::from_file(dir).unwrap();
        let params = Params::load(dir, &config, &Device::Cpu, dtype).unwrap();
        let vars = params
            .iter()
            .map(|(name, var)| (name.to_owned(), var.clone()))
            .collect();
        Self {
            config,
            params,
            vars,
        }
    }

    /// The shipped model, f32.
    pub(crate) fn shipped() -> Self {
        Self::open(&root("models/stories260k"), DType::F32)
    }

    pub(crate) fn decoder(&self) -> Decoder {
        Decoder::trainable(&self.config, &self.params).unwrap()
    }

    /// Gradients of a loss with respect to every parameter; fails where one is missing.
    pub(crate) fn gradients(&self, loss: &Tensor) -> Gradients {
        let mut gradients = Gradients::default();
        self.accumulate(&mut gradients, loss);
        gradients
    }

    /// Adds the gradients of a micro-batch.
    pub(crate) fn accumulate(&self, gradients: &mut Gradients, loss: &Tensor) {
        let mut store = loss.backward().unwrap();
        gradients.accumulate(&self.vars, &mut store).unwrap();
    }
}

/// The shipped model with every weight moved by 1/32 of itself, up or down: the bits of
/// `common.perturb`.
pub(crate) fn perturbed() -> Model {
    let model = Model::shipped();
    for (p, (_, var)) in model.vars.iter().enumerate() {
        let values = flat(var.as_tensor());
        let moved: Vec<f32> = values
            .iter()
            .zip(signs(1000 + p as u64, values.len()))
            .map(|(w, s)| *w as f32 * (1.0 + s as f32 / 32.0))
            .collect();
        let tensor = Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap();
        var.set(&tensor).unwrap();
    }
    model
}
