//! The norm of the numbers of each head and its rotation, in one pass over queries or keys; see `norm.rs` and `rope.rs`.

use crate::gpu::call::{Arg, Call, Launch, Pair, entry};
use crate::gpu::ops::norm::Norm;
use crate::gpu::ops::rope::Angles;
use crate::gpu::ops::rows::sum_parts;
use crate::gpu::{Buf, Gpu, Result, Stored};

const FORWARD: Pair =
    entry!(for T "head_norm_forward", "&T &T &i32 &f32 &f32 *T i32 i32 i32 f32 f32");
const BACKWARD: Pair =
    entry!(for T "head_norm_backward", "&T &T &i32 &f32 &f32 *T *f32 i32 i32 i32 f32 f32");
pub(crate) const PAIRS: &[Pair] = &[FORWARD, BACKWARD];

/// Threads of a block, a warp of which takes a head.
const THREADS: usize = 128;
const WARPS: usize = THREADS / 32;
/// The widest head: eight numbers a lane.
const WIDEST: usize = 256;
/// Most blocks of the backward pass: a card holds no more of them at a time, and each adds a row to the sums of the weight.
const BLOCKS: usize = 1024;

/// Whether heads of this width are normalised and turned at once: even ones of at most 256 numbers, all of them turned.
pub fn head_norm_takes(width: usize, angles: &Angles) -> bool {
    width == 2 * angles.half && (2..=WIDEST).contains(&width)
}

/// Heads before their norm, `(T, H, E)`, its weight `(E,)`, and where their tokens stand.
#[derive(Clone, Copy, Debug)]
pub struct Heads<T> {
    /// `(T, H * E)`.
    pub x: Buf<T>,
    /// `(E,)`.
    pub weight: Buf<T>,
    /// `(T,)`, all below the angles' count.
    pub positions: Buf<i32>,
    /// Of half the width.
    pub angles: Angles,
}

impl<T: Stored> Heads<T> {
    /// Rows, heads of a row and half a head.
    fn checked(&self) -> [usize; 3] {
        let (rows, width) = (self.positions.len(), self.weight.len());
        let (n, half) = (self.x.len(), self.angles.half);
        assert!(
            head_norm_takes(width, &self.angles),
            "heads of {width}, turned by {half}"
        );
        assert!(
            rows > 0 && n > 0 && n.is_multiple_of(rows * width),
            "{n} numbers in {rows} rows of heads of {width}"
        );
        let (cos, sin) = (self.angles.cos.len(), self.angles.sin.len());
        assert!(
            cos == sin && cos.is_multiple_of(half),
            "angles of {half}: {cos} and {sin}"
        );
        [rows, n / rows / width, half]
    }

    fn numbers(&self, norm: Norm) -> [Arg; 5] {
        let [rows, heads, half] = self.checked();
        [
            Arg::int(rows),
            Arg::int(heads),
            Arg::int(half),
            Arg::float(norm.offset),
            Arg::float(norm.eps),
        ]
    }

    fn arrays(&self) -> [Arg; 5] {
        [
            Arg::read(self.x),
            Arg::read(self.weight),
            Arg::read(self.positions),
            Arg::read(self.angles.cos),
            Arg::read(self.angles.sin),
        ]
    }
}

/// Normalises and turns heads into `y (T, H * E)`.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn head_norm_forward<T: Stored>(
    gpu: &mut dyn Gpu,
    norm: Norm,
    of: &Heads<T>,
    y: Buf<T>,
) -> Result<()> {
    let [rows, heads, _] = of.checked();
    assert_eq!(y.len(), of.x.len());
    let args = [&of.arrays()[..], &[Arg::write(y)], &of.numbers(norm)].concat();
    let launch = Launch::of((rows * heads).div_ceil(WARPS), THREADS as u32);
    Call::new(FORWARD.of::<T>(), launch, args).run(gpu)
}

