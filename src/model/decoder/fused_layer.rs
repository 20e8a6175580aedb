//! One decoder layer on slices, forward and backward, with the composition written out.
//!
//! The same formulas as the single ops, without a graph between them: intermediate results live
//! for a tile of rows, residual sums accumulate in place, and nothing is allocated, cleared or
//! added that the mathematics does not ask for. `fused.rs` makes it a differentiable op.

use crate::arch::{AttentionShape, GateActivation, NormWeight};
use crate::model::decoder::slot::{SLOTS, Slot};
use crate::model::kernels::aligned::unwritten;
use crate::model::kernels::attention::{SegmentInputs, attention_backward, attention_forward};
use crate::model::kernels::bf16;
use crate::model::kernels::gated::{gated_both, gated_forward};
use crate::model::kernels::mat::{MatRef, Store};
use crate::model::kernels::matmul::{OperandB, Operands, matmul};
use crate::model::kernels::norm::{norm_backward, norm_rows};
use crate::model::kernels::real::Real;
use crate::model::kernels::rope::rotate_rows;
use crate::model::kernels::rows::for_tiles;
use crate::model::kernels::segments::Segments;

/// The two factors of a weight gradient: upstream rows, input rows.
type Factors<'a, F> = (&'a [F], &'a [F]);

/// Shape and form of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerShape {
    /// D.
    pub(crate) width: usize,
    /// F.
    pub(crate) inner: usize,
    pub(crate) attention: AttentionShape,
    pub(crate) eps: f64,
    pub(crate) norm: NormWeight,
    pub(crate) activation: GateActivation,
    /// The result of every op is rounded to bf16, as if it were stored in that format, and so are the
    /// operands of products in the backward pass.
    pub(crate) bf16: bool,
}

/// A layer's weights; what a family does not have is absent.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a, F>(pub(crate) [Option<&'a [F]>; SLOTS]);

/// Gradients of a layer's weights; empty where there is no weight.
pub(crate) type Gradients<F> = [Vec<F>; SLOTS];

impl<'a, F> Weights<'a, F> {
    fn get(&self, slot: Slot) -> Option<&'a [F]> {
        self.0[slot as usize]
    }

    /// A weight that every family has.
    fn at(&self, slot: Slot) -> &'a [F] {
        self.get(slot).unwrap_or(&[])
    }
}

/// Cosines and sines of the tokens, and sines of the way back.
pub(crate) struct Angles<F> {
    pub(crate) half: usize,
    pub(crate) cos: Vec<F>,
    pub(crate) sin: Vec<F>,
    pub(crate) back: Vec<F>,
}

impl<F: Real> Angles<F> {
    fn rotate(&self, first: usize, rows: &mut [F], width: usize, sin: &[F]) {
        let at = first * self.half..(first + rows.len() / width) * self.half;
        rotate_rows(rows, width, &self.cos[at.clone()], &sin[at], self.half);
    }
}

/// What the backward pass of a layer needs, about `4 D + 2 K E + 2 F` values a token.
pub(crate) struct Saved<F> {
    x: Vec<F>,
    q: Vec<F>,
    k: Vec<F>,
    v: Vec<F>,
    /// Queries and keys before their norms, where a family has them.
    raw_qk: Option<(Vec<F>, Vec<F>)>,
    mixed: Vec<F>,
    lse: Vec<F>,
    /// The attention's output before its own norm.
    raw_attention: Vec<F>,
    middle: Vec<F>,
    gate: Vec<F>,
    up: Vec<F>,
    /// The feed-forward part's output before its own norm.
    raw_mlp: Vec<F>,
}

/// [`Saved`] of a layer whose results are rounded: two bytes a value, but for the normalisers.
pub(crate) struct Bf16Saved<F> {
    values: Saved<u16>,
    lse: Vec<F>,
}

impl<F> Saved<F> {
    /// All but the normalisers, in another format.
    fn map<G>(self, f: impl Fn(&[F]) -> Vec<G>) -> Saved<G> {
        Saved {
            x: f(&self.x),
            q: f(&self.q),
            k: f(&self.k),
            v: f(&self.v),
            raw_qk: self.raw_qk.map(|(q, k)| (f(&q), f(&k))),
            mixed: f(&self.mixed),
            lse: Vec::new(),
            raw_attention: f(&self.raw_attention),
            middle: f(&self.middle),
            gate: f(&self.gate),
            up: f(&self.up),
            raw_mlp: f(&self.raw_mlp),
        }
    }
}

