//! Plain work on rows: sums, bias, gathering, changes of type.

use crate::gpu::call::{Arg, Call, Entry, HIGHEST, Launch, Pair, entry};
use crate::gpu::{Buf, Gpu, Result, Stored};
use half::bf16;

const SUM_PARTS: Entry = entry!("sum_parts", "&f32 *f32 i32 i32 i32");
const NARROW: Entry = entry!("narrow", "&f32 *bf16 i64");
const WIDEN: Entry = entry!("widen", "&bf16 *f32 i64");
const COLUMN_SUMS: Pair = entry!(for T "column_sums", "&T *f32 i32 i32 i32");
const ADD_BIAS: Pair = entry!(for T "add_bias", "*T &T i32 i32");
const GATHER: Pair = entry!(for T "gather", "&T &i32 *T i32 i32");
pub(crate) const ALONE: &[Entry] = &[SUM_PARTS, NARROW, WIDEN];
pub(crate) const PAIRS: &[Pair] = &[COLUMN_SUMS, ADD_BIAS, GATHER];

/// `to (D,)` becomes the sum of the rows of `parts (P, D)` in their order; with `add`, behind what it was.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn sum_parts(gpu: &mut dyn Gpu, parts: Buf<f32>, to: Buf<f32>, add: bool) -> Result<()> {
    let d = to.len();
    assert!(
        d > 0 && parts.len().is_multiple_of(d),
        "{} parts of {d}",
        parts.len()
    );
    let args = [
        Arg::read(parts),
        Arg::write(to),
        Arg::int(parts.len() / d),
        Arg::int(d),
        Arg::int(usize::from(add)),
    ];
    Call::new(&SUM_PARTS, Launch::over(d), args).run(gpu)
}

/// The gradient of a bias: adds the sums of the columns of `x (T, D)` to `to (D,)`, by way of `parts (P, D)`.
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn column_sums<T: Stored>(
    gpu: &mut dyn Gpu,
    x: Buf<T>,
    parts: Buf<f32>,
    to: Buf<f32>,
) -> Result<()> {
    let d = to.len();
    assert!(
        d > 0 && x.len().is_multiple_of(d) && parts.len() >= d,
        "sums of {d} columns"
    );
    let rows = x.len() / d;
    let (height, groups) = grouped(rows, parts.len() / d);
    let args = [
        Arg::read(x),
        Arg::write(parts),
        Arg::int(rows),
        Arg::int(d),
        Arg::int(height),
    ];
    let launch = Launch::over(d).by(groups);
    Call::new(COLUMN_SUMS.of::<T>(), launch, args).run(gpu)?;
    sum_parts(gpu, parts.part(0..groups * d), to, true)
}

/// Rows of a group and groups, of so many rows in at most so many groups.
fn grouped(rows: usize, most: usize) -> (usize, usize) {
    let height = rows.div_ceil(most.min(rows).clamp(1, HIGHEST)).max(1);
    (height, rows.div_ceil(height))
}

/// Adds `bias (D,)` to every row of `x (T, D)`.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn add_bias<T: Stored>(gpu: &mut dyn Gpu, x: Buf<T>, bias: Buf<T>) -> Result<()> {
    let d = bias.len();
    assert!(
        d > 0 && x.len().is_multiple_of(d),
        "a bias of {d} for {}",
        x.len()
    );
    let args = [
        Arg::write(x),
        Arg::read(bias),
        Arg::int(x.len() / d),
        Arg::int(d),
    ];
    Call::new(ADD_BIAS.of::<T>(), Launch::over(x.len()), args).run(gpu)
}

/// `y (N, D)`: the rows `from (N,)` of `x (T, D)`, all below T.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn gather<T: Stored>(
    gpu: &mut dyn Gpu,
    x: Buf<T>,
    from: Buf<i32>,
    y: Buf<T>,
    d: usize,
) -> Result<()> {
    assert!(
        d > 0 && x.len().is_multiple_of(d) && y.len() == from.len() * d,
        "rows of {d}"
    );
    let args = [
        Arg::read(x),
        Arg::read(from),
        Arg::write(y),
        Arg::int(from.len()),
        Arg::int(d),
    ];
    Call::new(GATHER.of::<T>(), Launch::over(y.len()), args).run(gpu)
}

