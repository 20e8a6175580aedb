//! What the emulation finds, and what a device does beside kernels and products.

use crate::gpu::call::{Arg, Call, Entry, Launch, entry};
use crate::gpu::conformance_tests::CHECKS;
use crate::gpu::ops::table::entries;
use crate::gpu::testing::emulated;
use crate::gpu::{Buf, Event, Gemm, Gpu, GpuError, Matrix, Schedule};
use half::bf16;
use std::collections::BTreeMap;
use std::time::Duration;

/// Kernels of `emu/faults.cu`, threads of a block, and words of what is said; one of several if it depends on the
/// order.
const FAULTS: &[(Entry, u32, &[&str])] = &[
    (entry!("fault_no_barrier", "*f32"), 128, &["race"]),
    (entry!("fault_no_barrier_in_a_warp", "*f32"), 32, &["race"]),
    (entry!("fault_written_too_early", "*f32"), 128, &["race"]),
    (entry!("fault_replaced_by_the_first", "*f32"), 32, &["race"]),
    (entry!("fault_replaced_by_the_last", "*f32"), 32, &["race"]),
    (entry!("fault_two_writers", "*f32"), 32, &["race"]),
    (entry!("fault_unwritten", "*f32"), 32, &["nobody wrote"]),
    (
        entry!("fault_outside", "*f32"),
        128,
        &["4 bytes at 512 of 512"],
    ),
    (entry!("fault_unaligned", "*f32"), 32, &["unaligned access"]),
    (
        entry!("fault_barrier_in_branches", "*f32"),
        128,
        &["meet at different barriers"],
    ),
    (
        entry!("fault_barrier_of_a_part", "*f32"),
        128,
        &["deadlock"],
    ),
    (
        entry!("fault_lane_left_out", "*f32"),
        32,
        &["deadlock", "which has ended"],
    ),
    (
        entry!("fault_mixed_collectives", "*f32"),
        32,
        &["different collectives"],
    ),
    (
        entry!("fault_part_of_a_warp", "*f32"),
        48,
        &["a warp of 16 threads"],
    ),
    (
        entry!("fault_copy_not_awaited", "*f32"),
        32,
        &["a copy in flight"],
    ),
    (
        entry!("fault_copy_without_a_barrier", "*f32"),
        32,
        &["race", "a copy in flight", "nobody wrote"],
    ),
    (
        entry!("fault_copy_left_in_flight", "*f32"),
        32,
        &["ends with copies in flight"],
    ),
    (
        entry!("fault_unaligned_store", "*f32"),
        32,
        &["unaligned store"],
    ),
    (
        entry!("fault_past_the_end", "*f32"),
        128,
        &["writes beside an array of 512"],
    ),
    (
        entry!("fault_before_the_beginning", "*f32"),
        128,
        &["writes beside an array of 512"],
    ),
];

#[test]
fn every_kind_of_fault_is_found_in_every_order() {
    for (entry, threads, words) in FAULTS {
        for (schedule, os_threads) in [
            (Schedule::Forward, 1),
            (Schedule::Backward, 1),
            (Schedule::Random(3), 1),
            (Schedule::Forward, 2),
        ] {
            let gpu: &mut dyn Gpu = &mut {
                let mut gpu = emulated(1 << 20);
                gpu.run_by(schedule, os_threads);
                gpu
            };
            let y = gpu.alloc::<f32>(128).unwrap();
            let launch = Launch::of(3, *threads).sharing(512);
            let said = match Call::new(entry, launch, [Arg::write(y)]).run(gpu) {
                Err(GpuError::Launch { why, .. }) => why,
                other => panic!("{}, {schedule:?}: {other:?}", entry.name),
            };
            assert!(
                words.iter().any(|w| said.contains(w)),
                "{}: {said}",
                entry.name
            );
        }
    }
}

// What is read outside an array is not noticed; it is not a number, in f32 and in the formats of half and double size.
#[test]
fn what_is_read_beside_an_array_is_not_a_number() {
    for entry in [
        entry!("fault_reads_behind", "*f32"),
        entry!("fault_reads_before", "*f32"),
    ] {
        let gpu: &mut dyn Gpu = &mut emulated(1 << 20);
        let y = gpu.alloc::<f32>(128).unwrap();
        gpu.fill(y.region(), 0).unwrap();
        Call::new(&entry, Launch::of(1, 32), [Arg::write(y)])
            .run(gpu)
            .unwrap();
        let mut got = [0.0; 32];
        gpu.download(y.part(0..32), &mut got).unwrap();
        assert!(got.iter().all(|y| y.is_nan()), "{}: {got:?}", entry.name);
        let bits = u64::from(got[0].to_bits());
        assert!(bf16::from_bits(bits as u16).is_nan());
        assert!(f64::from_bits(bits | bits << 32).is_nan());
    }
}

#[test]
fn a_device_goes_on_after_a_fault() {
    let gpu: &mut dyn Gpu = &mut emulated(1 << 20);
    let y = gpu.alloc::<f32>(128).unwrap();
    let launch = Launch::of(1, 128).sharing(512);
    let bad = Call::new(&FAULTS[0].0, launch, [Arg::write(y)]);
    assert!(bad.clone().run(gpu).is_err() && bad.run(gpu).is_err());
    let good = entry!("fault_none", "*f32");
    Call::new(&good, Launch::of(1, 32), [Arg::write(y)])
        .run(gpu)
        .unwrap();
    let mut got = [0.0; 32];
    gpu.download(y.part(0..32), &mut got).unwrap();
    assert_eq!(got.map(f32::to_bits), [1.0f32.to_bits(); 32]);
}

