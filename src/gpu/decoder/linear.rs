//! Products with a weight, forward and backward.

use crate::gpu::decoder::parts::Linear;
use crate::gpu::ops::rows::{add_bias, column_sums};
use crate::gpu::{Buf, Gemm, Gpu, Matrix, Result, Stored};

/// A parameter on the device.
#[derive(Clone, Copy, Debug)]
pub struct Weight<T> {
    /// Its numbers.
    pub value: Buf<T>,
    /// Where its gradient is added to, if it learns.
    pub grad: Option<Buf<f32>>,
    /// What is added to it, if it is a matrix that is adapted.
    pub adapter: Option<Adapter<T>>,
}

/// A product of low rank that is added to a matrix: `scale * b a` (Hu et al. 2021). Its gradients are made of products
/// of low rank, too; that of the whole matrix never exists.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<T> {
    /// `(R, in)`.
    pub a: Buf<T>,
    /// `(out, R)`.
    pub b: Buf<T>,
    /// Where the gradient of `a` is added to.
    pub grad_a: Buf<f32>,
    /// Where the gradient of `b` is added to.
    pub grad_b: Buf<f32>,
    /// R.
    pub rank: usize,
    /// `alpha / R`.
    pub scale: f32,
}

/// Memory that linear maps work in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room<T> {
    /// Partial sums of columns.
    pub(super) parts: Buf<f32>,
    /// `(T, R)`: inputs of low rank, and their gradient; without adapters empty.
    pub(super) low: [Buf<T>; 2],
}

/// `c (m, n) = alpha a b + beta c`, of a shape m, n, k.
///
/// # Errors
/// As [`Gpu::gemm`].
pub fn product(
    gpu: &mut dyn Gpu,
    (a, b, c): (Matrix, Matrix, Matrix),
    shape: (usize, usize, usize),
    (alpha, beta): (f32, f32),
) -> Result<()> {
    gpu.gemm(&Gemm {
        a,
        b,
        c,
        shape,
        alpha,
        beta,
    })
}

/// `x (T, in)` -> `y (T, out)`.
pub(super) fn linear_forward<T: Stored>(
    gpu: &mut dyn Gpu,
    map: &Linear<Weight<T>>,
    x: Buf<T>,
    y: Buf<T>,
    (rows, room): (usize, &Room<T>),
) -> Result<()> {
    let (inner, outer) = (x.len() / rows, y.len() / rows);
    let (mx, my) = (Matrix::new(x, inner), Matrix::new(y, outer));
    let weight = Matrix::new(map.weight.value, inner).transposed();
    product(gpu, (mx, weight, my), (rows, outer, inner), (1.0, 0.0))?;
    if let Some(adapter) = &map.weight.adapter {
        let low = adapter.lowered(gpu, x, (rows, room))?;
        let b = Matrix::new(adapter.b, adapter.rank).transposed();
        let shape = (rows, outer, adapter.rank);
        product(gpu, (low, b, my), shape, (adapter.scale, 1.0))?;
    }
    match &map.bias {
        Some(bias) => add_bias(gpu, y, bias.value),
        None => Ok(()),
    }
}

/// The gradient by the output of a map, and what is made of it for both of the following: by an adapter's input of low rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByOutput<T> {
    dy: Buf<T>,
    /// `scale dy b (T, R)`; none without an adapter.
    low: Option<Matrix>,
}

/// Of the gradient `dy (T, out)`; until the next map's is made.
pub(super) fn linear_by_output<T: Stored>(
    gpu: &mut dyn Gpu,
    map: &Linear<Weight<T>>,
    dy: Buf<T>,
    with: (usize, &Room<T>),
) -> Result<ByOutput<T>> {
    let adapter = map.weight.adapter.as_ref();
    let low = adapter.map(|adapter| adapter.low_gradient(gpu, dy, with));
    Ok(ByOutput {
        dy,
        low: low.transpose()?,
    })
}

