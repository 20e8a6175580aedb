//! AVX512-BF16: products of pairs of bf16 by vectors, beside AVX-512 for all the rest.
//!
//! VDPBF16PS adds to each sum the product of the upper values of two pairs and then that of the lower ones, each with one
//! rounding, numbers below the smallest normal one being zero (Intel's manual, and the same in 32 million sums on a
//! Zen 4). So it makes the sums of AMX, to the bit, where a pair holds two values of the same sum:
//! [`Pairing::Sums`].

use super::avx512::Avx512;
use super::pair_tiles::{PairTiles, Pairing, TILE};
use std::arch::asm;

/// Rows of a tile: with 32 columns, and a sum each of even and of odd places, 16 registers of sums.
const ROWS: usize = 4;

/// Proof that this processor has AVX512-BF16 and AVX-512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Bf16(Avx512);

/// What multiplies `q`-th pairs: their places in bytes in a row, and in the lines of the columns.
macro_rules! pair {
    ($even:literal $odd:literal $line:literal $other:literal) => {
        concat!(
            "vmovups zmm16, [{b} + ", $line, "]\n",
            "vmovups zmm17, [{b} + ", $line, " + 1024]\n",
            "vmovups zmm18, [{b} + ", $other, "]\n",
            "vmovups zmm19, [{b} + ", $other, " + 1024]\n",
            pair!(@row 0 $even $odd "zmm0" "zmm1" "zmm8" "zmm9"),
            pair!(@row 64 $even $odd "zmm2" "zmm3" "zmm10" "zmm11"),
            pair!(@row 128 $even $odd "zmm4" "zmm5" "zmm12" "zmm13"),
            pair!(@row 192 $even $odd "zmm6" "zmm7" "zmm14" "zmm15"),
        )
    };
    (@row $row:literal $even:literal $odd:literal $e0:literal $e1:literal $o0:literal $o1:literal) => {
        concat!(
            "vpbroadcastd zmm20, dword ptr [{a} + ", $row, " + ", $even, "]\n",
            "vdpbf16ps ", $e0, ", zmm20, zmm16\n",
            "vdpbf16ps ", $e1, ", zmm20, zmm17\n",
            "vpbroadcastd zmm21, dword ptr [{a} + ", $row, " + ", $odd, "]\n",
            "vdpbf16ps ", $o0, ", zmm21, zmm18\n",
            "vdpbf16ps ", $o1, ", zmm21, zmm19\n",
        )
    };
}

/// The sums of even and of odd places of eight vectors, added, and to them one of `$from`.
macro_rules! add {
    ($($even:literal $odd:literal $from:literal)*) => {
        concat!($(
            "vaddps ", $even, ", ", $even, ", ", $odd, "\n",
            "vaddps ", $even, ", ", $even, ", ", $from, "\n",
        )*)
    };
}

macro_rules! clear {
    ($($sum:literal)*) => {
        concat!($("vxorps ", $sum, ", ", $sum, ", ", $sum, "\n",)*)
    };
}

impl Avx512Bf16 {
    /// The proof, if there is one.
    pub(super) fn detect() -> Option<Self> {
        let vectors = Avx512::detect()?;
        is_x86_feature_detected!("avx512bf16").then_some(Self(vectors))
    }

    /// Whether it is the faster one for bf16, not AVX-512 with `f32`: on a Zen 4 the products of a second are twice as
    /// many (232 and 118 GFLOP/s), on a Sapphire Rapids half (105 and 208), which has AMX.
    pub(super) fn pays() -> bool {
        let vendor = std::arch::x86_64::__cpuid(0);
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        name.as_flattened() == b"AuthenticAMD"
    }

    /// The set of all that is no product of pairs.
    #[inline(always)]
    pub fn vectors(self) -> Avx512 {
        self.0
    }
}

impl PairTiles<ROWS> for Avx512Bf16 {
    const PAIRING: Pairing = Pairing::Sums;

    #[expect(unsafe_code, reason = "as declared")]
    unsafe fn multiply_add(
        &self,
        sizes: (usize, usize),
        operands: (*const u32, *const u32),
        c: (*mut f32, usize),
        zero: bool,
    ) {
        // SAFETY: the caller's promise; `self` proves the features.
        unsafe { products(*self, sizes, operands, c, zero) }
    }
}

