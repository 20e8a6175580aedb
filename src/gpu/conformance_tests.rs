//! Every function of `kernels/gpu.h` by itself: what the emulation says the device's instructions do, and on a card
//! what they do. All but the approximations are exact.

#![expect(clippy::float_cmp, reason = "these results are exact")]

use crate::gpu::call::{Arg, Call, Entry, Launch, entry};
use crate::gpu::testing::{Device, F32, agree, noise, on_devices, wide};
use half::bf16;

const CONVERT: Entry = entry!("check_convert", "&f32 *bf16 *f32 *u32 i32");
const BITS: Entry = entry!("check_bits", "&f32 &i16 *u32 *f32 i32");
const FUNCTIONS: Entry = entry!("check_functions", "&f32 *f32 *f64 *f64 i32");
const APPROXIMATIONS: Entry = entry!("check_approximations", "&f32 *f32 i32");
const WARP: Entry = entry!("check_warp", "&f32 *f32 *f32");
const SHUFFLES: Entry = entry!("check_shuffles", "&f64 &i32 *f64 *i32");
const BLOCK: Entry = entry!("check_block", "&i32 *i32 i32 i32");
const INDICES: Entry = entry!("check_indices", "*i32");
const WIDE: Entry = entry!("check_wide", "&u32 *u32");
const COPY: Entry = entry!("check_copy", "&bf16 *bf16 i32");
const LDMATRIX: Entry = entry!("check_ldmatrix", "&bf16 *u32");
const MMA: Entry = entry!("check_mma", "&u32 &u32 &f32 *f32");
const NOTHING: Entry = entry!("check_nothing", "*i32");
const TILE: Entry = entry!("tile_16", "&bf16 &bf16 *f32");

/// The kernels of `conformance.cu` and `tile.cu`.
pub(crate) const CHECKS: &[&Entry] = &[
    &CONVERT,
    &BITS,
    &FUNCTIONS,
    &APPROXIMATIONS,
    &WARP,
    &SHUFFLES,
    &BLOCK,
    &INDICES,
    &WIDE,
    &COPY,
    &LDMATRIX,
    &MMA,
    &NOTHING,
    &TILE,
];

/// Most error of the functions, relative, but near zero absolute: a few units in the last place.
const ACCURATE: f64 = 4e-7;
/// The same of the approximations of 2^x, log2, 1 / sqrt and tanh: what the manual says of the instructions, and for tanh
/// what two of them add up to.
const APPROXIMATE: [f64; 4] = [4e-6, 1e-5, 1e-6, 4e-5];

fn run(device: &mut Device, entry: &Entry, launch: Launch, args: impl Into<Vec<Arg>>) {
    Call::new(entry, launch, args).run(device.gpu()).unwrap();
}

/// Bits of all kinds.
fn bits(n: usize, seed: u64) -> Vec<u32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 32) as u32
    };
    (0..n).map(|_| next()).collect()
}

/// NaNs are one NaN on the device.
fn narrow(x: f32) -> u16 {
    if x.is_nan() {
        0x7fff
    } else {
        bf16::from_f32(x).to_bits()
    }
}

#[test]
fn conversions_are_exact_for_every_kind_of_number() {
    // Ties, the numbers beside them, the largest, the smallest, infinities and NaNs.
    let special = [
        0,
        0x8000_0000,
        0x3f80_0000,
        0x3f80_8000,
        0x3f81_8000,
        0x3f80_8001,
        0x3f80_7fff,
        0x7f7f_ffff,
        0x7f7f_7fff,
        0xff7f_ffff,
        1,
        0x8000,
        0x8001,
        0x18000,
        0x7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0xffc1_2345,
    ];
    let x: Vec<f32> = special
        .into_iter()
        .chain(bits(4076, 1))
        .map(f32::from_bits)
        .collect();
    let n = x.len();
    on_devices(|device| {
        let (from, short, long, packed) = (
            device.put(&x),
            device.empty::<bf16>(n),
            device.empty::<u32>(n),
            device.empty::<u32>(n),
        );
        // Read as bits: a NaN is not equal to itself.
        let long_f32 = crate::gpu::Buf::<f32>::new(long.region());
        let args = [
            Arg::read(from),
            Arg::write(short),
            Arg::write(long_f32),
            Arg::write(packed),
            Arg::int(n),
        ];
        run(device, &CONVERT, Launch::of(32, 128), args);
        let (short, long, packed) = (device.get(short), device.get(long), device.get(packed));
        for i in 0..n {
            let (low, high) = (u32::from(narrow(x[i])), u32::from(narrow(x[n - 1 - i])));
            assert_eq!(u32::from(short[i].to_bits()), low, "{:?}", x[i]);
            assert_eq!(long[i], low << 16, "{:?}", x[i]);
            assert_eq!(packed[i], low | high << 16, "{:?}", x[i]);
        }
    });
}

