//! Random combinations of all features of all families, through all executors.

use crate::arch::{
    DecoderConfig, FloatFormat, GateActivation, NormWeight, RopeConfig, RopeScaling,
};
use crate::base::SeedTree;
use crate::model::decoder::{Decoder, KvCache, Recompute};
use crate::model::kernels::segments::Segments;
use crate::model::kernels::testing::on_every_set;
use crate::model::ops::check::{Exact, noise, relative_error};
use crate::model::weights::{FrozenParams, Params};
use candle_core::{DType, Result, Tensor};
use rand::Rng;

/// Decoders that are drawn; each feature is on in about half of them.
const CASES: u64 = 40;
const VOCAB: u32 = 23;

/// Relative to the largest value, as in the tests of single families: sums in another order of
/// some hundred terms, in `f64` and in `f32`.
const VALUES_F64: f64 = 1e-12;
const GRADIENTS_F64: f64 = 1e-10;
const LOGITS_F32: f64 = 1e-5;
/// Roundings to bf16, at other places in prefilled rows than in the fused stack.
const LOGITS_BF16: f64 = 5e-2;

fn one_of<T: Copy>(rng: &mut impl Rng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}

fn maybe<T>(rng: &mut impl Rng, value: T) -> Option<T> {
    rng.random_bool(0.5).then_some(value)
}

fn random_config(rng: &mut impl Rng) -> DecoderConfig {
    let (heads, kv_heads) = one_of(rng, &[(1, 1), (2, 1), (4, 2), (3, 3), (6, 2), (5, 1)]);
    let head_dim = one_of(rng, &[2, 6, 8, 10, 18]);
    let windows = (0..rng.random_range(1..4))
        .map(|_| {
            let window = rng.random_range(2..12);
            maybe(rng, window)
        })
        .collect();
    let scaling = [
        RopeScaling::Default,
        RopeScaling::Linear { factor: 3.0 },
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max: 16.0,
        },
    ];
    DecoderConfig {
        architecture: "LlamaForCausalLM",
        vocab_size: VOCAB as usize,
        hidden_size: one_of(rng, &[8, 12, 20, 33]),
        intermediate_size: one_of(rng, &[7, 16, 40]),
        heads,
        kv_heads,
        head_dim,
        max_positions: 64,
        norm_eps: 1e-5,
        norm_weight: one_of(rng, &[NormWeight::Factor, NormWeight::FactorMinusOne]),
        rope: RopeConfig {
            theta: one_of(rng, &[100.0, 10_000.0]),
            scaling: one_of(rng, &scaling),
        },
        activation: one_of(rng, &[GateActivation::Silu, GateActivation::GeluTanh]),
        tied: rng.random(),
        qkv_bias: rng.random(),
        output_bias: rng.random(),
        mlp_bias: rng.random(),
        qk_norm: rng.random(),
        post_norms: rng.random(),
        embedding_scale: maybe(rng, 3.3),
        attention_scale: one_of(rng, &[0.2, 0.7]),
        attention_softcap: maybe(rng, 2.5),
        logit_softcap: maybe(rng, 3.0),
        windows,
        stored_dtype: FloatFormat::F32,
    }
}

/// A drawn decoder's configuration and weights.
fn draw(case: u64) -> (DecoderConfig, FrozenParams, impl Rng) {
    let mut rng = SeedTree::root(11).index(case).rng();
    let config = random_config(&mut rng);
    let tensors = config
        .tensors()
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            (
                name,
                noise(&shape, case * 97 + i as u64, DType::F64).unwrap(),
            )
        });
    let params = FrozenParams::from_tensors(tensors.collect());
    (config, params, rng)
}

/// Tokens of one packed pass.
struct Pass {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    segments: Segments,
}

