//! How fast each instruction set of this processor makes what a training step is made of.
//!
//! `cargo bench -p lions-kernels [-- PART OF A NAME]`. Sets take turns, so that what
//! else the machine does reaches all of them; a number is the best and the median of many short runs.

#![expect(clippy::print_stdout, reason = "its output")]

use lions_kernels::attention::{SegmentInputs, attention_backward, attention_forward};
use lions_kernels::isa::{Isa, use_on_this_thread};
use lions_kernels::mat::{MatRef, Store};
use lions_kernels::matmul::{Operands, PackedB, matmul, matmul_packed};
use lions_kernels::segments::Segments;
use lions_kernels::shape::AttentionShape;
use std::time::{Duration, Instant};

const ROUNDS: usize = 40;

fn wave(len: usize, step: f32) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * step).sin()).collect()
}

/// Measures `run`, which does `work` operations, on every set in turn.
fn compare(only: Option<&str>, name: &str, work: f64, mut run: impl FnMut()) {
    if only.is_some_and(|only| !name.contains(only)) {
        return;
    }
    let sets = Isa::available();
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); sets.len()];
    for round in 0..=ROUNDS {
        for (set, times) in sets.iter().zip(&mut times) {
            if set.name() == "baseline" && round > 3 {
                continue;
            }
            use_on_this_thread(Some(*set));
            let start = Instant::now();
            run();
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    print!("{name:<34}");
    for (set, mut times) in sets.iter().zip(times) {
        times.sort();
        let rate = |time: Duration| work / time.as_secs_f64() / 1e9;
        let (best, median) = (rate(times[0]), rate(times[times.len() / 2]));
        print!("  {} {best:7.1} {median:7.1}", set.name());
    }
    println!();
}

fn product(only: Option<&str>, operands: Operands, (m, n, k): (usize, usize, usize)) {
    let (a, b) = (wave(m * k, 0.37), wave(k * n, 0.59));
    let mut c = vec![0.0; m * n];
    let work = 2.0 * (m * n * k) as f64;
    let name = |how: &str| format!("{operands:?} {how} {m}x{n}x{k}");
    compare(only, &name("x w^T"), work, || {
        let w = MatRef::transposed(&b, k);
        matmul(
            operands,
            (m, n, k),
            MatRef::new(&a, k),
            w,
            &mut c,
            Store::Set,
        );
    });
    compare(only, &name("g w"), work, || {
        let w = MatRef::new(&b, n);
        matmul(
            operands,
            (m, n, k),
            MatRef::new(&a, k),
            w,
            &mut c,
            Store::Set,
        );
    });
    compare(only, &name("g^T x"), work, || {
        let a = MatRef::transposed(&a, m);
        matmul(
            operands,
            (m, n, k),
            a,
            MatRef::new(&b, n),
            &mut c,
            Store::Add,
        );
    });
}

fn attend(only: Option<&str>, name: &str, shape: AttentionShape, lengths: &[u32]) {
    let mut bounds = vec![0];
    for length in lengths {
        bounds.push(bounds[bounds.len() - 1] + length);
    }
    let tokens = bounds[bounds.len() - 1] as usize;
    let segments = Segments::new(&bounds);
    let (qw, kw) = (shape.q_width(), shape.kv_width());
    let (q, grad) = (wave(tokens * qw, 0.37), wave(tokens * qw, 0.71));
    let (k, v) = (wave(tokens * kw, 0.59), wave(tokens * kw, 0.83));
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; tokens * shape.heads]);
    let pairs: f64 = lengths
        .iter()
        .map(|&l| f64::from(l) * f64::from(l + 1) / 2.0)
        .sum();
    let work = 4.0 * pairs * qw as f64;
    compare(only, &format!("attention {name} forward"), work, || {
        attention_forward(&shape, &segments, (&q, &k, &v), &mut out, &mut lse);
    });
    attention_forward(&shape, &segments, (&q, &k, &v), &mut out, &mut lse);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    compare(
        only,
        &format!("attention {name} backward"),
        2.5 * work,
        || {
            let inputs = SegmentInputs {
                q: &q,
                k: &k,
                v: &v,
                out: &out,
                lse: &lse,
                grad: &grad,
            };
            attention_backward(&shape, &segments, inputs, (&mut dq, &mut dk, &mut dv));
        },
    );
}

fn main() {
    let only = std::env::args().nth(1).filter(|arg| arg != "--bench");
    let only = only.as_deref();
    // The shipped model, the 15M shape, a head's block.
    for shape in [
        (256, 64, 64),
        (256, 32, 64),
        (256, 172, 64),
        (256, 64, 172),
        (172, 64, 2048),
        (256, 288, 288),
        (256, 768, 288),
        (256, 288, 768),
        (768, 288, 2048),
        (240, 512, 288),
        (1024, 1024, 1024),
    ] {
        for operands in [Operands::Exact, Operands::Bf16] {
            product(only, operands, shape);
        }
    }
    let operands = Operands::Exact;
    for (m, n, k) in [(256, 64, 64), (256, 768, 288), (1024, 1024, 1024)] {
        let (a, b) = (wave(m * k, 0.37), wave(k * n, 0.59));
        let mut c = vec![0.0; m * n];
        let packed: Vec<PackedB<f32>> = Isa::available()
            .into_iter()
            .map(|set| {
                use_on_this_thread(Some(set));
                PackedB::new(operands, MatRef::new(&b, n), (k, n))
            })
            .collect();
        let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        compare(
            only,
            &format!("packed {m}x{n}x{k}"),
            2.0 * (m * n * k) as f64,
            || {
                let set = lions_kernels::isa::instruction_set();
                let at = names.iter().position(|name| *name == set).unwrap_or(0);
                matmul_packed(m, MatRef::new(&a, k), &packed[at], &mut c, Store::Set);
            },
        );
    }
    let shape = |heads, kv_heads, head_dim| AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 0.3,
        softcap: None,
        window: None,
    };
    attend(only, "8 heads of 8", shape(8, 4, 8), &[250, 180, 300, 220]);
    attend(only, "6 heads of 48", shape(6, 6, 48), &[256]);
    attend(only, "4 heads of 64", shape(4, 2, 64), &[512]);
}
