//! AdamW with f32 moments and master weights.

use crate::arch::{FloatFormat, decays};
use crate::config::spec::OptimizerRecipe;
use crate::gpu::ops::optimizer::Step;
use crate::model::{Arrays, FrozenParams};
use crate::train::adamw::scalars;
use crate::train::host::gradients::{Gradients, with_f32_slice};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Tensor, Var};
use half::bf16;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

/// AdamW (Loshchilov & Hutter 2019) in the arithmetic of `torch.optim.AdamW`:
///
/// `p ← p (1 - lr λ)`, `m ← m + (g - m)(1 - β1)`, `v ← v β2 + (1 - β2) g²`,
/// `p ← p - lr / (1 - β1ᵗ) · m / (√v / √(1 - β2ᵗ) + ε)`.
///
/// Moments are f32; parameters of a shorter type have an f32 master copy. Weight decay reaches
/// matrices that are not norms.
pub struct AdamW {
    recipe: OptimizerRecipe,
    slots: BTreeMap<String, Slot>,
}

struct Slot {
    var: Var,
    decays: bool,
    /// Rows that learn; absent: all. The others are never written, so that they keep their bits.
    rows: Option<Range<usize>>,
    m: Vec<f32>,
    v: Vec<f32>,
    /// Of parameters of a shorter type.
    master: Option<Vec<f32>>,
}

/// What one parameter's step is taken by.
#[derive(Clone, Copy)]
struct Scalars {
    step: Step,
    /// 1 where weight decay does not reach.
    keep: f32,
    grad_scale: f32,
}

impl Scalars {
    /// One parameter's update; everything it needs is read and written once.
    #[inline]
    fn update(&self, p: f32, g: f32, m: &mut f32, v: &mut f32) -> f32 {
        let (g, step) = (g * self.grad_scale, &self.step);
        *m += (g - *m) * step.one_minus_beta1;
        *v = *v * step.beta2 + step.one_minus_beta2 * g * g;
        let denominator = v.sqrt() / step.root_correction + step.eps;
        p * self.keep - step.step_size * (*m / denominator)
    }
}

