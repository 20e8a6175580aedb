//! What a kernel may know of the instruction set that it is compiled for.

/// Rows and columns of the squares that [`Simd::transpose_square`] transposes.
pub const SQUARE: usize = 8;

/// An instruction set. A value is the proof that this processor has it: outside the set's own file
/// nobody can make one, and there it is made by looking.
pub trait Simd: Copy + Send + Sync {
    /// Whether it multiplies and adds in one instruction, with one rounding.
    const FMA: bool;
    /// Whether a vector has 512 bits and there are 32 of them.
    const WIDE: bool = false;
    /// Columns of its widest own [`Simd::tile`] of `f32`; it has those of 8 and 16 columns, too. 0: it
    /// has none.
    const TILE_COLUMNS: usize = 0;
    /// Whether it has a [`Simd::transpose_square`].
    const TRANSPOSES: bool = false;

    /// Runs a job with the shape of this set's tiles for its floats.
    fn with_tile<J: TileJob>(self, job: J) -> J::Output;

    /// As [`Simd::with_tile`] for products of bf16: with as many columns, and half the rows where two sums of
    /// each value are kept in registers.
    #[inline(always)]
    fn with_bf16_tile<J: TileJob>(self, job: J) -> J::Output {
        self.with_tile(job)
    }

    /// `MR` rows by `NR` sums `c = a b` in registers, then set or added, where `NR` is 8, 16 or
    /// [`Simd::TILE_COLUMNS`]. Left to itself the compiler makes vectors of these loops only sometimes:
    /// with 512 bits it gathered and scattered, and attention took twice the time of AVX2.
    ///
    /// # Safety
    /// Row `r` of the left operand has `depth` values from `a[rows_at[r]]` on, `step` apart; `b` has
    /// `depth` rows of `NR` values, `b_stride` apart; `c` is valid for reads and writes of `MR` rows of
    /// as many, `stride` apart.
    #[expect(unsafe_code, reason = "loads and stores without checks of bounds")]
    #[inline(always)]
    unsafe fn tile<const MR: usize, const NR: usize>(
        self,
        _depth: usize,
        (_a, _rows_at, _step): (*const f32, [usize; MR], usize),
        (_b, _b_stride): (*const f32, usize),
        (_c, _stride): (*mut f32, usize),
        _add: bool,
    ) {
    }

    /// Adds products of bf16 to `tiles` tiles below each other (or to zero, with `set`), of the shape that
    /// [`Simd::with_bf16_tile`] gives for `f32` with [`Simd::TILE_COLUMNS`] columns, `steps` times 32 to each
    /// value, in the order that `bf16_gemm` says.
    ///
    /// # Safety
    /// `a` has `32 * steps` values of each row of the tiles, which lie as [`LeftRows`] says; `b` has as many
    /// rows of a tile's columns; `c` is valid for reads and writes of the tiles, their rows `stride` apart.
    #[expect(unsafe_code, reason = "loads and stores without checks of bounds")]
    #[inline(always)]
    unsafe fn bf16_tiles(
        self,
        (_steps, _tiles): (usize, usize),
        (_a, _lie): (*const f32, LeftRows),
        _b: *const f32,
        (_c, _stride): (*mut f32, usize),
        _set: bool,
    ) {
    }

    /// Asks for the line of the cache at a place, which need not be there.
    #[inline(always)]
    fn fetch<T>(self, _place: *const T) {}

    /// `to[c * stride + r] = from[rows[r] + c]` for `r` and `c` below [`SQUARE`].
    ///
    /// # Safety
    /// `from` is valid for reads of [`SQUARE`] values at each of `rows`, `to` for writes of
    /// [`SQUARE`] rows of as many, `stride` apart.
    #[expect(unsafe_code, reason = "loads and stores without checks of bounds")]
    #[inline(always)]
    unsafe fn transpose_square(
        self,
        _from: *const f32,
        _rows: [usize; SQUARE],
        _to: *mut f32,
        _stride: usize,
    ) {
    }
}

/// How rows of a left operand lie: distances, in values.
#[derive(Clone, Copy, Debug)]
pub struct LeftRows {
    /// Of the rows of a tile.
    pub row: usize,
    /// Of the values of a row.
    pub step: usize,
    /// Of the first rows of a tile and of the next one.
    pub tile: usize,
}

/// Work that depends on the shape of the tiles of the matrix product: `MR` rows by `NR` columns of
/// sums, rows of the left operand packed in panels of `LANES >= MR`.
pub trait TileJob {
    /// What it gives.
    type Output;
    /// Whether its floats are `f32`; a constant, so that other shapes are not even compiled.
    const IS_F32: bool;

    /// Does it.
    fn run<S: Simd, const MR: usize, const LANES: usize, const NR: usize>(
        self,
        simd: S,
    ) -> Self::Output;
}

/// What the compiler was told to assume: on most x86-64 builds SSE2, without fused multiply-add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline;

impl Simd for Baseline {
    const FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

    #[inline(always)]
    fn with_tile<J: TileJob>(self, job: J) -> J::Output {
        if Self::FMA {
            job.run::<Self, 6, 8, 16>(self)
        } else {
            job.run::<Self, 4, 4, 8>(self)
        }
    }
}