/// Rounds to nearest, ties to even.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn narrow(gpu: &mut dyn Gpu, x: Buf<f32>, y: Buf<bf16>) -> Result<()> {
    assert_eq!(x.len(), y.len());
    let args = [Arg::read(x), Arg::write(y), Arg::long(x.len())];
    Call::new(&NARROW, Launch::over(x.len()), args).run(gpu)
}

/// The same numbers in f32.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn widen(gpu: &mut dyn Gpu, x: Buf<bf16>, y: Buf<f32>) -> Result<()> {
    assert_eq!(x.len(), y.len());
    let args = [Arg::read(x), Arg::write(y), Arg::long(x.len())];
    Call::new(&WIDEN, Launch::over(x.len()), args).run(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16, Device, F32, agree, noise, on_devices, wide};

    fn rows_of<T: Stored>(device: &mut Device, tolerance: f64) {
        let (n, d) = (23, 37);
        let (x, bias) = (noise::<T>(n * d, 1), noise::<T>(d, 2));
        let (bx, b) = (device.put(&x), device.put(&bias));
        let (parts, sums) = (device.empty(4 * d), device.put(&vec![1.0; d]));
        column_sums(device.gpu(), bx, parts, sums).unwrap();
        add_bias(device.gpu(), bx, b).unwrap();
        let (x, bias) = (wide(&x), wide(&bias));
        let column = |i: usize| x.iter().skip(i).step_by(d).sum::<f64>() + 1.0;
        agree(
            "column sums",
            &device.get(sums),
            &(0..d).map(column).collect::<Vec<_>>(),
            F32,
        );
        let with_bias: Vec<f64> = x.iter().enumerate().map(|(i, x)| x + bias[i % d]).collect();
        agree("bias", &device.get(bx), &with_bias, tolerance);
    }

    fn gathered<T: Stored>(device: &mut Device) {
        let (d, places) = (5, [3, 0, 6, 3]);
        let x = noise::<T>(7 * d, 1);
        let (from, at) = (device.put(&x), device.put(&places));
        let y = device.empty(4 * d);
        gather(device.gpu(), from, at, y, d).unwrap();
        let row = |&place: &i32| x[place as usize * d..][..d].to_vec();
        let want: Vec<T> = places.iter().flat_map(row).collect();
        assert_eq!(wide(&device.get(y)), wide(&want));
    }

    #[test]
    fn groups_hold_all_rows_and_are_no_more_than_a_grid_takes() {
        for (rows, most) in [(0, 4), (1, 4), (23, 4), (70_000, 70_000), (200_000, 65_536)] {
            let (height, groups) = grouped(rows, most);
            assert!(groups <= most.min(65_535), "{rows} rows");
            assert!(height * groups >= rows && height * groups < rows + height);
        }
        assert_eq!(grouped(65_535, 65_535), (1, 65_535));
    }

    #[test]
    fn work_on_rows_on_the_device_is_plain_loops() {
        on_devices(|device| {
            rows_of::<f32>(device, F32);
            rows_of::<bf16>(device, BF16);
            gathered::<f32>(device);
            gathered::<bf16>(device);
        });
    }

    #[test]
    fn numbers_are_narrowed_as_on_the_host_and_widened_exactly() {
        on_devices(|device| {
            let x = noise::<f32>(1000, 1);
            let short: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
            let (from, to, back) = (
                device.put(&x),
                device.empty(1000),
                device.empty::<f32>(1000),
            );
            narrow(device.gpu(), from, to).unwrap();
            widen(device.gpu(), to, back).unwrap();
            assert_eq!(device.get(to), short);
            assert_eq!(wide(&device.get(back)), wide(&short));
        });
    }
}
