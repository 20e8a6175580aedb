//! Root-mean-square normalisation of rows: `y = x r (offset + w)`, `r = 1 / sqrt(mean(x^2) + eps)`.

use crate::gpu::call::{Arg, Call, Entry, Launch, Pair, entry};
use crate::gpu::ops::rows::sum_parts;
use crate::gpu::{Buf, Gpu, Result, Stored};
use half::bf16;

const FORWARD: Pair = entry!(for T "rms_norm_forward", "&T &T &T *T *T i32 f32 f32");
const BACKWARD: Pair = entry!(for T "rms_norm_backward", "&T &T &T &T *T *f32 i32 i32 f32 f32");
const FAST: [Entry; 2] = [
    entry!(
        "rms_norm_backward_fast_1",
        "&bf16 &bf16 &bf16 &bf16 *bf16 *f32 i32 i32 f32 f32"
    ),
    entry!(
        "rms_norm_backward_fast_2",
        "&bf16 &bf16 &bf16 &bf16 *bf16 *f32 i32 i32 f32 f32"
    ),
];
pub(crate) const ALONE: &[Entry] = &FAST;
pub(crate) const PAIRS: &[Pair] = &[FORWARD, BACKWARD];

/// Bytes of shared memory for a sum over a block.
const SUM: usize = 256;

/// What a norm's weight is added to, and what keeps it from dividing by zero.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// 0, or 1 in the Gemma family.
    pub offset: f32,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// Normalises rows of `x (T, D)` by `weight (D,)` into `y (T, D)`. With `added = (b, sum)` the rows are those of `x +
/// b`, which go to `sum`, rounded, before they are normalised.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn norm_forward<T: Stored>(
    gpu: &mut dyn Gpu,
    norm: Norm,
    x: Buf<T>,
    weight: Buf<T>,
    y: Buf<T>,
    added: Option<(Buf<T>, Buf<T>)>,
) -> Result<()> {
    let (d, n) = (weight.len(), x.len());
    assert!(
        d > 0 && n.is_multiple_of(d) && y.len() == n,
        "{n} numbers in rows of {d}"
    );
    if let Some((b, sum)) = added {
        assert!(
            b.len() == n && sum.len() == n,
            "a residual of {} for {n}",
            b.len()
        );
    }
    let args = [
        Arg::read(x),
        Arg::read_if(added.map(|(b, _)| b)),
        Arg::read(weight),
        Arg::write_if(added.map(|(_, sum)| sum)),
        Arg::write(y),
        Arg::int(d),
        Arg::float(norm.offset),
        Arg::float(norm.eps),
    ];
    let launch = Launch::of(n / d, 128).sharing(SUM);
    Call::new(FORWARD.of::<T>(), launch, args).run(gpu)
}

/// Arrays of [`norm_backward`].
#[derive(Clone, Copy, Debug)]
pub struct NormGradient<T> {
    /// `(T, D)`, what was normalised.
    pub x: Buf<T>,
    /// `(D,)`.
    pub weight: Buf<T>,
    /// `(T, D)`, the gradient of the result.
    pub grad: Buf<T>,
    /// `(T, D)`, added to `dx`.
    pub residual: Option<Buf<T>>,
    /// `(T, D)`, overwritten; may be `grad` or `residual`.
    pub dx: Buf<T>,
    /// `(P, D)` for some P: sums of P groups of rows.
    pub parts: Buf<f32>,
    /// `(D,)`, added to.
    pub dw: Buf<f32>,
}

impl<T: Stored> NormGradient<T> {
    /// Rows, width and groups.
    fn checked(&self) -> (usize, usize, usize) {
        let (d, n) = (self.weight.len(), self.x.len());
        assert!(d > 0 && n.is_multiple_of(d), "{n} numbers in rows of {d}");
        assert!(
            self.grad.len() == n && self.dx.len() == n,
            "gradients of {n}"
        );
        assert!(
            self.residual.is_none_or(|r| r.len() == n),
            "a residual of {n}"
        );
        assert!(self.dw.len() == d && self.parts.len() >= d, "parts of {d}");
        (n / d, d, (self.parts.len() / d).min(n / d))
    }

