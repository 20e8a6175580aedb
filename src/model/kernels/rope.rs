//! Rotary position embedding: angles of a pass, and the rotation of rows.

use crate::isa::kernel;
use crate::real::Real;
use std::sync::Arc;

/// Cosines and sines of the positions of one packed batch: row `t` belongs to token `t`.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Half the width of a head.
    pub half: usize,
    /// `(T, half)`.
    pub cos: Arc<[f64]>,
    /// `(T, half)`.
    pub sin: Arc<[f64]>,
}

impl Rotation {
    /// The rotation of `positions (T,)` at frequencies `inv_freq (E/2,)`; `scale` multiplies both
    /// cosine and sine.
    pub fn new(positions: &[u32], inv_freq: &[f64], scale: f64) -> Self {
        let highest = positions.iter().max().map_or(0, |&p| p as usize + 1);
        // Positions repeat over documents: each distinct angle is computed once.
        let mut table: Vec<(f64, f64)> = Vec::new();
        if highest <= 4 * positions.len() {
            for position in 0..highest {
                for f in inv_freq {
                    let (sin, cos) = (position as f64 * f).sin_cos();
                    table.push((sin * scale, cos * scale));
                }
            }
        }
        let half = inv_freq.len();
        let mut cos = Vec::with_capacity(positions.len() * half);
        let mut sin = Vec::with_capacity(positions.len() * half);
        for &position in positions {
            for (i, f) in inv_freq.iter().enumerate() {
                let (s, c) = table
                    .get(position as usize * half + i)
                    .copied()
                    .unwrap_or_else(|| {
                        let (s, c) = (f64::from(position) * f).sin_cos();
                        (s * scale, c * scale)
                    });
                cos.push(c);
                sin.push(s);
            }
        }
        Self {
            half,
            cos: cos.into(),
            sin: sin.into(),
        }
    }

    /// Tokens it covers.
    pub fn tokens(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Head width E.
    pub fn head_dim(&self) -> usize {
        2 * self.half
    }

    /// Cosines and sines `(T, E/2)`, the sines times `direction`.
    pub fn table<F: Real>(&self, direction: f64) -> (Vec<F>, Vec<F>) {
        let cos = self.cos.iter().map(|&c| F::of(c)).collect();
        let sin = self.sin.iter().map(|&s| F::of(s * direction)).collect();
        (cos, sin)
    }
}

kernel! {
    /// Rotates rows of `width` in place; `cos` and `sin` have `half` values a row.
    pub fn rotate_rows<F>(x: &mut [F], width: usize, cos: &[F], sin: &[F], half: usize) {
        let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for (row, (cos, sin)) in x.chunks_exact_mut(width).zip(angles) {
            for head in row.chunks_exact_mut(2 * half) {
                let (a, b) = head.split_at_mut(half);
                for (((a, b), &c), &s) in a.iter_mut().zip(b.iter_mut()).zip(cos).zip(sin) {
                    let (x, y) = (*a, *b);
                    *a = x.mul_add_if::<S>(c, -(y * s));
                    *b = y.mul_add_if::<S>(c, x * s);
                }
            }
        }
    }
}
