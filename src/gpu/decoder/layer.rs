//! One layer, forward and backward.

use crate::arch::{AttentionShape, GateActivation};
use crate::gpu::buf::Buf;
use crate::gpu::decoder::activations::{Gradients, Kept, Working};
use crate::gpu::decoder::batch::InCache;
use crate::gpu::decoder::linear::{
    Weight, linear_by_output, linear_forward, linear_input_gradient, linear_weight_gradients,
};
use crate::gpu::decoder::parts::{LayerParts, Linear};
use crate::gpu::element::Stored;
use crate::gpu::ops::attention::{
    Backward, Forward, WorkBufs, attention_backward, attention_forward,
};
use crate::gpu::ops::attention_fast::{
    attention_backward_fast, attention_forward_fast, fast_attention_takes,
};
use crate::gpu::ops::decode_attention::{Cache, append_tokens, decode_attention, store_tokens};
use crate::gpu::ops::gated::{Columns, gated_backward, gated_forward};
use crate::gpu::ops::head_norm::{Heads, head_norm_backward, head_norm_forward, head_norm_takes};
use crate::gpu::ops::norm::{
    Norm, NormGradient, fast_norm_takes, norm_backward, norm_backward_fast, norm_forward,
};
use crate::gpu::ops::rope::{Angles, Direction, rope};
use crate::gpu::{Gpu, Result};
use half::bf16;

/// What is the same in all passes over a layer, and where the tokens of this one stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    pub(super) norm: Norm,
    pub(super) attention: AttentionShape,
    pub(super) activation: GateActivation,
    pub(super) angles: Angles,
    pub(super) positions: Buf<i32>,
    pub(super) work: &'a WorkBufs,
}

/// A layer in a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a, T> {
    pub(super) form: Form<'a>,
    pub(super) parts: &'a LayerParts<Weight<T>>,
    pub(super) kept: &'a Kept<T>,
    pub(super) working: &'a Working<T>,
    /// Keys and values of the layer that outlive the pass, and where its own stand among them.
    pub(super) cached: Option<(Cache<T>, &'a InCache)>,
}

/// The numbers of an array of T as bf16, if they are.
fn short<T: Stored>(buf: Buf<T>) -> Buf<bf16> {
    Buf::new(buf.region())
}

/// Whether numbers are bf16, which the fast kernels take.
fn is_short<T: Stored>() -> bool {
    T::pick(false, true)
}

fn short_arrays<T: Stored>(of: Forward<T>) -> Forward<bf16> {
    Forward {
        q: short(of.q),
        k: short(of.k),
        v: short(of.v),
        out: short(of.out),
        lse: of.lse,
    }
}

/// The gradients of a norm of `x` by `grad`, by the fast kernel where it takes them.
pub(super) fn norm_back<T: Stored>(
    gpu: &mut dyn Gpu,
    norm: Norm,
    weight: &Weight<T>,
    (x, grad): (Buf<T>, Buf<T>),
    (residual, dx): (Option<Buf<T>>, Buf<T>),
    (parts, nowhere): (Buf<f32>, Buf<f32>),
) -> Result<()> {
    let width = weight.value.len();
    let dw = weight.grad.unwrap_or_else(|| nowhere.part(0..width));
    if is_short::<T>() && fast_norm_takes(width) {
        let of = NormGradient {
            x: short(x),
            weight: short(weight.value),
            grad: short(grad),
            residual: residual.map(short),
            dx: short(dx),
            parts,
            dw,
        };
        return norm_backward_fast(gpu, norm, &of);
    }
    let of = NormGradient {
        x,
        weight: weight.value,
        grad,
        residual,
        dx,
        parts,
        dw,
    };
    norm_backward(gpu, norm, &of)
}