    fn run(&self, gpu: &mut dyn Gpu, norm: Norm, entry: &Entry, threads: u32) -> Result<()> {
        let (rows, d, groups) = self.checked();
        let args = [
            Arg::read(self.x),
            Arg::read(self.weight),
            Arg::read(self.grad),
            Arg::read_if(self.residual),
            Arg::write(self.dx),
            Arg::write(self.parts),
            Arg::int(rows),
            Arg::int(d),
            Arg::float(norm.offset),
            Arg::float(norm.eps),
        ];
        let launch = Launch::of(groups, threads).sharing(SUM);
        Call::new(entry, launch, args).run(gpu)?;
        sum_parts(gpu, self.parts.part(0..groups * d), self.dw, true)
    }
}

/// Gradients of [`norm_forward`], of any width.
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn norm_backward<T: Stored>(gpu: &mut dyn Gpu, norm: Norm, of: &NormGradient<T>) -> Result<()> {
    of.run(gpu, norm, BACKWARD.of::<T>(), 128)
}

/// Whether [`norm_backward_fast`] takes rows of this width.
pub fn fast_norm_takes(width: usize) -> bool {
    width > 0 && width.is_multiple_of(8) && width <= 4096
}

/// [`norm_backward`] with a row in registers.
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// [`fast_norm_takes`] not this width, or an array of rows does not begin at a multiple of 16 bytes.
pub fn norm_backward_fast(gpu: &mut dyn Gpu, norm: Norm, of: &NormGradient<bf16>) -> Result<()> {
    let d = of.weight.len();
    assert!(fast_norm_takes(d), "a fast norm of width {d}");
    let rows = [Some(of.x), Some(of.grad), of.residual, Some(of.dx)];
    let wide = rows.iter().flatten().all(|buf| buf.region().is_wide());
    assert!(wide, "rows of a fast norm begin at multiples of 16 bytes");
    of.run(gpu, norm, &FAST[usize::from(d > 2048)], 256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16, Device, F32, agree, emulated, noise, on_devices, wide};

    const NORM: Norm = Norm {
        offset: 1.0,
        eps: 1e-5,
    };

    fn rows(x: &[f64], d: usize, mut f: impl FnMut(usize, f64, &[f64])) {
        for (t, row) in x.chunks_exact(d).enumerate() {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / d as f64;
            f(t, 1.0 / (mean + 1e-5).sqrt(), row);
        }
    }

    fn forward<T: Stored>(device: &mut Device, (n, d): (usize, usize), tolerance: f64) {
        let (x, b, w) = (noise::<T>(n * d, 1), noise::<T>(n * d, 2), noise::<T>(d, 3));
        let [bx, bb, bw] = [&x, &b, &w].map(|v| device.put(v));
        let [y, sum, plain] = [(); 3].map(|()| device.empty::<T>(n * d));
        norm_forward(device.gpu(), NORM, bx, bw, y, Some((bb, sum))).unwrap();
        norm_forward(device.gpu(), NORM, bx, bw, plain, None).unwrap();
        let both: Vec<T> = x
            .iter()
            .zip(&b)
            .map(|(x, b)| T::of(x.wide() + b.wide()))
            .collect();
        agree("sum", &device.get(sum), &wide(&both), 0.0);
        for (name, of, from) in [("y", y, &both), ("plain", plain, &x)] {
            let mut want = vec![0.0; n * d];
            rows(&wide(from), d, |t, r, row| {
                for i in 0..d {
                    want[t * d + i] = row[i] * r * (1.0 + f64::from(w[i].wide()));
                }
            });
            agree(name, &device.get(of), &want, tolerance);
        }
    }

    fn backward<T: Stored>(
        device: &mut Device,
        (n, d): (usize, usize),
        run: impl Fn(&mut dyn Gpu, Norm, &NormGradient<T>) -> Result<()>,
        (tolerance, of_weight): (f64, f64),
    ) {
        let (x, g, r, w) = (
            noise::<T>(n * d, 1),
            noise::<T>(n * d, 2),
            noise::<T>(n * d, 3),
            noise::<T>(d, 4),
        );
        let of = NormGradient {
            x: device.put(&x),
            weight: device.put(&w),
            grad: device.put(&g),
            residual: Some(device.put(&r)),
            dx: device.empty(n * d),
            parts: device.empty(5 * d),
            dw: device.put(&vec![0.5; d]),
        };
        run(device.gpu(), NORM, &of).unwrap();
        let (mut dx, mut dw) = (wide(&r), vec![0.5; d]);
        let (g, w) = (wide(&g), wide(&w));
        rows(&wide(&x), d, |t, rstd, row| {
            let h = |i: usize| g[t * d + i] * (1.0 + w[i]);
            let pull = (0..d).map(|i| h(i) * row[i]).sum::<f64>() / d as f64;
            for i in 0..d {
                dx[t * d + i] += rstd * (h(i) - row[i] * rstd * rstd * pull);
                dw[i] += g[t * d + i] * row[i] * rstd;
            }
        });
        agree("dx", &device.get(of.dx), &dx, tolerance);
        agree("dw", &device.get(of.dw), &dw, of_weight);
    }

    // In place of the gradient, in place of the residual's, and without one; more parts than rows.
    fn in_place<T: Stored>(
        device: &mut Device,
        d: usize,
        run: impl Fn(&mut dyn Gpu, Norm, &NormGradient<T>) -> Result<()>,
        tolerance: f64,
    ) {
        let n = 3 * d;
        let [x, g, r] = [1, 2, 3].map(|seed| noise::<T>(n, seed));
        let w = noise::<T>(d, 4);
        let mut all = Vec::new();
        for (residual, place) in [(true, 0), (true, 1), (true, 2), (false, 0), (false, 1)] {
            let (grad, added) = (device.put(&g), device.put(&r));
            let of = NormGradient {
                x: device.put(&x),
                weight: device.put(&w),
                grad,
                residual: residual.then_some(added),
                dx: [device.empty(n), grad, added][place],
                parts: device.empty(7 * d),
                dw: device.put(&vec![0.0; d]),
            };
            run(device.gpu(), NORM, &of).unwrap();
            all.push((wide(&device.get(of.dx)), wide(&device.get(of.dw))));
        }
        assert!(all[0] == all[1] && all[0] == all[2] && all[3] == all[4]);
        let residual = all[0]
            .0
            .iter()
            .zip(&all[3].0)
            .map(|(with, without)| with - without);
        let got: Vec<T> = residual.map(|r| T::of(r as f32)).collect();
        agree("residual", &got, &wide(&r), 2.0 * tolerance);
    }

    #[test]
    fn gradients_of_norms_may_replace_what_they_come_from() {
        on_devices(|device| {
            in_place::<f32>(device, 37, norm_backward, F32);
            in_place::<bf16>(device, 37, norm_backward, BF16);
            in_place::<bf16>(device, 40, norm_backward_fast, BF16);
        });
    }

    #[test]
    fn widths_of_fast_norms_are_named() {
        let taken = [0, 8, 12, 288, 4096, 4104].map(fast_norm_takes);
        assert_eq!(taken, [false, true, false, true, true, false]);
    }

    #[test]
    #[should_panic(expected = "begin at multiples of 16 bytes")]
    fn rows_that_begin_between_multiples_of_16_bytes_are_refused() {
        let gpu: &mut dyn Gpu = &mut emulated(1 << 20);
        let (all, sums) = (gpu.alloc::<bf16>(17).unwrap(), gpu.alloc(8).unwrap());
        let of = NormGradient {
            x: all.part(1..17),
            weight: all.part(0..8),
            grad: all.part(0..16),
            residual: None,
            dx: all.part(0..16),
            parts: sums,
            dw: sums,
        };
        drop(norm_backward_fast(gpu, NORM, &of));
    }

    #[test]
    fn norms_on_the_device_are_their_formula() {
        on_devices(|device| {
            for shape in [(3, 288), (5, 7), (1, 130)] {
                forward::<f32>(device, shape, F32);
                forward::<bf16>(device, shape, BF16);
                backward::<f32>(device, shape, norm_backward, (F32, F32));
                backward::<bf16>(device, shape, norm_backward, (BF16, F32));
            }
        });
    }

    #[test]
    fn fast_norms_on_the_device_are_their_formula() {
        on_devices(|device| {
            for shape in [(7, 288), (6, 2048), (6, 4096)] {
                backward::<bf16>(device, shape, norm_backward_fast, (BF16, F32));
            }
        });
    }
}
