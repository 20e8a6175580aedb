//! Root-mean-square normalisation of rows, forward and backward.

use crate::isa::{Simd, kernel};
use crate::lanes::{LANES, dot, lane_sum};
use crate::real::Real;
use crate::rows::for_tiles;

kernel! {
    /// `y = x * rstd * (offset + w)` by rows of `w.len()`.
    pub fn norm_rows<F>(x: &[F], w: &[F], offset: f64, eps: f64, y: &mut [F]) {
        let d = w.len();
        let (offset, eps, n) = (F::of(offset), F::of(eps), F::of(d as f64));
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let rstd = F::ONE / (dot::<F, S>(x, x) / n + eps).root();
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                *y = x * rstd * (offset + w);
            }
        }
    }
}

kernel! {
    /// With `h = g (offset + w)` and `r = rstd`: `dx += r (h - x r^2 mean(h x))`, `dw += g x r`.
    pub fn norm_rows_backward<F>(
        x: &[F], w: &[F], offset: f64, eps: f64, g: &[F], dx: &mut [F], dw: &mut [F],
    ) {
        let d = w.len();
        let (offset, eps, n) = (F::of(offset), F::of(eps), F::of(d as f64));
        for ((x, g), dx) in x.chunks_exact(d).zip(g.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let rstd = F::ONE / (dot::<F, S>(x, x) / n + eps).root();
            let pull = dot_scaled::<F, S>(g, x, w, offset) / n * rstd * rstd * rstd;
            for (((dx, dw), (&x, &g)), &w) in dx.iter_mut().zip(dw.iter_mut()).zip(x.iter().zip(g)).zip(w) {
                let straight = (g * (offset + w)).mul_add_if::<S>(rstd, *dx);
                *dx = x.mul_add_if::<S>(-pull, straight);
                *dw = (g * x).mul_add_if::<S>(rstd, *dw);
            }
        }
    }
}

/// `dx +=` the gradient through a norm by rows of `w.len()`; returns the weight's, summed by fixed blocks
/// of rows and then over blocks, so that it never depends on the number of threads.
pub fn norm_backward<F: Real>(
    (x, w): (&[F], &[F]),
    (offset, eps): (f64, f64),
    g: &[F],
    dx: &mut [F],
) -> Vec<F> {
    let d = w.len();
    let parts = for_tiles(x.len() / d, [(dx, d)], |_, first, [dx]| {
        let rows = first * d..first * d + dx.len();
        let mut dw = vec![F::ZERO; d];
        norm_rows_backward(&x[rows.clone()], w, offset, eps, &g[rows], dx, &mut dw);
        dw
    });
    let mut dw = vec![F::ZERO; d];
    for part in parts {
        dw.iter_mut().zip(part).for_each(|(a, b)| *a += b);
    }
    dw
}

/// `sum(g * x * (offset + w))` in a fixed order.
#[inline(always)]
fn dot_scaled<F: Real, S: Simd>(g: &[F], x: &[F], w: &[F], offset: F) -> F {
    let mut acc = [F::ZERO; LANES];
    let (gs, xs, ws) = (
        g.chunks_exact(LANES),
        x.chunks_exact(LANES),
        w.chunks_exact(LANES),
    );
    for (i, ((&g, &x), &w)) in gs
        .remainder()
        .iter()
        .zip(xs.remainder())
        .zip(ws.remainder())
        .enumerate()
    {
        acc[i] = (g * (offset + w)).mul_add_if::<S>(x, acc[i]);
    }
    for ((g, x), w) in gs.zip(xs).zip(ws) {
        for i in 0..LANES {
            acc[i] = (g[i] * (offset + w[i])).mul_add_if::<S>(x[i], acc[i]);
        }
    }
    lane_sum(acc)
}
