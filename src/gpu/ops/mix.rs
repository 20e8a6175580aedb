//! A mean of two arrays: weights that follow others.

use crate::gpu::call::{Arg, Call, Launch, Pair, entry};
use crate::gpu::{Buf, Gpu, Result, Stored};

const MIX: Pair = entry!(for T "mix", "*f32 &T i64 f32 f32");
pub(crate) const PAIRS: &[Pair] = &[MIX];

/// `y` becomes `share x + (1 - share) y`, number by number.
///
/// # Errors
/// The device refuses.
///
/// # Panics
/// Lengths differ.
pub fn mix<T: Stored>(gpu: &mut dyn Gpu, y: Buf<f32>, x: Buf<T>, share: f64) -> Result<()> {
    assert_eq!(x.len(), y.len());
    let args = [
        Arg::write(y),
        Arg::read(x),
        Arg::long(x.len()),
        Arg::float(share as f32),
        Arg::float((1.0 - share) as f32),
    ];
    Call::new(MIX.of::<T>(), Launch::over(x.len()), args).run(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{Device, F32, agree, noise, on_devices, wide};
    use half::bf16;

    fn mixed<T: Stored>(device: &mut Device) {
        let (x, y) = (noise::<T>(1000, 1), noise::<f32>(1000, 2));
        let (from, to) = (device.put(&x), device.put(&y));
        mix(device.gpu(), to, from, 0.25).unwrap();
        let both = wide(&x).into_iter().zip(wide(&y));
        let want: Vec<f64> = both.map(|(x, y)| 0.25 * x + 0.75 * y).collect();
        agree("mean", &device.get(to), &want, F32);
    }

    #[test]
    fn a_mean_on_the_device_is_its_formula() {
        on_devices(|device| {
            mixed::<f32>(device);
            mixed::<bf16>(device);
        });
    }
}