#[test]
fn bits_of_numbers_are_theirs_and_whole_numbers_of_16_bits_keep_their_sign() {
    let x: Vec<f32> = bits(1000, 3).into_iter().map(f32::from_bits).collect();
    let add: Vec<i16> = bits(1000, 4).into_iter().map(|bits| bits as i16).collect();
    on_devices(|device| {
        let (from, by) = (device.put(&x), device.put(&add));
        let (of, moved) = (device.empty::<u32>(1000), device.empty::<u32>(1000));
        // Read as bits: a NaN is not equal to itself.
        let moved_f32 = crate::gpu::Buf::<f32>::new(moved.region());
        let args = [
            Arg::read(from),
            Arg::read(by),
            Arg::write(of),
            Arg::write(moved_f32),
            Arg::int(1000),
        ];
        run(device, &BITS, Launch::of(8, 128), args);
        let (of, moved) = (device.get(of), device.get(moved));
        for at in 0..1000 {
            assert_eq!(of[at], x[at].to_bits());
            let sum = x[at].to_bits().wrapping_add_signed(i32::from(add[at]));
            assert_eq!(moved[at], sum, "{:?} and {}", x[at], add[at]);
        }
    });
}

#[test]
fn functions_are_accurate_and_approximations_are_close() {
    let x: Vec<f32> = noise::<f32>(1024, 1).iter().map(|x| x * 20.0).collect();
    let fours = |f: [fn(f64) -> f64; 4]| -> Vec<f64> {
        let x = x.iter().map(|&x| f64::from(x));
        x.flat_map(|x| [f[0](x), f[1](x.abs()), f[2](x.abs()), f[3](x)])
            .collect()
    };
    let accurate = fours([f64::exp, f64::ln, f64::sqrt, f64::tanh]);
    let close = fours([f64::exp2, f64::log2, |x| 1.0 / x.sqrt(), f64::tanh]);
    // The worst number, not the mean: relative, but near zero absolute. `f64::max` would pass over NaN.
    let worst = |got: &[f32], want: &[f64], which: usize| {
        let pairs = got.iter().zip(want).skip(which).step_by(4);
        let apart = pairs.map(|(&got, want)| (f64::from(got) - want).abs() / want.abs().max(1e-2));
        apart.fold(0.0, |worst: f64, apart| {
            assert!(!apart.is_nan(), "function {which} is not a number");
            worst.max(apart)
        })
    };
    on_devices(|device| {
        let n = x.len();
        let (from, y, [roots, powers]) = (
            device.put(&x),
            device.empty::<f32>(4 * n),
            [(); 2].map(|()| device.empty::<f64>(n)),
        );
        let args = [
            Arg::read(from),
            Arg::write(y),
            Arg::write(roots),
            Arg::write(powers),
            Arg::int(n),
        ];
        run(device, &FUNCTIONS, Launch::of(8, 128), args);
        let got = device.get(y);
        for which in 0..4 {
            let error = worst(&got, &accurate, which);
            assert!(error < ACCURATE, "function {which}: {error:.1e}");
        }
        let roots = device.get(roots);
        assert!(
            x.iter()
                .zip(&roots)
                .all(|(&x, &root)| f64::from(x).abs().sqrt() == root)
        );
        let powers = device.get(powers);
        let right = |(&x, &power): (&f32, &f64)| {
            let want = f64::from(x).exp();
            (power - want).abs() <= 4.0 * f64::EPSILON * want
        };
        assert!(x.iter().zip(&powers).all(right));
        let args = [Arg::read(from), Arg::write(y), Arg::int(n)];
        run(device, &APPROXIMATIONS, Launch::of(8, 128), args);
        let got = device.get(y);
        for (which, most) in APPROXIMATE.into_iter().enumerate() {
            let error = worst(&got, &close, which);
            assert!(error < most, "approximation {which}: {error:.1e}");
        }
    });
}

