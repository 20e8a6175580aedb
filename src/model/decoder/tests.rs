//! The decoder on the shipped model, and its executors against one another.

use crate::arch::DecoderConfig;
use crate::model::decoder::{Decoder, KvCache, Recompute};
use crate::model::kernels::segments::Segments;
use crate::model::ops::check::{noise, relative_error};
use crate::model::weights::{FrozenParams, Params};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor};
use std::path::Path;

const MODEL: &str = "models/stories260k";

fn shipped() -> (DecoderConfig, Params) {
    let dir = Path::new(MODEL);
    let config = DecoderConfig::from_file(dir).unwrap();
    let params = Params::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
    (config, params)
}

fn expected() -> serde_json::Value {
    let text = crate::base::fs::read_to_string(&Path::new(MODEL).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as u32)
        .collect()
}

fn positions(lens: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut cu = vec![0];
    let mut positions = Vec::new();
    for &len in lens {
        positions.extend(0..len);
        cu.push(positions.len() as u32);
    }
    (positions, cu)
}

// models/stories260k/expected.json: float32 from transformers 5.23, torch 2.15.
#[test]
fn logits_of_the_shipped_model_are_those_of_transformers() -> Result<()> {
    let (config, params) = shipped();
    let decoder = Decoder::frozen(&config, &params.detached()).unwrap();
    let want = &expected()["next_token"];
    let prompt = ids(&want["prompt_ids"]);
    let (positions, cu) = positions(&[prompt.len() as u32]);
    let hidden = decoder.hidden(&prompt, &positions, &cu)?;
    let logits = decoder.logits(&hidden)?.to_vec2::<f32>()?;
    let last = logits.last().unwrap();
    for (id, logit) in ids(&want["top5_ids"])
        .iter()
        .zip(want["top5_logits"].as_array().unwrap())
    {
        let logit = logit.as_f64().unwrap();
        let error = (f64::from(last[*id as usize]) - logit).abs() / logit;
        assert!(error < 1e-5, "token {id}: {error:e}");
    }
    let sum: f64 = last.iter().map(|&v| f64::from(v)).sum();
    assert!(
        (sum / want["logit_sum_last"].as_f64().unwrap() - 1.0).abs() < 1e-5,
        "{sum}"
    );
    Ok(())
}

#[test]
fn greedy_text_of_the_shipped_model_is_that_of_transformers() -> Result<()> {
    let (config, params) = shipped();
    let decoder = Decoder::frozen(&config, &params.detached()).unwrap();
    let want = ids(&expected()["greedy_from_bos"]["ids"]);
    let (positions, cu) = positions(&[want.len() as u32]);
    // Teacher forcing: each token is the best after all before it.
    let hidden = decoder.hidden(&want, &positions, &cu)?;
    let rows: Vec<u32> = (0..want.len() as u32 - 1).collect();
    let (_, stats) = decoder.token_logps_with_stats(&hidden, &rows, &want[1..])?;
    assert!(stats.correct.iter().all(|&c| c));
    Ok(())
}

/// Names of parameters whose gradient is missing or holds a number that is not finite; a guard
/// against ops that drop gradients silently.
fn missing_gradients(params: &Params, grads: &GradStore) -> Result<Vec<String>> {
    let mut bad = Vec::new();
    for (name, var) in params.iter() {
        let finite = match grads.get(var) {
            // A sum is finite only if every term is.
            Some(grad) => grad
                .abs()?
                .sum_all()?
                .to_dtype(DType::F64)?
                .to_scalar::<f64>()?
                .is_finite(),
            None => false,
        };
        if !finite {
            bad.push(name.to_owned());
        }
    }
    Ok(bad)
}

#[test]
fn every_parameter_of_the_shipped_model_receives_a_gradient() -> Result<()> {
    let (config, params) = shipped();
    let decoder = Decoder::trainable(&config, &params).unwrap();
    let tokens = ids(&expected()["greedy_from_bos"]["ids"]);
    let (positions, cu) = positions(&[120, tokens.len() as u32 - 120]);
    let hidden = decoder.hidden(&tokens, &positions, &cu)?;
    let rows: Vec<u32> = (0..100).collect();
    let loss = decoder
        .token_logps(&hidden, &rows, &tokens[1..101])?
        .mean_all()?
        .neg()?;
    let grads = loss.backward()?;
    assert_eq!(missing_gradients(&params, &grads)?, Vec::<String>::new());
    // The head alone reaches the final norm's input only through the final norm.
    let partial = decoder
        .final_norm(&decoder.embed_tokens(&tokens)?)?
        .sum_all()?
        .backward()?;
    assert!(missing_gradients(&params, &partial)?.len() > 40);
    Ok(())
}

