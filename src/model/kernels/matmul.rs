//! Matrix products over threads, and right operands that several products share.
//!
//! The product of one thread is that of `gemm`, whose elements are the same sums whatever is
//! computed together; so threads may cut a result anywhere without changing a bit.

use crate::aligned::Aligned;
use crate::bf16_gemm;
use crate::gemm::{inner_block, multiply, multiply_packed};
use crate::mat::{MatRef, Store};
use crate::pack::{Panels, pack, panel_width};
use crate::real::Real;
use crate::rows::{ROW_BLOCK, TILE_ROWS, threads};
use rayon::prelude::*;

/// What a product makes of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Nothing.
    Exact,
    /// They are rounded to bf16, and sums are in the order of [`bf16_gemm`].
    Bf16,
}

impl Operands {
    /// Those of a model whose activations are in bf16, or not.
    pub fn of(bf16: bool) -> Self {
        if bf16 { Self::Bf16 } else { Self::Exact }
    }
}

/// A right operand that several products share, packed once.
#[derive(Debug)]
pub struct PackedB<F> {
    operands: Operands,
    buffer: Aligned<F>,
    /// Pairs of bf16 instead, where the set in use multiplies them.
    pairs: Aligned<u32>,
    k: usize,
    n: usize,
    /// Columns of a panel.
    width: usize,
}

impl<F: Real> PackedB<F> {
    /// Packs `b (k, n)`; takes about as much memory again. Panels of columns in parallel.
    pub fn new(operands: Operands, b: MatRef<'_, F>, (k, n): (usize, usize)) -> Self {
        assert!(b.covers(k, n), "the operand holds its shape");
        let mut packed = Self {
            operands,
            buffer: Aligned::zeroed(0),
            pairs: Aligned::zeroed(0),
            k,
            n,
            width: panel_width::<F>(),
        };
        match operands {
            Operands::Exact => {
                let (block, width) = (inner_block(k), packed.width);
                packed.buffer = Aligned::zeroed(k * n.next_multiple_of(width));
                let one = |rows, columns, part: &mut [F]| pack(b, rows, columns, block, part);
                in_parts(&mut packed.buffer, (k, n), (block, 1), width, one);
            }
            Operands::Bf16 => {
                let (width, pairs) = bf16_gemm::panel::<F>();
                let (step, len) = (bf16_gemm::STEP, n.next_multiple_of(width));
                let (cut, len) = ((bf16_gemm::BLOCK, step), k.next_multiple_of(step) * len);
                packed.width = width;
                if pairs {
                    // Two values in each.
                    packed.pairs = Aligned::zeroed(len / 2);
                    let (size, cut) = ((k.div_ceil(2), n), (cut.0 / 2, cut.1 / 2));
                    let one = |(k0, _): (usize, usize), columns, part: &mut [u32]| {
                        let rows = (2 * k0, (k - 2 * k0).min(bf16_gemm::BLOCK));
                        bf16_gemm::pack_pairs(b, rows, columns, part);
                    };
                    in_parts(&mut packed.pairs, size, cut, width, one);
                } else {
                    packed.buffer = Aligned::zeroed(len);
                    let one = |rows, columns, part: &mut [F]| {
                        bf16_gemm::pack_values(b, rows, columns, part);
                    };
                    in_parts(&mut packed.buffer, (k, n), cut, width, one);
                }
            }
        }
        packed
    }

    fn panels(&self) -> Panels<'_, F> {
        Panels {
            data: &self.buffer,
            k: self.k,
            n: self.n,
            block: inner_block(self.k),
            width: self.width,
        }
    }
}

