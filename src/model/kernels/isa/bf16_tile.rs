//! Tiles of products of bf16 by vectors of `f32`, to the bit what AMX gives.
//!
//! In assembly, since numbers below the smallest normal one are zero here: a compiler may not assume that
//! of its own instructions, so all of them stand between the two changes of the control register. Changing it
//! takes as long as dozens of products, and so tiles are made many at a time.
//!
//! Both sums of a step, of even and of odd places, are in registers at once: tiles are half as high as those of
//! `f32` and read the right operand twice as often, but nothing goes through memory but the result.

use super::set::LeftRows;
use std::arch::asm;

/// A function that adds `steps` times 32 products to each of `tiles` tiles; see `Simd::bf16_tiles`.
macro_rules! bf16_tiles {
    (
        $(#[$meta:meta])* $name:ident, $features:literal, vector $vector:literal,
        operands $left:literal $right:literal $x:literal, zero $zero:literal,
        pointers [$($even:ident $odd:ident $rows:literal)*], clobbers [$($clobber:tt)*],
        tile [$($a:literal $even0:literal $even1:literal, $b:literal $odd0:literal $odd1:literal;)*]
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
            set: bool,
        ) {
            /// Steps, tiles, the result, how far operands go to the next tile and back, whether results begin
            /// at zero, and whether this step's does; the control register as it was and as it is here.
            #[repr(C)]
            struct Memory([usize; 7], [u32; 2]);
            if steps == 0 || tiles == 0 {
                return;
            }
            let [row, step, tile] = [lie.row, lie.step, lie.tile].map(|floats| 4 * floats);
            let words = [
                steps,
                tiles,
                c.addr(),
                tile.wrapping_sub(32 * steps * step),
                32 * steps * 2 * $vector,
                usize::from(set),
                0,
            ];
            let mut memory = Memory(words, [0; 2]);
            // SAFETY: the caller's promise. The control register is put back; every vector that is written is
            // named; no stack is used.
            unsafe {
                asm!(
                    // Numbers below the smallest normal one are zero, written (bit 15) and read (bit 6).
                    "stmxcsr [{s} + 56]",
                    "mov {n:e}, dword ptr [{s} + 56]",
                    "or {n:e}, 0x8040",
                    "mov dword ptr [{s} + 60], {n:e}",
                    "ldmxcsr [{s} + 60]",
                    concat!("vxorps ", $zero, ", ", $zero, ", ", $zero),
                    "2:",
                    // The result, which may come from the third cache.
                    "mov {n}, qword ptr [{s} + 16]",
                    $(
                        bf16_tiles!(@fetch $even0 $vector),
                    )*
                    "mov {steps}, qword ptr [{s}]",
                    "mov {n}, qword ptr [{s} + 40]",
                    "mov qword ptr [{s} + 48], {n}",
                    "3:",
                    $(
                        concat!("vxorps ", $even0, ", ", $even0, ", ", $even0),
                        concat!("vxorps ", $even1, ", ", $even1, ", ", $even1),
                        concat!("vxorps ", $odd0, ", ", $odd0, ", ", $odd0),
                        concat!("vxorps ", $odd1, ", ", $odd1, ", ", $odd1),
                    )*
                    "mov {n:e}, 16",
                    "4:",
                    concat!("vmovups ", $left, ", [{b}]"),
                    concat!("vmovups ", $right, ", [{b} + ", $vector, "]"),
                    $(
                        concat!("vbroadcastss ", $x, ", dword ptr [", $a, "]"),
                        concat!("vfmadd231ps ", $even0, ", ", $x, ", ", $left),
                        concat!("vfmadd231ps ", $even1, ", ", $x, ", ", $right),
                    )*
                    concat!("vmovups ", $left, ", [{b} + 2*", $vector, "]"),
                    concat!("vmovups ", $right, ", [{b} + 3*", $vector, "]"),
                    $(
                        concat!("vbroadcastss ", $x, ", dword ptr [", $b, "]"),
                        concat!("vfmadd231ps ", $odd0, ", ", $x, ", ", $left),
                        concat!("vfmadd231ps ", $odd1, ", ", $x, ", ", $right),
                    )*
                    $(
                        concat!("add {", stringify!($even), "}, {step}"),
                        concat!("add {", stringify!($odd), "}, {step}"),
                    )*
                    concat!("add {b}, 4*", $vector),
                    "dec {n:e}",
                    "jnz 4b",
                    "mov {n}, qword ptr [{s} + 16]",
                    "cmp qword ptr [{s} + 48], 0",
                    "jne 5f",
                    bf16_tiles!(@end $vector, "[{n}]", concat!("[{n} + ", $vector, "]"), [$($even0 $even1 $odd0 $odd1)*]),
                    "jmp 6f",
                    // Adding zero makes zero of minus zero, too.
                    "5:",
                    bf16_tiles!(@end $vector, $zero, $zero, [$($even0 $even1 $odd0 $odd1)*]),
                    "mov qword ptr [{s} + 48], 0",
                    "6:",
                    "dec {steps}",
                    "jnz 3b",
                    // The tile below.
                    "mov qword ptr [{s} + 16], {n}",
                    $(
                        concat!("add {", stringify!($even), "}, qword ptr [{s} + 24]"),
                        concat!("add {", stringify!($odd), "}, qword ptr [{s} + 24]"),
                    )*
                    "sub {b}, qword ptr [{s} + 32]",
                    "dec qword ptr [{s} + 8]",
                    "jnz 2b",
                    "ldmxcsr [{s} + 56]",
                    $(
                        $even = inout(reg) a.wrapping_byte_add($rows * row) => _,
                        $odd = inout(reg) a.wrapping_byte_add($rows * row + step) => _,
                    )*
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
    // A row of the result, of whose sums one is named.
    (@fetch $even0:literal $vector:literal) => {
        concat!("prefetcht0 [{n}]\n", "prefetcht0 [{n} + ", $vector, "]\n", "add {n}, {stride}")
    };
    // Both sums of a step and what they are added to.
    (@end $vector:literal, $from0:expr, $from1:expr,
     [$($even0:literal $even1:literal $odd0:literal $odd1:literal)*]) => {
        concat!($(
            "vaddps ", $even0, ", ", $even0, ", ", $odd0, "\n",
            "vaddps ", $even1, ", ", $even1, ", ", $odd1, "\n",
            "vaddps ", $even0, ", ", $even0, ", ", $from0, "\n",
            "vaddps ", $even1, ", ", $even1, ", ", $from1, "\n",
            "vmovups [{n}], ", $even0, "\n",
            "vmovups [{n} + ", $vector, "], ", $even1, "\n",
            "add {n}, {stride}\n",
        )*)
    };
}

bf16_tiles! {
    /// Tiles of three rows of 16 columns.
    avx2, "avx2,fma", vector 32, operands "ymm12" "ymm13" "ymm14", zero "ymm15",
    pointers [p q 0],
    clobbers [
        out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
        out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
        out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
    ],
    tile [
        "{p}" "ymm0" "ymm1", "{q}" "ymm2" "ymm3";
        "{p} + {row}" "ymm4" "ymm5", "{q} + {row}" "ymm6" "ymm7";
        "{p} + 2*{row}" "ymm8" "ymm9", "{q} + 2*{row}" "ymm10" "ymm11";
    ]
}

bf16_tiles! {
    /// Tiles of six rows of 32 columns.
    avx512, "avx512f,avx512dq", vector 64, operands "zmm24" "zmm25" "zmm26", zero "zmm27",
    pointers [p q 0 u v 3],
    clobbers [
        out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
        out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
        out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
        out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
        out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
    ],
    tile [
        "{p}" "zmm0" "zmm1", "{q}" "zmm2" "zmm3";
        "{p} + {row}" "zmm4" "zmm5", "{q} + {row}" "zmm6" "zmm7";
        "{p} + 2*{row}" "zmm8" "zmm9", "{q} + 2*{row}" "zmm10" "zmm11";
        "{u}" "zmm12" "zmm13", "{v}" "zmm14" "zmm15";
        "{u} + {row}" "zmm16" "zmm17", "{v} + {row}" "zmm18" "zmm19";
        "{u} + 2*{row}" "zmm20" "zmm21", "{v} + 2*{row}" "zmm22" "zmm23";
    ]
}
