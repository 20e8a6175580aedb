//! Attention on tensor cores: bf16, heads of 64, 128 or 256. Arrays, work and results are those of `attention.rs`.

use crate::arch::AttentionShape;
use crate::gpu::call::{Entry, Launch, entry};
use crate::gpu::ops::attention::{Backward, Forward, Kernels, ROWS, WorkBufs};
use crate::gpu::{Buf, Gpu, Result};
use half::bf16;

/// The kernels of one width.
struct Width {
    /// E.
    of: usize,
    /// Keys that a block of the forward pass or of dq takes at a time.
    keys: usize,
    /// Queries that a block of dk and dv takes at a time, and columns.
    queries: usize,
    columns: usize,
    dots: Entry,
    /// Without a cap, and with one.
    forward: [Entry; 2],
    backward_q: [Entry; 2],
    backward_kv: [Entry; 2],
}

/// A kernel of a width without a cap, and with one.
macro_rules! plain_and_capped {
    ($name:literal, $width:literal, $signature:literal) => {
        [
            entry!(concat!($name, "_", $width), $signature),
            entry!(concat!($name, "_", $width, "_cap"), $signature),
        ]
    };
}

macro_rules! widths {
    ($($width:literal: $keys:literal, $queries:literal, $columns:literal);* $(;)?) => {
        const WIDTHS: &[Width] = &[$(Width {
            of: $width,
            keys: $keys,
            queries: $queries,
            columns: $columns,
            dots: entry!(concat!("attention_dots_", $width), "&bf16 &bf16 *f32 i32"),
            forward: plain_and_capped!(
                "attention_forward",
                $width,
                "&bf16 &bf16 &bf16 *bf16 *f32 &Tile:20 Form:20"
            ),
            backward_q: plain_and_capped!(
                "attention_backward_q",
                $width,
                "&bf16 &bf16 &bf16 &bf16 &f32 &f32 *bf16 &Tile:20 Form:20 f32"
            ),
            backward_kv: plain_and_capped!(
                "attention_backward_kv",
                $width,
                "&bf16 &bf16 &bf16 &bf16 &f32 &f32 *bf16 *bf16 &Tile:20 &Range:12 &i32 Form:20 f32"
            ),
        }),*];
    };
}
widths! {
    64: 64, 64, 64;
    128: 64, 32, 128;
    256: 32, 32, 128;
}

/// The kernels of all widths.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    WIDTHS.iter().flat_map(|one| {
        let pairs = [&one.forward, &one.backward_q, &one.backward_kv];
        pairs.into_iter().flatten().chain([&one.dots])
    })
}

impl Width {
    fn kernels(&self, shape: &AttentionShape) -> Kernels {
        let capped = usize::from(shape.softcap.is_some());
        let bytes = |rows: usize| rows * self.of * 2;
        Kernels {
            forward: self.forward[capped],
            dots: self.dots,
            backward_q: self.backward_q[capped],
            backward_kv: self.backward_kv[capped],
            width: None,
            dots_launch: |dots| Launch::of(dots.div_ceil(4), 128),
            // Queries, keys and values; the gradient of the result too; and of the queries two numbers each.
            shared: [
                bytes(ROWS + 2 * self.keys),
                bytes(2 * ROWS + 2 * self.keys),
                bytes(2 * ROWS + 2 * self.queries) + 8 * self.queries,
            ],
            column_groups: self.of / self.columns,
        }
    }
}

/// The kernels of a shape, for arrays that begin where rows can be copied and stored several numbers at a time.
fn kernels(shape: &AttentionShape, arrays: &[Buf<bf16>]) -> Kernels {
    let found = WIDTHS.iter().find(|one| one.of == shape.head_dim);
    let one = found.expect("`fast_attention_takes` was asked");
    let wide = arrays.iter().all(|array| array.region().is_wide());
    assert!(
        wide,
        "arrays of fast attention begin at multiples of 16 bytes"
    );
    one.kernels(shape)
}

/// Whether the functions here take heads of this width.
pub fn fast_attention_takes(width: usize) -> bool {
    WIDTHS.iter().any(|one| one.of == width)
}

/// As [`crate::gpu::ops::attention::attention_forward`].
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together, [`fast_attention_takes`] not this width, or an array of bf16 does not begin at a multiple
/// of 16 bytes.
pub fn attention_forward_fast(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    work: &WorkBufs,
    of: &Forward<bf16>,
) -> Result<()> {
    let arrays = [of.q, of.k, of.v, of.out];
    kernels(shape, &arrays).run_forward(gpu, shape, work, of)
}

/// As [`crate::gpu::ops::attention::attention_backward`].
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// As [`attention_forward_fast`].
pub fn attention_backward_fast(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    work: &WorkBufs,
    of: &Forward<bf16>,
    to: &Backward<bf16>,
) -> Result<()> {
    let arrays = [of.q, of.k, of.v, of.out, to.grad, to.dq, to.dk, to.dv];
    kernels(shape, &arrays).run_backward(gpu, shape, work, of, to)
}
