//! What sets share that multiply pairs of bf16.

/// Rows or columns of a packed panel: two tiles of 16.
pub const SIDE: usize = 32;
/// Pairs of a step of 32 values of the inner index.
pub const PAIRS: usize = 16;
/// Pairs in a tile of an operand: 16 lines.
pub const TILE: usize = 16 * PAIRS;

/// Which of a step's 32 values are a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Neighbours, of which AMX adds the lower half to one sum and the upper half to the other.
    Neighbours,
    /// Two values of the same sum, the upper half first, as AVX512-BF16 adds them: pairs of even places, then of odd ones.
    Sums,
}

impl Pairing {
    /// The places of pair `p`: lower half, upper half.
    pub const fn places(self, p: usize) -> [usize; 2] {
        match self {
            Self::Neighbours => [2 * p, 2 * p + 1],
            Self::Sums => {
                let (first, odd) = (4 * (p % 8), p / 8);
                [first + 2 + odd, first + odd]
            }
        }
    }
}

/// What multiplies pairs: tiles of `ROWS` rows by [`SIDE`] columns.
pub trait PairTiles<const ROWS: usize> {
    /// How it wants its pairs.
    const PAIRING: Pairing;

    /// Adds `steps` times 32 products to each value of `tiles` tiles below each other, at most [`SIDE`] rows, or to zeros if
    /// `zero`, in the order that `bf16_gemm` says.
    ///
    /// # Safety
    /// `steps` and `tiles` are not zero; `a` is one of the rows of a panel of [`SIDE`] that [`pack_pairs`] packed, with as
    /// many from it on as the tiles have, and `b` a panel of as many columns, both of `steps` steps, with this pairing;
    /// `c` is valid for reads and writes of the tiles, their rows `stride` apart.
    ///
    /// [`pack_pairs`]: crate::pairs::pack_pairs
    #[expect(unsafe_code, reason = "tiles read and write through pointers")]
    unsafe fn multiply_add(
        &self,
        sizes: (usize, usize),
        operands: (*const u32, *const u32),
        c: (*mut f32, usize),
        zero: bool,
    );
}
