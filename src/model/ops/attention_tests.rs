//! Attention against its naive twin and central differences.

use crate::arch::AttentionShape;
use crate::model::kernels::segments::Segments;
use crate::model::ops::attention::{attention, attention_naive};
use crate::model::ops::check::{agree, gradients_match, noise};
use candle_core::{DType, Result, Tensor};

fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f64).sqrt(),
        softcap: None,
        window: None,
    }
}

fn bounds(lens: &[u32]) -> Vec<u32> {
    let mut cu = vec![0];
    lens.iter().for_each(|len| cu.push(cu[cu.len() - 1] + len));
    cu
}

fn segments(lens: &[u32]) -> Segments {
    Segments::new(&bounds(lens))
}

/// Segments of given lengths and prefixes.
fn with_prefixes(segments: &[(u32, u32)]) -> (Segments, usize) {
    let lens: Vec<u32> = segments.iter().map(|(len, _)| *len).collect();
    let prefixes: Vec<u32> = segments.iter().map(|(_, prefix)| *prefix).collect();
    let total = lens.iter().sum::<u32>() as usize;
    (Segments::with_prefixes(&bounds(&lens), &prefixes), total)
}

fn twins_agree(shape: AttentionShape, lens: &[u32]) -> Result<()> {
    twins_agree_on(shape, &segments(lens), lens.iter().sum::<u32>() as usize)
}

fn twins_agree_on(shape: AttentionShape, cu: &Segments, t: usize) -> Result<()> {
    let q = (noise(&[t, shape.q_width()], 1, DType::F32)? * 3.0)?;
    let k = (noise(&[t, shape.kv_width()], 2, DType::F32)? * 3.0)?;
    let v = noise(&[t, shape.kv_width()], 3, DType::F32)?;
    agree(
        &[&q, &k, &v],
        |t| attention(&t[0], &t[1], &t[2], cu, shape),
        |t| attention_naive(&t[0], &t[1], &t[2], cu, shape),
    )
}

#[test]
fn attention_is_its_naive_twin_over_segments_of_all_sizes() -> Result<()> {
    twins_agree(shape(4, 2, 8), &[1, 15, 16, 17, 0, 70])?;
    twins_agree(shape(3, 3, 20), &[33, 64])
}

#[test]
fn windows_and_caps_are_their_naive_twins() -> Result<()> {
    let plain = shape(2, 1, 8);
    twins_agree(
        AttentionShape {
            window: Some(5),
            ..plain
        },
        &[40, 3, 77],
    )?;
    twins_agree(
        AttentionShape {
            softcap: Some(2.0),
            ..plain
        },
        &[40, 3],
    )
}

#[test]
fn query_and_key_blocks_of_any_group_and_width_are_their_naive_twins() -> Result<()> {
    twins_agree(shape(6, 2, 12), &[150, 61])?;
    twins_agree(shape(5, 1, 7), &[67])?;
    let (window, softcap) = (Some(70), Some(3.0));
    twins_agree(
        AttentionShape {
            softcap,
            window,
            ..shape(2, 2, 24)
        },
        &[170],
    )
}

#[test]
fn attention_gradients_match_central_differences() -> Result<()> {
    let cu = segments(&[4, 1, 19]);
    for (window, softcap) in [(None, None), (Some(3), Some(1.5))] {
        let shape = AttentionShape {
            softcap,
            window,
            ..shape(2, 1, 3)
        };
        let q = (noise(&[24, 6], 1, DType::F64)? * 2.0)?;
        let (k, v) = (
            noise(&[24, 3], 2, DType::F64)?,
            noise(&[24, 3], 3, DType::F64)?,
        );
        gradients_match(&[&q, &k, &v], |t| {
            attention(&t[0], &t[1], &t[2], &cu, shape)
        })?;
    }
    Ok(())
}

/// Prompts of all sizes with none, one or several replies; prefixes by number of segment.
const PREFIXED: &[(u32, u32)] = &[
    (37, 0),
    (40, 0),
    (3, 0),
    (5, 3),
    (16, 4),
    (0, 4),
    (33, 4),
    (1, 4),
    (0, 8),
    (18, 8),
    (1, 10),
    (2, 10),
];

#[test]
fn suffixes_are_their_naive_twins() -> Result<()> {
    let (cu, t) = with_prefixes(PREFIXED);
    let plain = shape(4, 2, 8);
    let window = Some(7);
    let softcap = Some(2.0);
    for shape in [
        plain,
        AttentionShape { window, ..plain },
        AttentionShape { softcap, ..plain },
    ] {
        twins_agree_on(shape, &cu, t)?;
    }
    Ok(())
}

#[test]
fn gradients_of_prefixes_and_suffixes_match_central_differences() -> Result<()> {
    let (cu, t) = with_prefixes(&[(5, 0), (4, 0), (6, 0), (2, 3), (1, 4), (3, 4)]);
    for (window, softcap) in [(None, None), (Some(4), Some(1.5))] {
        let shape = AttentionShape {
            softcap,
            window,
            ..shape(2, 1, 3)
        };
        let q = (noise(&[t, 6], 1, DType::F64)? * 2.0)?;
        let (k, v) = (
            noise(&[t, 3], 2, DType::F64)?,
            noise(&[t, 3], 3, DType::F64)?,
        );
        gradients_match(&[&q, &k, &v], |t| {
            attention(&t[0], &t[1], &t[2], &cu, shape)
        })?;
    }
    Ok(())
}

#[test]
fn a_suffix_has_the_bits_of_a_segment_of_its_own() -> Result<()> {
    let shape = shape(2, 2, 8);
    let (cu, t) = with_prefixes(&[(19, 0), (9, 0), (45, 0)]);
    let (q, k, v) = (
        noise(&[t, 16], 1, DType::F32)?,
        noise(&[t, 16], 2, DType::F32)?,
        noise(&[t, 16], 3, DType::F32)?,
    );
    let together = attention(&q, &k, &v, &cu, shape)?;
    let whole = |t: &Tensor| Tensor::cat(&[t.narrow(0, 0, 19)?, t.narrow(0, 28, 45)?], 0);
    let alone = attention(
        &whole(&q)?,
        &whole(&k)?,
        &whole(&v)?,
        &segments(&[64]),
        shape,
    )?;
    assert_eq!(whole(&together)?.to_vec2::<f32>()?, alone.to_vec2::<f32>()?);
    Ok(())
}

#[test]
fn a_token_sees_nothing_of_other_segments() -> Result<()> {
    let shape = shape(2, 2, 8);
    let (q, k, v) = (
        noise(&[20, 16], 1, DType::F32)?,
        noise(&[20, 16], 2, DType::F32)?,
        noise(&[20, 16], 3, DType::F32)?,
    );
    let packed = attention(&q, &k, &v, &segments(&[12, 8]), shape)?;
    let part = |t: &Tensor| t.narrow(0, 12, 8)?.contiguous();
    let alone = attention(&part(&q)?, &part(&k)?, &part(&v)?, &segments(&[8]), shape)?;
    let packed = packed.narrow(0, 12, 8)?.to_vec2::<f32>()?;
    assert_eq!(packed, alone.to_vec2::<f32>()?);
    Ok(())
}

#[test]
fn segments_that_do_not_cover_the_tokens_are_an_error() -> Result<()> {
    let x = noise(&[6, 8], 1, DType::F32)?;
    let error = attention(&x, &x, &x, &segments(&[5]), shape(1, 1, 8)).unwrap_err();
    assert!(
        error.to_string().contains("do not cover 6 tokens"),
        "{error}"
    );
    Ok(())
}