impl<F: Real> Saved<F> {
    /// In half the memory; exact, if the layer rounds.
    pub(crate) fn into_bf16(mut self) -> Bf16Saved<F> {
        Bf16Saved {
            lse: std::mem::take(&mut self.lse),
            values: self.map(bf16::to_bf16),
        }
    }
}

impl<F: Real> Bf16Saved<F> {
    /// Its values again, as floats to compute with.
    pub(crate) fn into_f32(self) -> Saved<F> {
        Saved {
            lse: self.lse,
            ..self.values.map(bf16::to_f32)
        }
    }
}

fn zeros<F: Real>(len: usize) -> Vec<F> {
    vec![F::ZERO; len]
}

/// `len` elements of a buffer, to be written whole.
fn room<F: Real>(buffer: &mut Vec<F>, len: usize) -> &mut [F] {
    if buffer.len() < len {
        *buffer = unwritten(len);
    }
    &mut buffer[..len]
}

/// Rows `first..` of a matrix, as many as `tile` has.
fn part<F>(all: &[F], first: usize, rows: usize, width: usize) -> &[F] {
    &all[first * width..(first + rows) * width]
}

/// `y (rows, n) = x (rows, d) w^T + bias`, with `w` from [`LayerShape::transposed_weight`].
fn map_rows<F: Real>(x: &[F], w: &OperandB<'_, F>, bias: Option<&[F]>, y: &mut [F], store: Store) {
    let (d, n) = w.shape();
    w.multiply(x.len() / d, MatRef::new(x, d), y, store);
    if let Some(bias) = bias {
        for y in y.chunks_exact_mut(n) {
            y.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
        }
    }
}

/// `dx (rows, d) = g (rows, n) w`, or added to it, with `w` from [`LayerShape::weight`].
fn map_back<F: Real>(g: &[F], w: &OperandB<'_, F>, dx: &mut [F], store: Store) {
    let (n, _) = w.shape();
    w.multiply(g.len() / n, MatRef::new(g, n), dx, store);
}

/// `dw (n, d) = g^T x` and the sums of the columns of `g` if there is a bias.
fn map_weights<F: Real>(
    operands: Operands,
    (g, x): (&[F], &[F]),
    tokens: usize,
    bias: Option<&[F]>,
) -> (Vec<F>, Vec<F>) {
    let (n, d) = (g.len() / tokens, x.len() / tokens);
    let mut dw = unwritten(n * d);
    matmul(
        operands,
        (n, d, tokens),
        MatRef::transposed(g, n),
        MatRef::new(x, d),
        &mut dw,
        Store::Set,
    );
    let mut db = zeros(bias.map_or(0, <[F]>::len));
    if !db.is_empty() {
        for g in g.chunks_exact(n) {
            db.iter_mut().zip(g).for_each(|(b, &g)| *b += g);
        }
    }
    (dw, db)
}

impl LayerShape {
    pub(crate) fn q_width(&self) -> usize {
        self.attention.q_width()
    }

    pub(crate) fn kv_width(&self) -> usize {
        self.attention.kv_width()
    }

    pub(crate) fn norm<F: Real>(&self, x: &[F], w: &[F], y: &mut [F]) {
        norm_rows(x, w, self.norm.offset(), self.eps, y);
        self.round(y);
    }

    /// What products make of their operands.
    fn operands(&self) -> Operands {
        Operands::of(self.bf16)
    }

    /// What becomes of an op's result before the next one reads it.
    pub(crate) fn round<F: Real>(&self, y: &mut [F]) {
        if self.bf16 {
            bf16::round(y);
        }
    }

    /// `dx +=` the gradient through a norm by rows of `w.len()`; returns the weight's.
    fn norm_back<F: Real>(&self, x: &[F], w: &[F], g: &[F], dx: &mut [F]) -> Vec<F> {
        norm_backward((x, w), (self.norm.offset(), self.eps), g, dx)
    }