#[test]
fn shuffles_are_exact() {
    let x = noise::<f32>(64, 1);
    let (d, i): (Vec<f64>, Vec<i32>) = (
        wide(&noise::<f32>(32, 2)),
        (0..32).map(|i| i * 7919 - 5).collect(),
    );
    on_devices(|device| {
        let (from, y, sums) = (
            device.put(&x),
            device.empty::<f32>(64 * 32),
            device.empty::<f32>(64),
        );
        run(
            device,
            &WARP,
            Launch::of(1, 64),
            [Arg::read(from), Arg::write(y), Arg::write(sums)],
        );
        let (y, sums) = (device.get(y), device.get(sums));
        for at in 0..64 {
            let (warp, lane) = (at / 32 * 32, at % 32);
            assert!((0..32).all(|mask| y[at * 32 + mask] == x[warp + (lane ^ mask)]));
            assert_eq!(sums[at], sums[warp]);
        }
        let want: Vec<f64> = wide(&x).chunks(32).map(|warp| warp.iter().sum()).collect();
        agree("sums", &[sums[0], sums[32]], &want, F32);

        let (bd, bi) = (device.put(&d), device.put(&i));
        let (yd, yi) = (device.empty::<f64>(1056), device.empty::<i32>(1056));
        let args = [Arg::read(bd), Arg::read(bi), Arg::write(yd), Arg::write(yi)];
        run(device, &SHUFFLES, Launch::of(1, 32), args);
        let (yd, yi) = (device.get(yd), device.get(yi));
        for at in 0..1056 {
            let from = if at < 1024 { at % 32 } else { (at - 1024) ^ 5 };
            assert_eq!((yd[at], yi[at]), (d[from], i[from]));
        }
    });
}

#[test]
fn barriers_order_shared_memory_to_its_last_byte() {
    let x: Vec<i32> = bits(256, 3).into_iter().map(u32::cast_signed).collect();
    let rounds = 50;
    let mut v = x.clone();
    for r in 0..rounds {
        let next = (0..256).map(|i| v[(i + r + 1) % 256].wrapping_mul(3).wrapping_add(1));
        v = next.collect();
    }
    let want: Vec<i32> = v.iter().map(|&y| y ^ v[0]).collect();
    on_devices(|device| {
        for last in [1024, 48 << 10, 96 << 10] {
            let (from, to) = (device.put(&x), device.empty::<i32>(256));
            let args = [
                Arg::read(from),
                Arg::write(to),
                Arg::int(rounds),
                Arg::int(last),
            ];
            run(device, &BLOCK, Launch::of(1, 256).sharing(last + 4), args);
            assert_eq!(device.get(to), want);
        }
    });
}

#[test]
fn indices_run_three_ways_and_wide_accesses_keep_their_words() {
    let x = bits(128, 4);
    on_devices(|device| {
        let y = device.empty::<i32>(2 * 3 * 5 * 24);
        let launch = Launch {
            grid: [5, 3, 2],
            block: [4, 3, 2],
            shared: 0,
        };
        run(device, &INDICES, launch, [Arg::write(y)]);
        assert!(
            device
                .get(y)
                .iter()
                .enumerate()
                .all(|(i, &y)| y as usize == i / 24 * 1000 + i % 24)
        );
        let (from, to) = (device.put(&x), device.empty::<u32>(128));
        run(
            device,
            &WIDE,
            Launch::of(1, 32),
            [Arg::read(from), Arg::write(to)],
        );
        let got = device.get(to);
        assert!((0..128).all(|at| got[(31 - at / 4) * 4 + at % 4] == x[at / 4 * 4 + (at + 1) % 4]));
        run(
            device,
            &NOTHING,
            Launch::of(1, 32),
            [Arg::write_if::<i32>(None)],
        );
    });
}