/// Calls `f(rows, columns, part)` on parts of what `(k, n)` is packed into, in parallel: blocks of `block`
/// rows, filled up to whole `step`s, by [`PANELS`] panels of `width` columns.
fn in_parts<T: Send>(
    buffer: &mut [T],
    (k, n): (usize, usize),
    (block, step): (usize, usize),
    width: usize,
    f: impl Fn((usize, usize), (usize, usize), &mut [T]) + Sync + Send,
) {
    let mut tasks = Vec::new();
    let wide = n.next_multiple_of(width);
    for (i, part) in buffer.chunks_mut((block * wide).max(1)).enumerate() {
        let depth = (k - i * block).min(block);
        let panels = depth.next_multiple_of(step) * width * PANELS;
        for (j, part) in part.chunks_mut(panels).enumerate() {
            let columns = (n - j * PANELS * width).min(PANELS * width);
            tasks.push(((i * block, depth), (j * PANELS * width, columns), part));
        }
    }
    let one = |(rows, columns, part)| f(rows, columns, part);
    if threads() == 1 || tasks.len() == 1 {
        tasks.into_iter().for_each(one);
    } else {
        tasks.into_par_iter().for_each(one);
    }
}

/// A right operand of several products: packed if it pays.
pub enum OperandB<'a, F> {
    /// Packed anew in each product.
    AsIs(MatRef<'a, F>, (usize, usize)),
    /// Packed once.
    Packed(PackedB<F>),
}

impl<'a, F: Real> OperandB<'a, F> {
    /// `b (k, n)` for products with `rows` rows in all, made by blocks of [`ROW_BLOCK`].
    pub fn new(operands: Operands, b: MatRef<'a, F>, shape: (usize, usize), rows: usize) -> Self {
        if rows > ROW_BLOCK || operands == Operands::Bf16 {
            Self::Packed(PackedB::new(operands, b, shape))
        } else {
            Self::AsIs(b, shape)
        }
    }

    /// `c (m, n) = a (m, k) b`, on the calling thread.
    pub fn multiply(&self, m: usize, a: MatRef<'_, F>, c: &mut [F], store: Store) {
        match self {
            Self::AsIs(b, (k, n)) => multiply((m, *n, *k), a, *b, c, store),
            Self::Packed(b) => matmul_packed(m, a, b, c, store),
        }
    }

    /// k and n.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::AsIs(_, shape) => *shape,
            Self::Packed(b) => (b.k, b.n),
        }
    }
}

/// Panels of columns that one thread packs at a time: large enough that a task outweighs its
/// dispatch, small enough that a head of a few thousand columns gives every thread some.
const PANELS: usize = 16;

/// Multiplications from which on a product is worth a second thread: some 100 microseconds of one.
const WORTH_THREADS: usize = 1 << 22;

/// Rows of a part of a result that one of the threads makes: whole tiles of every set.
fn rows_per_thread(m: usize) -> usize {
    m.div_ceil(threads()).next_multiple_of(TILE_ROWS)
}

/// `c (m, n) = a (m, k) b (k, n)`, `c` row-major; in parallel.
pub fn matmul<F: Real>(
    operands: Operands,
    (m, n, k): (usize, usize, usize),
    a: MatRef<'_, F>,
    b: MatRef<'_, F>,
    c: &mut [F],
    store: Store,
) {
    if operands == Operands::Exact && (threads() == 1 || m * n * k < WORTH_THREADS) {
        return multiply((m, n, k), a, b, c, store);
    }
    matmul_with(m, a, &PackedB::new(operands, b, (k, n)), c, store);
}

/// `c (m, n) = a (m, k) b`; in parallel.
pub fn matmul_with<F: Real>(m: usize, a: MatRef<'_, F>, b: &PackedB<F>, c: &mut [F], store: Store) {
    let n = b.n;
    if threads() == 1 || m * n * b.k < WORTH_THREADS {
        return matmul_packed(m, a, b, c, store);
    }
    let rows = rows_per_thread(m);
    c[..m * n]
        .par_chunks_mut(rows * n)
        .enumerate()
        .for_each(|(i, c)| matmul_packed(c.len() / n, a.skip_rows(i * rows), b, c, store));
}