    /// A weight `(n, d)` for `x w^T` over `t` tokens.
    fn transposed_weight<'a, F: Real>(
        &self,
        w: &Weights<'a, F>,
        slot: Slot,
        d: usize,
        t: usize,
    ) -> OperandB<'a, F> {
        let w = w.at(slot);
        let shape = (d, w.len() / d);
        OperandB::new(self.operands(), MatRef::transposed(w, d), shape, t)
    }

    /// A weight `(n, d)` for `g w` over `t` tokens.
    fn weight<'a, F: Real>(
        &self,
        w: &Weights<'a, F>,
        slot: Slot,
        d: usize,
        t: usize,
    ) -> OperandB<'a, F> {
        let w = w.at(slot);
        let shape = (w.len() / d, d);
        OperandB::new(self.operands(), MatRef::new(w, d), shape, t)
    }

    /// The whole of `x` normalised.
    fn normed<F: Real>(&self, x: &[F], w: &[F]) -> Vec<F> {
        let mut y = unwritten(x.len());
        for_tiles(x.len() / w.len(), [(&mut y, w.len())], |_, first, [y]| {
            self.norm(part(x, first, y.len() / w.len(), w.len()), w, y);
        });
        y
    }

    /// `x (T, D)` -> the layer's output and what the backward pass needs.
    pub(crate) fn forward<F: Real>(
        &self,
        w: &Weights<'_, F>,
        x: Vec<F>,
        angles: &Angles<F>,
        segments: &Segments,
    ) -> (Vec<F>, Saved<F>) {
        let (d, f, qw, kw) = (self.width, self.inner, self.q_width(), self.kv_width());
        let t = x.len() / d;
        let (mut q, mut k, mut v) = (unwritten(t * qw), unwritten(t * kw), unwritten(t * kw));
        let head_norms = w.get(Slot::QNorm).zip(w.get(Slot::KNorm));
        let [wq, wk, wv] =
            [Slot::Q, Slot::K, Slot::V].map(|slot| self.transposed_weight(w, slot, d, t));
        for_tiles(
            t,
            [(&mut q, qw), (&mut k, kw), (&mut v, kw)],
            |normed, first, [q, k, v]| {
                let normed = room(normed, q.len() / qw * d);
                self.norm(
                    part(&x, first, q.len() / qw, d),
                    w.at(Slot::InputNorm),
                    normed,
                );
                map_rows(normed, &wq, w.get(Slot::QBias), q, Store::Set);
                map_rows(normed, &wk, w.get(Slot::KBias), k, Store::Set);
                map_rows(normed, &wv, w.get(Slot::VBias), v, Store::Set);
                for y in [&mut *q, &mut *k, v] {
                    self.round(y);
                }
                if head_norms.is_none() {
                    angles.rotate(first, q, qw, &angles.sin);
                    angles.rotate(first, k, kw, &angles.sin);
                    self.round(q);
                    self.round(k);
                }
            },
        );
        let raw_qk = head_norms.map(|(q_norm, k_norm)| {
            let (mut nq, mut nk) = (self.normed(&q, q_norm), self.normed(&k, k_norm));
            for_tiles(t, [(&mut nq, qw), (&mut nk, kw)], |_, first, [q, k]| {
                angles.rotate(first, q, qw, &angles.sin);
                angles.rotate(first, k, kw, &angles.sin);
                self.round(q);
                self.round(k);
            });
            (std::mem::replace(&mut q, nq), std::mem::replace(&mut k, nk))
        });
        let (mut mixed, mut lse) = (unwritten(t * qw), unwritten(t * self.attention.heads));
        attention_forward(
            &self.attention,
            segments,
            (&q, &k, &v),
            &mut mixed,
            &mut lse,
        );
        self.round(&mut mixed);

        let attention_post = w.get(Slot::AttentionPostNorm);
        let mlp_post = w.get(Slot::MlpPostNorm);
        let raw_width = |post: Option<&[F]>| if post.is_some() { d } else { 0 };
        let (aw, mw) = (raw_width(attention_post), raw_width(mlp_post));
        let (mut raw_attention, mut raw_mlp) = (unwritten(t * aw), unwritten(t * mw));
        let (mut middle, mut y) = (unwritten(t * d), unwritten(t * d));
        let (mut gate, mut up) = (unwritten(t * f), unwritten(t * f));
        drop((wq, wk, wv));
        let parts = [
            (Slot::O, qw),
            (Slot::Gate, d),
            (Slot::Up, d),
            (Slot::Down, f),
        ];
        let [wo, w_gate, w_up, w_down] =
            parts.map(|(slot, d)| self.transposed_weight(w, slot, d, t));
        let outputs = [
            (&mut middle[..], d),
            (&mut gate[..], f),
            (&mut up[..], f),
            (&mut y[..], d),
            (&mut raw_attention[..], aw),
            (&mut raw_mlp[..], mw),
        ];
        for_tiles(
            t,
            outputs,
            |scratch, first, [middle, gate, up, y, ra, rm]| {
                let rows = middle.len() / d;
                middle.copy_from_slice(part(&x, first, rows, d));
                let mixed = part(&mixed, first, rows, qw);
                let add = |norm: Option<&[F]>,
                           x: &[F],
                           weight: &OperandB<'_, F>,
                           bias,
                           raw: &mut [F],
                           sum: &mut [F]| {
                    if norm.is_none() && !self.bf16 {
                        return map_rows(x, weight, w.get(bias), sum, Store::Add);
                    }
                    let mut own = zeros(if norm.is_some() { 0 } else { sum.len() });
                    let raw = if norm.is_some() { raw } else { &mut own[..] };
                    map_rows(x, weight, w.get(bias), raw, Store::Set);
                    self.round(raw);
                    let normed = norm.map(|norm| {
                        let mut normed = zeros(raw.len());
                        self.norm(raw, norm, &mut normed);
                        normed
                    });
                    let added = normed.as_deref().unwrap_or(raw);
                    if self.bf16 {
                        bf16::add_rounded(sum, added);
                    } else {
                        sum.iter_mut().zip(added).for_each(|(a, &b)| *a += b);
                    }
                };
                add(attention_post, mixed, &wo, Slot::OBias, ra, middle);
                let normed = room(scratch, rows * d);
                self.norm(middle, w.at(Slot::MlpNorm), normed);
                map_rows(normed, &w_gate, w.get(Slot::GateBias), gate, Store::Set);
                map_rows(normed, &w_up, w.get(Slot::UpBias), up, Store::Set);
                self.round(gate);
                self.round(up);
                let inner = room(scratch, rows * f);
                gated_forward(self.activation, gate, up, inner);
                self.round(inner);
                y.copy_from_slice(middle);
                add(mlp_post, inner, &w_down, Slot::DownBias, rm, y);
            },
        );
        let saved = Saved {
            x,
            q,
            k,
            v,
            raw_qk,
            mixed,
            lse,
            raw_attention,
            middle,
            gate,
            up,
            raw_mlp,
        };
        (y, saved)
    }

    /// `dy (T, D)`, the gradient of the layer's output, -> the gradient of its input, and those of
    /// the weights: a matrix and its bias get one only if the matrix is `wanted`. Gradients are
    /// rounded where products read them alone, and pass through a rounding as if there were none.
    pub(crate) fn backward<F: Real>(
        &self,
        w: &Weights<'_, F>,
        saved: Saved<F>,
        dy: Vec<F>,
        angles: &Angles<F>,
        segments: &Segments,
        (wanted, grads): (&[bool; SLOTS], &mut Gradients<F>),
    ) -> Vec<F> {
        let t = dy.len() / self.width;
        let mut put = |slot: Slot, grad: Vec<F>| grads[slot as usize] = grad;
        let Saved {
            middle,
            mut gate,
            mut up,
            raw_mlp,
            ..
        } = saved;
        let d_middle = self.mlp_backward(
            (w, wanted),
            (&middle, &raw_mlp),
            (&mut gate, &mut up),
            dy,
            &mut put,
        );
        drop((middle, gate, up, raw_mlp));

        let (d, qw, kw) = (self.width, self.q_width(), self.kv_width());
        let through_norm = w.get(Slot::AttentionPostNorm).map(|norm| {
            let mut g = zeros(t * d);
            put(
                Slot::AttentionPostNorm,
                self.norm_back(&saved.raw_attention, norm, &d_middle, &mut g),
            );
            g
        });
        let g = through_norm.as_ref().unwrap_or(&d_middle);
        if wanted[Slot::O as usize] {
            let (dw, db) = map_weights(self.operands(), (g, &saved.mixed), t, w.get(Slot::OBias));
            put(Slot::O, dw);
            put(Slot::OBias, db);
        }
        let mut d_mixed = unwritten(t * qw);
        let wo = self.weight(w, Slot::O, qw, t);
        for_tiles(t, [(&mut d_mixed, qw)], |_, first, [out]| {
            map_back(part(g, first, out.len() / qw, d), &wo, out, Store::Set);
        });
        drop(wo);
        let (mut dq, mut dk, mut dv) = (unwritten(t * qw), unwritten(t * kw), unwritten(t * kw));
        let inputs = SegmentInputs {
            q: &saved.q,
            k: &saved.k,
            v: &saved.v,
            out: &saved.mixed,
            lse: &saved.lse,
            grad: &d_mixed,
        };
        let outputs = (&mut dq[..], &mut dk[..], &mut dv[..]);
        attention_backward(&self.attention, segments, inputs, outputs);
        for_tiles(t, [(&mut dq, qw), (&mut dk, kw)], |_, first, [dq, dk]| {
            angles.rotate(first, dq, qw, &angles.back);
            angles.rotate(first, dk, kw, &angles.back);
        });
        if let Some((raw_q, raw_k)) = &saved.raw_qk {
            for (grad, raw, slot) in [(&mut dq, raw_q, Slot::QNorm), (&mut dk, raw_k, Slot::KNorm)]
            {
                let mut through = zeros(raw.len());
                put(slot, self.norm_back(raw, w.at(slot), grad, &mut through));
                *grad = through;
            }
        }
        let normed = self.normed(&saved.x, w.at(Slot::InputNorm));
        let parts = [
            (&dq, Slot::Q, Slot::QBias),
            (&dk, Slot::K, Slot::KBias),
            (&dv, Slot::V, Slot::VBias),
        ];
        for (g, slot, bias) in parts.into_iter().filter(|part| wanted[part.1 as usize]) {
            let (dw, db) = map_weights(self.operands(), (g, &normed), t, w.get(bias));
            put(slot, dw);
            put(bias, db);
        }
        let mut d_normed = normed;
        let [wq, wk, wv] = [Slot::Q, Slot::K, Slot::V].map(|slot| self.weight(w, slot, d, t));
        for_tiles(t, [(&mut d_normed, d)], |_, first, [out]| {
            let rows = out.len() / d;
            map_back(part(&dq, first, rows, qw), &wq, out, Store::Set);
            map_back(part(&dk, first, rows, kw), &wk, out, Store::Add);
            map_back(part(&dv, first, rows, kw), &wv, out, Store::Add);
        });
        drop((wq, wk, wv));
        let mut dx = d_middle;
        put(
            Slot::InputNorm,
            self.norm_back(&saved.x, w.at(Slot::InputNorm), &d_normed, &mut dx),
        );
        dx
    }

    /// The feed-forward part: `dy` turns into the gradient of the residual stream before it.
    /// `gate` and `up` turn into their gradients on the way.
    fn mlp_backward<F: Real>(
        &self,
        (w, wanted): (&Weights<'_, F>, &[bool; SLOTS]),
        (middle, raw): (&[F], &[F]),
        (gate, up): (&mut [F], &mut [F]),
        mut dy: Vec<F>,
        put: &mut impl FnMut(Slot, Vec<F>),
    ) -> Vec<F> {
        let (d, f) = (self.width, self.inner);
        let t = dy.len() / d;
        let through_norm = w.get(Slot::MlpPostNorm).map(|norm| {
            let mut g = zeros(t * d);
            put(Slot::MlpPostNorm, self.norm_back(raw, norm, &dy, &mut g));
            g
        });
        let g = through_norm.as_ref().unwrap_or(&dy);
        let (mut inner, mut d_normed) = (unwritten(t * f), unwritten(t * d));
        let outputs = [
            (&mut *gate, f),
            (&mut *up, f),
            (&mut inner[..], f),
            (&mut d_normed[..], d),
        ];
        let parts = [(Slot::Down, f), (Slot::Gate, d), (Slot::Up, d)];
        let [w_down, w_gate, w_up] = parts.map(|(slot, d)| self.weight(w, slot, d, t));
        for_tiles(t, outputs, |scratch, first, [gate, up, inner, d_normed]| {
            let scratch = room(scratch, gate.len());
            let g = part(g, first, gate.len() / f, d);
            map_back(g, &w_down, scratch, Store::Set);
            gated_both(self.activation, gate, up, scratch, inner);
            self.round(inner);
            map_back(gate, &w_gate, d_normed, Store::Set);
            map_back(up, &w_up, d_normed, Store::Add);
        });
        drop((w_down, w_gate, w_up));
        let normed = self.normed(middle, w.at(Slot::MlpNorm));
        let parts: [(Factors<'_, F>, Slot, Slot); 3] = [
            ((g, &inner), Slot::Down, Slot::DownBias),
            ((gate, &normed), Slot::Gate, Slot::GateBias),
            ((up, &normed), Slot::Up, Slot::UpBias),
        ];
        for (pair, slot, bias) in parts.into_iter().filter(|part| wanted[part.1 as usize]) {
            let (dw, db) = map_weights(self.operands(), pair, t, w.get(bias));
            put(slot, dw);
            put(bias, db);
        }
        put(
            Slot::MlpNorm,
            self.norm_back(middle, w.at(Slot::MlpNorm), &d_normed, &mut dy),
        );
        dy
    }
}
