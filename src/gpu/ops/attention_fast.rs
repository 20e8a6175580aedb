//! Attention on tensor cores: bf16, heads of 64, 128 or 256. Arrays, work and results are those of `attention.rs`.

use crate::arch::AttentionShape;
use crate::gpu::call::{Arg, Call, Entry, Launch, entry};
use crate::gpu::ops::attention::{Backward, Forward, WorkBufs, form};
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
    dots: &'static Entry,
    /// Without a cap, and with one.
    forward: [&'static Entry; 2],
    backward_q: [&'static Entry; 2],
    backward_kv: [&'static Entry; 2],
}

macro_rules! widths {
    ($($at:literal: $width:literal, $keys:literal, $queries:literal, $columns:literal);* $(;)?) => {
        pub(crate) const ALONE: &[Entry] = &[$(
            entry!(concat!("attention_dots_", $width), "&bf16 &bf16 *f32 i32"),
            entry!(concat!("attention_forward_", $width), "&bf16 &bf16 &bf16 *bf16 *f32 &struct:20 struct:20"),
            entry!(concat!("attention_forward_", $width, "_cap"), "&bf16 &bf16 &bf16 *bf16 *f32 &struct:20 struct:20"),
            entry!(
                concat!("attention_backward_q_", $width),
                "&bf16 &bf16 &bf16 &bf16 &f32 &f32 *bf16 &struct:20 struct:20 f32"
            ),
            entry!(
                concat!("attention_backward_q_", $width, "_cap"),
                "&bf16 &bf16 &bf16 &bf16 &f32 &f32 *bf16 &struct:20 struct:20 f32"
            ),
            entry!(
                concat!("attention_backward_kv_", $width),
                "&bf16 &bf16 &bf16 &bf16 &f32 &f32 *bf16 *bf16 &struct:20 &struct:12 &i32 struct:20 f32"
            ),
            entry!(
                concat!("attention_backward_kv_", $width, "_cap"),
                "&bf16 &bf16 &bf16 &bf16 &f32 &f32 *bf16 *bf16 &struct:20 &struct:12 &i32 struct:20 f32"
            ),
        )*];
        const WIDTHS: &[Width] = &[$(Width {
            of: $width,
            keys: $keys,
            queries: $queries,
            columns: $columns,
            dots: &ALONE[7 * $at],
            forward: [&ALONE[7 * $at + 1], &ALONE[7 * $at + 2]],
            backward_q: [&ALONE[7 * $at + 3], &ALONE[7 * $at + 4]],
            backward_kv: [&ALONE[7 * $at + 5], &ALONE[7 * $at + 6]],
        }),*];
    };
}
widths! {
    0: 64, 64, 64, 64;
    1: 128, 64, 32, 128;
    2: 256, 32, 32, 128;
}

/// Rows of a tile in shared memory.
const ROWS: usize = 64;

impl Width {
    fn wanted(shape: &AttentionShape) -> &'static Self {
        let found = WIDTHS.iter().find(|one| one.of == shape.head_dim);
        found.expect("`fast_attention_takes` was asked")
    }

    /// Bytes of so many rows.
    fn bytes(&self, rows: usize) -> usize {
        rows * self.of * 2
    }
}

/// Rows are copied and stored several numbers at a time.
fn assert_wide(arrays: &[Buf<bf16>]) {
    let wide = arrays.iter().all(|array| array.region().is_wide());
    assert!(wide, "arrays of fast attention begin at multiples of 16 bytes");
}

/// Whether the functions here take heads of this width.
pub fn fast_attention_takes(width: usize) -> bool {
    WIDTHS.iter().any(|one| one.of == width)
}

/// As [`crate::gpu::ops::attention::attention_forward`].
///
/// # Panics
/// [`fast_attention_takes`] not this width, or an array of bf16 does not begin at a multiple of 16 bytes.
pub fn attention_forward_fast(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    work: &WorkBufs,
    of: &Forward<bf16>,
) -> Result<()> {
    of.rows(shape);
    assert_wide(&[of.q, of.k, of.v, of.out]);
    let one = Width::wanted(shape);
    let args = [
        Arg::read(of.q),
        Arg::read(of.k),
        Arg::read(of.v),
        Arg::write(of.out),
        Arg::write(of.lse),
        Arg::read(work.tiles),
        form(shape),
    ];
    let launch = Launch::of(work.tiles.len(), 128).by(shape.heads);
    let launch = launch.sharing(one.bytes(ROWS + 2 * one.keys));
    Call::new(
        one.forward[usize::from(shape.softcap.is_some())],
        launch,
        args,
    )
    .run(gpu)
}

/// As [`crate::gpu::ops::attention::attention_backward`].
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
    let rows = of.rows(shape);
    to.check(shape, rows);
    assert_wide(&[of.q, of.k, of.v, of.out, to.grad, to.dq, to.dk, to.dv]);
    assert_eq!(work.range_at.len(), work.tiles.len() + 1);
    let (one, capped) = (Width::wanted(shape), usize::from(shape.softcap.is_some()));
    let dots = rows * shape.heads;
    let args = [
        Arg::read(of.out),
        Arg::read(to.grad),
        Arg::write(to.delta),
        Arg::int(dots),
    ];
    Call::new(one.dots, Launch::of(dots.div_ceil(4), 128), args).run(gpu)?;
    let read = [of.q, of.k, of.v, to.grad].map(Arg::read);
    let read = [&read[..], &[Arg::read(of.lse), Arg::read(to.delta)]].concat();
    let back = [form(shape), Arg::float(shape.scale as f32)];

    let own = [Arg::write(to.dq), Arg::read(work.tiles)];
    let args = [&read[..], &own, &back].concat();
    let launch = Launch::of(work.tiles.len(), 128).by(shape.heads);
    let launch = launch.sharing(one.bytes(2 * ROWS + 2 * one.keys));
    Call::new(one.backward_q[capped], launch, args).run(gpu)?;

    let own = [
        Arg::write(to.dk),
        Arg::write(to.dv),
        Arg::read(work.tiles),
        Arg::read(work.ranges),
        Arg::read(work.range_at),
    ];
    let args = [&read[..], &own, &back].concat();
    let launch = Launch {
        grid: [
            work.tiles.len() as u32,
            shape.kv_heads as u32,
            (shape.head_dim / one.columns) as u32,
        ],
        block: [128, 1, 1],
        shared: (one.bytes(2 * ROWS + 2 * one.queries) + 8 * one.queries) as u32,
    };
    Call::new(one.backward_kv[capped], launch, args).run(gpu)
}