/// Prompts with none, one or several continuations, of random lengths.
fn random_pass(rng: &mut impl Rng) -> Pass {
    let (mut cu, mut prefixes) = (vec![0u32], Vec::new());
    let mut positions = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let prefix = prefixes.len() as u32;
        let shared = rng.random_range(2..20);
        for (n, len) in (0..rng.random_range(1..4)).map(|n| (n, rng.random_range(0..9))) {
            let own = if n == 0 {
                0..shared
            } else {
                shared..shared + len
            };
            positions.extend(own);
            cu.push(positions.len() as u32);
            prefixes.push(prefix);
        }
    }
    Pass {
        tokens: positions
            .iter()
            .map(|_| rng.random_range(0..VOCAB))
            .collect(),
        segments: Segments::with_prefixes(&cu, &prefixes),
        positions,
    }
}

/// Logits of a whole pass and the gradients of all weights for a fixed upstream gradient.
fn logits_and_gradients(
    decoder: &Decoder,
    params: &Params,
    hidden: &Tensor,
) -> Result<(Tensor, Vec<(String, Tensor)>)> {
    let logits = decoder.logits(hidden)?;
    let upstream = noise(logits.dims(), 3, logits.dtype())?;
    let grads = (&logits * upstream)?.sum_all()?.backward()?;
    let mut gradients = Vec::new();
    for (name, var) in params.iter() {
        match grads.get(var) {
            Some(grad) => gradients.push((name.to_owned(), grad.clone())),
            None => candle_core::bail!("no gradient of {name}"),
        }
    }
    Ok((logits, gradients))
}

