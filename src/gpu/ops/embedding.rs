//! Rows of a table by token, and the table's gradient.

use crate::gpu::call::{Arg, Call, Launch, Pair, entry};
use crate::gpu::element::int;
use crate::gpu::{Buf, Gpu, Result, Stored};

const FORWARD: Pair = entry!(for T "embedding_forward", "&T &i32 *T i32 i32 f32");
const BACKWARD: Pair = entry!(for T "embedding_backward", "&T &i32 &i32 &i32 *f32 i32 f32");
pub(crate) const PAIRS: &[Pair] = &[FORWARD, BACKWARD];

/// `y (T, D)`: the rows `tokens (T,)` of `table (V, D)`, times `scale`. Tokens must be below V.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn embedding_forward<T: Stored>(
    gpu: &mut dyn Gpu,
    table: Buf<T>,
    tokens: Buf<i32>,
    y: Buf<T>,
    (d, scale): (usize, f32),
) -> Result<()> {
    assert!(
        d > 0 && table.len().is_multiple_of(d),
        "a table of {} in rows of {d}",
        table.len()
    );
    assert_eq!(y.len(), tokens.len() * d);
    let (rows, n) = (tokens.len(), y.len());
    let args = [
        Arg::read(table),
        Arg::read(tokens),
        Arg::write(y),
        Arg::int(rows),
        Arg::int(d),
        Arg::float(scale),
    ];
    Call::new(FORWARD.of::<T>(), Launch::over(n), args).run(gpu)
}

/// Where each distinct token of a batch stands: token `tokens[i]` at the places `order[starts[i]..starts[i + 1]]`,
/// which ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places<V> {
    /// Distinct tokens, ascending.
    pub tokens: V,
    /// One more than there are tokens.
    pub starts: V,
    /// As many as the batch has tokens.
    pub order: V,
}

impl Places<Vec<i32>> {
    /// The places of a batch.
    pub fn of(batch: &[u32]) -> Self {
        let mut order: Vec<i32> = (0..batch.len()).map(int).collect();
        let token = |at: i32| batch[at as usize];
        order.sort_by_key(|&at| token(at)); // stable
        let (mut tokens, mut starts) = (Vec::new(), Vec::new());
        for (i, &at) in order.iter().enumerate() {
            if i == 0 || token(order[i - 1]) != token(at) {
                tokens.push(token(at).cast_signed());
                starts.push(int(i));
            }
        }
        starts.push(int(order.len()));
        Self {
            tokens,
            starts,
            order,
        }
    }
}

/// Adds to `d_table (V, D)` the rows of `g (T, D)` by token, times `scale`, those of a token in the order of their
/// places. A token that is left out of `places` gets nothing. Places must be those of [`Places::of`], or fewer: each
/// below T, each token below V and there once.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn embedding_backward<T: Stored>(
    gpu: &mut dyn Gpu,
    g: Buf<T>,
    places: &Places<Buf<i32>>,
    d_table: Buf<f32>,
    (d, scale): (usize, f32),
) -> Result<()> {
    let tokens = places.tokens.len();
    assert!(
        d > 0 && d_table.len().is_multiple_of(d),
        "a table of {} in rows of {d}",
        d_table.len()
    );
    assert_eq!(places.starts.len(), tokens + 1);
    assert!(
        g.len().is_multiple_of(d) && places.order.len() * d <= g.len(),
        "{} places in {} numbers in rows of {d}",
        places.order.len(),
        g.len()
    );
    let args = [
        Arg::read(g),
        Arg::read(places.tokens),
        Arg::read(places.starts),
        Arg::read(places.order),
        Arg::write(d_table),
        Arg::int(d),
        Arg::float(scale),
    ];
    Call::new(BACKWARD.of::<T>(), Launch::of(tokens, 128), args).run(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16, Device, F32, agree, noise, on_devices, wide};
    use half::bf16;

    #[test]
    fn places_are_those_of_each_token_in_order() {
        let places = Places::of(&[7, 2, 7, 0, 2, 7]);
        assert_eq!(places.tokens, [0, 2, 7]);
        assert_eq!(places.starts, [0, 1, 3, 6]);
        assert_eq!(places.order, [3, 1, 4, 0, 2, 5]);
        assert_eq!(Places::of(&[]).starts, [0]);
    }

    fn both_ways<T: Stored>(device: &mut Device, tolerance: f64) {
        let (d, tokens, scale) = (37, [7u32, 2, 7, 0, 2, 7], 1.5);
        let table = noise::<T>(9 * d, 1);
        let g = noise::<T>(tokens.len() * d, 2);
        let ids = device.put(&tokens.map(u32::cast_signed));
        let (from, y) = (device.put(&table), device.empty(g.len()));
        embedding_forward(device.gpu(), from, ids, y, (d, scale)).unwrap();
        let places = Places::of(&tokens);
        let on_device = Places {
            tokens: device.put(&places.tokens),
            starts: device.put(&places.starts),
            order: device.put(&places.order),
        };
        let (grad, sums) = (device.put(&g), device.put(&vec![0.25f32; 9 * d]));
        embedding_backward(device.gpu(), grad, &on_device, sums, (d, scale)).unwrap();
        let (mut want, mut d_table) = (Vec::new(), vec![0.25; 9 * d]);
        for (at, &token) in tokens.iter().enumerate() {
            for i in 0..d {
                let row = token as usize * d + i;
                want.push(1.5 * f64::from(table[row].wide()));
                d_table[row] += 1.5 * f64::from(g[at * d + i].wide());
            }
        }
        agree("y", &device.get(y), &want, tolerance);
        agree("d_table", &device.get(sums), &d_table, F32);
        assert_eq!(wide(&device.get(from)), wide(&table));
    }

    #[test]
    fn tokens_that_are_left_out_of_places_get_no_gradient() {
        on_devices(|device| {
            let mut places = Places::of(&[7, 2, 7, 0, 2, 7]);
            places.tokens.truncate(2); // 0 and 2
            places.starts.truncate(3);
            places.order.truncate(3);
            let on_device = Places {
                tokens: device.put(&places.tokens),
                starts: device.put(&places.starts),
                order: device.put(&places.order),
            };
            let (g, sums) = (device.put(&[1.0f32; 6]), device.put(&[0.0; 9]));
            embedding_backward(device.gpu(), g, &on_device, sums, (1, 1.0)).unwrap();
            let want = [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            agree("d_table", &device.get(sums), &want, 0.0);
        });
    }

    #[test]
    fn embedding_on_the_device_is_its_formula() {
        on_devices(|device| {
            both_ways::<f32>(device, F32);
            both_ways::<bf16>(device, BF16);
        });
    }
}
