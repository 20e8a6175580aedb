//! Pairs of bf16 in the tiles that instructions read that multiply them.

use crate::isa::{Avx512Bf16, Pairing, SQUARE, Simd as _};
use std::arch::x86_64::{
    __m512, __m512i, _CMP_UNORD_Q, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi256_si512, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi16, _mm512_cvtne2ps_pbh,
    _mm512_fpclass_ps_mask, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_mask_mov_epi32,
    _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_permutexvar_epi16, _mm512_set1_epi32,
    _mm512_srli_epi32, _mm512_storeu_si512,
};

/// Rows or columns of a tile, and pairs of a step.
const SIDE: usize = 16;

/// A tile: 16 lines of 16 pairs.
type Tile = [[u32; SIDE]; SIDE];

/// [`Pairing::Sums`], as a permutation of a vector.
static SUMS: [u16; 2 * SIDE] = {
    let mut order = [0; 2 * SIDE];
    let mut at = 0;
    while at < 2 * SIDE {
        order[at] = Pairing::Sums.places(at / 2)[at % 2] as u16;
        at += 1;
    }
    order
};

/// The halves of a vector in turn.
static IN_TURN: [u16; 2 * SIDE] = {
    let mut order = [0; 2 * SIDE];
    let mut at = 0;
    while at < 2 * SIDE {
        order[at] = (at / 2 + at % 2 * SIDE) as u16;
        at += 1;
    }
    order
};

/// Packs `lanes` rows of a left operand, or columns of a right one (`right`), of `depth` values
/// `from[lane * i + step * l]`, where `lane` or `step` is 1: for every 32 lanes, for every 32 values, the
/// tile of the first 16 lanes and that of the others. A tile of a left operand has a line for each lane,
/// one of a right operand a line for each pair. What is beyond `lanes` and `depth` is zero.
pub fn pack_pairs(
    proof: Avx512Bf16,
    from: &[f32],
    (lane, lanes): (usize, usize),
    (step, depth): (usize, usize),
    (right, pairing): (bool, Pairing),
    out: &mut [u32],
) {
    assert!(lane == 1 || step == 1, "rows or columns are whole");
    let last = lanes.saturating_sub(1) * lane + depth.saturating_sub(1) * step;
    assert!(lanes == 0 || depth == 0 || last < from.len());
    let (lines, _) = out.as_chunks_mut::<SIDE>();
    let mut tiles = lines.as_chunks_mut::<SIDE>().0.iter_mut();
    for first in (0..lanes).step_by(2 * SIDE) {
        for l in (0..depth).step_by(2 * SIDE) {
            for (first, tile) in [first, first + SIDE].into_iter().zip(&mut tiles) {
                let here = lanes.saturating_sub(first).min(SIDE);
                let depth = (depth - l).min(2 * SIDE);
                if here == 0 {
                    *tile = [[0; SIDE]; SIDE];
                    continue;
                }
                let from = &from[first * lane + l * step..];
                #[expect(unsafe_code, reason = "vectors with masks")]
                // SAFETY: `proof` is of all that they need; the assert above covers the last value.
                unsafe {
                    if step == 1 {
                        by_lane(from.as_ptr(), (lane, here), depth, pairing, tile);
                    } else {
                        by_pair(from.as_ptr(), here, (step, depth), pairing, tile);
                    }
                }
                if right == (step == 1) {
                    turn(proof, tile);
                }
            }
        }
    }
}

/// A mask of the first `count` of 16 values.
fn first(count: usize) -> u16 {
    ((1u32 << count.min(SIDE)) - 1) as u16
}

/// Values rounded to bf16, as `bf16::round` rounds: those of `low`, then those of `high`. An instruction does it, but takes
/// numbers below the smallest normal one for zero, of which some round to that.
#[target_feature(enable = "avx512f,avx512dq,avx512bf16")]
fn halves(low: __m512, high: __m512) -> __m512i {
    const DENORMAL: i32 = 0x20;
    if (_mm512_fpclass_ps_mask::<DENORMAL>(low) | _mm512_fpclass_ps_mask::<DENORMAL>(high)) != 0 {
        return exact_halves(low, high);
    }
    let both = _mm512_cvtne2ps_pbh(high, low);
    #[expect(unsafe_code, reason = "there is no cast of these")]
    // SAFETY: both are 64 bytes, of which any are valid.
    unsafe {
        std::mem::transmute(both)
    }
}

/// [`halves`] of any numbers.
#[target_feature(enable = "avx512f")]
#[cold]
fn exact_halves(low: __m512, high: __m512) -> __m512i {
    let [low, high] =
        [low, high].map(|x| _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(x))));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// Values rounded to bf16 in their upper halves, as `bf16::round` rounds; the lower halves hold anything.
#[target_feature(enable = "avx512f")]
fn rounded(x: __m512) -> __m512i {
    let raw = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(raw), _mm512_set1_epi32(1));
    let nearest = _mm512_add_epi32(raw, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    let quiet = _mm512_or_si512(raw, _mm512_set1_epi32(0x40_0000));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    _mm512_mask_mov_epi32(nearest, nan, quiet)
}

