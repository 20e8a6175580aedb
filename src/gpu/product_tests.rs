//! Products of matrices: loops on the emulation, cuBLAS on a card.

use crate::gpu::testing::{BF16, F32, agree, noise, on_devices, wide};
use crate::gpu::{Buf, Gemm, GpuError, Matrix, Stored};
use half::bf16;

/// The product of `a (m, k)` and `b (k, n)` in f64.
fn product(a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
    (0..m * n).map(|at_| at(at_ / n, at_ % n)).collect()
}

fn transpose<T: Copy>(x: &[T], cols: usize) -> Vec<T> {
    (0..x.len())
        .map(|at| x[at % (x.len() / cols) * cols + at / (x.len() / cols)])
        .collect()
}

fn products<A: Stored, C: Stored>(tolerance: f64) {
    let (m, n, k) = (5, 7, 11);
    let (a, b, c) = (
        noise::<A>(m * k, 1),
        noise::<A>(k * n, 2),
        noise::<C>(m * n, 3),
    );
    let plain = product(&wide(&a), &wide(&b), (m, n, k));
    let want: Vec<f64> = plain
        .iter()
        .zip(wide(&c))
        .map(|(p, c)| 2.0 * p + 0.5 * c)
        .collect();
    on_devices(|device| {
        let mut matrix = |x: &[A], cols: usize, transposed: bool| {
            if transposed {
                Matrix::new(device.put(&transpose(x, cols)), x.len() / cols).transposed()
            } else {
                Matrix::new(device.put(x), cols)
            }
        };
        let ways = [(false, false), (false, true), (true, false), (true, true)];
        let ways = ways.map(|(ta, tb)| (matrix(&a, k, ta), matrix(&b, n, tb)));
        for (ma, mb) in ways {
            let (added, fresh): (Buf<C>, Buf<C>) = (device.put(&c), device.empty(m * n));
            let mut gemm = Gemm {
                a: ma,
                b: mb,
                c: Matrix::new(added, n),
                shape: (m, n, k),
                alpha: 2.0,
                beta: 0.5,
            };
            device.gpu().gemm(&gemm).unwrap();
            agree("added", &device.get(added), &want, tolerance);
            (gemm.c, gemm.alpha, gemm.beta) = (Matrix::new(fresh, n), 1.0, 0.0);
            device.gpu().gemm(&gemm).unwrap();
            agree("fresh", &device.get(fresh), &plain, tolerance);
        }
    });
}

#[test]
fn products_are_their_formula_however_the_factors_lie() {
    products::<f32, f32>(F32);
    products::<bf16, f32>(F32);
    products::<bf16, bf16>(BF16);
}

#[test]
fn columns_of_wider_matrices_are_multiplied_in_place() {
    on_devices(|device| {
        let (x, w) = (noise::<f32>(4 * 10, 1), noise::<f32>(3 * 6, 2));
        // c = columns 2..5 of x times w^T, into columns 1..7 of a matrix of 9.
        let (bx, bw, to) = (device.put(&x), device.put(&w), device.put(&[7.0f32; 4 * 9]));
        let gemm = Gemm {
            a: Matrix::new(bx.part(2..40), 10),
            b: Matrix::new(bw, 3).transposed(),
            c: Matrix::new(to.part(1..36), 9),
            shape: (4, 6, 3),
            alpha: 1.0,
            beta: 0.0,
        };
        device.gpu().gemm(&gemm).unwrap();
        let (x, w) = (wide(&x), wide(&w));
        let want = (0..4 * 9).map(|at| match (at / 9, at % 9) {
            (i, j @ 1..7) => (0..3).map(|l| x[i * 10 + 2 + l] * w[(j - 1) * 3 + l]).sum(),
            _ => 7.0f64,
        });
        agree("c", &device.get(to), &want.collect::<Vec<_>>(), F32);
        let short = Gemm {
            shape: (4, 6, 4),
            ..gemm
        };
        assert!(matches!(
            device.gpu().gemm(&short),
            Err(GpuError::Request(_))
        ));
    });
}
