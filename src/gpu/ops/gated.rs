//! Gated linear units: `y = act(gate) * up`.

use crate::arch::GateActivation;
use crate::gpu::call::{Arg, Call, Entry, Launch, Pair, entry};
use crate::gpu::{Buf, Gpu, Result, Stored};

const FORWARD: Pair = entry!(for T "gated_forward", "&T &T *T i32 i32 i32 i32");
const BACKWARD: Pair = entry!(for T "gated_backward", "&T &T &T *T *T *T i32 i32 i32 i32");
pub(crate) const PAIRS: &[Pair] = &[FORWARD, BACKWARD];
const FORWARD_FAST: Entry = entry!("gated_forward_fast", "&bf16 &bf16 *bf16 i32 i32 i32 i32");
const BACKWARD_FAST: Entry = entry!(
    "gated_backward_fast",
    "&bf16 &bf16 &bf16 *bf16 *bf16 *bf16 i32 i32 i32 i32"
);
pub(crate) const ALONE: &[Entry] = &[FORWARD_FAST, BACKWARD_FAST];

/// How gate and up lie: rows of `stride` numbers, of which the first `width` count, so that both may be columns of one
/// product.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// T.
    pub rows: usize,
    /// F.
    pub width: usize,
    /// Numbers from row to row.
    pub stride: usize,
}

impl Columns {
    fn check(self, arrays: &[usize], whole: &[usize]) {
        let Self {
            rows,
            width,
            stride,
        } = self;
        let reach = rows.saturating_sub(1) * stride + width;
        assert!(width <= stride, "{self:?}");
        assert!(
            rows == 0 || arrays.iter().all(|&len| len >= reach),
            "{self:?} in {arrays:?}"
        );
        assert!(
            whole.iter().all(|&len| len == rows * width),
            "{self:?} to {whole:?}"
        );
    }

    /// Whether rows of these arrays of `T` may be read 16 bytes at a time, as the fast kernels want it.
    fn are_wide<T: Stored>(self, arrays: &[Buf<T>]) -> bool {
        T::pick(false, true)
            && self.width.is_multiple_of(8)
            && self.stride.is_multiple_of(8)
            && arrays.iter().all(|array| array.region().is_wide())
    }

    fn args(self, activation: GateActivation) -> [Arg; 4] {
        let activation = match activation {
            GateActivation::Silu => 0,
            GateActivation::GeluTanh => 1,
        };
        [self.rows, self.width, self.stride, activation].map(Arg::int)
    }
}

/// `y (T, F)` from `gate` and `up`.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn gated_forward<T: Stored>(
    gpu: &mut dyn Gpu,
    activation: GateActivation,
    columns: Columns,
    (gate, up): (Buf<T>, Buf<T>),
    y: Buf<T>,
) -> Result<()> {
    columns.check(&[gate.len(), up.len()], &[y.len()]);
    let mut args = vec![Arg::read(gate), Arg::read(up), Arg::write(y)];
    args.extend(columns.args(activation));
    if columns.are_wide(&[gate, up, y]) {
        let launch = Launch::over_columns(columns.width, columns.rows);
        return Call::new(&FORWARD_FAST, launch, args).run(gpu);
    }
    let launch = Launch::over(columns.rows * columns.width);
    Call::new(FORWARD.of::<T>(), launch, args).run(gpu)
}

