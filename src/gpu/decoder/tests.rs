//! Every family of decoders on the emulation, or on a card, against the numbers of transformers.

use crate::arch::{DecoderConfig, Extent, Keep, activation_bytes};
use crate::gpu::decoder::{
    Batch, Found, KeyValues, Layout, Pages, Parts, Passes, Prompt, Sequence, Shape, Weight,
};
use crate::gpu::ops::decode_attention::SequenceList;
use crate::gpu::testing::{FAMILIES, agree, device, emulated, family, folder, ids};
use crate::gpu::{Buf, Gpu, GpuError, Result, Stored};
use half::bf16;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Relative error allowed against PyTorch in f32.
const PARITY: f64 = 1e-4;

/// The documents, and what transformers computes of them.
fn families() -> Value {
    let text = std::fs::read_to_string(folder("tests/golden").join("families.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every f32 array of a safetensors file.
fn arrays(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(header);
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).unwrap();
    let tensors = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    let array = |(name, info): (String, Value)| {
        assert_eq!(info["dtype"], "F32");
        let at = |i: usize| info["data_offsets"][i].as_u64().unwrap() as usize;
        let numbers = data[at(0)..at(1)].as_chunks::<4>().0;
        (
            name,
            numbers.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        )
    };
    tensors.map(array).collect()
}

/// A decoder on a device, all of which learns.
struct OnDevice<T> {
    config: DecoderConfig,
    layout: Layout,
    parts: Parts<Weight<T>>,
    grad: Buf<f32>,
}

fn open<T: Stored>(gpu: &mut dyn Gpu, folder: &Path) -> OnDevice<T> {
    let config = DecoderConfig::from_file(folder).unwrap();
    let layout = Layout::of_model(&config);
    let values = gpu.alloc::<T>(layout.len()).unwrap();
    let grad = gpu.alloc::<f32>(layout.len()).unwrap();
    gpu.fill(grad.region(), 0).unwrap();
    let weights = arrays(&folder.join("model.safetensors"));
    let parts = Parts::build(&config, |name| -> Result<_> {
        let range = layout.get(name).unwrap().range.clone();
        let stored: Vec<T> = weights[name].iter().map(|&x| T::of(x)).collect();
        gpu.upload(&stored, values.part(range.clone()))?;
        Ok(Weight {
            value: values.part(range.clone()),
            grad: Some(grad.part(range)),
            adapter: None,
        })
    });
    OnDevice {
        parts: parts.unwrap(),
        config,
        layout,
        grad,
    }
}

/// The documents behind one another, in tokens, positions and bounds, with all but the first tokens as targets.
struct Documents {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    bounds: Vec<u32>,
    rows: Vec<u32>,
    targets: Vec<u32>,
}

impl Documents {
    fn of(golden: &Value) -> Self {
        let (mut tokens, mut positions, mut bounds) = (Vec::new(), Vec::new(), vec![0]);
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for document in golden["documents"].as_array().unwrap() {
            let ids = document.as_array().unwrap().iter();
            for (at, id) in (0u32..).zip(ids.map(|id| id.as_u64().unwrap() as u32)) {
                if at > 0 {
                    rows.push(tokens.len() as u32 - 1);
                    targets.push(id);
                }
                tokens.push(id);
                positions.push(at);
            }
            bounds.push(tokens.len() as u32);
        }
        Self {
            tokens,
            positions,
            bounds,
            rows,
            targets,
        }
    }

    fn batch<'a>(&'a self, trunks: &'a [u32]) -> Batch<'a> {
        Batch {
            tokens: &self.tokens,
            positions: &self.positions,
            bounds: &self.bounds,
            trunks,
            target_rows: &self.rows,
            targets: &self.targets,
        }
    }
}

/// `n` signs by the rule of `tests/golden/common.py`.
fn signs(seed: u64, n: usize) -> impl Iterator<Item = f64> {
    (0..n as u64).map(move |i| {
        let mut z = (i + (seed << 32)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        if (z ^ (z >> 31)) >> 63 == 1 {
            -1.0
        } else {
            1.0
        }
    })
}

/// Estimated relative distance of an array from the one that a fingerprint is of.
fn distance(got: &[f32], want: &Value) -> f64 {
    let numbers = |key: &str| -> Vec<f64> {
        let list = want[key].as_array().unwrap();
        list.iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let norm = |values: Vec<f64>| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let got: Vec<f64> = got.iter().copied().map(f64::from).collect();
    let projections = numbers("projections");
    let projected = (0..).zip(&projections).map(|(k, want)| {
        let here: f64 = signs(k, got.len()).zip(&got).map(|(s, x)| s * x).sum();
        here - want
    });
    let projected = norm(projected.collect()) / (projections.len() as f64).sqrt();
    let head = numbers("head")
        .iter()
        .zip(&got)
        .map(|(a, b)| a - b)
        .collect();
    projected.max(norm(head)) / want["norm"].as_f64().unwrap().max(1e-30)
}

/// Without adapters, with so many rows of logits at a time.
fn shape(head_rows: usize) -> Shape {
    Shape {
        head_rows,
        rank: 0,
        recompute: false,
    }
}

/// Loss and gradients, by name, of a family; logits are made for some rows at a time.
fn step<T: Stored>(
    name: &str,
    recompute: bool,
    head_rows: usize,
) -> (f64, BTreeMap<String, Vec<f32>>) {
    let gpu: &mut dyn Gpu = &mut *device(1 << 24);
    let on: OnDevice<T> = open(gpu, &family(name));
    let documents = Documents::of(&families());
    let trunks: Vec<u32> = (0..documents.bounds.len() as u32 - 1).collect();
    let batch = documents.batch(&trunks);
    let shape = Shape {
        recompute,
        ..shape(head_rows)
    };
    let mut passes = Passes::new(&on.config, shape);
    let count = batch.targets.len() as f32;
    let found = passes.summed(gpu, &on.parts, &batch, -1.0 / count).unwrap();
    let sum = |logps: &[f32]| logps.iter().map(|&x| f64::from(x)).sum::<f64>();
    let scored = passes.score(gpu, &on.parts, &batch).unwrap();
    assert_eq!(scored, found, "a pass without gradients");
    let mut all = vec![0.0; on.grad.len()];
    gpu.download(on.grad, &mut all).unwrap();
    let gradient = |(name, place): (&str, &crate::gpu::decoder::Place)| {
        (name.to_owned(), all[place.range.clone()].to_vec())
    };
    let loss = -sum(&found.logps) / f64::from(count);
    (loss, on.layout.iter().map(gradient).collect())
}

#[test]
fn loss_and_gradients_of_every_family_are_those_of_transformers() {
    let golden = families();
    for name in FAMILIES {
        let want = &golden["families"][name];
        let (loss, gradients) = step::<f32>(name, false, 16);
        let expected = want["loss"].as_f64().unwrap();
        assert!(
            (loss / expected - 1.0).abs() < PARITY,
            "{name}: {loss} for {expected}"
        );
        let expected = want["gradients"].as_object().unwrap();
        assert_eq!(gradients.len(), expected.len(), "{name}");
        for (parameter, gradient) in &gradients {
            let error = distance(gradient, &expected[parameter]);
            assert!(error < PARITY, "{name}, {parameter}: {error:e}");
        }
    }
}

#[test]
fn layers_computed_again_give_the_same_bits() {
    for name in ["gemma2", "qwen3"] {
        assert_eq!(step::<f32>(name, false, 64), step::<f32>(name, true, 64));
        assert_eq!(step::<bf16>(name, false, 64), step::<bf16>(name, true, 64));
    }
}

#[test]
fn where_memory_is_short_fewer_layers_are_kept_and_the_bits_are_the_same() {
    let (name, documents) = ("qwen3", Documents::of(&families()));
    let trunks: Vec<u32> = (0..documents.bounds.len() as u32 - 1).collect();
    let run = |memory: usize| {
        let gpu: &mut dyn Gpu = &mut emulated(memory);
        let on: OnDevice<f32> = open(gpu, &family(name));
        let mut passes = Passes::new(&on.config, shape(64));
        let batch = documents.batch(&trunks);
        let found = passes.summed(gpu, &on.parts, &batch, 1.0)?;
        let mut all = vec![0.0; on.grad.len()];
        gpu.download(on.grad, &mut all)?;
        Result::Ok((passes.kept, (found, all), gpu.memory()?.most))
    };
    let (layers, want, most) = run(1 << 24).unwrap();
    let config = DecoderConfig::from_file(&family(name)).unwrap();
    let with = |count| {
        let extent = Extent {
            positions: documents.tokens.len(),
            keep: Keep::Layers(count),
            head_rows: 64,
            rank: 0,
        };
        activation_bytes(&config, &extent, 4)
    };
    let layer = with(2) - with(1);
    // Half a layer less each time, from what everything took and the thirty-second that is left alone.
    let steps = (0..2 * layers - 1).map(|step| most / 31 * 32 + 8192 - step * layer / 2);
    let mut kept = Vec::new();
    for memory in steps {
        let (now, same, _) = run(memory).unwrap();
        assert!(same == want, "{now} of {layers} layers");
        kept.push(now);
    }
    kept.dedup();
    assert_eq!(kept, (1..=layers).rev().collect::<Vec<_>>());
    let too_little = run(most - layers * layer).unwrap_err();
    assert!(
        matches!(too_little, GpuError::OutOfMemory { .. }),
        "{too_little}"
    );
}

/// The gradient that a pass adds.
fn gradient(
    gpu: &mut dyn Gpu,
    on: &OnDevice<f32>,
    pass: impl FnOnce(&mut dyn Gpu) -> Result<()>,
) -> Vec<f32> {
    gpu.fill(on.grad.region(), 0).unwrap();
    pass(gpu).unwrap();
    let mut all = vec![0.0; on.grad.len()];
    gpu.download(on.grad, &mut all).unwrap();
    all
}

// Where factors are known only behind all scores, the logits of all but the last rows are gone and are made once more.
#[test]
fn factors_reach_the_targets_of_all_chunks_and_no_targets_give_no_gradient() {
    let gpu: &mut dyn Gpu = &mut *device(1 << 24);
    let on: OnDevice<f32> = open(gpu, &family("gemma2"));
    let documents = Documents::of(&families());
    let batch = documents.batch(&[0, 1]);
    let shape = shape(16);
    assert!(batch.targets.len() > 2 * shape.head_rows);
    let mut passes = Passes::new(&on.config, shape);
    let mut summed = |batch: &Batch<'_>| {
        gradient(gpu, &on, |gpu| {
            passes.summed(gpu, &on.parts, batch, 0.5).map(drop)
        })
    };
    let want = summed(&batch);
    let none = summed(&Batch {
        target_rows: &[],
        targets: &[],
        ..batch
    });
    assert!(want.iter().any(|&x| x != 0.0) && none.iter().all(|&x| x == 0.0));
    let weigh = |found: &Found| Ok(vec![0.5; found.logps.len()]);
    let weighted = gradient(gpu, &on, |gpu| {
        passes.weighted(gpu, &on.parts, &batch, weigh)
    });
    assert!(weighted == want);
}

#[test]
fn heads_that_no_kernel_takes_are_refused() {
    let gpu: &mut dyn Gpu = &mut *device(1 << 24);
    let on: OnDevice<f32> = open(gpu, &family("llama-gqa"));
    let documents = Documents::of(&families());
    let batch = documents.batch(&[0, 1]);
    let shape = shape(16);
    for (heads, head_dim) in [(2, 258), (1 << 16, 2)] {
        let config = DecoderConfig {
            heads,
            head_dim,
            ..on.config.clone()
        };
        let mut passes = Passes::new(&config, shape);
        let error = passes.score(gpu, &on.parts, &batch).unwrap_err();
        assert!(
            error.to_string().ends_with("65535 of 256 at most"),
            "{error}"
        );
        passes.reserve::<f32>(gpu, 8).unwrap_err();
    }
}

/// Logits behind each of some sequences, read as so many prompts in one pass.
fn read_whole<T: Stored>(gpu: &mut dyn Gpu, on: &OnDevice<T>, sequences: &[&[u32]]) -> Vec<f32> {
    let cache = KeyValues::new(gpu, &on.config, 8).unwrap();
    let mut stock = Pages::new(8);
    let places: Vec<Sequence> = sequences
        .iter()
        .map(|tokens| stock.sequence(tokens.len()).unwrap())
        .collect();
    let prompts: Vec<Prompt<'_>> = sequences
        .iter()
        .zip(&places)
        .map(|(tokens, place)| Prompt { tokens, place })
        .collect();
    let mut logits = Vec::new();
    let mut passes = Passes::new(&on.config, shape(2));
    passes
        .prefill(gpu, &on.parts, &cache, &prompts, &mut logits)
        .unwrap();
    logits
}

/// The same of which only the first tokens are a prompt; the others follow one by one, beside an idle row.
fn read_on<T: Stored>(gpu: &mut dyn Gpu, on: &OnDevice<T>, sequences: [&[u32]; 2]) -> Vec<f32> {
    let cache = KeyValues::new(gpu, &on.config, 8).unwrap();
    let (mut stock, mut logits) = (Pages::new(8), Vec::new());
    let mut passes = Passes::new(&on.config, shape(2));
    let steps = 3;
    let mut places = sequences.map(|tokens| stock.sequence(tokens.len() - steps).unwrap());
    let [a, b] = [0, 1].map(|i| Prompt {
        tokens: &sequences[i][..sequences[i].len() - steps],
        place: &places[i],
    });
    passes
        .prefill(gpu, &on.parts, &cache, &[a, b], &mut logits)
        .unwrap();
    // Another sequence that goes on from the second, by a copy of its last page.
    let (fork, copied) = stock.fork(&places[1]).unwrap();
    cache
        .copy(gpu, &copied.into_iter().collect::<Vec<_>>())
        .unwrap();
    stock.release(std::mem::replace(&mut places[1], fork));
    for step in (1..=steps).rev() {
        places
            .iter_mut()
            .for_each(|place| stock.grow(place).unwrap());
        let next = sequences.map(|tokens| tokens[tokens.len() - step]);
        let rows: Vec<(&[u32], usize)> = places
            .iter()
            .map(|place| (place.pages(), place.len()))
            .chain([(&[][..], 0)])
            .collect();
        let rows = SequenceList::new(&rows, 2);
        logits.clear();
        let tokens = [next[0], next[1], 0];
        passes
            .next(gpu, &on.parts, &cache, (&tokens, &rows, 2), &mut logits)
            .unwrap();
    }
    logits
}

fn continued<T: Stored>(name: &str, tolerance: f64) {
    let gpu: &mut dyn Gpu = &mut emulated(1 << 24);
    let on: OnDevice<T> = open(gpu, &family(name));
    // One goes over the end of its first page.
    let (long, short) = (ids(1, 66), ids(2, 9));
    let want = read_whole(gpu, &on, &[&long, &short]);
    let got = read_on(gpu, &on, [&long, &short]);
    let want: Vec<f64> = want.into_iter().map(f64::from).collect();
    agree(name, &got, &want, tolerance);
}

#[test]
fn sequences_that_go_on_token_by_token_are_those_read_at_once() {
    for name in FAMILIES {
        continued::<f32>(name, 1e-5);
    }
    for name in ["gemma2", "qwen3"] {
        continued::<bf16>(name, 2e-2);
    }
}

#[test]
fn tokens_that_do_not_fit_a_cache_are_refused() {
    let gpu: &mut dyn Gpu = &mut emulated(1 << 24);
    let on: OnDevice<f32> = open(gpu, &family("llama-gqa"));
    let cache = KeyValues::new(gpu, &on.config, 2).unwrap();
    let mut passes = Passes::new(&on.config, shape(2));
    let place = Pages::new(2).sequence(2).unwrap();
    let mut said = |gpu: &mut dyn Gpu, tokens: &[u32]| {
        let prompt = Prompt {
            tokens,
            place: &place,
        };
        let read = passes.prefill(gpu, &on.parts, &cache, &[prompt], &mut Vec::new());
        read.map_err(|error| error.to_string())
    };
    for tokens in [&[][..], &[1], &[1, 2, 3]] {
        let error = said(gpu, tokens).unwrap_err();
        assert_eq!(error, "a prompt that is empty or longer than its place");
    }
    assert_eq!(said(gpu, &[1, 96]).unwrap_err(), "token 96 of 96");
    said(gpu, &[1, 95]).unwrap();
    let rows = SequenceList::new(&[(place.pages(), 3)], 1);
    for (tokens, why) in [
        (&[96][..], "token 96 of 96"),
        (&[1, 2], "2 tokens for 1 rows"),
        (&[], "0 tokens for 1 rows"),
    ] {
        let next = passes.next(gpu, &on.parts, &cache, (tokens, &rows, 1), &mut Vec::new());
        assert_eq!(next.unwrap_err().to_string(), why);
    }
}