/// The gradient by what [`head_norm_forward`] gave, `grad (T, H * E)`, becomes that by `x`; that of the weight is added to
/// `dw (E,)`, by way of `parts (P, E)` for some P.
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn head_norm_backward<T: Stored>(
    gpu: &mut dyn Gpu,
    norm: Norm,
    of: &Heads<T>,
    grad: Buf<T>,
    (parts, dw): (Buf<f32>, Buf<f32>),
) -> Result<()> {
    let [rows, heads, half] = of.checked();
    let width = 2 * half;
    assert_eq!([grad.len(), dw.len()], [of.x.len(), width]);
    assert!(parts.len() >= width, "parts of {width}");
    let blocks = (rows * heads).div_ceil(WARPS);
    let blocks = blocks.min(BLOCKS).min(parts.len() / width);
    let parts = parts.part(0..blocks * width);
    let written = [Arg::write(grad), Arg::write(parts)];
    let args = [&of.arrays()[..], &written, &of.numbers(norm)].concat();
    let launch = Launch::of(blocks, THREADS as u32).sharing(WARPS * width * size_of::<f32>());
    Call::new(BACKWARD.of::<T>(), launch, args).run(gpu)?;
    sum_parts(gpu, parts, dw, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16, Device, F32, agree, noise, on_devices, wide};
    use half::bf16;

    const NORM: Norm = Norm {
        offset: 1.0,
        eps: 1e-5,
    };

    /// Cosines and sines of some positions, as a card has them.
    fn angles(device: &mut Device, half: usize) -> (Angles, Vec<[f64; 2]>) {
        let angle = |n: usize| (n / half) as f64 * 0.7f64.powf((n % half) as f64);
        let (cos, sin): (Vec<f32>, Vec<f32>) = (0..7 * half)
            .map(|n| (angle(n).cos() as f32, angle(n).sin() as f32))
            .unzip();
        let pairs = cos.iter().zip(&sin);
        let pairs = pairs.map(|(&c, &s)| [c, s].map(f64::from)).collect();
        let angles = Angles {
            cos: device.put(&cos),
            sin: device.put(&sin),
            half,
        };
        (angles, pairs)
    }

    fn as_their_formula<T: Stored>(
        device: &mut Device,
        (heads, half): (usize, usize),
        (tolerance, of_weight): (f64, f64),
    ) {
        let (positions, width) = ([3, 0, 6, 3, 1], 2 * half);
        let n = positions.len() * heads * width;
        let (angles, table) = angles(device, half);
        let (x, w) = (noise::<T>(n, 1), noise::<T>(width, 2));
        let of = Heads {
            x: device.put(&x),
            weight: device.put(&w),
            positions: device.put(&positions),
            angles,
        };
        let y = device.empty::<T>(n);
        head_norm_forward(device.gpu(), NORM, &of, y).unwrap();
        let g = noise::<T>(n, 3);
        // More parts than blocks, and fewer.
        for parts in [7, 2] {
            let (grad, parts) = (device.put(&g), device.empty(parts * width));
            let dw = device.put(&vec![0.5f32; width]);
            head_norm_backward(device.gpu(), NORM, &of, grad, (parts, dw)).unwrap();
            let (mut want, mut dx, mut d_weight) = (vec![0.0; n], vec![0.0; n], vec![0.5; width]);
            let (x, g, w) = (wide(&x), wide(&g), wide(&w));
            for head in 0..n / width {
                let first = head * width;
                let row = &x[first..first + width];
                let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let r = 1.0 / (mean + 1e-5).sqrt();
                let turn = |i: usize| table[positions[head / heads] as usize * half + i];
                let normed = |i: usize| row[i] * r * (1.0 + w[i]);
                let mut back = vec![0.0; width];
                for i in 0..half {
                    let ([c, s], j) = (turn(i), i + half);
                    want[first + i] = normed(i) * c - normed(j) * s;
                    want[first + j] = normed(j) * c + normed(i) * s;
                    back[i] = g[first + i] * c + g[first + j] * s;
                    back[j] = g[first + j] * c - g[first + i] * s;
                }
                let h = |i: usize| back[i] * (1.0 + w[i]);
                let pull = (0..width).map(|i| h(i) * row[i]).sum::<f64>() / width as f64;
                for i in 0..width {
                    dx[first + i] = r * (h(i) - row[i] * r * r * pull);
                    d_weight[i] += back[i] * row[i] * r;
                }
            }
            agree("heads", &device.get(y), &want, tolerance);
            agree("dx", &device.get(grad), &dx, tolerance);
            agree("dw", &device.get(dw), &d_weight, of_weight);
        }
    }

    #[test]
    fn heads_that_are_normalised_and_turned_at_once_are_their_formula() {
        on_devices(|device| {
            for shape in [(3, 4), (2, 64), (1, 128), (5, 33)] {
                as_their_formula::<f32>(device, shape, (F32, F32));
                // The gradient that was turned back is rounded before it goes into the weight's.
                as_their_formula::<bf16>(device, shape, (BF16, BF16));
            }
        });
    }

    #[test]
    fn heads_that_are_too_wide_or_turned_in_part_are_left_to_norm_and_rope() {
        on_devices(|device| {
            let (of_eight, _) = angles(device, 4);
            let taken = [8, 16, 0].map(|width| head_norm_takes(width, &of_eight));
            assert_eq!(taken, [true, false, false]);
            let (wide, _) = angles(device, 129);
            assert!(!head_norm_takes(258, &wide));
        });
    }
}