/// Those of [`PairTiles::multiply_add`].
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "reads and writes through pointers")]
unsafe fn products(
    _: Avx512Bf16,
    (steps, tiles): (usize, usize),
    (a, b): (*const u32, *const u32),
    (c, stride): (*mut f32, usize),
    zero: bool,
) {
    // The control register as it was and as it is here, and whether this step's results begin at zero.
    let mut memory = [0u32; 3];
    // SAFETY: the caller's promise. The control register is put back; every vector that is written is named; no
    // stack is used.
    unsafe {
        asm!(
            // For additions: numbers below the smallest normal one are zero, written (bit 15) and read (bit 6).
            "stmxcsr [{s}]",
            "mov {n:e}, dword ptr [{s}]",
            "or {n:e}, 0x8040",
            "mov dword ptr [{s} + 4], {n:e}",
            "ldmxcsr [{s} + 4]",
            "vpxord zmm22, zmm22, zmm22",
            "2:",
            "mov {k}, {steps}",
            "mov dword ptr [{s} + 8], {zero:e}",
            "lea {n}, [{c} + 2*{stride}]",
            "3:",
            clear!("xmm0" "xmm1" "xmm2" "xmm3" "xmm4" "xmm5" "xmm6" "xmm7"),
            clear!("xmm8" "xmm9" "xmm10" "xmm11" "xmm12" "xmm13" "xmm14" "xmm15"),
            pair!(0 32 0 512),
            pair!(4 36 64 576),
            pair!(8 40 128 640),
            pair!(12 44 192 704),
            pair!(16 48 256 768),
            pair!(20 52 320 832),
            pair!(24 56 384 896),
            pair!(28 60 448 960),
            "cmp dword ptr [{s} + 8], 0",
            "jne 4f",
            add!(
                "zmm0" "zmm8" "[{c}]" "zmm1" "zmm9" "[{c} + 64]"
                "zmm2" "zmm10" "[{c} + {stride}]" "zmm3" "zmm11" "[{c} + {stride} + 64]"
                "zmm4" "zmm12" "[{n}]" "zmm5" "zmm13" "[{n} + 64]"
                "zmm6" "zmm14" "[{n} + {stride}]" "zmm7" "zmm15" "[{n} + {stride} + 64]"
            ),
            "jmp 5f",
            // Adding zero makes zero of minus zero, too.
            "4:",
            add!(
                "zmm0" "zmm8" "zmm22" "zmm1" "zmm9" "zmm22" "zmm2" "zmm10" "zmm22" "zmm3" "zmm11" "zmm22"
                "zmm4" "zmm12" "zmm22" "zmm5" "zmm13" "zmm22" "zmm6" "zmm14" "zmm22" "zmm7" "zmm15" "zmm22"
            ),
            "mov dword ptr [{s} + 8], 0",
            "5:",
            "vmovups [{c}], zmm0",
            "vmovups [{c} + 64], zmm1",
            "vmovups [{c} + {stride}], zmm2",
            "vmovups [{c} + {stride} + 64], zmm3",
            "vmovups [{n}], zmm4",
            "vmovups [{n} + 64], zmm5",
            "vmovups [{n} + {stride}], zmm6",
            "vmovups [{n} + {stride} + 64], zmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {k}",
            "jnz 3b",
            // The tile below.
            "sub {a}, {back}",
            "add {a}, 256",
            "sub {b}, {back}",
            "lea {c}, [{n} + 2*{stride}]",
            "dec {tiles}",
            "jnz 2b",
            "ldmxcsr [{s}]",
            s = in(reg) memory.as_mut_ptr(),
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            c = inout(reg) c => _,
            n = out(reg) _,
            k = out(reg) _,
            stride = in(reg) 4 * stride,
            steps = in(reg) steps,
            tiles = inout(reg) tiles => _,
            back = in(reg) 2 * size_of::<u32>() * TILE * steps,
            zero = in(reg) u32::from(zero),
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
            out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _,
            options(nostack)
        );
    }
}
