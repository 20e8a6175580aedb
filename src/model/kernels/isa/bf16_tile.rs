//! Tiles of products of bf16 by vectors of `f32`, to the bit what AMX gives.
//!
//! In assembly, since numbers below the smallest normal one are zero here: a compiler may not assume that
//! of its own instructions, so all of them stand between the two changes of the control register. Changing it
//! takes as long as dozens of products, and so tiles are made many at a time.

use super::set::LeftRows;
use std::arch::asm;

/// Words that a tile keeps in memory beside its sums.
const WORDS: usize = 8;

/// A function that adds `steps` times 32 products to each of `tiles` tiles; see `Simd::bf16_tiles`.
macro_rules! bf16_tiles {
    (
        $(#[$meta:meta])* $name:ident, $features:literal, vector $vector:literal,
        floats $floats:literal, operands $left:literal $right:literal $x:literal,
        pointers [$($pointer:ident $three:literal)*], clobbers [$($clobber:tt)*],
        tile [$($at:literal $row:literal $sum:literal $sum2:literal)*]
    ) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// As `Simd::bf16_tiles` of the set says.
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "reads and writes through pointers")]
        pub(super) unsafe fn $name(
            (steps, tiles): (usize, usize),
            (a, lie): (*const f32, LeftRows),
            b: *const f32,
            (c, stride): (*mut f32, usize),
        ) {
            /// Sums of even places; steps, tiles, the result, and how far pointers go back; the control
            /// register as it was and as it is here.
            #[repr(C, align(64))]
            struct Memory([f32; $floats], [usize; WORDS], [u32; 2]);
            if steps == 0 || tiles == 0 {
                return;
            }
            let [row, step, tile] = [lie.row, lie.step, lie.tile].map(|floats| 4 * floats);
            let words = [
                steps,
                tiles,
                c.addr(),
                31 * step,
                step,
                tile.wrapping_sub(32 * steps * step),
                32 * steps * 2 * $vector,
                0,
            ];
            let mut memory = Memory([0.0; $floats], words, [0; 2]);
            // SAFETY: the caller's promise. `memory` is as large as the tile and ten words. The control
            // register is put back; every vector that is written is named; no stack is used.
            unsafe {
                asm!(
                    // Numbers below the smallest normal one are zero, written (bit 15) and read (bit 6).
                    concat!("stmxcsr [{s} + 64 + 4*", $floats, "]"),
                    concat!("mov {n:e}, dword ptr [{s} + 64 + 4*", $floats, "]"),
                    "or {n:e}, 0x8040",
                    concat!("mov dword ptr [{s} + 68 + 4*", $floats, "], {n:e}"),
                    concat!("ldmxcsr [{s} + 68 + 4*", $floats, "]"),
                    "5:",
                    concat!("mov {steps}, qword ptr [{s} + 4*", $floats, "]"),
                    "2:",
                    bf16_tiles!(@chain "3", $vector, $left, $right, $x, [$($pointer)*], [$($row $sum $sum2)*]),
                    concat!($(
                        "vmovups [{s} + 2*", $at, "*", $vector, "], ", $sum, "\n",
                        "vmovups [{s} + 2*", $at, "*", $vector, " + ", $vector, "], ", $sum2, "\n",
                    )*),
                    // Back to the first value with an odd place.
                    concat!($("sub {", stringify!($pointer), "}, qword ptr [{s} + 24 + 4*", $floats, "]\n",)*),
                    concat!("sub {b}, 31*2*", $vector),
                    bf16_tiles!(@chain "4", $vector, $left, $right, $x, [$($pointer)*], [$($row $sum $sum2)*]),
                    concat!($("sub {", stringify!($pointer), "}, qword ptr [{s} + 32 + 4*", $floats, "]\n",)*),
                    concat!("sub {b}, 2*", $vector),
                    concat!("mov {n}, qword ptr [{s} + 16 + 4*", $floats, "]"),
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
                    // The tile below.
                    concat!("mov qword ptr [{s} + 16 + 4*", $floats, "], {n}"),
                    concat!($("add {", stringify!($pointer), "}, qword ptr [{s} + 40 + 4*", $floats, "]\n",)*),
                    concat!("sub {b}, qword ptr [{s} + 48 + 4*", $floats, "]"),
                    concat!("dec qword ptr [{s} + 8 + 4*", $floats, "]"),
                    "jnz 5b",
                    concat!("ldmxcsr [{s} + 64 + 4*", $floats, "]"),
                    $($pointer = inout(reg) a.wrapping_byte_add($three * row) => _,)*
                    row = in(reg) row,
                    step = in(reg) 2 * step,
                    b = inout(reg) b => _,
                    s = in(reg) &raw mut memory,
                    n = out(reg) _,
                    steps = out(reg) _,
                    stride = in(reg) 4 * stride,
                    $($clobber)*
                    options(nostack)
                );
            }
        }
    };
    // Sums of every other of 32 values.
    (@chain $label:literal, $vector:literal, $left:literal, $right:literal, $x:literal, [$($pointer:ident)*],
     [$($row:literal $sum:literal $sum2:literal)*]) => {
        concat!(
            $("vxorps ", $sum, ", ", $sum, ", ", $sum, "\n", "vxorps ", $sum2, ", ", $sum2, ", ", $sum2, "\n",)*
            "mov {n:e}, 16\n",
            $label, ":\n",
            "vmovups ", $left, ", [{b}]\n",
            "vmovups ", $right, ", [{b} + ", $vector, "]\n",
            $(
                "vbroadcastss ", $x, ", dword ptr [", $row, "]\n",
                "vfmadd231ps ", $sum, ", ", $x, ", ", $left, "\n",
                "vfmadd231ps ", $sum2, ", ", $x, ", ", $right, "\n",
            )*
            $("add {", stringify!($pointer), "}, {step}\n",)*
            "add {b}, 4*", $vector, "\n",
            "dec {n:e}\n",
            "jnz ", $label, "b",
        )
    };
}