/// `c (m, n) = a (m, k) b`, on the calling thread.
pub fn matmul_packed<F: Real>(
    m: usize,
    a: MatRef<'_, F>,
    b: &PackedB<F>,
    c: &mut [F],
    store: Store,
) {
    match b.operands {
        Operands::Exact => multiply_packed(m, a, b.panels(), c, store),
        Operands::Bf16 => {
            let panels = bf16_gemm::Panels {
                values: &b.buffer,
                pairs: &b.pairs,
                k: b.k,
                n: b.n,
            };
            bf16_gemm::multiply(m, a, panels, c, store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, use_on_this_thread};
    use crate::testing::{on_every_set, pool};

    #[test]
    fn products_of_transposes_agree_with_the_sum_over_the_inner_index() {
        let (m, n, k) = (5, 4, 3);
        let a: Vec<f64> = (0..m * k).map(|i| i as f64 * 0.5 - 2.0).collect();
        let b: Vec<f64> = (0..n * k).map(|i| 1.0 - i as f64 * 0.25).collect();
        let c = on_every_set(|| {
            let mut c = vec![1.0; m * n];
            let (a, b) = (MatRef::new(&a, k), MatRef::transposed(&b, k));
            matmul(Operands::Exact, (m, n, k), a, b, &mut c, Store::Add);
            c
        });
        for i in 0..m {
            for j in 0..n {
                let want = 1.0 + (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum::<f64>();
                assert!((c[i * n + j] - want).abs() < 1e-12);
            }
        }
    }

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * step).sin()).collect()
    }

    // Shapes around every tile, panel and block: rows 1 to 14, columns below and above a panel and
    // from where the left operand is packed, inner lengths of one block, of two, and of many.
    const SHAPES: &[(usize, usize, usize)] = &[
        (1, 1, 1),
        (1, 200, 64),
        (2, 17, 5),
        (5, 16, 320),
        (6, 31, 321),
        (7, 192, 33),
        (13, 193, 700),
        (14, 515, 40),
        (250, 48, 9),
        (3, 1100, 2100),
    ];
    /// The same paths in few multiplications.
    const SMALL_SHAPES: &[(usize, usize, usize)] = &[
        (1, 1, 1),
        (2, 17, 5),
        (6, 31, 9),
        (13, 195, 3),
        (1, 9, 330),
        (5, 3, 322),
    ];

    #[test]
    fn products_of_any_shape_are_those_in_double_precision_and_added_to_what_is_there() {
        for &(m, n, k) in if cfg!(miri) { SMALL_SHAPES } else { SHAPES } {
            let (a, b) = (wave(m * k, 0.37), wave(k * n, 0.59));
            let start = wave(m * n, 0.11);
            let lefts = [
                (MatRef::new(&a, k), k, 1),
                (MatRef::transposed(&a, m), 1, m),
            ];
            let rights = [
                (MatRef::new(&b, n), n, 1),
                (MatRef::transposed(&b, k), 1, k),
            ];
            for (left, a_row, a_col) in lefts {
                for (right, b_row, b_col) in rights {
                    let want = |at: usize| -> f64 {
                        let (i, j) = (at / n, at % n);
                        let (a, b) = (&a[i * a_row..], &b[j * b_col..]);
                        (0..k)
                            .map(|l| f64::from(a[l * a_col]) * f64::from(b[l * b_row]))
                            .sum()
                    };
                    let wants: Vec<f64> = (0..m * n).map(want).collect();
                    on_every_set(|| {
                        let (mut set, mut added) = (vec![f32::NAN; m * n], start.clone());
                        matmul(
                            Operands::Exact,
                            (m, n, k),
                            left,
                            right,
                            &mut set,
                            Store::Set,
                        );
                        matmul(
                            Operands::Exact,
                            (m, n, k),
                            left,
                            right,
                            &mut added,
                            Store::Add,
                        );
                        let most = 1e-6 * (k as f64).sqrt().max(4.0);
                        for (at, want) in wants.iter().enumerate() {
                            let (set, added) = (f64::from(set[at]), f64::from(added[at]));
                            let sum = want + f64::from(start[at]);
                            assert!((set - want).abs() < most, "{m} {n} {k}: {set} {want}");
                            assert!((added - sum).abs() < most, "{m} {n} {k}: {added}");
                        }
                        (set, added)
                    });
                }
            }
        }
    }

    #[test]
    fn an_element_has_the_same_bits_whatever_is_computed_with_it() {
        let (m, n, k) = if cfg!(miri) {
            (20, 40, 9)
        } else {
            (67, 530, 650)
        };
        let (a, b) = (wave(m * k, 0.37), wave(k * n, 0.59));
        on_every_set(|| {
            let mut all = vec![0.0; m * n];
            let whole_a = MatRef::new(&a, k);
            matmul(
                Operands::Exact,
                (m, n, k),
                whole_a,
                MatRef::new(&b, n),
                &mut all,
                Store::Set,
            );
            let packed = PackedB::new(Operands::Exact, MatRef::new(&b, n), (k, n));
            for (rows, columns) in [
                (0..1, 0..n),
                (3..10, 0..17),
                (m / 3..m, n / 5..n / 2),
                (m - 1..m, n - 1..n),
            ] {
                let (m, narrow) = (rows.len(), columns.len());
                let a = MatRef::new(&a[rows.start * k..rows.end * k], k);
                let (mut some, mut whole) = (vec![0.0; m * narrow], vec![0.0; m * n]);
                let right = MatRef::new(&b, n).skip_columns(columns.start);
                matmul(
                    Operands::Exact,
                    (m, narrow, k),
                    a,
                    right,
                    &mut some,
                    Store::Set,
                );
                matmul_packed(m, a, &packed, &mut whole, Store::Set);
                for i in 0..m {
                    let want = &all[(rows.start + i) * n..][..n];
                    assert_eq!(some[i * narrow..][..narrow], want[columns.clone()]);
                    assert_eq!(whole[i * n..][..n], *want);
                }
            }
            all
        });
    }

    #[test]
    #[should_panic(expected = "packed for the instruction set in use")]
    #[cfg_attr(miri, ignore = "has one set only")]
    fn what_is_packed_for_one_set_is_not_read_by_another() {
        let sets = Isa::available();
        let of = |set: &Isa| {
            use_on_this_thread(Some(*set));
            (*set, panel_width::<f32>())
        };
        let widths: Vec<(Isa, usize)> = sets.iter().map(of).collect();
        let b = [1.0f32; 12];
        let packed = PackedB::new(Operands::Exact, MatRef::new(&b, 4), (3, 4));
        match widths.iter().find(|(_, width)| *width != packed.width) {
            Some((other, _)) => use_on_this_thread(Some(*other)),
            None => panic!("this processor has one set: packed for the instruction set in use"),
        }
        matmul_packed(2, MatRef::new(&b, 3), &packed, &mut [0.0; 8], Store::Set);
    }

    #[test]
    fn an_empty_inner_index_sets_zeros_and_adds_nothing_and_no_rows_or_columns_change_nothing() {
        let mut c = [3.0f32; 6];
        matmul(
            Operands::Exact,
            (2, 3, 0),
            MatRef::new(&[], 0),
            MatRef::new(&[], 3),
            &mut c,
            Store::Add,
        );
        assert_eq!(c.map(f32::to_bits), [3.0f32.to_bits(); 6]);
        matmul(
            Operands::Exact,
            (2, 3, 0),
            MatRef::new(&[], 0),
            MatRef::new(&[], 3),
            &mut c,
            Store::Set,
        );
        assert_eq!(c.map(f32::to_bits), [0; 6]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "threads, and no pointers that others do not use")]
    fn rows_split_over_threads_give_the_bytes_of_one_thread() {
        let (m, n, k) = (1100, 33, 600);
        let a: Vec<f32> = (0..m * k)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01)
            .collect();
        let b: Vec<f32> = (0..n * k)
            .map(|i| ((i * 53 % 89) as f32 - 44.0) * 0.02)
            .collect();
        let run = |threads| {
            let mut c = vec![0.0f32; m * n];
            pool(threads).install(|| {
                matmul(
                    Operands::Exact,
                    (m, n, k),
                    MatRef::new(&a, k),
                    MatRef::transposed(&b, k),
                    &mut c,
                    Store::Set,
                );
            });
            c
        };
        on_every_set(|| {
            let one = run(1);
            assert_eq!(one, run(3));
            one
        });
    }
}
