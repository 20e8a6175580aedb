//! A reference that moves towards the policy: Gorbatovski et al. 2024, equations 5 (mix below 1) and 6 (mix 1).

use crate::arch::FloatFormat;
use crate::gpu::decoder::{beside, rounded, widened};
use crate::gpu::ops::mix::mix;
use crate::gpu::{Buf, Gpu, Result, Stored};

/// Weights of the reference, in the layout of the model. A mixture is added up in f32, whatever passes read: bfloat16
/// would swallow small shares. Weights that each move replaces whole are not kept before the first one.
pub(super) struct Reference<T> {
    share: f64,
    /// The mixture; absent if a move replaces all.
    wide: Option<Buf<f32>>,
    /// As passes read it; the same array where passes read f32.
    pub(super) value: Buf<T>,
    pub(super) kept: bool,
}

impl<T: Stored> Reference<T> {
    /// The reference of a training that starts from `policy`; a move mixes it with `share` of the policy.
    pub(super) fn new(gpu: &mut dyn Gpu, share: f64, policy: Buf<T>) -> Result<Self> {
        let count = policy.len();
        if share >= 1.0 {
            return Ok(Self {
                share,
                wide: None,
                value: gpu.alloc(count)?,
                kept: false,
            });
        }
        let wide = gpu.alloc(count)?;
        widened(gpu, policy, wide)?;
        let new = Self {
            share,
            wide: Some(wide),
            value: beside(gpu, wide)?,
            kept: true,
        };
        rounded(gpu, wide, new.value)?;
        Ok(new)
    }

    /// Number format of what is kept.
    pub(super) fn format(&self) -> FloatFormat {
        match self.wide {
            None => T::pick(FloatFormat::F32, FloatFormat::Bf16),
            Some(_) => FloatFormat::F32,
        }
    }

    /// The mixture, if there is one, else what passes read.
    pub(super) fn arrays(&self) -> (Option<Buf<f32>>, Buf<T>) {
        (self.wide, self.value)
    }

    /// Mixes it with the policy.
    pub(super) fn move_towards(&mut self, gpu: &mut dyn Gpu, policy: Buf<T>) -> Result<()> {
        self.kept = true;
        let Some(wide) = self.wide else {
            return gpu.copy(policy, self.value);
        };
        mix(gpu, wide, policy, self.share)?;
        rounded(gpu, wide, self.value)
    }

    /// Takes note that what is kept was filled.
    pub(super) fn filled(&mut self, gpu: &mut dyn Gpu) -> Result<()> {
        self.kept = true;
        match self.wide {
            Some(wide) => rounded(gpu, wide, self.value),
            None => Ok(()),
        }
    }
}
