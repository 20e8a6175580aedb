//! Where the tests of kernels run, and how their results are compared.
//!
//! On the emulation, and on a card if there is one. Where `LIONS_TEST_CARD` is set, on the first card alone, which must be
//! there: `machine-code` opens it as the program does, `text` with kernels that its driver compiles.

use crate::gpu::element::bytes_of;
use crate::gpu::{Buf, Element, Emulated, Emulation, Gpu, Schedule, Stored};
use std::path::PathBuf;

/// Most relative error (L2) of f32 arithmetic in another order than that of f64.
pub(crate) const F32: f64 = 2e-6;
/// Most relative error (L2) of attention in f32, whose exponentials are approximations.
pub(crate) const ATTENTION: f64 = 4e-6;
/// Most relative error (L2) of results rounded to bf16.
pub(crate) const BF16: f64 = 4e-3;

/// An emulated device with so much memory.
pub(crate) fn emulated(bytes: usize) -> Emulated {
    let emulation = Emulation {
        launch: lions_emulation::emu_launch,
        kernel: lions_emulation::emu_kernel,
    };
    #[expect(unsafe_code, reason = "functions of another language")]
    // SAFETY: these are the functions of `emu/launch.cc`; the tests upload indices within their arrays.
    let emulated = unsafe { Emulated::new(emulation, bytes) };
    emulated.unwrap()
}

/// The card that the environment asks for.
fn named_card() -> Option<Box<dyn Gpu>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs the tests says where"
    )]
    let kernels = std::env::var("LIONS_TEST_CARD").ok()?;
    Some(open_named(&kernels))
}

#[cfg(not(feature = "gpu"))]
fn open_named(_: &str) -> Box<dyn Gpu> {
    panic!("no card: {}", crate::gpu::GpuError::NotBuiltIn)
}

#[cfg(feature = "gpu")]
fn open_named(kernels: &str) -> Box<dyn Gpu> {
    use crate::gpu::{Cuda, GpuError};
    let card = match kernels {
        "machine-code" => Cuda::open(0, &[]),
        "text" => Cuda::open_with_text(0),
        _ => panic!("`LIONS_TEST_CARD` is machine-code or text"),
    };
    let card = card.unwrap_or_else(|error| match error {
        GpuError::NoDriver | GpuError::NoDevice { .. } => panic!("no card: {error}"),
        _ => panic!("the card does not open: {error}"),
    });
    let taken = ["text", "machine code"][usize::from(card.has_machine_code())];
    println!("on {}, kernels as {taken}", card.name());
    Box::new(card)
}

/// The card that was asked for, else an emulated device with so much memory.
pub(crate) fn device(bytes: usize) -> Box<dyn Gpu> {
    named_card().unwrap_or_else(|| Box::new(emulated(bytes)))
}

/// A folder of the repository, from wherever in it the tests run.
pub(crate) fn folder(path: &str) -> PathBuf {
    let here = std::env::current_dir().unwrap();
    let mut places = here.ancestors().map(|above| above.join(path));
    places.find(|place| place.is_dir()).unwrap()
}

/// Small models in `tests/golden/families`, of every family of decoders.
pub(crate) const FAMILIES: [&str; 9] = [
    "llama-gqa",
    "llama3-rope",
    "llama-bias",
    "smollm",
    "mistral",
    "gemma",
    "gemma2",
    "qwen2",
    "qwen3",
];

/// The folder of one of [`FAMILIES`].
pub(crate) fn family(name: &str) -> PathBuf {
    folder("tests/golden/families").join(name)
}

/// Tokens of the vocabulary, of 96, of [`FAMILIES`]; the same for the same seed.
pub(crate) fn ids(seed: u32, count: u32) -> Vec<u32> {
    (0..count)
        .map(|i| (i * 37 + seed * 11 + i * i) % 96)
        .collect()
}

/// A device under test.
pub(crate) struct Device<'a> {
    gpu: &'a mut dyn Gpu,
    /// Digest of all that was read.
    seen: blake3::Hasher,
}

