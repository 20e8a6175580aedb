//! Rows on the emulation against those on the CPU, in every family of decoders.

use crate::arch::DecoderConfig;
use crate::base::SeedTree;
use crate::config::spec::SamplingRecipe;
use crate::generate::{Completion, Generator, Room, SampleJob, sample, sample_watched};
use crate::gpu::testing::{FAMILIES, emulated, family, ids};
use crate::gpu::{SharedGpu, Stored};
use crate::model::{Decoder, DeviceModel, FrozenParams};
use candle_core::{DType, Device};
use half::bf16;
use std::path::Path;

/// Relative error (L2) allowed between two orders of the same sums in f32; the device's exponentials are approximations.
const F32: f64 = 1e-5;
/// How many times as far as the host's bf16 that of the device may be from f32: its cache is bf16, too, and its sums round
/// in other places.
const BF16_ERRORS: f64 = 2.0;

/// Of a model that was made for 64 positions: of more, so that rows go over the end of a page.
fn config(folder: &Path) -> DecoderConfig {
    DecoderConfig {
        max_positions: 256,
        ..DecoderConfig::from_file(folder).unwrap()
    }
}

fn host(folder: &Path, dtype: DType) -> Decoder {
    let config = config(folder);
    let params = FrozenParams::load(folder, &config, &Device::Cpu, dtype).unwrap();
    Decoder::frozen(&config, &params).unwrap()
}

fn device<T: Stored>(folder: &Path, bytes: usize) -> DeviceModel<T> {
    DeviceModel::open(Box::new(emulated(bytes)), folder, &config(folder)).unwrap()
}

/// Logits of prompts and of some steps behind them, rows joining and leaving.
fn logits(model: &mut dyn Generator) -> Vec<f64> {
    let room = Room {
        rows: 3,
        prompt: 9,
        positions: 14,
    };
    let mut rows = model.rows(room).unwrap();
    assert_eq!(rows.most(), 3);
    let (a, b, c) = (ids(1, 9), ids(2, 1), ids(3, 5));
    let mut all = rows.prefill(&[&a, &b]).unwrap().to_vec();
    rows.start(&[0, 0, 1]).unwrap();
    for tokens in [[5, 6, 7], [8, 9, 10]] {
        all.extend(rows.decode(&tokens).unwrap());
    }
    rows.keep(&[1, 2]).unwrap();
    all.extend(rows.prefill(&[&c]).unwrap());
    all.extend(rows.decode(&[11, 12]).unwrap());
    rows.start(&[0]).unwrap();
    all.extend(rows.decode(&[13, 14, 15]).unwrap());
    all.into_iter().map(f64::from).collect()
}

fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let apart: f64 = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = want.iter().map(|b| b * b).sum();
    (apart / size).sqrt()
}

#[test]
fn rows_of_every_family_are_those_of_the_host() {
    for name in FAMILIES {
        let folder = family(name);
        let want = logits(&mut host(&folder, DType::F32));
        assert_eq!(want.len(), (2 + 3 + 3 + 1 + 2 + 3) * 96);
        let error = distance(&logits(&mut device::<f32>(&folder, 1 << 24)), &want);
        assert!(error <= F32, "{name}: {error:.2e}");
        let least = distance(&logits(&mut host(&folder, DType::BF16)), &want);
        let error = distance(&logits(&mut device::<bf16>(&folder, 1 << 24)), &want);
        assert!(least > 1e-4, "{name}: nothing was rounded");
        assert!(
            error <= BF16_ERRORS * least,
            "{name}: {error:.2e}, on the host {least:.2e}"
        );
    }
}

/// Samples of prompts of which one fills a page, and one crosses to its second.
fn samples(model: &mut dyn Generator, batch: usize) -> Vec<Completion> {
    drawn_by(model, batch, (1.0, 0.9), false)
}

