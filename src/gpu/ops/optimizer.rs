//! The norm of all gradients, clipping and AdamW, over arenas that all parameters share.

use crate::arch::SHARE_ALIGNMENT;
use crate::gpu::call::{Arg, Call, Entry, Launch, entry};
use crate::gpu::element::{int, structure};
use crate::gpu::{Buf, Gpu, Result};
use half::bf16;
use std::ops::Range;

const SQUARES: Entry = entry!("square_parts", "&f32 *f64 i64 i32");
const CLIP: Entry = entry!("clip_factor", "&f64 &f32 *f32 i32 f32");
const ADAMW: Entry = entry!(
    "adamw_step",
    "*f32 *bf16 *f32 *f32 &f32 &f32 &adamw::Chunk:16 adamw::Step:28"
);
const ADAMW_HALVES: Entry = entry!(
    "adamw_step_halves",
    "*bf16 *i16 *f32 *f32 &f32 &f32 &adamw::Chunk:16 adamw::Step:28"
);
const HALVE: Entry = entry!("halve", "&f32 *bf16 *i16 i64");
const JOIN: Entry = entry!("join", "&bf16 &i16 *f32 i64");
pub(crate) const ALONE: &[Entry] = &[SQUARES, CLIP, ADAMW, ADAMW_HALVES, HALVE, JOIN];

/// Numbers that a block sums or updates.
const SPAN: usize = SHARE_ALIGNMENT;

/// How many parts [`gradient_norm`] wants for so many numbers.
pub fn norm_parts(len: usize) -> usize {
    len.div_ceil(SPAN)
}

/// `clip (3,)`: the norm of all gradients, summed in f64 in one order; the factor `min(1, max_norm / (norm + 1e-6))`,
/// or 1 if `max_norm` is 0; and 1 if the norm or `loss (1,)` is not finite, in which case [`adamw_step`] does nothing.
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn gradient_norm(
    gpu: &mut dyn Gpu,
    grad: Buf<f32>,
    loss: Buf<f32>,
    (parts, max_norm): (Buf<f64>, f32),
    clip: Buf<f32>,
) -> Result<()> {
    squares(gpu, grad, parts)?;
    clip_factor(gpu, parts, loss, max_norm, clip)
}

/// The sums of squares of gradients that [`clip_factor`] takes, [`norm_parts`] of them.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn squares(gpu: &mut dyn Gpu, grad: Buf<f32>, parts: Buf<f64>) -> Result<()> {
    let count = norm_parts(grad.len());
    assert_eq!(parts.len(), count);
    let args = [
        Arg::read(grad),
        Arg::write(parts),
        Arg::long(grad.len()),
        Arg::int(SPAN),
    ];
    let launch = Launch::of(count, 256).sharing(256);
    Call::new(&SQUARES, launch, args).run(gpu)
}

/// The rest of [`gradient_norm`], of the sums of all gradients.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn clip_factor(
    gpu: &mut dyn Gpu,
    parts: Buf<f64>,
    loss: Buf<f32>,
    max_norm: f32,
    clip: Buf<f32>,
) -> Result<()> {
    assert_eq!([loss.len(), clip.len()], [1, 3]);
    let args = [
        Arg::read(parts),
        Arg::read(loss),
        Arg::write(clip),
        Arg::int(parts.len()),
        Arg::float(max_norm),
    ];
    Call::new(&CLIP, Launch::of(1, 256).sharing(256), args).run(gpu)
}

/// Numbers of an arena that one block updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Chunk {
    first: i64,
    count: i32,
    decays: i32,
}

structure!(Chunk: "adamw::Chunk:16");

/// The chunks of the numbers that learn: ranges of the arena, and whether weight decay reaches them. What is in no
/// range is never written.
pub fn chunks(learn: &[(Range<usize>, bool)]) -> Vec<Chunk> {
    let of_range = |(range, decays): &(Range<usize>, bool)| {
        let (range, decays) = (range.clone(), i32::from(*decays));
        range.clone().step_by(SPAN).map(move |first| Chunk {
            first: (first as u64).cast_signed(),
            count: int((range.end - first).min(SPAN)),
            decays,
        })
    };
    learn.iter().flat_map(of_range).collect()
}

/// The scalars of one step, rounded to f32 once.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// `1 - lr * decay`.
    pub keep: f32,
    /// `1 - beta1`.
    pub one_minus_beta1: f32,
    /// `beta2`.
    pub beta2: f32,
    /// `1 - beta2`.
    pub one_minus_beta2: f32,
    /// `lr / (1 - beta1^t)`.
    pub step_size: f32,
    /// `sqrt(1 - beta2^t)`.
    pub root_correction: f32,
    /// Added to the root.
    pub eps: f32,
}

impl Step {
    fn arg(&self) -> Arg {
        let words = [
            self.keep,
            self.one_minus_beta1,
            self.beta2,
            self.one_minus_beta2,
            self.step_size,
            self.root_correction,
            self.eps,
        ];
        Arg::words("adamw::Step:28", &words.map(f32::to_bits))
    }
}