/// A line for each lane, whose `depth` values are neighbours; lanes are `lane` apart.
///
/// # Safety
/// `from` is valid for reads of `depth` values at each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
#[expect(unsafe_code, reason = "vectors with masks")]
unsafe fn by_lane(
    from: *const f32,
    (lane, lanes): (usize, usize),
    depth: usize,
    pairing: Pairing,
    tile: &mut Tile,
) {
    let (low, high) = (first(depth), first(depth.saturating_sub(SIDE)));
    for (i, line) in tile.iter_mut().enumerate() {
        if i >= lanes {
            *line = [0; SIDE];
            continue;
        }
        // SAFETY: the caller's promise: masks let no more than `depth` values be read.
        let [low, high] = unsafe {
            let from = from.add(i * lane);
            [(low, from), (high, from.wrapping_add(SIDE))]
                .map(|(mask, from)| _mm512_maskz_loadu_ps(mask, from))
        };
        let mut both = halves(low, high);
        if pairing == Pairing::Sums {
            // SAFETY: a permutation is 64 bytes.
            both =
                _mm512_permutexvar_epi16(unsafe { _mm512_loadu_si512(SUMS.as_ptr().cast()) }, both);
        }
        // SAFETY: a line is 64 bytes.
        unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), both) };
    }
}

/// A line for each pair of `depth` rows, `step` apart, of `lanes` neighbouring values.
///
/// # Safety
/// `from` is valid for reads of `lanes` values at each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
#[expect(unsafe_code, reason = "vectors with masks")]
unsafe fn by_pair(
    from: *const f32,
    lanes: usize,
    (step, depth): (usize, usize),
    pairing: Pairing,
    tile: &mut Tile,
) {
    for (p, line) in tile.iter_mut().enumerate() {
        let [low, high] = pairing.places(p).map(|l| {
            let mask = if l < depth { first(lanes) } else { 0 };
            // SAFETY: the caller's promise: masks let `lanes` values be read, or none of no row.
            unsafe { _mm512_maskz_loadu_ps(mask, from.wrapping_add(l * step)) }
        });
        // SAFETY: a permutation and a line are 64 bytes.
        unsafe {
            let in_turn = _mm512_loadu_si512(IN_TURN.as_ptr().cast());
            let both = _mm512_permutexvar_epi16(in_turn, halves(low, high));
            _mm512_storeu_si512(line.as_mut_ptr().cast(), both);
        }
    }
}

/// Transposes a tile.
fn turn(proof: Avx512Bf16, tile: &mut Tile) {
    let from = *tile;
    for i in (0..SIDE).step_by(SQUARE) {
        for j in (0..SIDE).step_by(SQUARE) {
            let rows = std::array::from_fn(|r| (i + r) * SIDE + j);
            #[expect(
                unsafe_code,
                reason = "vectors, which the compiler does not make of this"
            )]
            // SAFETY: eight values from each of `rows` lie in `from`, and the square at row `j` and
            // column `i` in the tile; a `u32` is as large as an `f32`, and these are only moved.
            unsafe {
                let to = tile.as_mut_ptr().cast::<f32>().add(j * SIDE + i);
                let from = from.as_ptr().cast();
                proof.vectors().transpose_square(from, rows, to, SIDE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::to_bf16;
    use crate::isa::Isa;

    // Rounded by `bf16::to_bf16`, which is tested by itself; the first two round to the smallest normal number and
    // to the largest below it.
    #[test]
    fn pairs_hold_what_rounding_gives_of_denormal_numbers_too() {
        let sets = Isa::available().into_iter();
        for (set, pairing) in sets.filter_map(|set| match set {
            Isa::Amx(set) => Some((set.pairs(), Pairing::Neighbours)),
            Isa::Avx512Bf16(set) => Some((set, Pairing::Sums)),
            _ => None,
        }) {
            for first in [
                0x007F_FFFFu32,
                0x007F_7FFF,
                0x3F80_8000,
                0x7F7F_FFFF,
                0x8000_0001,
            ] {
                let mut values = [0f32; 2 * SIDE];
                for (at, v) in values.iter_mut().enumerate() {
                    *v = f32::from_bits(first.wrapping_sub(at as u32 * 0x1357));
                }
                let want = to_bf16(&values);
                // A row of a left operand, then a column of a right one.
                for (lanes, steps) in [((2 * SIDE, 1), (1, 2 * SIDE)), ((1, 1), (1, 2 * SIDE))] {
                    for right in [false, true] {
                        let mut out = vec![0; 2 * SIDE * SIDE];
                        pack_pairs(set, &values, lanes, steps, (right, pairing), &mut out);
                        for p in 0..SIDE {
                            let [low, high] = pairing.places(p).map(|at| u32::from(want[at]));
                            let at = if right { p * SIDE } else { p };
                            assert_eq!(out[at], low | high << 16, "{first:x} {p} {right}");
                        }
                    }
                }
            }
        }
    }
}
