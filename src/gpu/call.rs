//! A kernel with its arguments, as every device takes it.

use crate::gpu::buf::{Buf, Region};
use crate::gpu::element::{Element, Stored, int, size_named};
use crate::gpu::error::GpuError;
use std::ffi::c_void;

/// Blocks, threads of a block, and bytes of shared memory of a block.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// Blocks, three ways.
    pub grid: [u32; 3],
    /// Threads of a block, three ways; at most 1024.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

/// Most blocks of a grid along its second and third way; along the first there may be as many as fit into 31 bits.
pub(crate) const HIGHEST: usize = 65_535;

impl Launch {
    /// `blocks` of `threads`.
    ///
    /// # Panics
    /// More blocks than a grid takes, as in [`Launch::by`] and [`Launch::deep`].
    pub(crate) fn of(blocks: usize, threads: u32) -> Self {
        Self {
            grid: [int(blocks).cast_unsigned(), 1, 1],
            block: [threads, 1, 1],
            shared: 0,
        }
    }

    /// A thread for each of `n` items.
    pub(crate) fn over(n: usize) -> Self {
        Self::of(n.div_ceil(256), 256)
    }

    pub(crate) fn sharing(self, bytes: usize) -> Self {
        Self {
            shared: int(bytes).cast_unsigned(),
            ..self
        }
    }

    /// A thread for each 8 of `columns`, and blocks for as many of `rows` as a grid is high: the kernel goes on from there.
    pub(crate) fn over_columns(columns: usize, rows: usize) -> Self {
        Self::of(columns.div_ceil(8 * 256), 256).by(rows.min(HIGHEST))
    }

    pub(crate) fn by(self, y: usize) -> Self {
        assert!(y <= HIGHEST, "a grid {y} blocks high");
        let [x, _, z] = self.grid;
        let grid = [x, y as u32, z];
        Self { grid, ..self }
    }

    pub(crate) fn deep(self, z: usize) -> Self {
        assert!(z <= HIGHEST, "a grid {z} blocks deep");
        let [x, y, _] = self.grid;
        let grid = [x, y, z as u32];
        Self { grid, ..self }
    }
}

/// A kernel's name and the types of its arguments: `&` read, `*` written, `T` the type that it is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) signature: &'static str,
    /// What stands for `T`.
    pub(crate) stored: &'static str,
}

/// A kernel for f32 and the same for bf16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) f32: Entry,
    pub(crate) bf16: Entry,
}

impl Pair {
    pub(crate) fn of<T: Stored>(&self) -> &Entry {
        T::pick(&self.f32, &self.bf16)
    }
}

/// An [`Entry`], or with `for T` the [`Pair`] of `name_f32` and `name_bf16`.
macro_rules! entry {
    (for T $name:literal, $signature:literal) => {
        $crate::gpu::call::Pair {
            f32: $crate::gpu::call::Entry {
                name: concat!($name, "_f32"),
                signature: $signature,
                stored: "f32",
            },
            bf16: $crate::gpu::call::Entry {
                name: concat!($name, "_bf16"),
                signature: $signature,
                stored: "bf16",
            },
        }
    };
    ($name:expr, $signature:literal) => {
        $crate::gpu::call::Entry {
            name: $name,
            signature: $signature,
            stored: "",
        }
    };
}
pub(crate) use entry;

impl Entry {
    /// The argument types, `T` replaced.
    fn types(&self) -> impl Iterator<Item = (Access, &'static str)> {
        self.signature.split_ascii_whitespace().map(|word| {
            let (access, of) = match word.split_at(1) {
                ("&", of) => (Access::Read, of),
                ("*", of) => (Access::Write, of),
                _ => (Access::Value, word),
            };
            (access, if of == "T" { self.stored } else { of })
        })
    }

