//! How fast kernels, products and copies are at the sizes of a model of 2 billion weights, one line of JSON each; on a
//! device of little memory at sizes of nothing, which shows that each is measured.
//!
//! A rate counts what has to be done: each array read or written once, and no product that a causal mask hides.

use crate::arch::{AttentionShape, GateActivation};
use crate::gpu::ops::attention::{Backward, Forward, Work, WorkBufs, WorkList, attention_forward};
use crate::gpu::ops::attention_fast::{attention_backward_fast, attention_forward_fast};
use crate::gpu::ops::decode_attention::{
    Cache, PAGE, SequenceBufs, SequenceList, decode_attention,
};
use crate::gpu::ops::draw::{Drawing, draw};
use crate::gpu::ops::embedding::{Places, embedding_backward, embedding_forward};
use crate::gpu::ops::gated::{Columns, gated_backward, gated_forward};
use crate::gpu::ops::head::{Scores, head_gradient, head_score};
use crate::gpu::ops::head_norm::{Heads, head_norm_backward, head_norm_forward};
use crate::gpu::ops::norm::{Norm, NormGradient, norm_backward, norm_backward_fast, norm_forward};
use crate::gpu::ops::optimizer::{
    Halves, Learning, Parameters, Step, adamw_step, chunks, gradient_norm, norm_parts,
};
use crate::gpu::ops::rope::{Angles, Direction, rope};
use crate::gpu::ops::rows::narrow;
use crate::gpu::testing::{device, noise};
use crate::gpu::{Buf, Element, Gemm, Gpu, Matrix, Result, Stored};
use half::bf16;

/// From so many free bytes on, sizes are those of a model.
const LARGE: usize = 12 << 30;
/// Measured calls, of which the median counts; before them some that do not.
const CALLS: usize = 15;
const WARMUP: usize = 3;

/// A device, and whether it is worth measuring.
struct Bench {
    gpu: Box<dyn Gpu>,
    is_large: bool,
}

impl Bench {
    fn open() -> Self {
        let mut gpu = device(1 << 24);
        let is_large = gpu.memory().unwrap().free >= LARGE;
        Self { gpu, is_large }
    }

    fn size(&self, large: usize, small: usize) -> usize {
        if self.is_large { large } else { small }
    }

    fn empty<T: Element>(&mut self, len: usize) -> Buf<T> {
        self.gpu.alloc(len).unwrap()
    }

    fn put<T: Element>(&mut self, values: &[T]) -> Buf<T> {
        let buf = self.empty(values.len());
        self.gpu.upload(values, buf).unwrap();
        buf
    }

    /// Products of zeros are faster than others.
    fn numbers<T: Stored>(&mut self, len: usize) -> Buf<T> {
        let some = noise::<T>(len.min(1 << 20), 1);
        let all: Vec<T> = some.iter().copied().cycle().take(len).collect();
        self.put(&all)
    }