#[test]
fn copies_arrive_by_groups_and_are_zero_where_nothing_is() {
    let x = noise::<bf16>(96 * 8, 5);
    on_devices(|device| {
        for far in [0, 90_000] {
            let (from, to) = (device.put(&x), device.empty::<bf16>(96 * 8));
            let args = [Arg::read(from), Arg::write(to), Arg::int(far)];
            run(
                device,
                &COPY,
                Launch::of(1, 32).sharing(far + 96 * 16),
                args,
            );
            for (at, got) in device.get(to).into_iter().enumerate() {
                let (group, lane) = (at / 256, at / 8 % 32);
                let there = (lane + group) % 3 != 0;
                assert_eq!(got, if there { x[at] } else { bf16::ZERO });
            }
        }
    });
}

#[test]
fn matrices_are_loaded_as_the_isa_says() {
    let x: Vec<bf16> = (0..256u16).map(|i| bf16::from_bits(i * 251 + 17)).collect();
    on_devices(|device| {
        let (from, to) = (device.put(&x), device.empty::<u32>(32 * 8));
        let args = [Arg::read(from), Arg::write(to)];
        run(device, &LDMATRIX, Launch::of(1, 32).sharing(512), args);
        let got = device.get(to);
        for (lane, regs) in got.chunks_exact(8).enumerate() {
            for (m, e) in (0..4).flat_map(|m| [(m, 0), (m, 1)]) {
                let (i, j) = (lane / 4, lane % 4 * 2 + e);
                let half = |reg: u32| (reg >> (16 * e)) as u16;
                assert_eq!(half(regs[m]), x[(m * 8 + i) * 8 + j].to_bits());
                assert_eq!(half(regs[4 + m]), x[(m * 8 + j) * 8 + i].to_bits());
            }
        }
    });
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16": group = lane / 4, pair = lane % 4.
#[test]
fn mma_multiplies_the_fragments_of_the_isa_exactly() {
    let whole = |n: usize, seed: u64| -> Vec<f32> {
        noise::<f32>(n, seed)
            .iter()
            .map(|x| (x * 99.0).trunc())
            .collect()
    };
    let (a, b, c) = (whole(256, 1), whole(128, 2), whole(128, 3));
    let two = |lo: f32, hi: f32| u32::from(narrow(lo)) | u32::from(narrow(hi)) << 16;
    let (mut fa, mut fb, mut want) = (Vec::new(), Vec::new(), Vec::new());
    for lane in 0..32 {
        let (group, pair) = (lane / 4, lane % 4 * 2);
        for r in 0..4 {
            let at = (group + r % 2 * 8) * 16 + pair + r / 2 * 8;
            fa.push(two(a[at], a[at + 1]));
        }
        for r in 0..2 {
            let row = pair + r * 8;
            fb.push(two(b[row * 8 + group], b[(row + 1) * 8 + group]));
        }
        for i in 0..4 {
            let (row, col) = (group + i / 2 * 8, pair + i % 2);
            let sum: f32 = (0..16).map(|k| a[row * 16 + k] * b[k * 8 + col]).sum();
            want.push(c[lane * 4 + i] + 2.0 * sum);
        }
    }
    on_devices(|device| {
        let (fa, fb, c, y) = (
            device.put(&fa),
            device.put(&fb),
            device.put(&c),
            device.empty::<f32>(128),
        );
        let args = [Arg::read(fa), Arg::read(fb), Arg::read(c), Arg::write(y)];
        run(device, &MMA, Launch::of(1, 32), args);
        assert_eq!(device.get(y), want);
    });
}

#[test]
fn a_tile_by_tensor_cores_is_its_product() {
    let (a, b) = (noise::<bf16>(256, 1), noise::<bf16>(256, 2));
    let (wa, wb) = (wide(&a), wide(&b));
    let dot = |i: usize, j: usize| (0..16).map(|k| wa[i * 16 + k] * wb[j * 16 + k]).sum();
    let want: Vec<f64> = (0..256).map(|at| dot(at / 16, at % 16)).collect();
    on_devices(|device| {
        let (a, b, c) = (device.put(&a), device.put(&b), device.empty::<f32>(256));
        let args = [Arg::read(a), Arg::read(b), Arg::write(c)];
        run(device, &TILE, Launch::of(1, 32).sharing(1024), args);
        agree("tile", &device.get(c), &want, F32);
    });
}
