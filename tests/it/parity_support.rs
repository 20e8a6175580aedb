//! Reading golden numbers, and distances between tensors.
//!
//! The scripts in `tests/golden` say how the numbers were made; `common.py` there has the twin of
//! the fingerprint arithmetic below.

use candle_core::{DType, Tensor};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Relative error allowed against PyTorch in f32: losses, norms, logits, gradients, weights.
pub(crate) const PARITY: f64 = 1e-4;
/// Relative L2 distance allowed between two layouts of the same tokens.
pub(crate) const LAYOUT: f64 = 1e-5;
/// Relative L2 distance allowed between two splits of one step into micro-batches.
pub(crate) const SPLIT: f64 = 1e-6;

/// A path from the project's root.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of `tests/golden`.
pub(crate) fn golden(name: &str) -> Value {
    let path = root("tests/golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Negative log-likelihood of the targets of these log-probabilities (N,): summed, over `total`.
pub(crate) fn mean_nll(token_logps: &Tensor, total: usize) -> Tensor {
    (token_logps.sum_all().unwrap() / -(total as f64)).unwrap()
}

/// A list of numbers.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    let items = value.as_array().unwrap();
    items.iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A list of token ids.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|x| x as u32).collect()
}

/// All values of a tensor, row by row.
pub(crate) fn flat(tensor: &Tensor) -> Vec<f64> {
    let wide = tensor.to_dtype(DType::F64).unwrap();
    wide.flatten_all().unwrap().to_vec1().unwrap()
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// `|got - want| / |want|` of two numbers.
pub(crate) fn relative(got: f64, want: f64) -> f64 {
    (got - want).abs() / want.abs().max(1e-30)
}

/// `|got - want| / |want|` in L2.
pub(crate) fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths");
    let difference = norm(got.iter().zip(want).map(|(a, b)| a - b));
    difference / norm(want.iter().copied()).max(1e-30)
}

/// `n` signs: the top bit of `SplitMix64` at counter `seed * 2^32 + i`.
pub(crate) fn signs(seed: u64, n: usize) -> impl Iterator<Item = f64> {
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

/// Estimated `|got - want| / |want|` of a tensor against the fingerprint of another: the larger of
/// what the first values and what the projections say.
pub(crate) fn distance_to_fingerprint(got: &Tensor, want: &Value) -> f64 {
    let shape: Vec<usize> = numbers(&want["shape"])
        .into_iter()
        .map(|x| x as usize)
        .collect();
    assert_eq!(got.dims(), shape, "shape");
    let got = flat(got);
    let scale = want["norm"].as_f64().unwrap().max(1e-30);
    let projections = numbers(&want["projections"]);
    let off = projections.iter().enumerate().map(|(k, want)| {
        let here: f64 = signs(k as u64, got.len())
            .zip(&got)
            .map(|(s, x)| s * x)
            .sum();
        here - want
    });
    let projected = norm(off) / (projections.len() as f64).sqrt();
    let head = norm(numbers(&want["head"]).iter().zip(&got).map(|(a, b)| a - b));
    projected.max(head) / scale
}

/// The largest of named errors; prints it (seen with `--nocapture`) and fails above `tolerance`.
pub(crate) fn check(what: &str, errors: impl IntoIterator<Item = (String, f64)>, tolerance: f64) {
    let mut worst = (String::from("nothing"), 0.0);
    let mut count = 0;
    for (name, error) in errors {
        assert!(error.is_finite(), "{what}: `{name}` is not a number");
        count += 1;
        if error >= worst.1 {
            worst = (name, error);
        }
    }
    assert!(count > 0, "{what}: nothing was compared");
    report(&format!(
        "{what}: {:.1e} at `{}` of {count}",
        worst.1, worst.0
    ));
    assert!(
        worst.1 < tolerance,
        "{what}: relative error {:.3e} at `{}`, allowed {tolerance:.0e}",
        worst.1,
        worst.0
    );
}

#[allow(
    clippy::print_stdout,
    reason = "measured errors are for the reader of `--nocapture`"
)]
fn report(line: &str) {
    println!("{line}");
}

#[test]
fn a_fingerprint_measures_the_distance_of_two_tensors() {
    let values: Vec<f64> = signs(99, 3000)
        .enumerate()
        .map(|(i, s)| s * (i % 7) as f64)
        .collect();
    let moved: Vec<f64> = values
        .iter()
        .zip(signs(98, 3000))
        .map(|(x, s)| x + 1e-3 * s)
        .collect();
    let projections: Vec<f64> = (0..16)
        .map(|k| signs(k, 3000).zip(&values).map(|(s, x)| s * x).sum())
        .collect();
    let fingerprint = serde_json::json!({
        "shape": [3000], "norm": norm(values.iter().copied()),
        "head": &values[..16], "projections": projections,
    });
    let tensor = |v: &[f64]| Tensor::new(v, &candle_core::Device::Cpu).unwrap();
    assert!(distance_to_fingerprint(&tensor(&values), &fingerprint) < 1e-14);
    let (estimate, truth) = (
        distance_to_fingerprint(&tensor(&moved), &fingerprint),
        distance(&moved, &values),
    );
    assert!(
        (0.5..2.0).contains(&(estimate / truth)),
        "{estimate} for {truth}"
    );
}
