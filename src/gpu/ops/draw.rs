//! Tokens drawn from logits where they lie, so that no logits go to the host.

use crate::gpu::call::{Arg, Call, Entry, Launch, entry};
use crate::gpu::{Buf, Gpu, Result};

const DRAW: Entry = entry!("draw_tokens", "&f32 &f64 *i32 i32 draw::By:16");
pub(crate) const ALONE: &[Entry] = &[DRAW];

/// Threads of a block, as in the kernel; each has 16 bins of f64.
const THREADS: usize = 512;
/// The bins, and 32 sums of warps.
const SHARED: usize = THREADS * 16 * 8 + 32 * 8;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawing {
    /// What logits are divided by; 0: the likeliest token, the first of several.
    pub temperature: f64,
    /// The mass of the likeliest tokens that are drawn from; 1: of all.
    pub top_p: f64,
}

impl Drawing {
    fn arg(&self) -> Arg {
        let halves = |x: f64| {
            let bits = x.to_bits();
            let (low, high) = (bits as u32, (bits >> 32) as u32);
            if cfg!(target_endian = "little") {
                [low, high]
            } else {
                [high, low]
            }
        };
        let words = [halves(self.temperature), halves(self.top_p)].concat();
        Arg::words("draw::By:16", &words)
    }
}