impl AdamW {
    /// Zero moments for every parameter.
    pub fn new(vars: &BTreeMap<String, Var>, recipe: &OptimizerRecipe) -> Result<Self> {
        let slots = vars
            .iter()
            .map(|(name, var)| Ok((name.clone(), Slot::new(name, var)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            recipe: *recipe,
            slots,
        })
    }

    /// From now on only `rows` of the matrix `name` are updated; weight decay, too, leaves the others
    /// alone.
    ///
    /// # Errors
    /// There is no such matrix, or it has no such rows.
    pub fn limit_rows(&mut self, name: &str, rows: Range<usize>) -> Result<()> {
        let Some(slot) = self.slots.get_mut(name) else {
            candle_core::bail!("no parameter `{name}`");
        };
        if slot.var.rank() < 2 || rows.is_empty() || rows.end > slot.var.dim(0)? {
            candle_core::bail!("`{name}` {:?} has no rows {rows:?}", slot.var.shape());
        }
        slot.rows = Some(rows);
        Ok(())
    }

    /// Takes the f32 values of the parameters, of which the parameters themselves are the rounded
    /// copies. Parameters in f32 have none to take.
    ///
    /// # Errors
    /// A value is missing or of another shape.
    pub fn set_masters(&mut self, from: &FrozenParams) -> Result<()> {
        for (name, slot) in &mut self.slots {
            let Some(value) = from.get(name) else {
                candle_core::bail!("no f32 value for `{name}`");
            };
            if value.shape() != slot.var.shape() {
                candle_core::bail!("the f32 value of `{name}` is {:?}", value.shape());
            }
            if let Some(master) = &mut slot.master {
                *master = value.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            }
        }
        Ok(())
    }

    /// A parameter in f32: its master weight if there is one.
    ///
    /// # Errors
    /// There is no such parameter, or the device refuses.
    pub fn master(&self, name: &str) -> Result<Tensor> {
        let Some(slot) = self.slots.get(name) else {
            candle_core::bail!("no parameter `{name}`");
        };
        match &slot.master {
            Some(master) => Tensor::from_slice(master, slot.var.shape(), &Device::Cpu),
            None => Ok(slot.var.as_detached_tensor()),
        }
    }

    /// Updates every parameter in place, as step `step`, from 1. Each gradient is multiplied by `grad_scale` (see
    /// [`crate::train::clip_by_global_norm`]) as it is read.
    ///
    /// # Errors
    /// A gradient is missing or has another shape than its parameter.
    pub fn step(&mut self, step: u64, grads: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        let all = scalars(&self.recipe, step, lr);
        for (name, slot) in &mut self.slots {
            let Some(grad) = grads.get(name) else {
                candle_core::bail!("no gradient for `{name}`");
            };
            if grad.shape() != slot.var.shape() {
                candle_core::bail!(
                    "the gradient of `{name}` is {:?}, the parameter {:?}",
                    grad.shape(),
                    slot.var.shape()
                );
            }
            let scalars = Scalars {
                step: all,
                keep: if slot.decays { all.keep } else { 1.0 },
                grad_scale: grad_scale as f32,
            };
            slot.step(grad, scalars)?;
        }
        Ok(())
    }

    /// Moments and master weights: `m.<name>`, `v.<name>`, `master.<name>`.
    pub(super) fn arrays(&self) -> Arrays {
        let mut shapes = BTreeMap::new();
        for (name, slot) in &self.slots {
            for part in slot.parts() {
                shapes.insert(format!("{part}.{name}"), slot.var.dims().to_vec());
            }
        }
        Arrays {
            format: FloatFormat::F32,
            shapes,
        }
    }

    /// One of them, on the host.
    pub(super) fn array(&self, key: &str) -> Result<Tensor> {
        let (part, name) = key.split_once('.').unwrap_or_default();
        let Some(slot) = self.slots.get(name).filter(|slot| slot.has(part)) else {
            candle_core::bail!("the optimiser has no `{key}`");
        };
        let values = match part {
            "m" => &slot.m[..],
            "v" => &slot.v,
            _ => slot.master.as_deref().unwrap_or_default(),
        };
        Tensor::from_slice(values, slot.var.shape(), &Device::Cpu)
    }

    /// Puts one of them back.
    pub(super) fn set_array(&mut self, key: &str, array: &Tensor) -> Result<()> {
        let (part, name) = key.split_once('.').unwrap_or_default();
        let Some(slot) = self.slots.get_mut(name).filter(|slot| slot.has(part)) else {
            candle_core::bail!("the optimiser has no `{key}`");
        };
        let values = array.flatten_all()?.to_vec1()?;
        match part {
            "m" => slot.m = values,
            "v" => slot.v = values,
            _ => slot.master = Some(values),
        }
        Ok(())
    }
}

impl Slot {
    fn new(name: &str, var: &Var) -> Result<Self> {
        let wide = || {
            let value = var.as_detached_tensor().to_dtype(DType::F32)?;
            value.flatten_all()?.to_vec1()
        };
        let short = var.dtype() != DType::F32;
        Ok(Self {
            var: var.clone(),
            decays: decays(name, var.rank()),
            rows: None,
            m: vec![0.0; var.elem_count()],
            v: vec![0.0; var.elem_count()],
            master: short.then(wide).transpose()?,
        })
    }

    fn step(&mut self, grad: &Tensor, scalars: Scalars) -> Result<()> {
        let width = self.var.elem_count() / self.var.dim(0)?.max(1);
        let learns = match &self.rows {
            Some(rows) => rows.start * width..rows.end * width,
            None => 0..self.var.elem_count(),
        };
        with_f32_slice(grad, |grad| {
            self.var.inplace_op1(&HostStep {
                scalars,
                grad,
                learns,
                state: RefCell::new((&mut self.m, &mut self.v, self.master.as_mut())),
            })
        })?
    }

    /// The arrays that stand beside the parameter.
    fn parts(&self) -> &'static [&'static str] {
        match self.master {
            None => &["m", "v"],
            Some(_) => &["m", "v", "master"],
        }
    }

    fn has(&self, part: &str) -> bool {
        self.parts().contains(&part)
    }
}

/// Moments and master weights, lent to the op that owns the parameter's memory for a moment.
type HostState<'a> = (&'a mut Vec<f32>, &'a mut Vec<f32>, Option<&'a mut Vec<f32>>);

/// The update of one CPU parameter in its own memory: one pass.
struct HostStep<'a> {
    scalars: Scalars,
    grad: &'a [f32],
    /// Elements that are updated.
    learns: Range<usize>,
    state: RefCell<HostState<'a>>,
}

