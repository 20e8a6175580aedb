//! Which instruction set kernels use, and how they are compiled for it.

#[cfg(target_arch = "x86_64")]
use super::amx::Amx;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
#[cfg(target_arch = "x86_64")]
use super::avx512_bf16::Avx512Bf16;
use super::set::Baseline;
#[cfg(any(test, feature = "testing"))]
use super::set::Simd as _;
use std::sync::OnceLock;

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static ON_THIS_THREAD: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// Lets kernels that are called from this thread use another set, or none but the process's own; in
/// tests, whose threads share a process.
#[cfg(any(test, feature = "testing"))]
pub fn use_on_this_thread(set: Option<Isa>) {
    ON_THIS_THREAD.set(set);
}

/// What [`use_on_this_thread`] was last told.
#[cfg(any(test, feature = "testing"))]
pub fn on_this_thread() -> Option<Isa> {
    ON_THIS_THREAD.get()
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512, and AMX for products of bf16.
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    /// AVX-512, and AVX512-BF16 for products of bf16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// What the compiler was told to assume.
    Baseline(Baseline),
}

impl Isa {
    /// The sets of this processor, the best first. Under Miri, which knows no vectors of the
    /// processor, the baseline alone.
    pub fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            sets.extend(Amx::detect().map(Self::Amx));
            let pairs = Avx512Bf16::detect().map(Self::Avx512Bf16);
            let vectors = Avx512::detect().map(Self::Avx512);
            let pays = Avx512Bf16::pays();
            sets.extend(
                if pays {
                    [pairs, vectors]
                } else {
                    [vectors, pairs]
                }
                .into_iter()
                .flatten(),
            );
            sets.extend(Avx2::detect().map(Self::Avx2));
        }
        sets.push(Self::Baseline(Baseline));
        sets
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => "amx",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            Self::Baseline(_) => "baseline",
        }
    }

    /// Whether it multiplies pairs of bf16, beside the vectors of AVX-512.
    pub(super) fn has_pairs(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) | Self::Avx512Bf16(_) => true,
            _ => false,
        }
    }

    /// Whether it multiplies and adds in one instruction; sets that do give the same bytes.
    #[cfg(any(test, feature = "testing"))]
    pub fn fma(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) | Self::Avx512Bf16(_) | Self::Avx512(_) | Self::Avx2(_) => true,
            Self::Baseline(_) => Baseline::FMA,
        }
    }
}

/// An instruction set that kernels cannot be told to use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The processor does not have it, or nobody does.
    #[error("`{name}` is no instruction set of this processor; it has {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// Those that it has.
        known: String,
    },
    /// Kernels have run already.
    #[error("kernels use `{used}` already and cannot go over to `{name}`")]
    Chosen {
        /// As asked for.
        name: String,
        /// The one in use.
        used: &'static str,
    },
}

/// The set of this process, chosen once: data that is packed for one set is not read by another.
static CHOSEN: OnceLock<Isa> = OnceLock::new();

/// Lets all kernels of this process use the set `name` rather than the best; to be called before
/// any of them runs.
///
/// # Errors
/// The processor has no such set, or kernels use another already.
pub fn use_instruction_set(name: &str) -> Result<(), IsaError> {
    let sets = Isa::available();
    let Some(&set) = sets.iter().find(|set| set.name() == name) else {
        let names: Vec<String> = sets.iter().map(|set| format!("`{}`", set.name())).collect();
        return Err(IsaError::Unknown {
            name: name.to_owned(),
            known: names.join(", "),
        });
    };
    let used = *CHOSEN.get_or_init(|| set);
    if used == set {
        Ok(())
    } else {
        Err(IsaError::Chosen {
            name: name.to_owned(),
            used: used.name(),
        })
    }
}

/// The name of the set that kernels use.
pub fn instruction_set() -> &'static str {
    isa().name()
}

/// The set that kernels use: the best of this processor, if none was asked for.
#[inline]
pub fn isa() -> Isa {
    #[cfg(any(test, feature = "testing"))]
    if let Some(set) = on_this_thread() {
        return set;
    }
    *CHOSEN.get_or_init(best)
}

/// The sets that kernels are compiled for: AMX and AVX512-BF16 are AVX-512 but for products of bf16.
#[derive(Clone, Copy)]
pub enum Vectors {
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// What the compiler was told to assume.
    Baseline(Baseline),
}

/// The vectors of the set that kernels use.
#[inline]
pub fn vectors() -> Vectors {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx(set) => Vectors::Avx512(set.vectors()),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16(set) => Vectors::Avx512(set.vectors()),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(set) => Vectors::Avx512(set),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(set) => Vectors::Avx2(set),
        Isa::Baseline(set) => Vectors::Baseline(set),
    }
}

fn best() -> Isa {
    let sets = Isa::available();
    sets.first().copied().unwrap_or(Isa::Baseline(Baseline))
}

/// Defines a function whose body is compiled for each instruction set and chosen at run time.
///
/// The body may name the types `F: Real` and `S: Simd`, the set; `fn name<F>[simd](..)` also gives
/// it the value `simd: S`, the proof that the processor has it. Everything that it calls in its
/// loops must be `#[inline(always)]`, or it falls back to the baseline set.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<F>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $crate::isa::kernel! {
            $(#[$meta])* $vis fn $name<F>[_simd]($($arg: $ty),*) $(-> $ret)? $body
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<F>[$simd:ident]($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<F: $crate::real::Real>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters, clippy::too_many_arguments, reason = "shared shape of all kernels")]
            fn body<F: $crate::real::Real, S: $crate::isa::Simd>($simd: S, $($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments, reason = "shared shape of all kernels")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512<F: $crate::real::Real>(simd: $crate::isa::Avx512, $($arg: $ty),*) $(-> $ret)? {
                body::<F, _>(simd, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments, reason = "shared shape of all kernels")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<F: $crate::real::Real>(simd: $crate::isa::Avx2, $($arg: $ty),*) $(-> $ret)? {
                body::<F, _>(simd, $($arg),*)
            }
            match $crate::isa::vectors() {
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Vectors::Avx512(simd) => {
                    #[expect(unsafe_code, reason = "code for the instruction set found at run time")]
                    // SAFETY: `simd` proves that this processor has the features.
                    unsafe {
                        avx512::<F>(simd, $($arg),*)
                    }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Vectors::Avx2(simd) => {
                    #[expect(unsafe_code, reason = "code for the instruction set found at run time")]
                    // SAFETY: `simd` proves that this processor has the features.
                    unsafe {
                        avx2::<F>(simd, $($arg),*)
                    }
                }
                $crate::isa::Vectors::Baseline(simd) => body::<F, _>(simd, $($arg),*),
            }
        }
    };
}
pub(crate) use kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_this_processor_lacks_is_refused_with_those_that_it_has() {
        let error = use_instruction_set("avx9000").unwrap_err().to_string();
        let start = "`avx9000` is no instruction set of this processor; it has ";
        assert!(
            error.starts_with(start) && error.ends_with("`baseline`"),
            "{error}"
        );
    }

    #[test]
    fn kernels_do_not_change_their_set_once_they_run() {
        let used = *CHOSEN.get_or_init(best);
        assert_eq!(use_instruction_set(used.name()), Ok(()));
        for other in Isa::available().into_iter().filter(|set| *set != used) {
            let error = use_instruction_set(other.name()).unwrap_err().to_string();
            assert!(error.contains("cannot go over to"), "{error}");
        }
    }
}