    /// Prints what a call takes, and what it does in that time: so many bytes of memory, so many operations.
    fn time(
        &mut self,
        name: &str,
        (bytes, operations): (usize, usize),
        mut call: impl FnMut(&mut dyn Gpu) -> Result<()>,
    ) {
        let gpu = self.gpu.as_mut();
        let (warmup, calls) = if self.is_large {
            (WARMUP, CALLS)
        } else {
            (0, 1)
        };
        for _ in 0..warmup {
            call(gpu).unwrap();
        }
        let mut times = Vec::new();
        for _ in 0..calls {
            let from = gpu.event().unwrap();
            call(gpu).unwrap();
            let to = gpu.event().unwrap();
            times.push(gpu.elapsed(from, to).unwrap().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let secs = times[calls / 2];
        assert!(secs > 0.0, "{name} took no time");
        let mut line = serde_json::json!({ "speed": name, "n": calls, "ms": secs * 1e3 });
        if bytes > 0 {
            line["gb_s"] = (bytes as f64 / secs / 1e9).into();
        }
        if operations > 0 {
            line["tflop_s"] = (operations as f64 / secs / 1e12).into();
        }
        println!("{line}");
    }

    fn product<A: Stored, C: Stored>(
        &mut self,
        name: &str,
        (m, n, k): (usize, usize, usize),
        beta: f32,
    ) {
        let (a, b) = (self.numbers::<A>(m * k), self.numbers::<A>(k * n));
        let c = self.numbers::<C>(m * n);
        let gemm = Gemm {
            a: Matrix::new(a, k),
            b: Matrix::new(b, k).transposed(),
            c: Matrix::new(c, n),
            shape: (m, n, k),
            alpha: 1.0,
            beta,
        };
        let name = format!("product {name}, {m} x {n} x {k}");
        self.time(&name, (0, 2 * m * n * k), |gpu| gpu.gemm(&gemm));
    }
}

#[test]
fn copies_and_launches_are_timed() {
    let mut on = Bench::open();
    let bytes = on.size(2 << 30, 1 << 20);
    let (from, to) = (on.empty::<u32>(bytes / 4), on.empty::<u32>(bytes / 4));
    on.time("copy on the card", (2 * bytes, 0), |gpu| gpu.copy(from, to));
    on.time("fill", (bytes, 0), |gpu| gpu.fill(to.region(), 0));
    let mut host = vec![0_u32; on.size(64 << 20, 1 << 10)];
    let part = from.part(0..host.len());
    on.time("upload, plain memory", (host.len() * 4, 0), |gpu| {
        gpu.upload(&host, part)
    });
    on.time("download, plain memory", (host.len() * 4, 0), |gpu| {
        gpu.download(part, &mut host)
    });
    let (wide, short) = (on.put(&[0.0_f32; 8]), on.empty::<bf16>(8));
    let count = on.size(1000, 10);
    on.time(&format!("{count} launches of nothing"), (0, 0), |gpu| {
        (0..count).try_for_each(|_| narrow(gpu, wide, short))
    });
}

#[test]
fn products_are_timed() {
    let mut on = Bench::open();
    let n = on.size(8192, 32);
    on.product::<bf16, bf16>("bf16", (n, n, n), 0.0);
    let n = on.size(4096, 32);
    on.product::<f32, f32>("f32", (n, n, n), 0.0);
    let (tokens, width, inner) = (on.size(8192, 16), on.size(2048, 16), on.size(16_384, 32));
    on.product::<bf16, bf16>("up", (tokens, 2 * inner, width), 0.0);
    on.product::<bf16, bf16>("down", (tokens, width, inner), 0.0);
    on.product::<bf16, f32>(
        "weights' gradient, added in f32",
        (inner, width, tokens),
        1.0,
    );
    let (rows, vocab) = (on.size(2048, 8), on.size(256_000, 64));
    on.product::<bf16, f32>("logits", (rows, vocab, width), 0.0);
}

#[test]
fn norms_are_timed() {
    let mut on = Bench::open();
    let (rows, width) = (on.size(8192, 4), on.size(2048, 16));
    let n = rows * width;
    let norm = Norm {
        offset: 0.0,
        eps: 1e-5,
    };
    let (x, grad) = (on.numbers::<bf16>(n), on.numbers::<bf16>(n));
    let (weight, y) = (on.numbers::<bf16>(width), on.empty(n));
    on.time("norm", (4 * n, 0), |gpu| {
        norm_forward(gpu, norm, x, weight, y, None)
    });
    let of = NormGradient {
        x,
        weight,
        grad,
        residual: None,
        dx: y,
        parts: on.empty(264 * width),
        dw: on.numbers(width),
    };
    on.time("norm backward, simple", (6 * n, 0), |gpu| {
        norm_backward(gpu, norm, &of)
    });
    on.time("norm backward, fast", (6 * n, 0), |gpu| {
        norm_backward_fast(gpu, norm, &of)
    });
}

#[test]
fn work_on_every_number_is_timed() {
    let mut on = Bench::open();
    let (rows, width) = (on.size(8192, 4), on.size(16_384, 32));
    let n = rows * width;
    let columns = Columns {
        rows,
        width,
        stride: width,
    };
    let silu = GateActivation::Silu;
    let [gate, up, grad] = [(); 3].map(|()| on.numbers::<bf16>(n));
    let [y, d_gate, d_up] = [(); 3].map(|()| on.empty::<bf16>(n));
    on.time("gate", (6 * n, 0), |gpu| {
        gated_forward(gpu, silu, columns, (gate, up), y)
    });
    on.time("gate backward", (12 * n, 0), |gpu| {
        gated_backward(
            gpu,
            silu,
            columns,
            (gate, up, grad),
            (d_gate, d_up, Some(y)),
        )
    });
    let (heads, half) = (8, 16);
    let stride = heads * 2 * half;
    let rows = n / stride;
    let places: Vec<i32> = (0..64).cycle().take(rows).collect();
    let positions = on.put(&places);
    let angles = Angles {
        cos: on.numbers(64 * half),
        sin: on.numbers(64 * half),
        half,
    };
    on.time("rotary positions", (4 * rows * stride, 0), |gpu| {
        rope(
            gpu,
            gate,
            (heads, stride),
            positions,
            &angles,
            Direction::Forward,
        )
    });
}

// Queries of a model of 8 billion weights whose heads are normalised.
#[test]
fn norms_of_heads_are_timed() {
    let mut on = Bench::open();
    let (rows, heads, half) = (on.size(8192, 4), on.size(32, 2), on.size(64, 8));
    let (width, n) = (2 * half, rows * heads * 2 * half);
    let norm = Norm {
        offset: 0.0,
        eps: 1e-6,
    };
    let positions: Vec<i32> = (0..rows).map(crate::gpu::element::int).collect();
    let of = Heads {
        x: on.numbers::<bf16>(n),
        weight: on.numbers(width),
        positions: on.put(&positions),
        angles: Angles {
            cos: on.numbers(rows * half),
            sin: on.numbers(rows * half),
            half,
        },
    };
    let y = on.empty(n);
    on.time("norm of heads and rotary positions", (4 * n, 0), |gpu| {
        head_norm_forward(gpu, norm, &of, y)
    });
    let (grad, dw) = (on.numbers::<bf16>(n), on.numbers::<f32>(width));
    let parts = on.empty(1024 * width);
    on.time("the same backward", (6 * n, 0), |gpu| {
        head_norm_backward(gpu, norm, &of, grad, (parts, dw))
    });
}

#[test]
fn embedding_and_head_are_timed() {
    let mut on = Bench::open();
    let (tokens, width, vocab) = (on.size(8192, 8), on.size(2048, 16), on.size(256_000, 64));
    let n = tokens * width;
    let batch: Vec<u32> = (0..tokens as u32).map(|i| i * 37 % vocab as u32).collect();
    let ids: Vec<i32> = batch.iter().map(|&id| id.cast_signed()).collect();
    let (ids, y) = (on.put(&ids), on.numbers::<bf16>(n));
    let (table, d_table) = (
        on.numbers::<bf16>(vocab * width),
        on.numbers::<f32>(vocab * width),
    );
    on.time("embedding", (4 * n, 0), |gpu| {
        embedding_forward(gpu, table, ids, y, (width, 1.0))
    });
    let places = Places::of(&batch);
    let places = Places {
        tokens: on.put(&places.tokens),
        starts: on.put(&places.starts),
        order: on.put(&places.order),
    };
    on.time("embedding backward", (10 * n, 0), |gpu| {
        embedding_backward(gpu, y, &places, d_table, (width, 1.0))
    });
    let rows = on.size(2048, 4);
    let n = rows * vocab;
    let (logits, targets) = (on.numbers::<f32>(n), ids.part(0..rows));
    let scores = Scores {
        logp: on.empty(rows),
        lse: on.empty(rows),
        correct: on.empty(rows),
    };
    on.time("head", (4 * n, 0), |gpu| {
        head_score(gpu, logits, targets, &scores, None)
    });
    let drawn = on.size(128, 2);
    let (some, tokens) = (logits.part(0..drawn * vocab), on.empty(drawn));
    let uniforms: Vec<f64> = (0..drawn)
        .map(|i| (i as f64 + 0.5) / drawn as f64)
        .collect();
    let uniforms = on.put(&uniforms);
    for (temperature, top_p) in [(0.0, 1.0), (1.0, 1.0), (1.0, 0.95)] {
        let how = Drawing { temperature, top_p };
        let name = format!("draw {drawn} tokens, temperature {temperature}, top-p {top_p}");
        on.time(&name, (4 * drawn * vocab, 0), |gpu| {
            draw(gpu, some, uniforms, tokens, how)
        });
    }
    let (weights, dz) = (on.numbers::<f32>(rows), on.empty::<bf16>(n));
    on.time("head backward", (6 * n, 0), |gpu| {
        head_gradient(gpu, logits, targets, (scores.lse, weights), dz, None)
    });
}

#[test]
fn the_optimizer_is_timed() {
    let mut on = Bench::open();
    let n = on.size(1 << 28, 1 << 12);
    let [m, grad] = [(); 2].map(|()| on.numbers::<f32>(n));
    let (v, low) = (on.empty::<f32>(n), on.empty::<i16>(n));
    let value = on.numbers::<bf16>(n);
    for zeros in [v.region(), low.region()] {
        on.gpu.fill(zeros, 0).unwrap();
    }
    let (loss, clip) = (on.put(&[1.0_f32]), on.empty(3));
    let parts = on.empty(norm_parts(n));
    on.time("norm of gradients", (4 * n, 0), |gpu| {
        gradient_norm(gpu, grad, loss, (parts, 1.0), clip)
    });
    let all = on.put(&chunks(&[(0..n, true)]));
    let of = Learning {
        parameters: Parameters::Halves(Halves { value, low }),
        m,
        v,
        grad,
    };
    let step = Step {
        keep: 1.0,
        one_minus_beta1: 0.1,
        beta2: 0.95,
        one_minus_beta2: 0.05,
        step_size: 1e-4,
        root_correction: 0.3,
        eps: 1e-8,
    };
    on.time("AdamW", (28 * n, 0), |gpu| {
        adamw_step(gpu, &of, clip, all, &step)
    });
}

fn shape((heads, kv_heads, head_dim): (usize, usize, usize)) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f64).sqrt(),
        softcap: None,
        window: None,
    }
}

