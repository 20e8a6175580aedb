//! Attention by both sets of kernels against its definition in f64.

use crate::arch::AttentionShape;
use crate::gpu::ops::attention::{
    Backward, Forward, Range, Tile, Work, WorkBufs, WorkList, attention_backward, attention_forward,
};
use crate::gpu::ops::attention_fast::{
    attention_backward_fast, attention_forward_fast, fast_attention_takes,
};
use crate::gpu::testing::{
    ATTENTION, BF16, Device, agree, emulated, noise, on_devices, on_devices_once, on_one, wide,
};
use crate::gpu::{Gpu, Result, Stored};
use half::bf16;
use std::f64::consts::LOG2_E;

/// Boundaries of segments, and what each continues.
#[derive(Clone, Copy)]
struct Segments(&'static [u32], &'static [u32]);

const PLAIN: Segments = Segments(&[0, 70, 71, 143], &[]);
const FORKED: Segments = Segments(&[0, 90, 110, 150, 181, 190], &[0, 0, 0, 3, 3]);

impl Segments {
    fn tokens(self) -> usize {
        self.0[self.0.len() - 1] as usize
    }

    /// The rows that each row sees without a window, in order, itself last.
    fn seen(self) -> Vec<Vec<usize>> {
        let Self(bounds, trunks) = self;
        let mut all = Vec::new();
        for s in 0..bounds.len() - 1 {
            let trunk = trunks.get(s).map_or(s, |&t| t as usize);
            let before = if trunk == s {
                0..0
            } else {
                bounds[trunk]..bounds[trunk + 1]
            };
            for row in bounds[s]..bounds[s + 1] {
                let seen = before.clone().chain(bounds[s]..=row);
                all.push(seen.map(|row| row as usize).collect());
            }
        }
        all
    }
}

struct Inputs<T> {
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    grad: Vec<T>,
}

impl<T: Stored> Inputs<T> {
    fn new(tokens: usize, shape: &AttentionShape) -> Self {
        let (queries, keys) = (
            tokens * shape.heads * shape.head_dim,
            tokens * shape.kv_heads * shape.head_dim,
        );
        Self {
            q: noise(queries, 1),
            k: noise(keys, 2),
            v: noise(keys, 3),
            grad: noise(queries, 4),
        }
    }
}

#[derive(Default)]
struct Wanted {
    out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<f64>,
    dv: Vec<f64>,
}

fn wanted<T: Stored>(segments: Segments, shape: &AttentionShape, inputs: &Inputs<T>) -> Wanted {
    let [q, k, v, g] = [&inputs.q, &inputs.k, &inputs.v, &inputs.grad].map(|x| wide(x));
    let (e, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let (scale, cap) = (shape.scale, shape.softcap);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut w = Wanted {
        out: vec![0.0; q.len()],
        dq: vec![0.0; q.len()],
        dk: vec![0.0; k.len()],
        dv: vec![0.0; k.len()],
        ..Wanted::default()
    };
    for (row, seen) in segments.seen().iter().enumerate() {
        let first = shape
            .window
            .map_or(0, |window| seen.len().saturating_sub(window));
        for head in 0..shape.heads {
            let at = (row * shape.heads + head) * e;
            let keys = seen[first..]
                .iter()
                .map(|key| (key * shape.kv_heads + head / group) * e);
            let keys: Vec<usize> = keys.collect();
            let (own, grad) = (&q[at..at + e], &g[at..at + e]);
            let score = |&key: &usize| {
                let z = dot(own, &k[key..key + e]) * scale;
                cap.map_or((z, 1.0), |cap| {
                    (cap * (z / cap).tanh(), 1.0 - (z / cap).tanh().powi(2))
                })
            };
            let scores: Vec<(f64, f64)> = keys.iter().map(score).collect();
            let sum: f64 = scores.iter().map(|(z, _)| z.exp()).sum();
            w.lse.push(sum.ln() * LOG2_E);
            for (&key, (z, _)) in keys.iter().zip(&scores) {
                for i in 0..e {
                    w.out[at + i] += z.exp() / sum * v[key + i];
                }
            }
            let pull = dot(&w.out[at..at + e], grad);
            for (&key, (z, slope)) in keys.iter().zip(&scores) {
                let p = z.exp() / sum;
                let ds = p * (dot(grad, &v[key..key + e]) - pull) * slope * scale;
                for i in 0..e {
                    w.dv[key + i] += p * grad[i];
                    w.dq[at + i] += ds * k[key + i];
                    w.dk[key + i] += ds * own[i];
                }
            }
        }
    }
    w
}

type RunForward<T> = fn(&mut dyn Gpu, &AttentionShape, &WorkBufs, &Forward<T>) -> Result<()>;
type RunBackward<T> =
    fn(&mut dyn Gpu, &AttentionShape, &WorkBufs, &Forward<T>, &Backward<T>) -> Result<()>;

struct Case<T> {
    segments: Segments,
    shape: AttentionShape,
    inputs: Inputs<T>,
    wanted: Wanted,
}

impl<T: Stored> Case<T> {
    fn new(segments: Segments, shape: AttentionShape) -> Self {
        let inputs = Inputs::new(segments.tokens(), &shape);
        let wanted = wanted(segments, &shape, &inputs);
        Self {
            segments,
            shape,
            inputs,
            wanted,
        }
    }

    fn run(&self, device: &mut Device, run: (RunForward<T>, RunBackward<T>), tolerance: f64) {
        let (shape, inputs, wanted) = (&self.shape, &self.inputs, &self.wanted);
        let list = WorkList::new(self.segments.0, self.segments.1);
        let work = Work {
            tiles: device.put(&list.tiles),
            ranges: device.put(&list.ranges),
            range_at: device.put(&list.range_at),
        };
        let [q, k, v, grad] =
            [&inputs.q, &inputs.k, &inputs.v, &inputs.grad].map(|x| device.put(x));
        let heads = self.segments.tokens() * shape.heads;
        let of = Forward {
            q,
            k,
            v,
            out: device.empty(q.len()),
            lse: device.empty(heads),
        };
        let to = Backward {
            grad,
            delta: device.empty(heads),
            dq: device.empty(q.len()),
            dk: device.empty(k.len()),
            dv: device.empty(k.len()),
        };
        (run.0)(device.gpu(), shape, &work, &of).unwrap();
        (run.1)(device.gpu(), shape, &work, &of, &to).unwrap();
        agree("out", &device.get(of.out), &wanted.out, tolerance);
        agree("lse", &device.get(of.lse), &wanted.lse, LSE);
        agree("dq", &device.get(to.dq), &wanted.dq, tolerance);
        agree("dk", &device.get(to.dk), &wanted.dk, tolerance);
        agree("dv", &device.get(to.dv), &wanted.dv, tolerance);
    }
}

fn shape(
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    softcap: Option<f64>,
    window: Option<usize>,
) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.7 / (head_dim as f64).sqrt(),
        softcap,
        window,
    }
}

