//! The frozen model under adapters, and the model with them added.

use crate::arch::{DecoderConfig, FloatFormat};
use crate::config::spec::LoraRecipe;
use crate::gpu::decoder::{Adapter, Layout, Weight, product, rounded, widened};
use crate::gpu::{Buf, Gpu, GpuError, Matrix, Result, Stored};
use crate::model::{StoredWeights, adapter_names};
use crate::train::device::learning::Learning;
use crate::train::device::masters::Masters;
use crate::train::device::pieces::visit_as;
use crate::train::engine::Take;
use crate::train::error::TrainError;
use candle_core::{DType, Device};
use std::ops::Range;
use std::path::PathBuf;

/// A frozen model on the device.
pub(super) struct Base<T> {
    pub(super) layout: Layout,
    pub(super) value: Buf<T>,
    pub(super) recipe: LoraRecipe,
    /// The folder of its weights, of which `value` may be rounded.
    pub(super) folder: PathBuf,
    /// The model with the adapters added, in T; taken when it is first asked for.
    merged: Option<Buf<T>>,
    /// For the sum of one matrix and its adapter in f32; likewise.
    scratch: Option<Buf<f32>>,
}

/// The two factors of an adapter of one weight.
struct Factors {
    a: Range<usize>,
    b: Range<usize>,
    out: usize,
    width: usize,
}

impl<T: Stored> Base<T> {
    pub(super) fn new(
        gpu: &mut dyn Gpu,
        layout: Layout,
        recipe: &LoraRecipe,
        folder: PathBuf,
    ) -> Result<Self> {
        Ok(Self {
            value: gpu.alloc(layout.len())?,
            layout,
            recipe: recipe.clone(),
            folder,
            merged: None,
            scratch: None,
        })
    }

    fn scale(&self) -> f32 {
        (self.recipe.alpha.get() / self.recipe.rank.get() as f64) as f32
    }

    /// A frozen weight with its adapter, if it has one.
    pub(super) fn weight(
        &self,
        name: &str,
        range: Range<usize>,
        learning: &Learning<T>,
    ) -> Weight<T> {
        let adapter = factors(name, learning).map(|factors| Adapter {
            a: learning.value.part(factors.a.clone()),
            b: learning.value.part(factors.b.clone()),
            grad_a: learning.grad(factors.a),
            grad_b: learning.grad(factors.b),
            rank: self.recipe.rank.get(),
            scale: self.scale(),
        });
        Weight {
            value: self.value.part(range),
            grad: None,
            adapter,
        }
    }

    /// Adds an adapter to the matrix in `sum (out, in)`.
    fn add(
        &self,
        gpu: &mut dyn Gpu,
        of: &Factors,
        learning: &Learning<T>,
        sum: Buf<f32>,
    ) -> Result<()> {
        let (rank, width) = (self.recipe.rank.get(), of.width);
        let Masters::Whole(master) = learning.masters else {
            return Err(GpuError::Request("adapters are kept whole".to_owned()));
        };
        let a = Matrix::new(master.part(of.a.clone()), width);
        let b = Matrix::new(master.part(of.b.clone()), rank);
        let all = (b, a, Matrix::new(sum, width));
        product(gpu, all, (of.out, width, rank), (self.scale(), 1.0))
    }

    /// Bytes that are still to be taken when the model is measured, written or moved towards.
    pub(super) fn to_come(&self) -> usize {
        let merged = match self.merged {
            Some(_) => 0,
            None => size_of::<T>() * self.layout.len(),
        };
        let scratch = match self.scratch {
            Some(_) => 0,
            None => size_of::<f32>() * self.largest(),
        };
        merged + scratch
    }

    /// Numbers of the largest matrix.
    fn largest(&self) -> usize {
        let all = self.layout.iter().map(|(_, place)| place.range.len());
        all.max().unwrap_or(0)
    }

    /// Memory for the sum of the largest matrix and its adapter.
    fn scratch(&mut self, gpu: &mut dyn Gpu) -> Result<Buf<f32>> {
        if let Some(scratch) = self.scratch {
            return Ok(scratch);
        }
        let scratch = gpu.alloc(self.largest())?;
        Ok(*self.scratch.insert(scratch))
    }

    /// A copy of the model, for sums in the place of its matrices.
    fn merged(&mut self, gpu: &mut dyn Gpu) -> Result<Buf<T>> {
        if let Some(merged) = self.merged {
            return Ok(merged);
        }
        let merged = gpu.alloc(self.layout.len())?;
        gpu.copy(self.value, merged)?;
        Ok(*self.merged.insert(merged))
    }

    /// The model with the adapters added, each sum rounded once; in the layout of the base.
    pub(super) fn merge(&mut self, gpu: &mut dyn Gpu, learning: &Learning<T>) -> Result<Buf<T>> {
        let (merged, scratch) = (self.merged(gpu)?, self.scratch(gpu)?);
        for (name, place) in self.layout.iter() {
            let Some(factors) = factors(name, learning) else {
                continue;
            };
            let range = place.range.clone();
            let sum = scratch.part(0..range.len());
            widened(gpu, self.value.part(range.clone()), sum)?;
            self.add(gpu, &factors, learning, sum)?;
            rounded(gpu, sum, merged.part(range))?;
        }
        Ok(merged)
    }

    /// Gives the bytes of the model with the adapters added to the weights of its folder, which are read again
    /// where those on the device are rounded.
    pub(super) fn visit(
        &mut self,
        (gpu, config): (&mut dyn Gpu, &DecoderConfig),
        learning: &Learning<T>,
        format: FloatFormat,
        take: &mut Take<'_>,
    ) -> std::result::Result<(), TrainError> {
        let scratch = self.scratch(gpu)?;
        let stored = T::pick(false, true).then(|| StoredWeights::open(&self.folder, config));
        let mut stored = stored.transpose()?;
        for (name, place) in self.layout.iter() {
            let sum = scratch.part(0..place.range.len());
            if let Some(stored) = &mut stored {
                let numbers = stored.load(name, &Device::Cpu, DType::F32)?;
                gpu.upload(&numbers.flatten_all()?.to_vec1::<f32>()?, sum)?;
            } else {
                widened(gpu, self.value.part(place.range.clone()), sum)?;
            }
            if let Some(factors) = factors(name, learning) {
                self.add(gpu, &factors, learning, sum)?;
            }
            visit_as(gpu, sum, format, take)?;
        }
        Ok(())
    }
}

/// Where the adapter of a weight stands among what learns; none without one.
fn factors<T: Stored>(name: &str, learning: &Learning<T>) -> Option<Factors> {
    let [a, b] = adapter_names(name);
    let (a, b) = (learning.layout.get(&a)?, learning.layout.get(&b)?);
    Some(Factors {
        a: a.range.clone(),
        b: b.range.clone(),
        out: b.shape.first().copied()?,
        width: a.shape.get(1).copied()?,
    })
}
