//! AMX: tiles of 16 rows of 64 bytes, and products of tiles of bf16, beside AVX-512 for all the rest.

use super::avx512::Avx512;
use super::avx512_bf16::Avx512Bf16;
use super::pair_tiles::{PairTiles, Pairing, SIDE};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Proof that this processor has AMX for bf16, AVX-512 and AVX512-BF16, and that this process may use its tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amx(Avx512Bf16);

impl Amx {
    /// The proof, if there is one.
    pub(super) fn detect() -> Option<Self> {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        // All that have AMX have it; it rounds what is packed.
        let vectors = Avx512Bf16::detect()?;
        ALLOWED
            .get_or_init(|| has_amx() && may_use_tiles())
            .then_some(Self(vectors))
    }

    /// The set of all that is no product of tiles.
    #[inline(always)]
    pub fn vectors(self) -> Avx512 {
        self.0.vectors()
    }

    /// The set that packs pairs.
    pub fn pairs(self) -> Avx512Bf16 {
        self.0
    }

    /// Tiles for this thread.
    pub fn tiles(self) -> Tiles {
        Tiles::new(self)
    }
}

/// AMX-BF16 and AMX-TILE, by bits 22 and 24 of EDX of leaf 7.
fn has_amx() -> bool {
    const BITS: u32 = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BITS == BITS
}

/// Asks Linux for the room that tiles take in a context (`ARCH_REQ_XCOMP_PERM`); once is enough for all
/// threads. Other systems do not answer.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: usize = 158;
    const REQUEST: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let refused: usize;
    #[expect(unsafe_code, reason = "a system call")]
    // SAFETY: `arch_prctl` with this request takes no pointer; a call clobbers RCX and R11 alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") REQUEST,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    refused == 0
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// What a tile is: form 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Form([u8; 64]);

/// Eight tiles of this thread, given back when dropped: a context with tiles in use is larger.
pub struct Tiles {
    /// Tiles are a thread's own.
    _here: std::marker::PhantomData<*const ()>,
}

impl Tiles {
    fn new(_: Amx) -> Self {
        let mut form = Form([0; 64]);
        form.0[0] = 1;
        for tile in 0..8 {
            form.0[16 + 2 * tile] = 64;
            form.0[48 + tile] = 16;
        }
        #[expect(unsafe_code, reason = "an instruction of AMX")]
        // SAFETY: `Amx` proves that there are tiles and that they may be used; `form` is a valid one.
        unsafe {
            asm!("ldtilecfg [{form}]", form = in(reg) &raw const form, options(nostack, readonly));
        }
        Self {
            _here: std::marker::PhantomData,
        }
    }

    /// `rounds` times four products of tiles that wait for nothing; gives the operations that these are.
    pub fn multiply_adds(&self, rounds: u32) -> f64 {
        if rounds > 0 {
            #[expect(unsafe_code, reason = "instructions of AMX")]
            // SAFETY: `self` proves that there are eight tiles; those that are written are named.
            unsafe {
                asm!(
                    "tilezero tmm4",
                    "tilezero tmm5",
                    "tilezero tmm6",
                    "tilezero tmm7",
                    "2:",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "dec {rounds:e}",
                    "jnz 2b",
                    rounds = inout(reg) rounds => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, nomem)
                );
            }
        }
        // Two for each of a tile's 16 by 16 sums of 32 products.
        f64::from(rounds) * f64::from(4 * 2 * 16 * 16 * 32_u32)
    }
}

impl PairTiles<SIDE> for Tiles {
    const PAIRING: Pairing = Pairing::Neighbours;

    /// Of each product of 32 values an instruction makes two sums from zero, of those with an even and of
    /// those with an odd place, by multiply-adds in order with one rounding each, and adds first the two and
    /// then this to the result; numbers below the smallest normal one are zero, read and written.
    /// (Intel's manual, TDPBF16PS.) Two by two tiles of AMX are one here.
    #[expect(unsafe_code, reason = "loads and stores of tiles")]
    unsafe fn multiply_add(
        &self,
        (steps, tiles): (usize, usize),
        (a, b): (*const u32, *const u32),
        (c, stride): (*mut f32, usize),
        zero: bool,
    ) {
        debug_assert!(tiles == 1, "there is room for one");
        // SAFETY: the caller's promise; `self` proves that eight tiles of this form are there. Every tile
        // that is written is named, flags are not kept, and no stack is used.
        unsafe {
            asm!(
                "test {zero:e}, {zero:e}",
                "jnz 2f",
                "tileloadd tmm0, [{c} + {stride}*1]",
                "tileloadd tmm1, [{c} + {stride}*1 + 64]",
                "tileloadd tmm2, [{low} + {stride}*1]",
                "tileloadd tmm3, [{low} + {stride}*1 + 64]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "3:",
                "tileloadd tmm4, [{a} + {row}*1]",
                "tileloadd tmm6, [{b} + {row}*1]",
                "tileloadd tmm5, [{a} + {row}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {row}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2048",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 3b",
                "tilestored [{c} + {stride}*1], tmm0",
                "tilestored [{c} + {stride}*1 + 64], tmm1",
                "tilestored [{low} + {stride}*1], tmm2",
                "tilestored [{low} + {stride}*1 + 64], tmm3",
                zero = in(reg) u32::from(zero),
                steps = inout(reg) steps => _,
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                c = in(reg) c,
                low = in(reg) c.add(16 * stride),
                stride = in(reg) 4 * stride,
                row = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "an instruction of AMX")]
        // SAFETY: there are tiles, or `self` would not be; nothing is kept in them.
        unsafe {
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}
