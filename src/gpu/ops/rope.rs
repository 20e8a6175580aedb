//! Rotary position embedding of heads in place.

use crate::gpu::call::{Arg, Call, Entry, Launch, Pair, entry};
use crate::gpu::{Buf, Gpu, Result, Stored};

const ROPE: Pair = entry!(for T "rope", "*T &i32 &f32 &f32 i32 i32 i32 i32 f32");
pub(crate) const PAIRS: &[Pair] = &[ROPE];
const FAST: Entry = entry!("rope_fast", "*bf16 &i32 &f32 &f32 i32 i32 i32 i32 f32");
pub(crate) const ALONE: &[Entry] = &[FAST];

/// Cosines and sines by position, `(positions, half)` each.
#[derive(Clone, Copy, Debug)]
pub struct Angles {
    /// Cosines.
    pub cos: Buf<f32>,
    /// Sines.
    pub sin: Buf<f32>,
    /// Half the width of a head.
    pub half: usize,
}

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By the angle of the position.
    Forward,
    /// Back, which is what gradients need.
    Back,
}

/// Turns the first `heads` heads of each row of `x (T, stride)` by the row's position. Positions must be below the
/// angles' count.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn rope<T: Stored>(
    gpu: &mut dyn Gpu,
    x: Buf<T>,
    (heads, stride): (usize, usize),
    positions: Buf<i32>,
    angles: &Angles,
    direction: Direction,
) -> Result<()> {
    let (rows, half) = (positions.len(), angles.half);
    assert!(
        half > 0 && heads * 2 * half <= stride,
        "{heads} heads in {stride}"
    );
    // The last row may end with its heads: `x` may be a column of a wider matrix.
    let reach = rows.saturating_sub(1) * stride + heads * 2 * half;
    assert!(
        rows == 0 || x.len() >= reach,
        "{} numbers, {reach} wanted",
        x.len()
    );
    assert!(
        angles.cos.len() == angles.sin.len() && angles.cos.len().is_multiple_of(half),
        "angles of {half}: {} and {}",
        angles.cos.len(),
        angles.sin.len()
    );
    let args = [
        Arg::write(x),
        Arg::read(positions),
        Arg::read(angles.cos),
        Arg::read(angles.sin),
        Arg::int(rows),
        Arg::int(heads),
        Arg::int(half),
        Arg::int(stride),
        Arg::float(if direction == Direction::Forward {
            1.0
        } else {
            -1.0
        }),
    ];
    let is_wide =
        x.region().is_wide() && [angles.cos, angles.sin].map(|a| a.region().is_wide()) == [true; 2];
    if T::pick(false, true) && is_wide && half.is_multiple_of(8) && stride.is_multiple_of(8) {
        return Call::new(&FAST, Launch::over_columns(heads * half, rows), args).run(gpu);
    }
    let launch = Launch::over(rows * heads * half);
    Call::new(ROPE.of::<T>(), launch, args).run(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16, Device, F32, agree, noise, on_devices, wide};
    use half::bf16;

    fn turned<T: Stored>(device: &mut Device, tolerance: f64) {
        let (heads, half, stride, positions) = (3, 4, 29, [0, 5, 2, 2, 6]);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for at in 0..7 {
            for i in 0..half {
                let angle = f64::from(at) * 0.3f64.powi(i);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let half = half as usize;
        let x = noise::<T>(positions.len() * stride, 1);
        let angles = Angles {
            cos: device.put(&cos),
            sin: device.put(&sin),
            half,
        };
        let (buf, at) = (device.put(&x), device.put(&positions));
        rope(
            device.gpu(),
            buf,
            (heads, stride),
            at,
            &angles,
            Direction::Forward,
        )
        .unwrap();
        let mut want = wide(&x);
        for (row, &position) in positions.iter().enumerate() {
            for head in 0..heads {
                for i in 0..half {
                    let a = row * stride + head * 2 * half + i;
                    let angle = position as usize * half + i;
                    let (c, s) = (f64::from(cos[angle]), f64::from(sin[angle]));
                    let (u, v) = (want[a], want[a + half]);
                    (want[a], want[a + half]) = (u * c - v * s, v * c + u * s);
                }
            }
        }
        agree("turned", &device.get(buf), &want, tolerance);
        rope(
            device.gpu(),
            buf,
            (heads, stride),
            at,
            &angles,
            Direction::Back,
        )
        .unwrap();
        agree("turned back", &device.get(buf), &wide(&x), 2.0 * tolerance);
    }

    // The simple kernel takes what does not begin where 16 bytes may be read.
    #[test]
    fn fast_turns_are_the_simple_ones_to_the_bit() {
        let (heads, half, stride, positions) = (40, 64, 2 * 40 * 64 + 8, [3, 0, 2]);
        on_devices(|device| {
            let angles = Angles {
                cos: device.put(&noise::<f32>(4 * half, 1)),
                sin: device.put(&noise::<f32>(4 * half, 2)),
                half,
            };
            let (x, at) = (noise::<bf16>(3 * stride, 3), device.put(&positions));
            for direction in [Direction::Forward, Direction::Back] {
                let found = [0, 1].map(|behind| {
                    let space = device.empty::<bf16>(x.len() + behind);
                    let buf = space.part(behind..space.len());
                    device.gpu().upload(&x, buf).unwrap();
                    rope(device.gpu(), buf, (heads, stride), at, &angles, direction).unwrap();
                    device.get(buf)
                });
                assert!(found[0] == found[1] && found[0] != x, "{direction:?}");
            }
        });
    }

    #[test]
    fn rope_on_the_device_is_its_formula_and_turns_back() {
        on_devices(|device| {
            turned::<f32>(device, F32);
            turned::<bf16>(device, BF16);
        });
    }
}
