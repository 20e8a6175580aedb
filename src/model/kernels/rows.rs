//! Blocks of rows over threads.

use crate::real::Real;
use rayon::prelude::*;

/// Rows that a kernel with an output by rows takes at a time; fixed, so that sums over blocks never
/// depend on the number of threads.
pub const ROW_BLOCK: usize = 256;

/// Rows that are whole tiles of every set: its divisors 3, 4, 6 and 12 are their heights.
pub const TILE_ROWS: usize = 12;

/// Threads that kernels may use: rayon's, set by `RAYON_NUM_THREADS`. One under Miri, which looks at
/// pointers and takes its time.
pub fn threads() -> usize {
    if cfg!(miri) {
        1
    } else {
        rayon::current_num_threads()
    }
}

/// Calls `f` on a thread of the pool that the kernels' loops use.
///
/// From outside the pool each loop would wake its threads and sleep until they are done, in a training step of a
/// small model a hundred times; from within, this thread takes its share at once, and what is between two loops
/// finds the other threads still awake.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if threads() == 1 || rayon::current_thread_index().is_some() {
        f()
    } else {
        rayon::scope(|_| f())
    }
}

/// Calls `f(first_row, rows)` on blocks of [`ROW_BLOCK`] rows of `out`, in parallel.
pub fn for_row_blocks<F: Real>(
    out: &mut [F],
    row_len: usize,
    f: impl Fn(usize, &mut [F]) + Sync + Send,
) {
    if row_len == 0 {
        return;
    }
    let block = ROW_BLOCK * row_len;
    if threads() == 1 || out.len() <= block {
        for (i, rows) in out.chunks_mut(block).enumerate() {
            f(i * ROW_BLOCK, rows);
        }
    } else {
        out.par_chunks_mut(block)
            .enumerate()
            .for_each(|(i, rows)| f(i * ROW_BLOCK, rows));
    }
}

/// As [`for_row_blocks`], over two outputs with the same rows.
pub fn for_row_blocks2<F: Real>(
    (out1, len1): (&mut [F], usize),
    (out2, len2): (&mut [F], usize),
    f: impl Fn(usize, &mut [F], &mut [F]) + Sync + Send,
) {
    if len1 == 0 || len2 == 0 {
        return;
    }
    let (block1, block2) = (ROW_BLOCK * len1, ROW_BLOCK * len2);
    if threads() == 1 || out1.len() <= block1 {
        for (i, (a, b)) in out1
            .chunks_mut(block1)
            .zip(out2.chunks_mut(block2))
            .enumerate()
        {
            f(i * ROW_BLOCK, a, b);
        }
    } else {
        out1.par_chunks_mut(block1)
            .zip(out2.par_chunks_mut(block2))
            .enumerate()
            .for_each(|(i, (a, b))| f(i * ROW_BLOCK, a, b));
    }
}

/// Calls `f(scratch, first_row, tiles)` on blocks of [`ROW_BLOCK`] rows of all `outputs` (rows,
/// width) together, in parallel; results are those of `f` in order.
pub fn for_tiles<F: Real, R: Send, const N: usize>(
    tokens: usize,
    outputs: [(&mut [F], usize); N],
    f: impl Fn(&mut Vec<F>, usize, [&mut [F]; N]) -> R + Sync + Send,
) -> Vec<R> {
    let mut rest = outputs;
    let mut tasks = Vec::with_capacity(tokens.div_ceil(ROW_BLOCK));
    for first in (0..tokens).step_by(ROW_BLOCK) {
        let rows = ROW_BLOCK.min(tokens - first);
        let tile = rest.each_mut().map(|(left, width)| {
            let (tile, right) = std::mem::take(left).split_at_mut(rows * *width);
            *left = right;
            tile
        });
        tasks.push((first, tile));
    }
    if threads() == 1 {
        let mut scratch = Vec::new();
        tasks
            .into_iter()
            .map(|(first, tile)| f(&mut scratch, first, tile))
            .collect()
    } else {
        tasks
            .into_par_iter()
            .map_init(Vec::new, |scratch, (first, tile)| f(scratch, first, tile))
            .collect()
    }
}