impl Device<'_> {
    pub(crate) fn gpu(&mut self) -> &mut dyn Gpu {
        self.gpu
    }

    pub(crate) fn put<T: Element>(&mut self, values: &[T]) -> Buf<T> {
        let buf = self.gpu.alloc(values.len()).unwrap();
        self.gpu.upload(values, buf).unwrap();
        buf
    }

    /// Poison.
    pub(crate) fn empty<T: Element>(&mut self, len: usize) -> Buf<T> {
        let buf = self.gpu.alloc::<T>(len).unwrap();
        self.gpu.fill(buf.region(), 0xff).unwrap();
        buf
    }

    pub(crate) fn get<T: Element + Default>(&mut self, buf: Buf<T>) -> Vec<T> {
        let mut values = vec![T::default(); buf.len()];
        self.gpu.download(buf, &mut values).unwrap();
        self.seen.update(bytes_of(&values));
        values
    }
}

const SCHEDULES: [(Schedule, u32); 4] = [
    (Schedule::Forward, 1),
    (Schedule::Backward, 1),
    (Schedule::Random(7), 1),
    (Schedule::Random(8), 2),
];

/// Runs a test on the emulation under several schedules and with one and two OS threads, and twice on a card if there
/// is one. What it reads must be the same bits each time.
pub(crate) fn on_devices(test: impl Fn(&mut Device)) {
    if on_named_card(&test) {
        return;
    }
    let runs = SCHEDULES.map(|(schedule, os_threads)| {
        let mut gpu = emulated(1 << 28);
        gpu.run_by(schedule, os_threads);
        bits_of(&mut gpu, &test)
    });
    assert!(
        runs.iter().all(|run| *run == runs[0]),
        "bits depend on the schedule"
    );
    on_card(&test);
}

/// As [`on_devices`], with one schedule.
pub(crate) fn on_devices_once(test: impl Fn(&mut Device)) {
    if on_named_card(&test) {
        return;
    }
    bits_of(&mut emulated(1 << 28), &test);
    on_card(&test);
}

/// On one device; nothing is compared.
pub(crate) fn on_one(gpu: &mut dyn Gpu, test: impl Fn(&mut Device)) {
    bits_of(gpu, &test);
}

fn bits_of(gpu: &mut dyn Gpu, test: &impl Fn(&mut Device)) -> blake3::Hash {
    let seen = blake3::Hasher::new();
    let mut device = Device { gpu, seen };
    test(&mut device);
    device.seen.finalize()
}

/// Twice on the card that was asked for, if one was.
fn on_named_card(test: &impl Fn(&mut Device)) -> bool {
    // One after the other: a thread has one card.
    let run = |()| Some(bits_of(named_card()?.as_mut(), test));
    let twice = [(), ()].map(run);
    assert_eq!(twice[0], twice[1], "two runs on the card differ");
    twice[0].is_some()
}

#[cfg(not(feature = "gpu"))]
fn on_card(_: &impl Fn(&mut Device)) {}

#[cfg(feature = "gpu")]
fn on_card(test: &impl Fn(&mut Device)) {
    use crate::gpu::{Cuda, GpuError};
    let twice = [(); 2].map(|()| match Cuda::open(0, &[]) {
        Ok(mut card) => Some(bits_of(&mut card, test)),
        Err(GpuError::NoDriver | GpuError::NoDevice { .. }) => None,
        Err(e) => panic!("{e}"),
    });
    assert_eq!(twice[0], twice[1], "two runs on the card differ");
}

/// Numbers between -1 and 1, the same for the same seed.
pub(crate) fn noise<T: Stored>(n: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| T::of(next())).collect()
}

/// In f64.
pub(crate) fn wide<T: Stored>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| f64::from(v.wide())).collect()
}

/// Fails if the relative L2 distance is larger; NaN is infinitely far.
#[track_caller]
pub(crate) fn agree<T: Stored>(what: &str, got: &[T], want: &[f64], tolerance: f64) {
    let got = wide(got);
    assert_eq!(got.len(), want.len(), "{what}");
    let apart: f64 = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = want.iter().map(|b| b * b).sum();
    let error = (apart / (size + 1e-300)).sqrt();
    assert!(
        error <= tolerance,
        "{what}: {error:.2e}, {tolerance:.0e} allowed"
    );
}