/// The same by temperature and nucleus; watched, so that logits go to the host, which draws.
fn drawn_by(
    model: &mut dyn Generator,
    batch: usize,
    (temperature, top_p): (f64, f64),
    watched: bool,
) -> Vec<Completion> {
    let prompts = [ids(4, 64), ids(5, 3), ids(6, 61), ids(7, 12)];
    let job = SampleJob {
        prompts: &prompts,
        samples: 2,
        recipe: &SamplingRecipe {
            temperature: temperature.try_into().unwrap(),
            top_p: top_p.try_into().unwrap(),
            max_new_tokens: 7.try_into().unwrap(),
        },
        stop: &[3, 17],
        seed: &SeedTree::root(11),
        batch,
        until: None,
    };
    if watched {
        let mut told = 0_usize;
        let drawn = sample_watched(model, &job, &mut |_| told += 1, &mut |_| true).unwrap();
        let tokens: usize = drawn.iter().map(|c| c.tokens.len()).sum();
        assert!(told >= tokens, "{told} of {tokens}");
        return drawn;
    }
    sample(model, &job, &mut |_| true).unwrap()
}

#[test]
fn tokens_drawn_on_the_device_are_those_that_the_host_draws_from_its_logits() {
    let mut model = device::<bf16>(&family("gemma2"), 1 << 24);
    for how in [(0.0, 1.0), (1.0, 1.0), (0.8, 0.6), (1.3, 0.97)] {
        let on_device = drawn_by(&mut model, 3, how, false);
        assert!(on_device == drawn_by(&mut model, 3, how, true), "{how:?}");
    }
}

#[test]
fn samples_are_those_of_the_host_whatever_the_batch_and_the_memory() {
    let folder = family("qwen3");
    let want = samples(&mut host(&folder, DType::F32), 5);
    assert!(want.iter().any(|c| c.finished) && want.iter().any(|c| c.tokens.len() == 7));
    let mut model = device::<f32>(&folder, 1 << 24);
    let before = model.gpu.memory().unwrap().free;
    for batch in [1, 3, usize::MAX] {
        assert!(samples(&mut model, batch) == want, "batch {batch}");
    }
    // What is still held is the memory of passes: caches are given back.
    let held = before - model.gpu.memory().unwrap().free;
    assert!(samples(&mut model, usize::MAX) == want);
    assert_eq!(before - model.gpu.memory().unwrap().free, held);
}

#[test]
fn a_device_of_little_memory_takes_fewer_rows_and_one_that_is_shared_gets_them_back() {
    let folder = family("llama-gqa");
    let config = config(&folder);
    let shared = SharedGpu::new(Box::new(emulated(3_000_000)));
    let room = Room {
        rows: 100,
        prompt: 9,
        positions: 100,
    };
    let most = |shared: &SharedGpu| {
        let mut model = DeviceModel::<f32>::open(shared.lend(), &folder, &config).unwrap();
        model.rows(room).unwrap().most()
    };
    let alone = most(&shared);
    assert!((2..100).contains(&alone), "{alone} rows");
    let mut beside = shared.lend();
    beside.alloc_bytes(200_000).unwrap();
    assert!(most(&shared) < alone);
    drop(beside);
    assert_eq!(most(&shared), alone);
    let want = samples(&mut host(&folder, DType::F32), 8);
    let mut model = DeviceModel::<f32>::open(shared.lend(), &folder, &config).unwrap();
    assert!(samples(&mut model, 8) == want);
}

#[test]
fn rows_that_are_not_there_are_refused_and_harm_nothing() {
    let mut model = device::<f32>(&family("llama-gqa"), 1 << 24);
    let room = Room {
        rows: 2,
        prompt: 2,
        positions: 64,
    };
    let mut rows = model.rows(room).unwrap();
    assert_eq!(rows.prefill(&[&[1, 40]]).unwrap().len(), 96);
    assert!(rows.start(&[1]).is_err(), "one prompt was read");
    assert!(rows.start(&[0, 0, 0]).is_err(), "there is room for two");
    rows.start(&[0]).unwrap();
    assert!(rows.decode(&[5, 6]).is_err(), "there is one row");
    assert!(rows.keep(&[1]).is_err());
    let first = rows.decode(&[5]).unwrap().to_vec();
    let refused = rows.decode(&[96]).unwrap_err().to_string();
    assert_eq!(refused, "rows: token 96 of 96");
    assert!(rows.prefill(&[&[]]).is_err());
    rows.keep(&[]).unwrap();
    assert!(rows.decode(&[]).unwrap().is_empty());
    rows.prefill(&[&[1, 40]]).unwrap();
    rows.start(&[0]).unwrap();
    assert!(rows.decode(&[5]).unwrap() == first);
    for _ in 0..61 {
        rows.decode(&[5]).unwrap();
    }
    assert!(rows.decode(&[5]).is_err(), "the room is full");
}