#[test]
fn the_fused_stack_is_the_graph_of_ops_for_random_features() -> Result<()> {
    for case in 0..CASES {
        let (config, params, mut rng) = draw(case);
        let pass = random_pass(&mut rng);
        let params = Params::from_frozen(&params, DType::F64).unwrap();
        let decoder = Decoder::trainable(&config, &params).unwrap();
        let layout = decoder.layout(&pass.tokens, &pass.positions, &pass.segments)?;
        let by_ops = decoder.hidden_by_ops(&pass.tokens, &layout)?;
        let (want, want_grads) = logits_and_gradients(&decoder, &params, &by_ops)?;
        for recompute in [Recompute::Nothing, Recompute::Layers] {
            let decoder = decoder.clone().with_recompute(recompute);
            let fused = decoder.hidden_in(&pass.tokens, &pass.positions, &pass.segments)?;
            let (got, grads) = logits_and_gradients(&decoder, &params, &fused)?;
            let error = relative_error(&got, &want)?;
            assert!(error < VALUES_F64, "case {case}: {error:e} for {config:?}");
            for ((name, got), (_, want)) in grads.iter().zip(&want_grads) {
                let error = relative_error(got, want)?;
                assert!(
                    error < GRADIENTS_F64,
                    "case {case}, {name}: {error:e} for {config:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn in_bf16_the_fused_stack_has_the_bits_of_the_graph_of_ops_for_random_features() -> Result<()> {
    for case in 0..CASES {
        let (config, params, mut rng) = draw(case);
        let pass = random_pass(&mut rng);
        let params = Params::from_frozen(&params, DType::BF16).unwrap();
        let decoder = Decoder::trainable(&config, &params).unwrap();
        let layout = decoder.layout(&pass.tokens, &pass.positions, &pass.segments)?;
        let want = decoder
            .hidden_by_ops(&pass.tokens, &layout)?
            .to_dtype(DType::F32)?;
        let got = decoder.hidden_in(&pass.tokens, &pass.positions, &pass.segments)?;
        let (got, want) = (got.to_vec2::<f32>()?, want.to_vec2::<f32>()?);
        assert!(got == want, "case {case}: {config:?}");
    }
    Ok(())
}

#[test]
fn prefilled_and_decoded_logits_are_those_of_the_fused_stack_for_random_features() -> Result<()> {
    for case in 0..CASES {
        let (config, params, mut rng) = draw(case);
        let [exact, rounded] = [DType::F32, DType::BF16].map(|dtype| {
            let params = Params::from_frozen(&params, dtype).unwrap().detached();
            Decoder::frozen(&config, &params).unwrap()
        });
        let cache = KvCache::new(&exact)?;
        let prompts: [Vec<u32>; 2] =
            [3, 17].map(|len| (0..len).map(|_| rng.random_range(0..VOCAB)).collect());
        for (decoder, mut cache, most) in [
            (&exact, cache.clone().by_ops(), LOGITS_F32),
            (&exact, cache, LOGITS_F32),
            (&rounded, KvCache::new(&rounded)?, LOGITS_BF16),
        ] {
            let mut rows = prompts.clone();
            let mut logits = decoder.prefill(&[&rows[0], &rows[1]], &mut cache)?;
            for step in 0..4 {
                for (i, row) in rows.iter().enumerate() {
                    let len = row.len() as u32;
                    let at: Vec<u32> = (0..len).collect();
                    let hidden = decoder.hidden(row, &at, &[0, len])?;
                    let want = decoder.logits(&hidden.narrow(0, row.len() - 1, 1)?)?;
                    let error = relative_error(&logits.narrow(0, i, 1)?, &want)?;
                    assert!(
                        error < most,
                        "case {case}, step {step}: {error:e} for {config:?}"
                    );
                }
                let next = [0, 1].map(|_| rng.random_range(0..VOCAB));
                logits = decoder.decode_step(&next, &mut cache)?;
                rows.iter_mut()
                    .zip(next)
                    .for_each(|(row, next)| row.push(next));
            }
        }
    }
    Ok(())
}

// On a processor with several sets, that is: they promise the same bits, so decoders keep it.
#[test]
fn logits_and_gradients_have_the_same_bits_on_every_set() -> Result<()> {
    for case in 0..CASES / 4 {
        let (config, params, mut rng) = draw(case);
        let pass = random_pass(&mut rng);
        let params = Params::from_frozen(&params, DType::F32).unwrap();
        let decoder = Decoder::trainable(&config, &params).unwrap();
        let prompt = &pass.tokens[..2];
        on_every_set(|| {
            let hidden = decoder.hidden_in(&pass.tokens, &pass.positions, &pass.segments)?;
            let (logits, gradients) = logits_and_gradients(&decoder, &params, &hidden)?;
            let gradients: Vec<Tensor> = gradients.into_iter().map(|(_, grad)| grad).collect();
            let mut cache = KvCache::new(&decoder)?;
            let first = decoder.prefill(&[prompt, &pass.tokens], &mut cache)?;
            let next = decoder.decode_step(&[1, 2], &mut cache)?;
            let all = [vec![logits], gradients, vec![first, next]].concat();
            candle_core::Result::Ok(Exact(all))
        })?;
    }
    Ok(())
}

/// Whether a decoder has a feature.
type Has = fn(&DecoderConfig) -> bool;

/// Every feature is on in some case and off in another.
#[test]
fn the_cases_cover_every_feature() {
    let configs: Vec<DecoderConfig> = (0..CASES).map(|case| draw(case).0).collect();
    let features: [(&str, Has); 12] = [
        ("tied", |c| c.tied),
        ("qkv bias", |c| c.qkv_bias),
        ("output bias", |c| c.output_bias),
        ("feed-forward bias", |c| c.mlp_bias),
        ("head norms", |c| c.qk_norm),
        ("post norms", |c| c.post_norms),
        ("embedding scale", |c| c.embedding_scale.is_some()),
        ("attention cap", |c| c.attention_softcap.is_some()),
        ("logit cap", |c| c.logit_softcap.is_some()),
        ("window", |c| c.windows.iter().any(Option::is_some)),
        ("grouped heads", |c| c.heads > c.kv_heads),
        ("gelu", |c| c.activation == GateActivation::GeluTanh),
    ];
    for (name, has) in features {
        let with = configs.iter().filter(|c| has(c)).count();
        assert!(with > 4 && with + 4 < configs.len(), "{name}: {with}");
    }
}