/// `tokens (N,)`, drawn from `logits (N, V)` by a number in [0, 1) for each row: the token at which the mass of those before
/// it and its own exceeds that share of all, in the order of ids, or within a nucleus by falling logits. The mass of a token
/// is `exp((logit - largest) / temperature)`, in f64. -1 where a logit is NaN or the largest is not finite.
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn draw(
    gpu: &mut dyn Gpu,
    logits: Buf<f32>,
    uniforms: Buf<f64>,
    tokens: Buf<i32>,
    how: Drawing,
) -> Result<()> {
    let rows = tokens.len();
    let vocab = logits.len().checked_div(rows).unwrap_or(0);
    assert_eq!(
        [logits.len(), uniforms.len()],
        [vocab * rows, rows],
        "draws of {rows} rows"
    );
    assert!(vocab > 0 || rows == 0, "draws from no logits");
    let args = [
        Arg::read(logits),
        Arg::read(uniforms),
        Arg::write(tokens),
        Arg::int(vocab),
        how.arg(),
    ];
    let launch = Launch::of(rows, THREADS as u32).sharing(SHARED);
    Call::new(&DRAW, launch, args).run(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::element::int;
    use crate::gpu::testing::{Device, noise, on_devices, on_devices_once};

    fn by(temperature: f64, top_p: f64) -> Drawing {
        Drawing { temperature, top_p }
    }

    fn drawn(device: &mut Device, logits: &[f32], uniforms: &[f64], how: Drawing) -> Vec<i32> {
        let (z, u) = (device.put(logits), device.put(uniforms));
        let to = device.empty(uniforms.len());
        draw(device.gpu(), z, u, to, how).unwrap();
        device.get(to)
    }

    /// The same by sorting, as the host does.
    fn by_hand(logits: &[f32], uniform: f64, how: Drawing) -> i32 {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weigh = |&l: &f32| ((f64::from(l) - f64::from(top)) / how.temperature).exp();
        let mut weights: Vec<(usize, f64)> = logits.iter().map(weigh).enumerate().collect();
        if how.top_p < 1.0 {
            weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let total: f64 = weights.iter().map(|(_, w)| w).sum();
            let mut mass = 0.0;
            let reaches = |(_, w): &(usize, f64)| {
                mass += w;
                mass >= how.top_p * total
            };
            let kept = weights.iter().position(reaches).unwrap() + 1;
            weights.truncate(kept);
        }
        let mass: f64 = weights.iter().map(|(_, w)| w).sum();
        let mut below = 0.0;
        let found = weights.iter().find(|(_, w)| {
            below += w;
            uniform * mass < below
        });
        int(found.unwrap().0)
    }

    /// Numbers in [0, 1), the ends among them.
    fn uniforms(n: usize, seed: u64) -> Vec<f64> {
        let mut all: Vec<f64> = noise::<f32>(n, seed)
            .iter()
            .map(|x| f64::from(x.abs()).min(1.0 - 1e-9))
            .collect();
        (all[0], all[1]) = (0.0, 1.0 - f64::EPSILON / 2.0);
        all
    }

    #[test]
    fn tokens_drawn_on_the_device_are_those_of_a_sorted_list() {
        let (rows, vocab) = (12, 1301);
        let logits: Vec<f32> = noise::<f32>(rows * vocab, 3)
            .iter()
            .map(|z| z * 12.0)
            .collect();
        let uniforms = uniforms(rows, 4);
        on_devices(|device| {
            for how in [
                (1.0, 0.95),
                (0.7, 0.5),
                (3.0, 0.999),
                (1.0, 1.0),
                (0.5, 1.0),
            ] {
                let how = by(how.0, how.1);
                let got = drawn(device, &logits, &uniforms, how);
                let rows = logits.chunks_exact(vocab).zip(&uniforms);
                let want: Vec<i32> = rows.map(|(z, &u)| by_hand(z, u, how)).collect();
                assert_eq!(got, want, "{how:?}");
            }
        });
    }

    // Few values, so that many logits are the same, both zeros, and infinities below.
    #[test]
    fn tokens_as_likely_as_each_other_are_drawn_in_the_order_of_their_ids() {
        let (rows, vocab) = (40, 700);
        let few = |(i, z): (usize, &f32)| {
            let z = (z * 3.0).round();
            if z <= -2.0 {
                f32::NEG_INFINITY
            } else if i % 2 == 0 {
                // Of 0 the other zero.
                z.abs().copysign(if z > 0.0 { 1.0 } else { -1.0 })
            } else {
                z
            }
        };
        let logits = noise::<f32>(rows * vocab, 5);
        let logits: Vec<f32> = logits.iter().enumerate().map(few).collect();
        let uniforms = uniforms(rows, 6);
        on_devices_once(|device| {
            for how in [(1.0, 0.3), (1.0, 0.7), (2.0, 0.97), (1.0, 1.0)] {
                let how = by(how.0, how.1);
                let got = drawn(device, &logits, &uniforms, how);
                let rows = logits.chunks_exact(vocab).zip(&uniforms);
                let want: Vec<i32> = rows.map(|(z, &u)| by_hand(z, u, how)).collect();
                assert_eq!(got, want, "{how:?}");
            }
        });
    }

    #[test]
    fn the_likeliest_token_is_the_first_of_several_and_broken_logits_give_none() {
        let vocab = 600;
        let mut logits = vec![-1.0f32; 4 * vocab];
        (logits[77], logits[599]) = (2.0, 2.0);
        logits[vocab + 300] = f32::NAN;
        logits[2 * vocab + 5] = f32::INFINITY;
        logits[3 * vocab..].fill(f32::NEG_INFINITY);
        on_devices(|device| {
            for how in [by(0.0, 1.0), by(1e-3, 0.5)] {
                let got = drawn(device, &logits, &[0.0; 4], how);
                assert_eq!(got, [77, -1, -1, -1], "{how:?}");
            }
        });
    }

    // Probabilities 0.5, 0.25, 0.125, 0.125, which are sums without rounding: the second half of [0, 1) is of the three
    // smaller, and of a nucleus of 0.75 the last third is of the second.
    #[test]
    fn a_number_falls_to_the_token_whose_share_it_lies_in() {
        let two = 2.0f32.ln();
        let row = [2.0 * two, two, 0.0, 0.0];
        let uniforms = [0.0, 0.499, 0.501, 0.749, 0.751, 0.874, 0.876, 0.999];
        let logits = row.repeat(uniforms.len());
        on_devices(|device| {
            let all = drawn(device, &logits, &uniforms, by(1.0, 1.0));
            assert_eq!(all, [0, 0, 1, 1, 2, 2, 3, 3]);
            let nucleus = drawn(device, &logits, &uniforms, by(1.0, 0.7));
            assert_eq!(nucleus, [0, 0, 0, 1, 1, 1, 1, 1]);
        });
    }
}
