//! CPU time of one training step: `cargo bench --bench step -- [stories260k|15m] [steps]`.
//!
//! Same work as `benches/compare/sft_step.py`: documents of the same lengths, packed, every token
//! but the first of each a target. Prints medians of CPU milliseconds and tokens per CPU second.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use candle_core::{DType, Device, Tensor};
use lions::config::spec::OptimizerRecipe;
use lions::model::{Decoder, DecoderConfig, FrozenParams, Params, parameter_count, tune_allocator};
use lions::train::{AdamW, Gradients, clip_by_global_norm, sft_nll};
use std::collections::BTreeMap;
use std::path::Path;

/// Lengths of the first documents that `sft_step.py` packs into 2048 tokens.
const STORIES: &[&[u32]] = &[
    &[512, 391, 63, 354, 512, 216],
    &[451, 386, 84, 197, 300, 345, 90, 195],
    &[189, 83, 512, 289, 112, 412, 403, 48],
    &[419, 512, 436, 56, 61, 512, 52],
];

fn cpu_ms() -> f64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[expect(unsafe_code, reason = "the standard library has no process clock")]
    // SAFETY: `now` is a valid timespec.
    unsafe {
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now);
    }
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 * 1e-6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn random_15m() -> Result<(DecoderConfig, Params), Box<dyn std::error::Error>> {
    let config: DecoderConfig = {
        let dir = tempfile::tempdir()?;
        let json = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 288,
            "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
            "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;
        lions::base::write_atomic(&dir.path().join("config.json"), json.as_bytes())?;
        DecoderConfig::from_file(dir.path())?
    };
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let tensor = if shape.len() == 1 {
            Tensor::ones(shape, DType::F32, &Device::Cpu)?
        } else {
            Tensor::randn(0f32, 0.02, shape, &Device::Cpu)?
        };
        tensors.insert(name, tensor);
    }
    let params = Params::from_frozen(&FrozenParams::from_tensors(tensors), DType::F32)?;
    Ok((config, params))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tune_allocator();
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let shape = args.first().map_or("stories260k", String::as_str);
    let steps: usize = args.get(1).map_or(Ok(10), |s| s.parse())?;
    let (config, params) = if shape == "15m" {
        random_15m()?
    } else {
        let dir = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(dir)?;
        let params = Params::load(dir, &config, &Device::Cpu, DType::F32)?;
        (config, params)
    };
    let packs: Vec<Vec<u32>> = if shape == "15m" {
        vec![vec![256; 8]]
    } else {
        STORIES.iter().map(|p| p.to_vec()).collect()
    };
    let vars: BTreeMap<_, _> = params
        .iter()
        .map(|(n, v)| (n.to_owned(), v.clone()))
        .collect();
    let recipe = OptimizerRecipe {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        max_grad_norm: 1.0,
    };
    let mut optimizer = AdamW::new(&vars, &recipe)?;
    let decoder = Decoder::trainable(&config, &params)?;
    let mut times: [Vec<f64>; 5] = Default::default();
    for step in 0..steps + 3 {
        let lens = &packs[step % packs.len()];
        let (mut tokens, mut positions, mut cu) = (Vec::new(), Vec::new(), vec![0u32]);
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for &len in lens {
            for p in 0..len {
                let token =
                    (tokens.len() as u32 * 7919 + step as u32) % (config.vocab_size as u32 - 3) + 3;
                if p > 0 {
                    rows.push(tokens.len() as u32 - 1);
                    targets.push(token);
                }
                tokens.push(token);
                positions.push(p);
            }
            cu.push(tokens.len() as u32);
        }
        let t0 = cpu_ms();
        let hidden = decoder.hidden(&tokens, &positions, &cu)?;
        let t1 = cpu_ms();
        let logps = decoder.token_logps(&hidden, &rows, &targets)?;
        let loss = sft_nll(&logps, rows.len())?;
        let t2 = cpu_ms();
        let mut store = loss.backward()?;
        drop((loss, logps, hidden));
        let t3 = cpu_ms();
        let mut grads = Gradients::default();
        grads.accumulate(&vars, &mut store)?;
        drop(store);
        let clip = clip_by_global_norm(&grads, recipe.max_grad_norm)?;
        optimizer.step(&grads, recipe.learning_rate, clip.scale)?;
        let t4 = cpu_ms();
        if step >= 3 {
            for (times, ms) in times
                .iter_mut()
                .zip([t1 - t0, t2 - t1, t3 - t2, t4 - t3, t4 - t0])
            {
                times.push(ms);
            }
        }
    }
    let [decoder_ms, head_ms, backward_ms, optimizer_ms, total] =
        times.each_mut().map(|t| median(t));
    let positions: u32 = packs[0].iter().sum();
    println!(
        "{shape}: {} parameters, {positions} tokens a step: decoder {decoder_ms:.1} ms, head {head_ms:.1}, \
         backward {backward_ms:.1}, optimizer {optimizer_ms:.1}, step {total:.1} ms CPU, {:.0} tokens/CPU s",
        parameter_count(&config),
        f64::from(positions) / total * 1e3
    );
    Ok(())
}
