//! Models on the emulation asked about whole sequences, against the same on the CPU.

use crate::arch::DecoderConfig;
use crate::config::select::Pooling;
use crate::config::spec::Precision;
use crate::gpu::SharedGpu;
use crate::gpu::testing::{emulated, family, ids};
use crate::model::{
    Companions, DeviceOpener, FrozenParams, HostOpener, ModelError, ModelOpener, save_checkpoint,
};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Relative error (L2) allowed between two orders of the same sums in f32.
const F32: f64 = 1e-5;
/// The same through bf16 activations: a rounding changes a value by 2^-9 at most, and of some thirty a few are left.
const BF16: f64 = 2e-2;

fn device() -> DeviceOpener {
    DeviceOpener(SharedGpu::new(Box::new(emulated(1 << 24))))
}

fn host() -> HostOpener {
    HostOpener(Device::Cpu)
}

/// Three sequences, one of a single token.
fn sequences() -> Vec<Vec<u32>> {
    [13, 1, 6].map(|n| ids(n, n)).to_vec()
}

#[track_caller]
fn close(what: &str, got: &[f64], want: &[f64], most: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let apart: f64 = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = want.iter().map(|b| b * b).sum();
    let error = (apart / size).sqrt();
    assert!(
        error <= most,
        "{what}: {error:.2e} apart, {most:.0e} allowed"
    );
}

/// Embeddings, and logits of some tokens.
fn read(opener: &dyn ModelOpener, name: &str, precision: Precision) -> Vec<f64> {
    let folder = family(name);
    let config = DecoderConfig::from_file(&folder).unwrap();
    let mut model = opener.reader(&folder, &config, precision).unwrap();
    let mut all = model.embed(&sequences(), Pooling::Last).unwrap();
    all.extend(model.embed(&sequences(), Pooling::Mean).unwrap());
    let logits = model.next_logits(&sequences(), &[5, 95, 40, 5]).unwrap();
    assert_eq!([logits.len(), logits[0].len()], [3, 4]);
    all.extend(logits);
    all.concat()
}

#[test]
fn sequences_are_read_as_on_the_host() {
    for name in ["llama-bias", "gemma2", "qwen3"] {
        for (precision, most) in [(Precision::F32, F32), (Precision::Bf16, BF16)] {
            let want = read(&host(), name, Precision::F32);
            close(name, &read(&device(), name, precision), &want, most);
        }
    }
}

/// A family as a reward model, with a head of alternating signs under `head`, in the folder `dir`.
fn reward_model(dir: &Path, head: &str, padding: u32) -> DecoderConfig {
    let source = family("qwen2");
    let config = DecoderConfig::from_file(&source).unwrap();
    let params = FrozenParams::load(&source, &config, &Device::Cpu, DType::F32).unwrap();
    let decoder = params.iter().filter(|(name, _)| *name != "lm_head.weight");
    let mut tensors: BTreeMap<String, Tensor> = decoder
        .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
        .collect();
    let signs = (0..config.hidden_size).map(|i| if i % 3 == 0 { 1.3f32 } else { -0.7 });
    let weight = Tensor::from_iter(signs, &Device::Cpu).unwrap();
    tensors.insert(head.to_owned(), weight.unsqueeze(0).unwrap());
    let params = FrozenParams::from_tensors(tensors);
    save_checkpoint(dir, &Companions::read(&source).unwrap(), &params).unwrap();
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["pad_token_id"] = padding.into();
    crate::base::write_atomic(&path, json.to_string().as_bytes()).unwrap();
    DecoderConfig::from_file(dir).unwrap()
}

#[test]
fn rewards_are_those_of_the_host() {
    let temp = tempfile::tempdir().unwrap();
    for head in ["score.weight", "regression_head.weight"] {
        let dir = temp.path().join(head);
        // The last token of a sequence, which the first head passes over.
        let padding = sequences()[2][5];
        let config = reward_model(&dir, head, padding);
        let score = |opener: &dyn ModelOpener, precision| {
            let mut model = opener.scorer(&dir, &config, precision).unwrap();
            model.score(&sequences()).unwrap()
        };
        let want = score(&host(), Precision::F32);
        close(head, &score(&device(), Precision::F32), &want, F32);
        close(head, &score(&device(), Precision::Bf16), &want, BF16);
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_models_leave_no_memory_behind() {
    let opener = device();
    let free = || opener.0.lend().memory().unwrap().free;
    let before = free();
    let folder = family("llama-gqa");
    let config = DecoderConfig::from_file(&folder).unwrap();
    let mut model = opener.reader(&folder, &config, Precision::F32).unwrap();
    let empty = model.embed(&[vec![1], vec![]], Pooling::Mean).unwrap_err();
    assert_eq!(empty.to_string(), "sequence 2 of 2 is empty");
    for error in [
        model.embed(&[vec![96]], Pooling::Last).unwrap_err(),
        model.next_logits(&[vec![1]], &[96]).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "token 96 of 96");
    }
    assert!(free() < before);
    drop(model);
    assert_eq!(free(), before);
    let error = opener.scorer(&folder, &config, Precision::F32).err();
    assert!(matches!(error, Some(ModelError::NoScalarHead { .. })));
    assert_eq!(free(), before);
}