impl<T: Stored> Layer<'_, T> {
    fn rows(&self) -> usize {
        self.form.positions.len()
    }

    fn norm(&self, gpu: &mut dyn Gpu, x: Buf<T>, weight: &Weight<T>, y: Buf<T>) -> Result<()> {
        norm_forward(gpu, self.form.norm, x, weight.value, y, None)
    }

    /// From `x (T, D)`, or the sum of `x` and the branch of the layer before, which goes to `sum`, to the sum in the
    /// middle and what is to be added to it: `kept.middle` and `working.branch`.
    pub(super) fn forward(&self, gpu: &mut dyn Gpu, x: Buf<T>, sum: Option<Buf<T>>) -> Result<()> {
        self.forward_to_gate(gpu, x, sum)?;
        self.feed_forward(gpu)
    }

    /// Computes once more, from `x`, what the backward pass reads: the same bits.
    pub(super) fn again(&self, gpu: &mut dyn Gpu, x: Buf<T>) -> Result<()> {
        self.forward_to_gate(gpu, x, None)?;
        match self.kept.mlp_out {
            Some(_) => self.feed_forward(gpu),
            None => Ok(()), // nothing behind the gate is read
        }
    }

    fn forward_to_gate(&self, gpu: &mut dyn Gpu, x: Buf<T>, sum: Option<Buf<T>>) -> Result<()> {
        let (parts, kept) = (self.parts, self.kept);
        let Working { normed, branch, .. } = *self.working;
        let (norm, weight) = (self.form.norm, parts.input_norm.value);
        let added = sum.map(|sum| (branch, sum));
        norm_forward(gpu, norm, x, weight, normed, added)?;
        self.attend(gpu)?;
        let post = (kept.attention_out, parts.attention_post_norm.as_ref());
        self.branch(gpu, &parts.o, kept.mixed, post)?;
        let (x, added) = (sum.unwrap_or(x), Some((branch, kept.middle)));
        norm_forward(gpu, norm, x, parts.mlp_norm.value, normed, added)?;
        let to = (self.rows(), &self.working.room);
        linear_forward(gpu, &parts.gate, normed, kept.gate, to)?;
        linear_forward(gpu, &parts.up, normed, kept.up, to)
    }

    /// From the rows before attention to what it gives.
    fn attend(&self, gpu: &mut dyn Gpu) -> Result<()> {
        let (parts, kept, form) = (self.parts, self.kept, &self.form);
        let to = (self.rows(), &self.working.room);
        let normed = self.working.normed;
        let (q, k) = kept.raw.unwrap_or((kept.q, kept.k));
        linear_forward(gpu, &parts.q, normed, q, to)?;
        linear_forward(gpu, &parts.k, normed, k, to)?;
        linear_forward(gpu, &parts.v, normed, kept.v, to)?;
        if let Some((q_norm, k_norm)) = self.norms_of_heads() {
            let (q, k) = (self.heads(q, q_norm), self.heads(k, k_norm));
            head_norm_forward(gpu, form.norm, &q, kept.q)?;
            head_norm_forward(gpu, form.norm, &k, kept.k)?;
        } else {
            if let Some((q_norm, k_norm)) = &parts.qk_norms {
                self.norm(gpu, q, q_norm, kept.q)?;
                self.norm(gpu, k, k_norm, kept.k)?;
            }
            self.turn(gpu, (kept.q, kept.k), Direction::Forward)?;
        }
        let of = self.forward_arrays();
        match &self.cached {
            Some((cache, InCache::Next(sequences))) => {
                append_tokens(gpu, &form.attention, cache, sequences, (of.k, of.v))?;
                let (shape, to) = (&form.attention, (of.q, of.out));
                return decode_attention(gpu, shape, cache, sequences, to);
            }
            Some((cache, InCache::Slots(slots))) => {
                store_tokens(gpu, &form.attention, cache, *slots, (of.k, of.v))?;
            }
            None => {}
        }
        if is_short::<T>() && fast_attention_takes(form.attention.head_dim) {
            return attention_forward_fast(gpu, &form.attention, form.work, &short_arrays(of));
        }
        attention_forward(gpu, &form.attention, form.work, &of)
    }

    /// Norms of queries and keys, where they are of single heads and done with their rotation.
    fn norms_of_heads(&self) -> Option<(&Weight<T>, &Weight<T>)> {
        let (q, k) = self.parts.qk_norms.as_ref()?;
        let takes = |norm: &Weight<T>| head_norm_takes(norm.value.len(), &self.form.angles);
        (takes(q) && takes(k)).then_some((q, k))
    }

    fn heads(&self, x: Buf<T>, norm: &Weight<T>) -> Heads<T> {
        Heads {
            x,
            weight: norm.value,
            positions: self.form.positions,
            angles: self.form.angles,
        }
    }

    fn forward_arrays(&self) -> Forward<T> {
        Forward {
            q: self.kept.q,
            k: self.kept.k,
            v: self.kept.v,
            out: self.kept.mixed,
            lse: self.kept.lse,
        }
    }

    fn turn(
        &self,
        gpu: &mut dyn Gpu,
        (q, k): (Buf<T>, Buf<T>),
        direction: Direction,
    ) -> Result<()> {
        let (form, shape) = (&self.form, &self.form.attention);
        let queries = (shape.heads, shape.q_width());
        let keys = (shape.kv_heads, shape.kv_width());
        rope(gpu, q, queries, form.positions, &form.angles, direction)?;
        rope(gpu, k, keys, form.positions, &form.angles, direction)
    }

    /// A map of `x` to the branch, by way of its norm if it has one.
    fn branch(
        &self,
        gpu: &mut dyn Gpu,
        map: &Linear<Weight<T>>,
        x: Buf<T>,
        post: (Option<Buf<T>>, Option<&Weight<T>>),
    ) -> Result<()> {
        let (branch, to) = (self.working.branch, (self.rows(), &self.working.room));
        match post {
            (Some(out), Some(norm)) => {
                linear_forward(gpu, map, x, out, to)?;
                self.norm(gpu, out, norm, branch)
            }
            _ => linear_forward(gpu, map, x, branch, to),
        }
    }

    /// From gate and up to what the feed-forward part adds.
    fn feed_forward(&self, gpu: &mut dyn Gpu) -> Result<()> {
        let (parts, kept, working) = (self.parts, self.kept, self.working);
        let both = (kept.gate, kept.up);
        gated_forward(
            gpu,
            self.form.activation,
            self.columns(),
            both,
            working.inner,
        )?;
        let post = (kept.mlp_out, parts.mlp_post_norm.as_ref());
        self.branch(gpu, &parts.down, working.inner, post)
    }

    /// How gate and up lie.
    fn columns(&self) -> Columns {
        let (rows, width) = (self.rows(), self.kept.gate.len() / self.rows());
        Columns {
            rows,
            width,
            stride: width,
        }
    }

    /// Adds the gradients of the layer's parameters; `to.stream` becomes the gradient by the layer's input `x` from
    /// that by its output, unless nothing before the layer learns (`below`).
    pub(super) fn backward(
        &self,
        gpu: &mut dyn Gpu,
        x: Buf<T>,
        to: &Gradients<T>,
        below: bool,
    ) -> Result<()> {
        self.feed_forward_back(gpu, to)?;
        self.attend_back(gpu, to)?;
        self.project_back(gpu, x, to, below)
    }

    /// The gradient by a branch: that of the stream, by way of the branch's norm if it has one.
    fn branch_back(
        &self,
        gpu: &mut dyn Gpu,
        post: (Option<Buf<T>>, Option<&Weight<T>>),
        to: &Gradients<T>,
    ) -> Result<Buf<T>> {
        let (Some(out), Some(norm)) = post else {
            return Ok(to.stream);
        };
        let branch = self.working.branch;
        self.norm_back(gpu, norm, (out, to.stream), (None, branch), to)?;
        Ok(branch)
    }

    fn norm_back(
        &self,
        gpu: &mut dyn Gpu,
        weight: &Weight<T>,
        of: (Buf<T>, Buf<T>),
        dx: (Option<Buf<T>>, Buf<T>),
        to: &Gradients<T>,
    ) -> Result<()> {
        let sums = (self.working.room.parts, to.nowhere);
        norm_back(gpu, self.form.norm, weight, of, dx, sums)
    }

    /// From the layer's output to the sum in its middle.
    fn feed_forward_back(&self, gpu: &mut dyn Gpu, to: &Gradients<T>) -> Result<()> {
        let (parts, kept, working) = (self.parts, self.kept, self.working);
        let with = (self.rows(), &working.room);
        let post = (kept.mlp_out, parts.mlp_post_norm.as_ref());
        let branch = self.branch_back(gpu, post, to)?;
        // What went into the last product is made once more beside the gradients of what it was made of.
        let by = linear_by_output(gpu, &parts.down, branch, with)?;
        linear_input_gradient(gpu, &parts.down, by, (to.inner, 0.0), self.rows())?;
        let from = (kept.gate, kept.up, to.inner);
        let (d_gate, d_up) = (kept.gate, kept.up);
        let into = (d_gate, d_up, Some(working.inner));
        gated_backward(gpu, self.form.activation, self.columns(), from, into)?;
        linear_weight_gradients(gpu, &parts.down, (working.inner, by), with)?;
        self.norm(gpu, kept.middle, &parts.mlp_norm, working.normed)?;
        let maps = [(&parts.gate, d_gate), (&parts.up, d_up)];
        self.maps_back(gpu, &maps, Some(to.normed))?;
        let of = (kept.middle, to.normed);
        self.norm_back(gpu, &parts.mlp_norm, of, (Some(to.stream), to.stream), to)
    }

    /// Gradients of maps that all take `working.normed`, by those of their outputs; `dx` becomes that of their input, if
    /// anyone asks for it.
    fn maps_back(
        &self,
        gpu: &mut dyn Gpu,
        maps: &[(&Linear<Weight<T>>, Buf<T>)],
        dx: Option<Buf<T>>,
    ) -> Result<()> {
        let with = (self.rows(), &self.working.room);
        for (i, &(map, dy)) in maps.iter().enumerate() {
            let by = linear_by_output(gpu, map, dy, with)?;
            linear_weight_gradients(gpu, map, (self.working.normed, by), with)?;
            if let Some(dx) = dx {
                let beta = if i == 0 { 0.0 } else { 1.0 };
                linear_input_gradient(gpu, map, by, (dx, beta), self.rows())?;
            }
        }
        Ok(())
    }

    /// From the sum in the middle to attention's queries, keys and values.
    fn attend_back(&self, gpu: &mut dyn Gpu, to: &Gradients<T>) -> Result<()> {
        let (parts, kept, form) = (self.parts, self.kept, &self.form);
        let with = (self.rows(), &self.working.room);
        let post = (kept.attention_out, parts.attention_post_norm.as_ref());
        let branch = self.branch_back(gpu, post, to)?;
        let by = linear_by_output(gpu, &parts.o, branch, with)?;
        linear_weight_gradients(gpu, &parts.o, (kept.mixed, by), with)?;
        linear_input_gradient(gpu, &parts.o, by, (to.mixed, 0.0), self.rows())?;
        let of = self.forward_arrays();
        if is_short::<T>() && fast_attention_takes(form.attention.head_dim) {
            let of = short_arrays(of);
            let back = Backward {
                grad: short(to.mixed),
                delta: to.delta,
                dq: short(to.q),
                dk: short(to.k),
                dv: short(to.v),
            };
            return attention_backward_fast(gpu, &form.attention, form.work, &of, &back);
        }
        let back = Backward {
            grad: to.mixed,
            delta: to.delta,
            dq: to.q,
            dk: to.k,
            dv: to.v,
        };
        attention_backward(gpu, &form.attention, form.work, &of, &back)
    }

    /// From queries and keys that were turned to what they were before their norms.
    fn turned_back(&self, gpu: &mut dyn Gpu, to: &Gradients<T>) -> Result<()> {
        self.turn(gpu, (to.q, to.k), Direction::Back)?;
        if let (Some((q_norm, k_norm)), Some((q, k))) = (&self.parts.qk_norms, self.kept.raw) {
            self.norm_back(gpu, q_norm, (q, to.q), (None, to.q), to)?;
            self.norm_back(gpu, k_norm, (k, to.k), (None, to.k), to)?;
        }
        Ok(())
    }

    /// From queries, keys and values to the layer's input.
    fn project_back(
        &self,
        gpu: &mut dyn Gpu,
        x: Buf<T>,
        to: &Gradients<T>,
        below: bool,
    ) -> Result<()> {
        let (parts, normed) = (self.parts, self.working.normed);
        match (self.norms_of_heads(), self.kept.raw) {
            (Some((q_norm, k_norm)), Some((q, k))) => {
                for (norm, x, grad) in [(q_norm, q, to.q), (k_norm, k, to.k)] {
                    let width = norm.value.len();
                    let dw = norm.grad.unwrap_or_else(|| to.nowhere.part(0..width));
                    let sums = (self.working.room.parts, dw);
                    let of = self.heads(x, norm);
                    head_norm_backward(gpu, self.form.norm, &of, grad, sums)?;
                }
            }
            _ => self.turned_back(gpu, to)?,
        }
        self.norm(gpu, x, &parts.input_norm, normed)?;
        let maps = [(&parts.q, to.q), (&parts.k, to.k), (&parts.v, to.v)];
        if !below && parts.input_norm.grad.is_none() {
            return self.maps_back(gpu, &maps, None);
        }
        self.maps_back(gpu, &maps, Some(to.normed))?;
        let dx = (Some(to.stream), to.stream);
        self.norm_back(gpu, &parts.input_norm, (x, to.normed), dx, to)
    }
}