/// Numbers in f32 that are kept as their rounding to bf16, ties to even, and the 16 bits that it lacks. One in 2^17 of all
/// f32 numbers, every second tie, is kept as the number below it in magnitude, 2^-24 of it away.
#[derive(Clone, Copy, Debug)]
pub struct Halves {
    /// What passes read.
    pub value: Buf<bf16>,
    /// What the bits of the f32 number have more than those of `value`, filled up with zeros.
    pub low: Buf<i16>,
}

impl Halves {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them.
    ///
    /// # Panics
    /// There are no such numbers.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        Self {
            value: self.value.part(range.clone()),
            low: self.low.part(range),
        }
    }

    /// They become `x`.
    ///
    /// # Errors
    /// The launch fails.
    ///
    /// # Panics
    /// Lengths differ.
    pub fn set(&self, gpu: &mut dyn Gpu, x: Buf<f32>) -> Result<()> {
        assert_eq!([self.low.len(), x.len()], [self.len(); 2]);
        let args = [
            Arg::read(x),
            Arg::write(self.value),
            Arg::write(self.low),
            Arg::long(x.len()),
        ];
        Call::new(&HALVE, Launch::over(x.len()), args).run(gpu)
    }

    /// `x` becomes what they are.
    ///
    /// # Errors
    /// The launch fails.
    ///
    /// # Panics
    /// Lengths differ.
    pub fn get(&self, gpu: &mut dyn Gpu, x: Buf<f32>) -> Result<()> {
        assert_eq!([self.low.len(), x.len()], [self.len(); 2]);
        let args = [
            Arg::read(self.value),
            Arg::read(self.low),
            Arg::write(x),
            Arg::long(x.len()),
        ];
        Call::new(&JOIN, Launch::over(x.len()), args).run(gpu)
    }
}

/// How parameters are kept.
#[derive(Clone, Copy, Debug)]
pub enum Parameters {
    /// In f32, beside a copy in bf16 if passes read one.
    Whole(Buf<f32>, Option<Buf<bf16>>),
    /// In two halves.
    Halves(Halves),
}

impl Parameters {
    fn len(&self) -> usize {
        match self {
            Self::Whole(master, _) => master.len(),
            Self::Halves(halves) => halves.len(),
        }
    }
}

/// Parameters, moments and gradients, number by number in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Learning {
    /// The parameters.
    pub parameters: Parameters,
    /// First moments.
    pub m: Buf<f32>,
    /// Second moments.
    pub v: Buf<f32>,
    /// Gradients, before clipping.
    pub grad: Buf<f32>,
}