/// `dx (T, in)`: the gradient by the input of that by the output; with `beta` 1 added to what is there.
pub(super) fn linear_input_gradient<T: Stored>(
    gpu: &mut dyn Gpu,
    map: &Linear<Weight<T>>,
    ByOutput { dy, low }: ByOutput<T>,
    (dx, beta): (Buf<T>, f32),
    rows: usize,
) -> Result<()> {
    let (inner, outer) = (dx.len() / rows, dy.len() / rows);
    let (mdy, mdx) = (Matrix::new(dy, outer), Matrix::new(dx, inner));
    let weight = Matrix::new(map.weight.value, inner);
    product(gpu, (mdy, weight, mdx), (rows, inner, outer), (1.0, beta))?;
    let Some((adapter, low)) = map.weight.adapter.as_ref().zip(low) else {
        return Ok(());
    };
    let a = Matrix::new(adapter.a, inner);
    product(gpu, (low, a, mdx), (rows, inner, adapter.rank), (1.0, 1.0))
}

/// Adds the gradients of weight and bias, or of the adapter, of an input `x (T, in)` and the gradient by the output.
pub(super) fn linear_weight_gradients<T: Stored>(
    gpu: &mut dyn Gpu,
    map: &Linear<Weight<T>>,
    (x, ByOutput { dy, low: du }): (Buf<T>, ByOutput<T>),
    (rows, room): (usize, &Room<T>),
) -> Result<()> {
    let (inner, outer) = (x.len() / rows, dy.len() / rows);
    let (mx, mdy) = (Matrix::new(x, inner), Matrix::new(dy, outer));
    if let Some(grad) = map.weight.grad {
        let all = (mdy.transposed(), mx, Matrix::new(grad, inner));
        product(gpu, all, (outer, inner, rows), (1.0, 1.0))?;
    }
    if let Some(grad) = map.bias.as_ref().and_then(|bias| bias.grad) {
        column_sums(gpu, dy, room.parts, grad)?;
    }
    let Some((adapter, du)) = map.weight.adapter.as_ref().zip(du) else {
        return Ok(());
    };
    // With u = x a^T: db += scale dy^T u, and da += du^T x.
    let rank = adapter.rank;
    let low = adapter.lowered(gpu, x, (rows, room))?;
    let all = (mdy.transposed(), low, Matrix::new(adapter.grad_b, rank));
    product(gpu, all, (outer, rank, rows), (adapter.scale, 1.0))?;
    let all = (du.transposed(), mx, Matrix::new(adapter.grad_a, inner));
    product(gpu, all, (rank, inner, rows), (1.0, 1.0))
}

impl<T: Stored> Adapter<T> {
    /// `u = x a^T (T, R)`.
    fn lowered(
        &self,
        gpu: &mut dyn Gpu,
        x: Buf<T>,
        (rows, room): (usize, &Room<T>),
    ) -> Result<Matrix> {
        let inner = x.len() / rows;
        let low = Matrix::new(room.low[0].part(0..rows * self.rank), self.rank);
        let a = Matrix::new(self.a, inner).transposed();
        let all = (Matrix::new(x, inner), a, low);
        product(gpu, all, (rows, self.rank, inner), (1.0, 0.0))?;
        Ok(low)
    }

    /// `du = scale dy b (T, R)`.
    fn low_gradient(
        &self,
        gpu: &mut dyn Gpu,
        dy: Buf<T>,
        (rows, room): (usize, &Room<T>),
    ) -> Result<Matrix> {
        let outer = dy.len() / rows;
        let low = Matrix::new(room.low[1].part(0..rows * self.rank), self.rank);
        let all = (Matrix::new(dy, outer), Matrix::new(self.b, self.rank), low);
        product(gpu, all, (rows, self.rank, outer), (self.scale, 0.0))?;
        Ok(low)
    }
}
