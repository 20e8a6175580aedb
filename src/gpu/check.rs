//! A device against the host, in a second: whether it computes at all.

use crate::arch::AttentionShape;
use crate::gpu::buf::Buf;
use crate::gpu::device::{Gemm, Gpu, Matrix};
use crate::gpu::element::{Element, Stored};
use crate::gpu::error::{GpuError, Result};
use crate::gpu::ops::attention::{Forward, WorkBufs, WorkList, attention_forward};
use crate::gpu::ops::attention_fast::attention_forward_fast;
use crate::gpu::ops::norm::{Norm, norm_forward};
use half::bf16;
use std::time::Duration;

/// Most relative error (L2) of f32 arithmetic in another order than that of f64.
const F32: f64 = 1e-5;
/// Most relative error (L2) of results in bf16, which keeps 8 bits.
const BF16: f64 = 1e-2;

/// Tokens, or rows and columns of a matrix.
const N: usize = 16;

/// Multiplies 16 × 16 tiles, normalises rows, and attends by both sets of kernels, the second with tensor cores; and
/// compares each with loops on the host in f64. How long it took by the device's clock.
///
/// # Errors
/// [`GpuError::Wrong`] where they differ, or what the device refuses.
pub fn check(gpu: &mut dyn Gpu) -> Result<Duration> {
    let begun = gpu.event()?;
    product::<f32>(gpu, F32)?;
    product::<bf16>(gpu, BF16)?;
    norm(gpu)?;
    attention::<f32>(gpu, "attention", F32, attention_forward)?;
    attention::<bf16>(
        gpu,
        "attention by tensor cores",
        BF16,
        attention_forward_fast,
    )?;
    let ended = gpu.event()?;
    gpu.elapsed(begun, ended)
}

/// Which function of attention.
type Attend<T> = fn(&mut dyn Gpu, &AttentionShape, &WorkBufs, &Forward<T>) -> Result<()>;

fn product<T: Stored>(gpu: &mut dyn Gpu, tolerance: f64) -> Result<()> {
    let (a, b) = (numbers::<T>(N * N, 1), numbers::<T>(N * N, 2));
    let c = gpu.alloc::<f32>(N * N)?;
    let (on_a, on_b) = (put(gpu, &a)?, put(gpu, &b)?);
    gpu.gemm(&Gemm {
        a: Matrix::new(on_a, N),
        b: Matrix::new(on_b, N).transposed(),
        c: Matrix::new(c, N),
        shape: (N, N, N),
        alpha: 1.0,
        beta: 0.0,
    })?;
    let dot = |i: usize, j: usize| (0..N).map(|l| a.1[i * N + l] * b.1[j * N + l]).sum::<f64>();
    let want = (0..N * N).map(|at| dot(at / N, at % N));
    compare(gpu, "a product", c, &want.collect::<Vec<_>>(), tolerance)
}

fn norm(gpu: &mut dyn Gpu) -> Result<()> {
    let (x, weight) = (numbers::<f32>(N * N, 3), numbers::<f32>(N, 4));
    let y = gpu.alloc::<f32>(N * N)?;
    let (on_x, on_weight) = (put(gpu, &x)?, put(gpu, &weight)?);
    let eps = 1e-5;
    let form = Norm { offset: 0.0, eps };
    norm_forward(gpu, form, on_x, on_weight, y, None)?;
    let mut want = Vec::new();
    for row in x.1.chunks_exact(N) {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / N as f64;
        let factor = 1.0 / (mean + f64::from(eps)).sqrt();
        want.extend(row.iter().zip(&weight.1).map(|(x, w)| x * factor * w));
    }
    compare(gpu, "a norm", y, &want, F32)
}

