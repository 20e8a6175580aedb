//! What logits say of their targets, and the gradient by the logits.

use crate::gpu::call::{Arg, Call, Entry, Launch, Pair, entry};
use crate::gpu::{Buf, Gpu, Region, Result, Stored};

const SCORE: Entry = entry!("head_score", "*f32 &i32 *f32 *f32 *i32 i32 f32");
const GRADIENT: Pair = entry!(for T "head_gradient", "&f32 &i32 &f32 &f32 *T i32 i32 f32");
const GRADIENT_FAST: Entry = entry!(
    "head_gradient_fast",
    "&f32 &i32 &f32 &f32 *bf16 i32 i32 f32"
);
pub(crate) const ALONE: &[Entry] = &[SCORE, GRADIENT_FAST];
pub(crate) const PAIRS: &[Pair] = &[GRADIENT];

/// What is known of each row of logits, `(N,)` each.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// Log-probability of the target, nats.
    pub logp: Buf<f32>,
    /// Logarithm of the sum of exponentials.
    pub lse: Buf<f32>,
    /// 1 where no logit is larger than the target's.
    pub correct: Buf<i32>,
}

/// Scores `targets (N,)` by `logits (N, V)`. With a softcap the logits become `cap * tanh(logit / cap)`. Targets must
/// be below V.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn head_score(
    gpu: &mut dyn Gpu,
    logits: Buf<f32>,
    targets: Buf<i32>,
    to: &Scores,
    softcap: Option<f32>,
) -> Result<()> {
    let n = targets.len();
    assert_eq!([to.logp.len(), to.lse.len(), to.correct.len()], [n; 3]);
    let vocab = vocab(logits, n);
    let args = [
        Arg::write(logits),
        Arg::read(targets),
        Arg::write(to.logp),
        Arg::write(to.lse),
        Arg::write(to.correct),
        Arg::int(vocab),
        Arg::float(softcap.unwrap_or(0.0)),
    ];
    Call::new(&SCORE, Launch::of(n, 256).sharing(256), args).run(gpu)
}

/// The gradient `dz (N, V)` of `sum(g_i logp_i)` by the logits as [`head_score`] left them, which it may replace.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn head_gradient<T: Stored>(
    gpu: &mut dyn Gpu,
    logits: Buf<f32>,
    targets: Buf<i32>,
    (lse, g): (Buf<f32>, Buf<f32>),
    dz: Buf<T>,
    softcap: Option<f32>,
) -> Result<()> {
    let n = targets.len();
    assert_eq!([lse.len(), g.len(), dz.len()], [n, n, logits.len()]);
    let args = [
        Arg::read(logits),
        Arg::read(targets),
        Arg::read(lse),
        Arg::read(g),
        Arg::write(dz),
        Arg::int(n),
        Arg::int(vocab(logits, n)),
        Arg::float(softcap.unwrap_or(0.0)),
    ];
    let is_wide = [logits.region(), dz.region()].map(Region::is_wide) == [true; 2];
    if T::pick(false, true) && is_wide && vocab(logits, n).is_multiple_of(8) {
        let launch = Launch::over_columns(vocab(logits, n), n);
        return Call::new(&GRADIENT_FAST, launch, args).run(gpu);
    }
    Call::new(GRADIENT.of::<T>(), Launch::over(logits.len()), args).run(gpu)
}

fn vocab(logits: Buf<f32>, n: usize) -> usize {
    let vocab = logits.len().checked_div(n).unwrap_or(0);
    assert_eq!(vocab * n, logits.len(), "logits of {n} rows");
    vocab
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16, Device, F32, agree, noise, on_devices, wide};
    use half::bf16;

    const TARGETS: [i32; 4] = [0, 700, 3, 511];

    fn scores(device: &mut Device, n: usize) -> Scores {
        Scores {
            logp: device.empty(n),
            lse: device.empty(n),
            correct: device.empty(n),
        }
    }

    fn scored(device: &mut Device, softcap: Option<f32>) {
        let (n, vocab) = (TARGETS.len(), 701);
        let mut logits: Vec<f32> = noise::<f32>(n * vocab, 1).iter().map(|z| z * 9.0).collect();
        logits[2 * vocab + 3] = 12.0; // the third row's target is its best
        let (z, targets) = (device.put(&logits), device.put(&TARGETS));
        let to = scores(device, n);
        head_score(device.gpu(), z, targets, &to, softcap).unwrap();
        let (mut logp, mut lse, mut dz) = (vec![], vec![], vec![]);
        let weights = [0.5f32, -1.0, 2.0, 0.25];
        for (row, &target) in TARGETS.iter().enumerate() {
            let cap = softcap.map(f64::from);
            let logits = &logits[row * vocab..][..vocab];
            let capped =
                |&z: &f32| cap.map_or(f64::from(z), |cap| cap * (f64::from(z) / cap).tanh());
            let z: Vec<f64> = logits.iter().map(capped).collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            lse.push(sum.ln());
            logp.push(z[target as usize] - sum.ln());
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let is_best = z[target as usize] >= top;
            assert_eq!(device.get(to.correct)[row], i32::from(is_best));
            for (i, z) in z.iter().enumerate() {
                let slope = cap.map_or(1.0, |cap| 1.0 - (z / cap).powi(2));
                let hit = f64::from(i == target as usize);
                dz.push(f64::from(weights[row]) * (hit - z.exp() / sum) * slope);
            }
        }
        agree("logp", &device.get(to.logp), &logp, F32);
        agree("lse", &device.get(to.lse), &lse, F32);
        let (g, short) = (device.put(&weights), device.empty::<bf16>(n * vocab));
        head_gradient(device.gpu(), z, targets, (to.lse, g), short, softcap).unwrap();
        head_gradient(device.gpu(), z, targets, (to.lse, g), z, softcap).unwrap();
        agree("dz", &device.get(z), &dz, F32);
        agree("dz in bf16", &device.get(short), &dz, BF16);
    }

    #[test]
    fn the_head_on_the_device_is_its_formula() {
        on_devices(|device| {
            scored(device, None);
            scored(device, Some(5.0));
        });
    }

    // The simple kernel takes what does not begin where 16 bytes may be read.
    #[test]
    fn fast_gradients_by_the_logits_are_the_simple_ones_to_the_bit() {
        let (n, vocab) = (3, 2072);
        on_devices(|device| {
            for softcap in [None, Some(5.0)] {
                let z = device.put(&noise::<f32>(n * vocab, 1));
                let targets = device.put(&[0, 2071, 9]);
                let to = scores(device, n);
                head_score(device.gpu(), z, targets, &to, softcap).unwrap();
                let g = device.put(&[0.5f32, -1.0, 2.0]);
                let found = [0, 1].map(|behind| {
                    let space = device.empty::<bf16>(n * vocab + behind);
                    let dz = space.part(behind..space.len());
                    head_gradient(device.gpu(), z, targets, (to.lse, g), dz, softcap).unwrap();
                    device.get(dz)
                });
                assert!(found[0] == found[1], "{softcap:?}");
            }
        });
    }

    #[test]
    fn a_target_as_large_as_others_is_right_and_a_nan_reaches_the_row() {
        on_devices(|device| {
            let mut logits = vec![1.5; 2 * 300];
            logits[300 + 170] = f32::NAN;
            let (z, targets) = (device.put(&logits), device.put(&[299, 0]));
            let to = scores(device, 2);
            head_score(device.gpu(), z, targets, &to, None).unwrap();
            assert_eq!(device.get(to.correct)[0], 1);
            assert!(wide(&device.get(to.lse))[1].is_nan());
        });
    }
}
