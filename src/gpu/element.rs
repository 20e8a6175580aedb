//! The types that stand in device memory, and their bytes.

use half::bf16;

mod sealed {
    pub trait Sealed {}
}
pub(crate) use sealed::Sealed;

/// A number in device memory. Its name is the one that signatures of kernels use.
pub trait Element: Copy + Send + Sync + 'static + sealed::Sealed {
    /// As in the signature of a kernel.
    const NAME: &'static str;
}

/// A type that activations and weights are stored in.
pub trait Stored: Element + Default {
    /// Rounds to nearest, ties to even.
    fn of(x: f32) -> Self;
    /// The number, exactly.
    fn wide(self) -> f32;
    /// The first for f32, the second for bf16.
    fn pick<X>(f32: X, bf16: X) -> X;
}

/// Bytes of a number or structure, by its name in signatures: that of a structure ends with its bytes (`Form:20`).
pub(crate) const fn size_named(name: &str) -> usize {
    match name.as_bytes() {
        b"u8" => 1,
        b"bf16" | b"i16" => 2,
        b"f32" | b"i32" | b"u32" => 4,
        b"f64" | b"i64" => 8,
        [.., b':', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            (*tens - b'0') as usize * 10 + (*ones - b'0') as usize
        }
        _ => panic!("a type that signatures of kernels do not name"),
    }
}

macro_rules! elements {
    ($($of:ty: $name:literal),* $(,)?) => {$(
        impl sealed::Sealed for $of {}
        impl Element for $of {
            const NAME: &'static str = $name;
        }
        const _: () = assert!(size_of::<$of>() == size_named($name));
    )*};
}
elements! { f32: "f32", f64: "f64", bf16: "bf16", i16: "i16", i32: "i32", u32: "u32", u8: "u8" }

impl Stored for f32 {
    fn of(x: f32) -> Self {
        x
    }
    fn wide(self) -> f32 {
        self
    }
    fn pick<X>(f32: X, _: X) -> X {
        f32
    }
}

impl Stored for bf16 {
    fn of(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn wide(self) -> f32 {
        self.to_f32()
    }
    fn pick<X>(_: X, bf16: X) -> X {
        bf16
    }
}

/// A structure of whole numbers without padding, which a kernel reads as its own `struct`, and its name in signatures.
macro_rules! structure {
    ($of:ty: $name:literal) => {
        impl $crate::gpu::element::Sealed for $of {}
        impl $crate::gpu::Element for $of {
            const NAME: &'static str = $name;
        }
        const _: () = assert!(size_of::<$of>() == $crate::gpu::element::size_named($name));
    };
}
pub(crate) use structure;

/// A size as a kernel takes it.
///
/// # Panics
/// It does not fit into 31 bits.
pub(crate) fn int(n: usize) -> i32 {
    i32::try_from(n).expect("a size of a kernel fits into 31 bits")
}

/// The bytes of numbers.
pub(crate) fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    #[expect(unsafe_code, reason = "a view of numbers as bytes")]
    // SAFETY: elements are numbers or structures of them without padding (the trait is sealed), so every byte is
    // written.
    unsafe {
        std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values))
    }
}

/// The bytes of numbers, to be written.
pub(crate) fn bytes_of_mut<T: Element>(values: &mut [T]) -> &mut [u8] {
    #[expect(unsafe_code, reason = "a view of numbers as bytes")]
    // SAFETY: as `bytes_of`; and any bytes are a value of each element.
    unsafe {
        std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values))
    }
}