/// Random decoders with every feature that a family may have.
fn families() -> Vec<(DecoderConfig, FrozenParams)> {
    let text = |extra: &str| {
        format!(
            r#"{{"vocab_size": 23, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, {extra}}}"#
        )
    };
    let extras = [
        r#""model_type": "llama", "attention_bias": true, "mlp_bias": true"#,
        r#""model_type": "qwen3", "tie_word_embeddings": true"#,
        r#""model_type": "gemma2", "sliding_window": 5, "query_pre_attn_scalar": 9,
           "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0"#,
    ];
    let build = |extra: &&str| {
        let dir = tempfile::tempdir().unwrap();
        crate::base::write_atomic(&dir.path().join("config.json"), text(extra).as_bytes()).unwrap();
        let config = DecoderConfig::from_file(dir.path()).unwrap();
        let tensors = config
            .tensors()
            .into_iter()
            .enumerate()
            .map(|(i, (name, shape))| (name, noise(&shape, i as u64 + 5, DType::F64).unwrap()));
        let params = FrozenParams::from_tensors(tensors.collect());
        (config, params)
    };
    extras.iter().map(build).collect()
}

#[test]
fn decoding_by_slices_and_by_ops_is_the_full_forward_in_every_family() -> Result<()> {
    for (config, params) in families() {
        let params = Params::from_frozen(&params, DType::F32).unwrap().detached();
        let exact = Decoder::frozen(&config, &params).unwrap();
        let short = exact.clone().with_bf16_activations();
        let cache = KvCache::new(&exact)?;
        for (decoder, mut cache, most) in [
            (&exact, cache.clone().by_ops(), 1e-5),
            (&exact, cache, 1e-5),
            (&short, KvCache::new(&short)?, 5e-2),
        ] {
            let mut rows = [vec![3u32, 1, 4], vec![7]];
            decoder.prefill(&[&rows[0], &rows[1]], &mut cache)?;
            for step in 0..9 {
                let next = [step * 5 % 23, step * 7 % 23];
                let logits = decoder.decode_step(&next, &mut cache)?;
                for (i, (row, next)) in rows.iter_mut().zip(next).enumerate() {
                    row.push(next);
                    let len = row.len() as u32;
                    let at: Vec<u32> = (0..len).collect();
                    let hidden = decoder.hidden(row, &at, &[0, len])?;
                    let want = decoder.logits(&hidden.narrow(0, row.len() - 1, 1)?)?;
                    let error = relative_error(&logits.narrow(0, i, 1)?, &want)?;
                    assert!(error < most, "{:?}: {error:e}", config.architecture);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_fused_stack_is_the_graph_of_single_ops_in_every_family() -> Result<()> {
    let tokens: Vec<u32> = (0..40).map(|i| i * 5 % 23).collect();
    // A segment of its own, then one of 9 tokens that three others continue.
    let cu = Segments::with_prefixes(&[0, 5, 14, 17, 18, 40], &[0, 1, 1, 1, 1]);
    let places = [0..5, 0..9, 9..12, 9..10, 9..31];
    let at: Vec<u32> = places.into_iter().flatten().collect();
    for (config, params) in families() {
        let params = Params::from_frozen(&params, DType::F64).unwrap();
        let decoder = Decoder::trainable(&config, &params).unwrap();
        let weights = noise(&[40, 12], 3, DType::F64)?;
        let want = decoder.hidden_by_ops(&tokens, &decoder.layout(&tokens, &at, &cu)?)?;
        let want_grads = (&want * &weights)?.sum_all()?.backward()?;
        for recompute in [Recompute::Nothing, Recompute::Layers] {
            let decoder = decoder.clone().with_recompute(recompute);
            let got = decoder.hidden_in(&tokens, &at, &cu)?;
            assert!(relative_error(&got, &want)? < 1e-12);
            let grads = (&got * &weights)?.sum_all()?.backward()?;
            for (name, var) in params.iter().filter(|(name, _)| *name != "lm_head.weight") {
                let (got, want) = (grads.get(var).unwrap(), want_grads.get(var).unwrap());
                let error = relative_error(got, want)?;
                assert!(
                    error < 1e-10,
                    "{:?}, {name}: {error:e}",
                    config.architecture
                );
            }
        }
    }
    Ok(())
}

// The twin rounds the result of each op, and so must the fused stack: to the bit.
#[test]
fn in_bf16_the_fused_stack_rounds_where_single_ops_do() -> Result<()> {
    let tokens: Vec<u32> = (0..40).map(|i| i * 5 % 23).collect();
    let segments = Segments::with_prefixes(&[0, 5, 14, 17, 18, 40], &[0, 1, 1, 1, 1]);
    let places = [0..5, 0..9, 9..12, 9..10, 9..31];
    let at: Vec<u32> = places.into_iter().flatten().collect();
    for (config, params) in families() {
        let params = Params::from_frozen(&params, DType::BF16).unwrap();
        let decoder = Decoder::trainable(&config, &params).unwrap();
        let got = decoder.hidden_in(&tokens, &at, &segments)?;
        let want = decoder.hidden_by_ops(&tokens, &decoder.layout(&tokens, &at, &segments)?)?;
        assert_eq!((got.dtype(), want.dtype()), (DType::F32, DType::BF16));
        let want = want.to_dtype(DType::F32)?;
        assert_eq!(got.to_vec2::<f32>()?, want.to_vec2::<f32>()?);
    }
    Ok(())
}

/// Gradients of all weights of a decoder for fixed upstream gradients.
fn gradients_of(decoder: &Decoder, params: &Params) -> Result<Vec<Tensor>> {
    let tokens: Vec<u32> = (0..40).map(|i| i * 5 % 23).collect();
    let (at, cu) = positions(&[18, 22]);
    let hidden = decoder.hidden(&tokens, &at, &cu)?;
    let upstream = noise(hidden.dims(), 3, hidden.dtype())?;
    let grads = (hidden * upstream)?.sum_all()?.backward()?;
    let reached = params.iter().filter_map(|(_, var)| grads.get(var));
    reached.map(|g| g.to_dtype(DType::F64)).collect()
}

#[test]
fn bf16_layers_computed_again_give_the_same_bytes() -> Result<()> {
    for (config, params) in families() {
        let params = Params::from_frozen(&params, DType::BF16).unwrap();
        let working = params.working().unwrap();
        let decoder = Decoder::trainable(&config, &working)
            .unwrap()
            .with_bf16_activations();
        let kept = gradients_of(&decoder, &working)?;
        let again = decoder.with_recompute(Recompute::Layers);
        let again = gradients_of(&again, &working)?;
        for (kept, again) in kept.iter().zip(&again) {
            let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
            assert_eq!(flat(kept)?, flat(again)?);
        }
    }
    Ok(())
}

/// Relative L2 distance allowed between gradients through bf16 and f32 activations: a rounding
/// is 2^-9 relative at most, of some thirty values on a way through two layers.
const BF16_GRADIENTS: f64 = 0.03;

#[test]
fn gradients_through_bf16_activations_stay_near_those_through_f32() -> Result<()> {
    for (config, params) in families() {
        let params = Params::from_frozen(&params, DType::BF16).unwrap();
        let working = params.working().unwrap();
        let decoder = Decoder::trainable(&config, &working).unwrap();
        let wide = gradients_of(&decoder, &working)?;
        let short = gradients_of(&decoder.clone().with_bf16_activations(), &working)?;
        let sum = |t: Tensor| t.sqr()?.sum_all()?.to_scalar::<f64>();
        let (mut difference, mut size) = (0.0, 0.0);
        for (wide, short) in wide.iter().zip(&short) {
            difference += sum((wide - short)?)?;
            size += sum(wide.clone())?;
        }
        let error = (difference / size).sqrt();
        assert!(error > 1e-4, "nothing was rounded: {error:e}");
        assert!(
            error < BF16_GRADIENTS,
            "{:?}: {error:e}",
            config.architecture
        );
        // The variables themselves give the same gradients, rounded once more.
        let own = gradients_of(&Decoder::trainable(&config, &params).unwrap(), &params)?;
        for (own, short) in own.iter().zip(&short) {
            assert!(relative_error(own, short)? < 2f64.powi(-7));
        }
    }
    Ok(())
}

#[test]
fn hidden_states_and_gradients_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let (config, params) = shipped();
    let decoder = Decoder::trainable(&config, &params).unwrap();
    let tokens: Vec<u32> = (0..700).map(|i| i * 7 % 512).collect();
    let (at, cu) = positions(&[300, 150, 250]);
    let run = |threads| -> Result<Vec<Vec<f32>>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let hidden = decoder.hidden(&tokens, &at, &cu)?;
            let rows: Vec<u32> = (0..299).collect();
            let logps = decoder.token_logps(&hidden, &rows, &tokens[1..300])?;
            let grads = logps.sum_all()?.backward()?;
            params
                .iter()
                .map(|(_, var)| grads.get(var).unwrap().flatten_all()?.to_vec1())
                .collect()
        })
    };
    assert_eq!(run(1)?, run(3)?);
    Ok(())
}

#[test]
fn packed_documents_give_the_logits_of_each_alone() -> Result<()> {
    let (config, params) = shipped();
    let decoder = Decoder::frozen(&config, &params.detached()).unwrap();
    let tokens = ids(&expected()["greedy_from_bos"]["ids"]);
    let (places, cu) = positions(&[150, tokens.len() as u32 - 150]);
    let packed = decoder
        .hidden(&tokens, &places, &cu)?
        .narrow(0, 150, tokens.len() - 150)?;
    let (places, cu) = positions(&[tokens.len() as u32 - 150]);
    let alone = decoder.hidden(&tokens[150..], &places, &cu)?;
    assert!(relative_error(&packed, &alone)? < 1e-6);
    Ok(())
}

#[test]
fn a_decoder_of_trained_parameters_sees_their_updates() -> Result<()> {
    let (config, params) = shipped();
    let frozen = Decoder::frozen(&config, &params.detached()).unwrap();
    let norm = params.get("model.norm.weight").unwrap();
    norm.set(&norm.as_tensor().zeros_like()?)?;
    let hidden = frozen.hidden(&[1, 2], &[0, 1], &[0, 2])?;
    assert!(!hidden.track_op());
    assert!(
        hidden
            .flatten_all()?
            .to_vec1::<f32>()?
            .iter()
            .all(|v| v.abs() < 1e-30)
    );
    Ok(())
}
