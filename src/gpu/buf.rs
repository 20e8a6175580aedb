//! Places in device memory.

use crate::gpu::element::Element;
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes in the memory of one device. Memory is given back when the device is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub(crate) at: u64,
    pub(crate) bytes: usize,
}

impl Region {
    /// How many bytes.
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether kernels may read and write it 16 bytes at a time; parts of an array need not begin so.
    pub(crate) fn is_wide(self) -> bool {
        self.at.is_multiple_of(16)
    }

    /// Whether two regions share a byte.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.at < other.at + other.bytes as u64 && other.at < self.at + self.bytes as u64
    }
}

/// Bytes in memory of the host that a device reads and writes by itself (page-locked). It is given back when the device is
/// closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned(pub(crate) Region);

impl Pinned {
    /// How many bytes.
    pub fn bytes(self) -> usize {
        self.0.bytes
    }

    /// Some of them.
    ///
    /// # Panics
    /// There are no such bytes.
    #[must_use]
    pub fn part(self, bytes: Range<usize>) -> Self {
        Self(Buf::<u8>::new(self.0).part(bytes).region())
    }
}

/// An array of `T` in the memory of one device.
#[derive(Debug)]
pub struct Buf<T> {
    region: Region,
    of: PhantomData<T>,
}

impl<T> Clone for Buf<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Buf<T> {}

impl<T: Element> Buf<T> {
    pub(crate) fn new(region: Region) -> Self {
        Self {
            region,
            of: PhantomData,
        }
    }

    /// How many elements.
    pub fn len(self) -> usize {
        self.region.bytes / size_of::<T>()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Where it lies.
    pub fn region(self) -> Region {
        self.region
    }

    /// A part of it.
    ///
    /// # Panics
    /// It has no such part.
    #[must_use]
    pub fn part(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "part {range:?} of {} elements",
            self.len()
        );
        let size = size_of::<T>();
        Self::new(Region {
            at: self.region.at + (range.start * size) as u64,
            bytes: range.len() * size,
        })
    }
}
