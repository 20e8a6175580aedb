//! Tiles of products of bf16 by vectors of `f32`, to the bit what AMX gives.
//!
//! In assembly, since numbers below the smallest normal one are zero here: a compiler may not assume that
//! of its own instructions, so all of them stand between the two changes of the control register.

use std::arch::asm;

/// A function that adds `steps` times 32 products to a tile; see `Simd::bf16_tile`.
macro_rules! bf16_tile {
    (
        $(#[$meta:meta])* $name:ident, $features:literal, vector $vector:literal, lanes $lanes:literal,
        floats $floats:literal, operands $left:literal $right:literal $x:literal,
        clobbers [$($clobber:tt)*], rows [$($at:literal $sum:literal $sum2:literal)*]
    ) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// As `Simd::bf16_tile` of the set says.
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "reads and writes through pointers")]
        pub(super) unsafe fn $name(
            steps: usize,
            a: *const f32,
            b: *const f32,
            (c, stride): (*mut f32, usize),
        ) {
            /// Sums of even places, and the control register as it was and as it is here.
            #[repr(C, align(64))]
            struct Memory([f32; $floats], [u32; 2]);
            if steps == 0 {
                return;
            }
            let mut memory = Memory([0.0; $floats], [0; 2]);
            // SAFETY: the caller's promise. `memory` is as large as the tile and two words. The control
            // register is put back; every vector that is written is named; no stack is used.
            unsafe {
                asm!(
                    // Numbers below the smallest normal one are zero, written (bit 15) and read (bit 6).
                    concat!("stmxcsr [{s} + 4*", $floats, "]"),
                    concat!("mov {n:e}, dword ptr [{s} + 4*", $floats, "]"),
                    "or {n:e}, 0x8040",
                    concat!("mov dword ptr [{s} + 4*", $floats, " + 4], {n:e}"),
                    concat!("ldmxcsr [{s} + 4*", $floats, " + 4]"),
                    "2:",
                    bf16_tile!(@chain "3", $vector, $lanes, $left, $right, $x, [$($at $sum $sum2)*]),
                    concat!($(
                        "vmovups [{s} + 2*", $at, "*", $vector, "], ", $sum, "\n",
                        "vmovups [{s} + 2*", $at, "*", $vector, " + ", $vector, "], ", $sum2, "\n",
                    )*),
                    // Back to the first value with an odd place.
                    concat!("sub {a}, 31*", $lanes),
                    concat!("sub {b}, 31*2*", $vector),
                    bf16_tile!(@chain "4", $vector, $lanes, $left, $right, $x, [$($at $sum $sum2)*]),
                    concat!("sub {a}, ", $lanes),
                    concat!("sub {b}, 2*", $vector),
                    "mov {n}, {c}",
                    concat!($(
                        "vaddps ", $sum, ", ", $sum, ", [{s} + 2*", $at, "*", $vector, "]\n",
                        "vaddps ", $sum2, ", ", $sum2, ", [{s} + 2*", $at, "*", $vector, " + ", $vector, "]\n",
                        "vaddps ", $sum, ", ", $sum, ", [{n}]\n",
                        "vaddps ", $sum2, ", ", $sum2, ", [{n} + ", $vector, "]\n",
                        "vmovups [{n}], ", $sum, "\n",
                        "vmovups [{n} + ", $vector, "], ", $sum2, "\n",
                        "add {n}, {stride}\n",
                    )*),
                    "dec {steps}",
                    "jnz 2b",
                    concat!("ldmxcsr [{s} + 4*", $floats, "]"),
                    a = inout(reg) a => _,
                    b = inout(reg) b => _,
                    c = in(reg) c,
                    s = in(reg) &raw mut memory,
                    n = out(reg) _,
                    steps = inout(reg) steps => _,
                    stride = in(reg) 4 * stride,
                    $($clobber)*
                    options(nostack)
                );
            }
        }
    };
    // Sums of every other of 32 values.
    (@chain $label:literal, $vector:literal, $lanes:literal, $left:literal, $right:literal, $x:literal,
     [$($at:literal $sum:literal $sum2:literal)*]) => {
        concat!(
            $("vxorps ", $sum, ", ", $sum, ", ", $sum, "\n", "vxorps ", $sum2, ", ", $sum2, ", ", $sum2, "\n",)*
            "mov {n:e}, 16\n",
            $label, ":\n",
            "vmovups ", $left, ", [{b}]\n",
            "vmovups ", $right, ", [{b} + ", $vector, "]\n",
            $(
                "vbroadcastss ", $x, ", dword ptr [{a} + 4*", $at, "]\n",
                "vfmadd231ps ", $sum, ", ", $x, ", ", $left, "\n",
                "vfmadd231ps ", $sum2, ", ", $x, ", ", $right, "\n",
            )*
            "add {a}, 2*", $lanes, "\n",
            "add {b}, 4*", $vector, "\n",
            "dec {n:e}\n",
            "jnz ", $label, "b",
        )
    };
}

bf16_tile! {
    /// Six rows of 16 columns.
    avx2, "avx2,fma", vector 32, lanes 32, floats 96, operands "ymm12" "ymm13" "ymm14",
    clobbers [
        out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
        out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
        out("ymm12") _, out("ymm13") _, out("ymm14") _,
    ],
    rows [
        0 "ymm0" "ymm1" 1 "ymm2" "ymm3" 2 "ymm4" "ymm5" 3 "ymm6" "ymm7" 4 "ymm8" "ymm9"
        5 "ymm10" "ymm11"
    ]
}

bf16_tile! {
    /// Twelve rows of 32 columns.
    avx512, "avx512f,avx512dq", vector 64, lanes 64, floats 384, operands "zmm24" "zmm25" "zmm26",
    clobbers [
        out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
        out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
        out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
        out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
        out("zmm24") _, out("zmm25") _, out("zmm26") _,
    ],
    rows [
        0 "zmm0" "zmm1" 1 "zmm2" "zmm3" 2 "zmm4" "zmm5" 3 "zmm6" "zmm7" 4 "zmm8" "zmm9"
        5 "zmm10" "zmm11" 6 "zmm12" "zmm13" 7 "zmm14" "zmm15" 8 "zmm16" "zmm17" 9 "zmm18" "zmm19"
        10 "zmm20" "zmm21" 11 "zmm22" "zmm23"
    ]
}