impl InplaceOp1 for HostStep<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("adamw: the parameter is not contiguous");
        };
        let mut state = self.state.borrow_mut();
        let (m, v, master) = &mut *state;
        let learns = self.learns.clone();
        let moments = m[learns.clone()].iter_mut().zip(&mut v[learns.clone()]);
        let grad = &self.grad[learns.clone()];
        let scalars = self.scalars;
        match (storage, master) {
            (CpuStorage::F32(values), None) => {
                let parameters = values[start..end][learns].iter_mut().zip(grad);
                for ((p, &g), (m, v)) in parameters.zip(moments) {
                    *p = scalars.update(*p, g, m, v);
                }
            }
            (CpuStorage::BF16(values), Some(master)) => {
                let master = master[learns.clone()].iter_mut();
                let parameters = values[start..end][learns].iter_mut().zip(master);
                for (((short, p), &g), (m, v)) in parameters.zip(grad).zip(moments) {
                    *p = scalars.update(*p, g, m, v);
                    *short = shortened(*p);
                }
            }
            _ => candle_core::bail!("adamw: parameters must be f32 or bf16"),
        }
        Ok(())
    }
}

/// A master weight in two bytes: to the bit `bf16::from_f64` of a normal number, which reads the upper half of the
/// double only and so three bits fewer than there are, but in loops of vectors.
#[inline]
fn shortened(p: f32) -> bf16 {
    bf16::from_f32(f32::from_bits(p.to_bits() & !7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    static RECIPE: LazyLock<OptimizerRecipe> = LazyLock::new(|| OptimizerRecipe {
        learning_rate: 0.1.try_into().unwrap(),
        beta1: 0.9.try_into().unwrap(),
        beta2: 0.99.try_into().unwrap(),
        eps: 1e-8.try_into().unwrap(),
        weight_decay: 0.1.try_into().unwrap(),
        max_grad_norm: 1.0.try_into().unwrap(),
    });

    fn vars(dtype: DType) -> BTreeMap<String, Var> {
        let var = |values: &[f32], shape: &[usize]| {
            let t = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
            Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
        };
        BTreeMap::from([
            ("layers.0.norm.weight".to_owned(), var(&[1.0, -2.0], &[2])),
            (
                "proj.weight".to_owned(),
                var(&[0.5, -0.25, 1.5, 3.0], &[2, 2]),
            ),
        ])
    }

    fn grads(step: u32) -> Gradients {
        let t = |values: Vec<f32>, shape: &[usize]| {
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let s = step as f32;
        let mut grads = Gradients::default();
        grads.insert("layers.0.norm.weight", t(vec![0.3 * s, -0.7], &[2]));
        let matrix = vec![1.0, -0.01 * s, 1e-4, (2.0 * s).sin()];
        grads.insert("proj.weight", t(matrix, &[2, 2]));
        grads
    }

    fn values(vars: &BTreeMap<String, Var>) -> Vec<f64> {
        let flat = |v: &Var| {
            let v = v.as_detached_tensor().to_dtype(DType::F64).unwrap();
            v.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        vars.values().flat_map(flat).collect()
    }

    /// The same formulas in f64, written out plainly.
    fn by_hand(steps: u32, scale: f64) -> Vec<f64> {
        let (mut p, decays) = (
            vec![1.0, -2.0, 0.5, -0.25, 1.5, 3.0],
            [0.0, 0.0, 1.0, 1.0, 1.0, 1.0],
        );
        let (mut m, mut v) = (vec![0.0; 6], vec![0.0; 6]);
        for t in 1..=steps {
            let flat: Vec<f64> = grads(t)
                .iter()
                .flat_map(|(_, g)| g.flatten_all().unwrap().to_vec1::<f32>().unwrap())
                .map(f64::from)
                .collect();
            for i in 0..6 {
                let g = flat[i] * scale;
                p[i] *= 1.0 - RECIPE.learning_rate.get() * RECIPE.weight_decay.get() * decays[i];
                m[i] = RECIPE.beta1.get() * m[i] + (1.0 - RECIPE.beta1.get()) * g;
                v[i] = RECIPE.beta2.get() * v[i] + (1.0 - RECIPE.beta2.get()) * g * g;
                let m_hat = m[i] / (1.0 - RECIPE.beta1.get().powf(f64::from(t)));
                let v_hat: f64 = v[i] / (1.0 - RECIPE.beta2.get().powf(f64::from(t)));
                p[i] -= RECIPE.learning_rate.get() * m_hat / (v_hat.sqrt() + RECIPE.eps.get());
            }
        }
        p
    }

    // Around every tie and at a stride through all exponents.
    #[test]
    fn weights_are_shortened_as_a_double_is() {
        let ties = (0..0x400u32)
            .flat_map(|high| (0x7FF0..0x8010).map(move |low| 0x3F80_0000 + (high << 16) + low));
        let all = (0x0080_0000..=0x7F80_0000u32).step_by(99_991);
        for bits in ties.chain(all).chain([0, 0x7F80_0000]) {
            for p in [f32::from_bits(bits), -f32::from_bits(bits)] {
                assert_eq!(
                    shortened(p).to_bits(),
                    bf16::from_f64(f64::from(p)).to_bits(),
                    "{p:e}"
                );
            }
        }
    }

    #[test]
    fn ten_steps_equal_the_formulas_and_norms_do_not_decay() {
        let vars = vars(DType::F32);
        let mut optimizer = AdamW::new(&vars, &RECIPE).unwrap();
        for t in 1..=10 {
            optimizer
                .step(u64::from(t), &grads(t), RECIPE.learning_rate.get(), 0.5)
                .unwrap();
        }
        for (got, want) in values(&vars).iter().zip(by_hand(10, 0.5)) {
            assert!(
                (got - want).abs() < 1e-5 * want.abs().max(0.1),
                "{got} {want}"
            );
        }
    }

    // Row 0 of the matrix is frozen: weight decay and a gradient that is not 0 leave it alone.
    #[test]
    fn rows_that_do_not_learn_keep_their_bits() {
        for dtype in [DType::F32, DType::BF16] {
            let (limited, free) = (vars(dtype), vars(dtype));
            let before = values(&limited);
            let mut a = AdamW::new(&limited, &RECIPE).unwrap();
            let mut b = AdamW::new(&free, &RECIPE).unwrap();
            a.limit_rows("proj.weight", 1..2).unwrap();
            for t in 1..=3 {
                a.step(u64::from(t), &grads(t), 0.1, 1.0).unwrap();
                b.step(u64::from(t), &grads(t), 0.1, 1.0).unwrap();
            }
            let (got, want) = (values(&limited), values(&free));
            assert_eq!(got[2..4], before[2..4]);
            for i in [0, 1, 4, 5] {
                assert!((got[i] - want[i]).abs() < 1e-6 && (want[i] - before[i]).abs() > 0.0);
            }
        }
    }

    #[test]
    fn rows_that_are_not_there_are_refused() {
        let vars = vars(DType::F32);
        let mut optimizer = AdamW::new(&vars, &RECIPE).unwrap();
        assert!(optimizer.limit_rows("proj.weight", 1..3).is_err());
        assert!(optimizer.limit_rows("proj.weight", 1..1).is_err());
        assert!(optimizer.limit_rows("layers.0.norm.weight", 0..1).is_err());
        assert!(optimizer.limit_rows("other", 0..1).is_err());
    }

    // Steps of 1e-5 on values near 2 are far below the spacing of bf16 there (2^-7), so only a
    // master copy can add them up: 2000 of them make about 0.02.
    #[test]
    fn short_weights_keep_their_small_updates_in_the_master_copy() {
        let vars = vars(DType::BF16);
        let mut optimizer = AdamW::new(&vars, &RECIPE).unwrap();
        let before = values(&vars);
        for t in 1..=2000 {
            optimizer.step(t, &grads(1), 1e-5, 1.0).unwrap();
        }
        let moved = before[1] - values(&vars)[1];
        assert!((moved.abs() - 0.02).abs() < 0.01, "{moved}");
    }

    #[test]
    fn a_saved_state_continues_with_the_same_bits() {
        let straight = vars(DType::F32);
        let mut optimizer = AdamW::new(&straight, &RECIPE).unwrap();
        let resumed = vars(DType::F32);
        let mut saved = BTreeMap::new();
        for t in 1..=6 {
            optimizer.step(u64::from(t), &grads(t), 0.1, 1.0).unwrap();
            if t == 3 {
                for key in optimizer.arrays().shapes.into_keys() {
                    saved.insert(key.clone(), optimizer.array(&key).unwrap());
                }
                for (name, var) in &resumed {
                    var.set(&straight[name].as_detached_tensor()).unwrap();
                }
            }
        }
        let mut later = AdamW::new(&resumed, &RECIPE).unwrap();
        for (key, array) in &saved {
            later.set_array(key, array).unwrap();
        }
        for t in 4..=6 {
            later.step(u64::from(t), &grads(t), 0.1, 1.0).unwrap();
        }
        assert_eq!(values(&straight), values(&resumed));
    }
}