/// Most relative error (L2) of products in bf16 of sums rounded to bf16.
const FAST: f64 = 6e-3;
/// Most relative error (L2) of logarithms of sums, which are f32 also where the rest is bf16.
const LSE: f64 = 1e-5;

#[test]
fn attention_of_any_width_on_the_device_is_its_definition() {
    let simple = (
        attention_forward::<f32> as RunForward<f32>,
        attention_backward::<f32> as RunBackward<f32>,
    );
    for (segments, shape) in [
        (FORKED, shape(4, 2, 8, None, None)),
        (PLAIN, shape(2, 2, 40, Some(3.0), Some(33))),
    ] {
        let case = Case::new(segments, shape);
        on_devices(|device| case.run(device, simple, ATTENTION));
    }
    let short = Case::new(FORKED, shape(2, 1, 72, Some(2.0), None));
    let simple = (
        attention_forward::<bf16> as RunForward<bf16>,
        attention_backward::<bf16> as RunBackward<bf16>,
    );
    on_devices_once(|device| short.run(device, simple, BF16));
}

const BY_TENSOR_CORES: (RunForward<bf16>, RunBackward<bf16>) =
    (attention_forward_fast, attention_backward_fast);

#[test]
fn attention_by_tensor_cores_is_its_definition() {
    for (segments, shape) in [
        (PLAIN, shape(4, 2, 64, None, None)),
        (FORKED, shape(2, 1, 64, Some(3.0), Some(70))),
        (PLAIN, shape(2, 2, 128, None, Some(33))),
        (FORKED, shape(2, 1, 256, None, None)),
        (PLAIN, shape(1, 1, 256, Some(2.0), Some(100))),
    ] {
        let case = Case::new(segments, shape);
        on_devices_once(|device| case.run(device, BY_TENSOR_CORES, FAST));
    }
}

#[test]
fn attention_by_tensor_cores_has_the_same_bits_in_any_order() {
    let case = Case::new(FORKED, shape(2, 1, 64, None, None));
    on_devices(|device| case.run(device, BY_TENSOR_CORES, FAST));
    let case = Case::new(FORKED, shape(1, 1, 128, Some(2.0), None));
    on_devices(|device| case.run(device, BY_TENSOR_CORES, FAST));
}

// Every width has tiles of its own sizes; the backward pass reads queries and gradients both ways round.
#[test]
fn tensor_cores_are_fed_without_bank_conflicts() {
    for width in [64, 128, 256] {
        let case = Case::new(PLAIN, shape(1, 1, width, None, None));
        let mut gpu = emulated(1 << 26);
        on_one(&mut gpu, |device| case.run(device, BY_TENSOR_CORES, FAST));
        let counts = gpu.take_counts();
        assert!(counts.ldmatrix > 1000 && counts.mma > 1000, "{counts:?}");
        assert_eq!(counts.conflicts, 0, "heads of {width}: {counts:?}");
    }
}