// A kernel whose arguments differ in C++ and in Rust would read what is not there.
#[test]
fn entry_points_have_the_arguments_of_their_kernels() {
    let mut cpp = emulated(0).kernels();
    cpp.retain(|name, _| !name.starts_with("fault_"));
    let rust = entries().chain(CHECKS.iter().copied());
    let rust: BTreeMap<String, String> = rust.map(|e| (e.name.to_owned(), e.spelt_out())).collect();
    assert_eq!(rust, cpp);
}

// The bounds are those of the smallest card that the kernels are for.
#[test]
fn launches_that_a_card_would_refuse_are_refused() {
    let gpu: &mut dyn Gpu = &mut emulated(0);
    let nothing = CHECKS.iter().find(|e| e.name == "check_nothing").unwrap();
    let plain = Launch::of(1, 32);
    let grid = |grid| Launch { grid, ..plain };
    for (launch, words) in [
        (grid([1, 65_536, 1]), "65535 high"),
        (grid([1, 1, 65_536]), "65535 high"),
        (plain.sharing((99 << 10) + 1), "too much shared memory"),
        (Launch::of(1, 1025), "1 to 1024 threads"),
    ] {
        let call = Call::new(nothing, launch, [Arg::write_if::<i32>(None)]);
        let said = call.run(gpu).unwrap_err().to_string();
        assert!(said.contains(words), "{launch:?}: {said}");
    }
}

#[test]
#[should_panic(expected = "65536 blocks high")]
fn grids_are_not_higher_than_a_card_takes() {
    drop(format!("{:?}", Launch::of(1, 32).by(65_536)));
}

#[test]
#[should_panic(expected = "65536 blocks deep")]
fn grids_are_not_deeper_than_a_card_takes() {
    drop(format!("{:?}", Launch::of(1, 32).by(65_535).deep(65_536)));
}

#[test]
#[should_panic(expected = "check_nothing")]
fn arguments_of_other_types_are_refused() {
    let nothing = CHECKS.iter().find(|e| e.name == "check_nothing").unwrap();
    drop(Call::new(nothing, Launch::of(1, 32), [Arg::int(1)]));
}

#[test]
fn memory_that_is_not_there_is_refused() {
    let gpu: &mut dyn Gpu = &mut emulated(1000);
    let buf = gpu.alloc::<f32>(200).unwrap();
    let error = gpu.alloc::<f32>(100).unwrap_err();
    assert!(
        matches!(
            error,
            GpuError::OutOfMemory {
                wanted: 400,
                free: 200
            }
        ),
        "{error}"
    );
    assert_eq!(gpu.memory().unwrap().free, 200);
    assert!(gpu.upload(&[0.0; 199], buf).is_err());
}

#[test]
fn fresh_memory_is_not_a_number_and_parts_are_copied() {
    let gpu: &mut dyn Gpu = &mut emulated(1000);
    let buf = gpu.alloc::<f32>(8).unwrap();
    let mut got = [0.0f32; 8];
    gpu.download(buf, &mut got).unwrap();
    assert!(got.iter().all(|x| x.is_nan()));
    gpu.upload(&[1.0, 2.0, 3.0], buf.part(0..3)).unwrap();
    gpu.copy(buf.part(1..3), buf.part(4..6)).unwrap();
    gpu.copy(buf.part(1..3), buf.part(2..4)).unwrap_err();
    gpu.download(buf, &mut got).unwrap();
    assert_eq!((got[1], got[4], got[5]), (2.0, 2.0, 3.0));
}

#[test]
fn moments_lie_in_their_order() {
    let gpu: &mut dyn Gpu = &mut emulated(0);
    let first = gpu.event().unwrap();
    let pause = Duration::from_millis(20);
    std::thread::sleep(pause);
    let (second, third) = (gpu.event().unwrap(), gpu.event().unwrap());
    let mut between = |from, to| gpu.elapsed(from, to).unwrap();
    assert!(between(first, second) >= pause);
    assert_eq!(
        between(first, third),
        between(first, second) + between(second, third)
    );
    assert_eq!(between(second, first), Duration::ZERO);
    gpu.elapsed(first, Event(3)).unwrap_err();
}

#[test]
fn memory_is_aligned_and_that_of_another_device_is_refused() {
    let (mine, other): (&mut dyn Gpu, &mut dyn Gpu) = (&mut emulated(1 << 20), &mut emulated(1000));
    let bufs = [1, 3, 500].map(|len| mine.alloc::<f32>(len).unwrap());
    assert!(bufs.iter().all(|buf| buf.region().at.is_multiple_of(256)));
    let (own, strange) = (bufs[2], other.alloc::<f32>(100).unwrap());
    mine.upload(&[0.0; 100], strange).unwrap_err();
    mine.download(strange, &mut [0.0; 100]).unwrap_err();
    mine.fill(strange.region(), 0).unwrap_err();
    mine.copy(strange, own.part(0..100)).unwrap_err();
    mine.copy(own.part(0..100), strange).unwrap_err();
    let nothing = CHECKS.iter().find(|e| e.name == "check_nothing").unwrap();
    let strange_ints = Buf::<i32>::new(strange.region());
    Call::new(nothing, Launch::of(1, 32), [Arg::write(strange_ints)])
        .run(mine)
        .unwrap_err();
    let gemm = Gemm {
        a: Matrix::new(own.part(0..100), 10),
        b: Matrix::new(own.part(100..200), 10),
        c: Matrix::new(strange, 10),
        shape: (10, 10, 10),
        alpha: 1.0,
        beta: 0.0,
    };
    mine.gemm(&gemm).unwrap_err();
}