/// From `grad (T, F)` of the result, the gradients of gate and up, which lie as these do and may replace them; and the
/// result once more, if it is wanted.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn gated_backward<T: Stored>(
    gpu: &mut dyn Gpu,
    activation: GateActivation,
    columns: Columns,
    (gate, up, grad): (Buf<T>, Buf<T>, Buf<T>),
    (d_gate, d_up, inner): (Buf<T>, Buf<T>, Option<Buf<T>>),
) -> Result<()> {
    let inner_len = inner.map_or(grad.len(), Buf::len);
    columns.check(
        &[gate.len(), up.len(), d_gate.len(), d_up.len()],
        &[grad.len(), inner_len],
    );
    let mut args = vec![Arg::read(gate), Arg::read(up), Arg::read(grad)];
    args.extend([Arg::write(d_gate), Arg::write(d_up), Arg::write_if(inner)]);
    args.extend(columns.args(activation));
    let inner = inner.unwrap_or(grad);
    if columns.are_wide(&[gate, up, grad, d_gate, d_up, inner]) {
        let launch = Launch::over_columns(columns.width, columns.rows);
        return Call::new(&BACKWARD_FAST, launch, args).run(gpu);
    }
    let launch = Launch::over(columns.rows * columns.width);
    Call::new(BACKWARD.of::<T>(), launch, args).run(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16, Device, F32, agree, noise, on_devices, wide};
    use half::bf16;

    fn value(activation: GateActivation, x: f64) -> f64 {
        match activation {
            GateActivation::Silu => x / (1.0 + (-x).exp()),
            GateActivation::GeluTanh => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                0.5 * x * (1.0 + (c * (x + 0.044_715 * x.powi(3))).tanh())
            }
        }
    }

    fn both_ways<T: Stored>(device: &mut Device, activation: GateActivation, tolerance: f64) {
        let columns = Columns {
            rows: 5,
            width: 43,
            stride: 90,
        };
        // Gate and up are columns of one matrix, gate first.
        let all: Vec<T> = noise::<T>(5 * 90, 1)
            .iter()
            .map(|x| T::of(x.wide() * 4.0))
            .collect();
        let grad = noise::<T>(5 * 43, 2);
        let buf = device.put(&all);
        let (gate, up) = (buf, buf.part(43..5 * 90));
        let (y, inner) = (device.empty::<T>(5 * 43), device.empty::<T>(5 * 43));
        let g = device.put(&grad);
        gated_forward(device.gpu(), activation, columns, (gate, up), y).unwrap();
        let to = (gate, up, Some(inner));
        gated_backward(device.gpu(), activation, columns, (gate, up, g), to).unwrap();
        let (all, grad) = (wide(&all), wide(&grad));
        let (mut want, mut d) = (Vec::new(), all.clone());
        for (at, g) in grad.iter().enumerate() {
            let from = at / 43 * 90 + at % 43;
            let (x, u) = (all[from], all[from + 43]);
            let slope = (value(activation, x + 1e-5) - value(activation, x - 1e-5)) / 2e-5;
            want.push(value(activation, x) * u);
            (d[from], d[from + 43]) = (g * u * slope, g * value(activation, x));
        }
        agree("y", &device.get(y), &want, tolerance);
        agree("inner", &device.get(inner), &want, tolerance);
        agree("gradients", &device.get(buf), &d, tolerance);
    }

    /// y, inner and gradients of rows that begin so many numbers behind a multiple of 16 bytes.
    fn found(device: &mut Device, activation: GateActivation, behind: usize) -> Vec<Vec<bf16>> {
        let (rows, width, stride) = (3, 2064, 2 * 2064);
        let columns = Columns {
            rows,
            width,
            stride,
        };
        let (all, n) = (noise::<bf16>(rows * stride, 1), rows * width);
        let space = device.empty::<bf16>(rows * stride + behind);
        let buf = space.part(behind..space.len());
        device.gpu().upload(&all, buf).unwrap();
        let (gate, up) = (buf, buf.part(width..buf.len()));
        let (y, inner) = (device.empty::<bf16>(n), device.empty::<bf16>(n));
        let g = device.put(&noise::<bf16>(n, 2));
        gated_forward(device.gpu(), activation, columns, (gate, up), y).unwrap();
        let to = (gate, up, Some(inner));
        gated_backward(device.gpu(), activation, columns, (gate, up, g), to).unwrap();
        [y, inner, buf].map(|buf| device.get(buf)).to_vec()
    }

    // The simple kernel takes what does not begin where 16 bytes may be read.
    #[test]
    fn fast_gated_units_are_the_simple_ones_to_the_bit() {
        on_devices(|device| {
            for activation in [GateActivation::Silu, GateActivation::GeluTanh] {
                let fast = found(device, activation, 0);
                assert!(fast == found(device, activation, 1), "{activation:?}");
            }
        });
    }

    #[test]
    fn gated_units_on_the_device_are_their_formula() {
        on_devices(|device| {
            for activation in [GateActivation::Silu, GateActivation::GeluTanh] {
                both_ways::<f32>(device, activation, F32);
                both_ways::<bf16>(device, activation, BF16);
            }
        });
    }
}