    /// As the C++ side writes it.
    pub(crate) fn spelt_out(&self) -> String {
        let words = self.types().map(|(access, of)| {
            let sign = match access {
                Access::Read => "&",
                Access::Write => "*",
                Access::Value => "",
            };
            format!("{sign}{of}")
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Value,
}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    access: Access,
    of: &'static str,
    value: Value,
    /// The memory behind an address.
    pub(crate) region: Option<Region>,
}

/// What the device copies: an address, a number, or a structure of at most eight words.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Value([u32; 8]);

impl Value {
    fn of_words(from: &[u32]) -> Self {
        let mut words = [0; 8];
        words[..from.len()].copy_from_slice(from);
        Self(words)
    }

    /// Two words, in the order of the machine.
    fn of_long(long: u64) -> Self {
        let (low, high) = (long as u32, (long >> 32) as u32);
        Self::of_words(&if cfg!(target_endian = "little") {
            [low, high]
        } else {
            [high, low]
        })
    }
}

impl Arg {
    /// Memory that the kernel reads.
    pub fn read<T: Element>(buf: Buf<T>) -> Self {
        Self::memory(Access::Read, T::NAME, Some(buf.region()))
    }

    /// Memory that the kernel writes.
    pub fn write<T: Element>(buf: Buf<T>) -> Self {
        Self::memory(Access::Write, T::NAME, Some(buf.region()))
    }

    /// Memory that the kernel reads if it is there.
    pub fn read_if<T: Element>(buf: Option<Buf<T>>) -> Self {
        Self::memory(Access::Read, T::NAME, buf.map(Buf::region))
    }

    /// Memory that the kernel writes if it is there.
    pub fn write_if<T: Element>(buf: Option<Buf<T>>) -> Self {
        Self::memory(Access::Write, T::NAME, buf.map(Buf::region))
    }

    fn memory(access: Access, of: &'static str, region: Option<Region>) -> Self {
        Self {
            access,
            of,
            value: Value::of_long(region.map_or(0, |region| region.at)),
            region,
        }
    }

    /// A whole number.
    ///
    /// # Panics
    /// It does not fit into an `i32`.
    pub fn int(n: usize) -> Self {
        Self::words("i32", &[int(n).cast_unsigned()])
    }

    /// A number.
    pub fn float(x: f32) -> Self {
        Self::words("f32", &[x.to_bits()])
    }

    /// A count of elements of any size.
    pub fn long(n: usize) -> Self {
        Self {
            access: Access::Value,
            of: "i64",
            value: Value::of_long(n as u64),
            region: None,
        }
    }

    /// A number or structure by its words; `of` as in signatures.
    ///
    /// # Panics
    /// It has not so many words.
    pub(crate) fn words(of: &'static str, from: &[u32]) -> Self {
        assert_eq!(size_of_val(from), size_named(of), "words of {of}");
        Self {
            access: Access::Value,
            of,
            value: Value::of_words(from),
            region: None,
        }
    }
}

/// A kernel, how wide, and its arguments.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) launch: Launch,
    pub(crate) args: Vec<Arg>,
}

impl<'a> Call<'a> {
    /// # Panics
    /// The arguments are not those of the kernel.
    pub(crate) fn new(entry: &'a Entry, launch: Launch, args: impl Into<Vec<Arg>>) -> Self {
        let args = args.into();
        let given = args.iter().map(|arg| (arg.access, arg.of));
        assert!(
            given.eq(entry.types()),
            "{}({}) called with {args:?}",
            entry.name,
            entry.signature
        );
        Self {
            entry,
            launch,
            args,
        }
    }

    /// The address of each argument, as `cuLaunchKernel` wants them.
    pub(crate) fn addresses(&self) -> Vec<*mut c_void> {
        let address = |arg: &Arg| std::ptr::from_ref(&arg.value).cast_mut().cast();
        self.args.iter().map(address).collect()
    }

    pub(crate) fn wrong(&self, why: impl Into<String>) -> GpuError {
        GpuError::Launch {
            kernel: self.entry.name,
            why: why.into(),
        }
    }
}