#[test]
fn widths_for_tensor_cores_are_named() {
    let taken = (1..=300).filter(|&width| fast_attention_takes(width));
    assert_eq!(taken.collect::<Vec<_>>(), [64, 128, 256]);
}

#[test]
#[should_panic(expected = "begin at multiples of 16 bytes")]
fn arrays_that_begin_between_multiples_of_16_bytes_are_refused() {
    let gpu: &mut dyn Gpu = &mut emulated(1 << 20);
    let list = WorkList::new(&[0, 1], &[]);
    let work = Work {
        tiles: gpu.alloc(list.tiles.len()).unwrap(),
        ranges: gpu.alloc(list.ranges.len()).unwrap(),
        range_at: gpu.alloc(list.range_at.len()).unwrap(),
    };
    let all = gpu.alloc::<bf16>(65).unwrap();
    let [q, k, v, out] = [
        all.part(0..64),
        all.part(0..64),
        all.part(1..65),
        all.part(0..64),
    ];
    let of = Forward {
        q,
        k,
        v,
        out,
        lse: gpu.alloc(1).unwrap(),
    };
    let shape = shape(1, 1, 64, None, None);
    drop(attention_forward_fast(gpu, &shape, &work, &of));
}

// In 32 bits the position of a key and such a window would wrap around, and nothing would be seen.
#[test]
fn a_window_wider_than_any_segment_hides_nothing() {
    let simple = (
        attention_forward::<f32> as RunForward<f32>,
        attention_backward::<f32> as RunBackward<f32>,
    );
    for window in [i32::MAX as usize - 1, i32::MAX as usize, usize::MAX] {
        let case = Case::new(FORKED, shape(1, 1, 8, None, Some(window)));
        on_devices_once(|device| case.run(device, simple, ATTENTION));
    }
    let case = Case::new(PLAIN, shape(1, 1, 64, None, Some(i32::MAX as usize)));
    on_devices_once(|device| case.run(device, BY_TENSOR_CORES, FAST));
}

#[test]
fn work_that_kernels_could_not_follow_is_refused() {
    let wrong: [(&[u32], &[u32]); 4] = [
        (&[0, 5, 3], &[]),
        (&[0, (1 << 30) + 1], &[]),
        (&[0, 5, 9], &[1, 1]),
        (&[0, 5, 9, 12], &[0, 0, 1]),
    ];
    for (bounds, trunks) in wrong {
        let made = std::panic::catch_unwind(|| WorkList::new(bounds, trunks));
        assert!(made.is_err(), "{bounds:?} {trunks:?}");
    }
    assert!(WorkList::new(&[], &[]).tiles.is_empty());
    assert!(WorkList::new(&[0, 0], &[]).tiles.is_empty());
}

// Every row in one tile; every pair of a query and a key that it sees in one range of the key's tile.
#[test]
fn work_lists_cover_every_pair_that_is_seen_once() {
    let long = Segments(&[0, 130, 200, 333, 334, 400], &[0, 0, 0, 3, 3]);
    for segments in [PLAIN, FORKED, long] {
        let list = WorkList::new(segments.0, segments.1);
        let rows: i32 = list.tiles.iter().map(Tile::count).sum();
        assert_eq!(rows as usize, segments.tokens());
        let mut found = Vec::new();
        for (tile, at) in list.tiles.iter().zip(list.range_at.windows(2)) {
            for range in &list.ranges[at[0] as usize..at[1] as usize] {
                found.extend(tile.pairs_with(range));
            }
        }
        found.sort_unstable();
        let seen = segments.seen();
        let mut want: Vec<(usize, usize)> = seen
            .iter()
            .enumerate()
            .flat_map(|(q, keys)| keys.iter().map(move |&key| (q, key)))
            .collect();
        want.sort_unstable();
        assert!(found == want);
    }
}

impl Tile {
    fn count(&self) -> i32 {
        self.rows
    }

    /// Queries of the range and keys of the tile that they see.
    fn pairs_with(&self, range: &Range) -> Vec<(usize, usize)> {
        let first = self.trunk + self.row0 - self.own0;
        let keys = (0..self.rows).map(|r| (first + r, self.row0 + r));
        let queries = (range.first..range.end).map(|row| (range.at + row - range.first, row));
        let pairs = queries.flat_map(|q| keys.clone().map(move |key| (q, key)));
        let seen = pairs.filter(|((q, _), (key, _))| key <= q);
        seen.map(|((_, query), (_, key))| (query as usize, key as usize))
            .collect()
    }
}