fn attention<T: Stored>(
    gpu: &mut dyn Gpu,
    what: &'static str,
    tolerance: f64,
    attend: Attend<T>,
) -> Result<()> {
    let e = 64;
    let shape = AttentionShape {
        heads: 1,
        kv_heads: 1,
        head_dim: e,
        scale: 0.125,
        softcap: None,
        window: None,
    };
    let [q, k, v] = [5, 6, 7].map(|seed| numbers::<T>(N * e, seed));
    let work = WorkList::new(&[0, N as u32], &[]);
    let work = WorkBufs {
        tiles: send(gpu, &work.tiles)?,
        ranges: send(gpu, &work.ranges)?,
        range_at: send(gpu, &work.range_at)?,
    };
    let of = Forward {
        q: put(gpu, &q)?,
        k: put(gpu, &k)?,
        v: put(gpu, &v)?,
        out: gpu.alloc(N * e)?,
        lse: gpu.alloc(N)?,
    };
    attend(gpu, &shape, &work, &of)?;
    let mut want = vec![0.0; N * e];
    for i in 0..N {
        let row = |x: &[f64], at: usize| x[at * e..(at + 1) * e].to_vec();
        let own = row(&q.1, i);
        let score = |j| {
            own.iter()
                .zip(row(&k.1, j))
                .map(|(a, b)| a * b)
                .sum::<f64>()
        };
        let seen: Vec<f64> = (0..=i).map(|j| (score(j) * shape.scale).exp()).collect();
        let sum: f64 = seen.iter().sum();
        for (j, share) in seen.iter().enumerate() {
            let values = row(&v.1, j);
            let to = want[i * e..].iter_mut();
            to.zip(values).for_each(|(to, v)| *to += share / sum * v);
        }
    }
    compare(gpu, what, of.out, &want, tolerance)
}

/// Numbers between -1 and 1, as stored and as they are then.
type Numbers<T> = (Vec<T>, Vec<f64>);

fn numbers<T: Stored>(n: usize, seed: u64) -> Numbers<T> {
    let number = |i: usize| {
        let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (seed << 32));
        T::of((mixed >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    let stored: Vec<T> = (0..n).map(number).collect();
    let wide = stored.iter().map(|x| f64::from(x.wide())).collect();
    (stored, wide)
}

fn put<T: Stored>(gpu: &mut dyn Gpu, numbers: &Numbers<T>) -> Result<Buf<T>> {
    send(gpu, &numbers.0)
}

fn send<T: Element>(gpu: &mut dyn Gpu, values: &[T]) -> Result<Buf<T>> {
    let buf = gpu.alloc(values.len())?;
    gpu.upload(values, buf)?;
    Ok(buf)
}

/// NaN is infinitely far.
fn compare<T: Stored>(
    gpu: &mut dyn Gpu,
    what: &'static str,
    got: Buf<T>,
    want: &[f64],
    tolerance: f64,
) -> Result<()> {
    let mut values = vec![T::of(f32::NAN); got.len()];
    gpu.download(got, &mut values)?;
    let apart = values.iter().zip(want);
    let apart: f64 = apart
        .map(|(got, want)| (f64::from(got.wide()) - want).powi(2))
        .sum();
    let error = (apart / want.iter().map(|x| x * x).sum::<f64>()).sqrt();
    if error <= tolerance {
        return Ok(());
    }
    let why = format!("relative error {error:.1e}, {tolerance:.0e} allowed");
    Err(GpuError::Wrong { what, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::emulated;

    #[test]
    fn a_device_that_computes_right_passes() {
        check(&mut emulated(1 << 24)).unwrap();
    }

    #[test]
    fn one_wrong_number_is_found() {
        let mut device = emulated(1 << 20);
        let gpu: &mut dyn Gpu = &mut device;
        let (values, mut want) = numbers::<f32>(N, 1);
        let buf = send(gpu, &values).unwrap();
        compare(gpu, "nothing", buf, &want, F32).unwrap();
        want[3] += 1e-3;
        let error = compare(gpu, "a norm", buf, &want, F32).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("a norm is wrong: relative error "),
            "{text}"
        );
        gpu.fill(buf.region(), 0xff).unwrap();
        compare(gpu, "NaN", buf, &want, F32).unwrap_err();
    }
}