/// Arrays of attention over `count` segments of `len` tokens.
fn attention(
    on: &mut Bench,
    shape: &AttentionShape,
    (count, len): (usize, usize),
) -> (WorkBufs, Forward<bf16>, Backward<bf16>) {
    let bounds: Vec<u32> = (0..=count).map(|at| (at * len) as u32).collect();
    let list = WorkList::new(&bounds, &[]);
    let work = Work {
        tiles: on.put(&list.tiles),
        ranges: on.put(&list.ranges),
        range_at: on.put(&list.range_at),
    };
    let tokens = count * len;
    let (queries, keys) = (tokens * shape.q_width(), tokens * shape.kv_width());
    let of = Forward {
        q: on.numbers(queries),
        k: on.numbers(keys),
        v: on.numbers(keys),
        out: on.empty(queries),
        lse: on.empty(tokens * shape.heads),
    };
    let to = Backward {
        grad: on.numbers(queries),
        delta: on.empty(tokens * shape.heads),
        dq: on.empty(queries),
        dk: on.empty(keys),
        dv: on.empty(keys),
    };
    (work, of, to)
}

#[test]
fn attention_is_timed() {
    for (heads, kv_heads, head_dim) in [(32, 8, 64), (32, 8, 128), (8, 1, 256)] {
        let mut on = Bench::open();
        let (heads, kv_heads) = if on.is_large {
            (heads, kv_heads)
        } else {
            (2, 1)
        };
        let shape = shape((heads, kv_heads, head_dim));
        for (count, len) in [(4, on.size(2048, 64)), (1, on.size(8192, 96))] {
            let (work, of, to) = attention(&mut on, &shape, (count, len));
            let operations = 2 * count * len * len * shape.q_width();
            let name = format!("width {head_dim}, {heads}/{kv_heads} heads, {count} x {len}");
            on.time(&format!("attention, {name}"), (0, operations), |gpu| {
                attention_forward_fast(gpu, &shape, &work, &of)
            });
            let backward = operations * 5 / 2;
            on.time(
                &format!("attention backward, {name}"),
                (0, backward),
                |gpu| attention_backward_fast(gpu, &shape, &work, &of, &to),
            );
        }
    }
}

