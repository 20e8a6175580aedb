//! What the units that multiply can do at most: multiply-adds in registers that wait for nothing.

use super::select::{Isa, isa};

/// What multiplies: a set's vectors, or what it has for pairs of bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    set: Isa,
    pairs: bool,
}

impl Unit {
    /// The unit that, with the set in use, makes products of operands rounded to bf16, or those of `f32` and all else.
    pub fn of_products(bf16: bool) -> Self {
        let set = isa();
        let pairs = bf16 && set.has_pairs();
        Self { set, pairs }
    }

    /// As the set is called on the command line, and vectors beside what multiplies pairs by their own set.
    pub fn name(self) -> &'static str {
        if self.set.has_pairs() && !self.pairs {
            "avx512"
        } else {
            self.set.name()
        }
    }

    /// Does `rounds` rounds of independent multiply-adds on the calling thread, and says how many
    /// floating-point operations they were: two for each. Zero where the compiler chooses the instructions.
    pub fn multiply_adds(self, rounds: u32) -> f64 {
        #[cfg(target_arch = "x86_64")]
        match self.set {
            Isa::Amx(set) if self.pairs => return set.tiles().multiply_adds(rounds),
            Isa::Amx(set) => return vectors::avx512(set.vectors(), rounds),
            Isa::Avx512Bf16(set) if self.pairs => return vectors::avx512_bf16(set, rounds),
            Isa::Avx512Bf16(set) => return vectors::avx512(set.vectors(), rounds),
            Isa::Avx512(set) => return vectors::avx512(set, rounds),
            Isa::Avx2(set) => return vectors::avx2(set, rounds),
            Isa::Baseline(_) => {}
        }
        let _ = rounds;
        0.0
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use crate::isa::{Avx2, Avx512, Avx512Bf16};
    use std::arch::asm;

    /// Twelve sums are more than a processor has multiply-adds of vectors under way.
    const SUMS: u32 = 12;

    macro_rules! rounds {
        ($instruction:literal, $rounds:expr, $x:tt, [$($sum:tt)*]) => {
            if $rounds > 0 {
                #[expect(unsafe_code, reason = "instructions that a compiler would leave out")]
                // SAFETY: the caller proves the set; every register that is written is named, nothing else is
                // touched.
                unsafe {
                    asm!(
                        concat!("vxorps ", $x, ", ", $x, ", ", $x),
                        $(concat!("vxorps ", $sum, ", ", $sum, ", ", $sum),)*
                        "2:",
                        $(concat!($instruction, " ", $sum, ", ", $x, ", ", $x),)*
                        "dec {rounds:e}",
                        "jnz 2b",
                        rounds = inout(reg) $rounds => _,
                        $(out($sum) _,)*
                        out($x) _,
                        options(nostack, nomem)
                    );
                }
            }
        };
    }

    pub(super) fn avx512(_: Avx512, rounds: u32) -> f64 {
        rounds!("vfmadd231ps", rounds, "zmm12", ["zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7" "zmm8" "zmm9" "zmm10" "zmm11"]);
        f64::from(rounds) * f64::from(2 * 16 * SUMS)
    }

    pub(super) fn avx512_bf16(_: Avx512Bf16, rounds: u32) -> f64 {
        rounds!("vdpbf16ps", rounds, "zmm12", ["zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7" "zmm8" "zmm9" "zmm10" "zmm11"]);
        f64::from(rounds) * f64::from(2 * 2 * 16 * SUMS)
    }

    pub(super) fn avx2(_: Avx2, rounds: u32) -> f64 {
        rounds!("vfmadd231ps", rounds, "ymm12", ["ymm0" "ymm1" "ymm2" "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11"]);
        f64::from(rounds) * f64::from(2 * 8 * SUMS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::use_on_this_thread;

    #[test]
    fn a_unit_has_a_name_of_its_own_and_counts_two_operations_for_each_multiply_add() {
        for set in Isa::available() {
            use_on_this_thread(Some(set));
            let (products, rest) = (Unit::of_products(true), Unit::of_products(false));
            let want = match set.name() {
                "amx" => (
                    "amx",
                    "avx512",
                    3.0 * 4.0 * 2.0 * 16.0 * 16.0 * 32.0,
                    3.0 * 12.0 * 32.0,
                ),
                "avx512bf16" => ("avx512bf16", "avx512", 3.0 * 12.0 * 64.0, 3.0 * 12.0 * 32.0),
                "avx512" => ("avx512", "avx512", 3.0 * 12.0 * 32.0, 3.0 * 12.0 * 32.0),
                "avx2" => ("avx2", "avx2", 3.0 * 12.0 * 16.0, 3.0 * 12.0 * 16.0),
                _ => ("baseline", "baseline", 0.0, 0.0),
            };
            let counts = (products.multiply_adds(3), rest.multiply_adds(3));
            assert_eq!((products.name(), rest.name(), counts.0, counts.1), want);
            assert_eq!(products.multiply_adds(0).to_bits(), 0);
        }
        use_on_this_thread(None);
    }
}
