//! The decoder's logits are those of candle-transformers' Llama, an independent implementation.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
use lions::arch::DecoderConfig;
use lions::model::{Decoder, Params};
use std::path::Path;

/// Largest difference of a logit, relative to the largest logit, in f32.
const TOLERANCE: f32 = 1e-5;

#[test]
fn the_shipped_model_has_the_logits_of_candle_transformers() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let device = Device::Cpu;
    let config: LlamaConfig =
        serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let config = config.into_config(false);
    let tensors = candle_core::safetensors::load(dir.join("model.safetensors"), &device).unwrap();
    let theirs = Llama::load(
        VarBuilder::from_tensors(tensors, DType::F32, &device),
        &config,
    )
    .unwrap();

    let our_config = DecoderConfig::from_file(&dir).unwrap();
    let params = Params::load(&dir, &our_config, &device, DType::F32).unwrap();
    let ours = Decoder::frozen(&our_config, &params.detached()).unwrap();

    // "Once upon a time" and then any tokens at all, longer each time.
    let tokens: Vec<u32> = [1, 403, 407, 261, 378]
        .into_iter()
        .chain((0..60).map(|i| 3 + i * 7 % 500))
        .collect();
    for length in [1, 5, 23, tokens.len()] {
        let input = &tokens[..length];
        let mut cache = Cache::new(false, DType::F32, &config, &device).unwrap();
        let batch = Tensor::new(input, &device).unwrap().unsqueeze(0).unwrap(); // (1, T)
        let want = theirs
            .forward(&batch, 0, &mut cache)
            .unwrap()
            .squeeze(0)
            .unwrap(); // (V,), last position
        let positions: Vec<u32> = (0..).take(length).collect();
        let hidden = ours.hidden(input, &positions, &[0, length as u32]).unwrap(); // (T, D)
        let got = ours.logits(&hidden).unwrap().get(length - 1).unwrap(); // (V,)
        let largest = want
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        let off = (got - want)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(
            off <= TOLERANCE * largest,
            "{length} tokens: off by {off:e} of {largest}"
        );
    }
}