#[test]
fn attention_of_any_width_is_timed() {
    let mut on = Bench::open();
    let (count, len) = (2, on.size(512, 32));
    let shape = shape((on.size(32, 2), on.size(8, 1), 80));
    let (work, of, _) = attention(&mut on, &shape, (count, len));
    let operations = 2 * count * len * len * shape.q_width();
    let name = format!("attention, simple, width 80, {count} x {len}");
    on.time(&name, (0, operations), |gpu| {
        attention_forward(gpu, &shape, &work, &of)
    });
}

#[test]
fn a_decoded_token_is_timed() {
    let mut on = Bench::open();
    let (count, len) = (on.size(64, 2), on.size(2048, 70));
    let shape = shape((on.size(32, 2), on.size(8, 1), 128));
    let columns = len.div_ceil(PAGE);
    let pages: Vec<u32> = (0..(count * columns) as u32).collect();
    let sequences: Vec<(&[u32], usize)> = pages.chunks(columns).map(|own| (own, len)).collect();
    let list = SequenceList::new(&sequences, columns);
    let sequences = SequenceBufs {
        pages: on.put(&list.pages),
        lengths: on.put(&list.lengths),
    };
    let cached = count * columns * PAGE * shape.kv_width();
    let cache = Cache {
        keys: on.numbers::<bf16>(cached),
        values: on.numbers(cached),
    };
    let (q, out) = (
        on.numbers(count * shape.q_width()),
        on.empty(count * shape.q_width()),
    );
    let bytes = 4 * count * len * shape.kv_width();
    let name = format!("attention of a decoded token, {count} x {len}");
    on.time(&name, (bytes, 0), |gpu| {
        decode_attention(gpu, &shape, &cache, &sequences, (q, out))
    });
}