bf16_tiles! {
    /// Tiles of six rows of 16 columns.
    avx2, "avx2,fma", vector 32, floats 96, operands "ymm12" "ymm13" "ymm14",
    pointers [p 0 q 3],
    clobbers [
        out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
        out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
        out("ymm12") _, out("ymm13") _, out("ymm14") _,
    ],
    tile [
        0 "{p}" "ymm0" "ymm1" 1 "{p} + {row}" "ymm2" "ymm3" 2 "{p} + 2*{row}" "ymm4" "ymm5"
        3 "{q}" "ymm6" "ymm7" 4 "{q} + {row}" "ymm8" "ymm9" 5 "{q} + 2*{row}" "ymm10" "ymm11"
    ]
}

bf16_tiles! {
    /// Tiles of twelve rows of 32 columns.
    avx512, "avx512f,avx512dq", vector 64, floats 384, operands "zmm24" "zmm25" "zmm26",
    pointers [p 0 q 3 u 6 v 9],
    clobbers [
        out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
        out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
        out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
        out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
        out("zmm24") _, out("zmm25") _, out("zmm26") _,
    ],
    tile [
        0 "{p}" "zmm0" "zmm1" 1 "{p} + {row}" "zmm2" "zmm3" 2 "{p} + 2*{row}" "zmm4" "zmm5"
        3 "{q}" "zmm6" "zmm7" 4 "{q} + {row}" "zmm8" "zmm9" 5 "{q} + 2*{row}" "zmm10" "zmm11"
        6 "{u}" "zmm12" "zmm13" 7 "{u} + {row}" "zmm14" "zmm15" 8 "{u} + 2*{row}" "zmm16" "zmm17"
        9 "{v}" "zmm18" "zmm19" 10 "{v} + {row}" "zmm20" "zmm21" 11 "{v} + 2*{row}" "zmm22" "zmm23"
    ]
}