/// One step of AdamW over `chunks`, which must lie within the arrays, with `clip` of [`gradient_norm`].
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn adamw_step(
    gpu: &mut dyn Gpu,
    of: &Learning,
    clip: Buf<f32>,
    chunks: Buf<Chunk>,
    step: &Step,
) -> Result<()> {
    let n = of.parameters.len();
    assert_eq!(
        [of.m.len(), of.v.len(), of.grad.len(), clip.len()],
        [n, n, n, 3]
    );
    let (entry, parameters) = match of.parameters {
        Parameters::Whole(master, short) => {
            assert!(short.is_none_or(|short| short.len() == n));
            (&ADAMW, [Arg::write(master), Arg::write_if(short)])
        }
        Parameters::Halves(Halves { value, low }) => {
            assert_eq!(low.len(), n);
            (&ADAMW_HALVES, [Arg::write(value), Arg::write(low)])
        }
    };
    let [first, second] = parameters;
    let args = [
        first,
        second,
        Arg::write(of.m),
        Arg::write(of.v),
        Arg::read(of.grad),
        Arg::read(clip),
        Arg::read(chunks),
        step.arg(),
    ];
    Call::new(entry, Launch::of(chunks.len(), 256), args).run(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{Device, F32, agree, noise, on_devices, wide};

    const STEP: Step = Step {
        keep: 0.99,
        one_minus_beta1: 0.1,
        beta2: 0.95,
        one_minus_beta2: 0.05,
        step_size: 0.02,
        root_correction: 0.3,
        eps: 1e-8,
    };

    fn clip_of(device: &mut Device, grad: Buf<f32>, loss: f32, max_norm: f32) -> Buf<f32> {
        let parts = device.empty(norm_parts(grad.len()));
        let (loss, clip) = (device.put(&[loss]), device.empty(3));
        gradient_norm(device.gpu(), grad, loss, (parts, max_norm), clip).unwrap();
        clip
    }

    #[test]
    fn the_norm_of_gradients_is_that_of_f64_and_clips() {
        on_devices(|device| {
            let g = noise::<f32>(9000, 1);
            let norm = g.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let buf = device.put(&g);
            for (max, factor) in [(2.0, 2.0 / (norm + 1e-6)), (1000.0, 1.0), (0.0, 1.0)] {
                let clip = clip_of(device, buf, 1.0, max);
                agree("clip", &device.get(clip), &[norm, factor, 0.0], F32);
            }
        });
    }

    #[test]
    fn a_step_that_is_not_finite_is_not_taken() {
        on_devices(|device| {
            let p = noise::<f32>(100, 1);
            let (master, moments) = (device.put(&p), device.put(&[0.0f32; 100]));
            for (bad, loss) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::NAN)] {
                let mut g = noise::<f32>(100, 2);
                g[77] = bad;
                let grad = device.put(&g);
                let clip = clip_of(device, grad, loss, 1.0);
                let of = Learning {
                    parameters: Parameters::Whole(master, None),
                    m: moments,
                    v: moments,
                    grad,
                };
                let all = device.put(&chunks(&[(0..100, true)]));
                adamw_step(device.gpu(), &of, clip, all, &STEP).unwrap();
                assert_eq!(device.get(clip)[2].to_bits(), 1.0f32.to_bits());
                assert_eq!(device.get(master), p);
            }
        });
    }

    #[test]
    fn adamw_on_the_device_is_its_formula_and_leaves_alone_what_does_not_learn() {
        on_devices(|device| {
            let n = 5000;
            let learn = [(100..300, false), (300..4700, true)];
            let [p, m, g] = [1, 2, 3].map(|seed| noise::<f32>(n, seed));
            let v: Vec<f32> = noise::<f32>(n, 4).iter().map(|v| v * v).collect();
            let short: Vec<bf16> = p.iter().map(|&p| bf16::from_f32(p)).collect();
            let (whole, copy) = (device.put(&p), device.put(&short));
            let of = Learning {
                parameters: Parameters::Whole(whole, Some(copy)),
                m: device.put(&m),
                v: device.put(&v),
                grad: device.put(&g),
            };
            let clip = device.put(&[7.0f32, 0.5, 0.0]);
            let parts = device.put(&chunks(&learn));
            adamw_step(device.gpu(), &of, clip, parts, &STEP).unwrap();
            let [mut wp, mut wm, mut wv] = [&p, &m, &v].map(|x| wide(x));
            for at in 100..4700 {
                let g = f64::from(g[at]) * 0.5;
                wm[at] += (g - wm[at]) * 0.1;
                wv[at] = wv[at] * 0.95 + 0.05 * g * g;
                let keep = if at < 300 { 1.0 } else { 0.99 };
                wp[at] = wp[at] * keep - 0.02 * wm[at] / (wv[at].sqrt() / 0.3 + 1e-8);
            }
            let master = device.get(whole);
            agree("master", &master, &wp, F32);
            agree("m", &device.get(of.m), &wm, F32);
            agree("v", &device.get(of.v), &wv, F32);
            let rounded: Vec<bf16> = master.iter().map(|&p| bf16::from_f32(p)).collect();
            assert_eq!(device.get(copy), rounded);
            assert_eq!((&master[..100], &master[4700..]), (&p[..100], &p[4700..]));
            // Without a copy in bf16 the numbers are the same, and in halves.
            let (whole, halves) = (device.put(&p), halves(device, &p));
            for parameters in [Parameters::Whole(whole, None), Parameters::Halves(halves)] {
                let other = Learning {
                    parameters,
                    m: device.put(&m),
                    v: device.put(&v),
                    grad: of.grad,
                };
                adamw_step(device.gpu(), &other, clip, parts, &STEP).unwrap();
            }
            assert_eq!(device.get(whole), master);
            assert_eq!(device.get(halves.value), rounded);
            let joined = device.empty(n);
            halves.get(device.gpu(), joined).unwrap();
            assert_eq!(device.get(joined), master);
        });
    }

    fn halves(device: &mut Device, x: &[f32]) -> Halves {
        let halves = Halves {
            value: device.empty(x.len()),
            low: device.empty(x.len()),
        };
        let from = device.put(x);
        halves.set(device.gpu(), from).unwrap();
        halves
    }

    #[test]
    fn halves_are_their_numbers_and_of_two_ties_one_gives_way_by_a_bit() {
        // Every lower half, with upper halves of both parities: of subnormal, common and the largest numbers.
        let upper = [
            0x0000, 0x0001, 0x3f80, 0x3f81, 0xbf80, 0xc2f7, 0x7f7f, 0xff7e,
        ];
        let numbers = upper
            .into_iter()
            .flat_map(|high: u32| (0..=0xffff).map(move |low| f32::from_bits(high << 16 | low)));
        let mut x: Vec<f32> = numbers.collect();
        x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        on_devices(|device| {
            let kept = halves(device, &x);
            let joined = device.empty(x.len());
            kept.get(device.gpu(), joined).unwrap();
            let mut nudged = 0;
            for ((x, got), value) in x.iter().zip(device.get(joined)).zip(device.get(kept.value)) {
                if x.is_nan() {
                    assert!(got.is_nan() && value.is_nan());
                    continue;
                }
                assert_eq!(value, bf16::from_f32(*x), "{x:e}");
                let tie = x.to_bits() & 0x1_ffff == 0x8000;
                nudged += u32::from(tie);
                assert_eq!(got.to_bits(), x.to_bits() - u32::from(tie), "{x:e}");
            }
            assert_eq!(nudged, 4);
        });
    }
}
