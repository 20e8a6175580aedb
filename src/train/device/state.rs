//! Arrays of an optimiser, on the device or in memory of the host from which they come in pieces.

use crate::arch::state_room;
use crate::gpu::{Buf, Element, Gpu, Pinned, Result};
use crate::train::device::pieces::{self, pieces};
use crate::train::engine::{Give, Take};
use crate::train::error::TrainError;
use std::ops::Range;

/// Where the state of an optimiser lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// On the device.
    Device,
    /// In pinned memory of the host.
    Host,
}

/// An array of the state.
#[derive(Clone, Copy, Debug)]
pub(super) enum State<T> {
    /// On the device.
    Resident(Buf<T>),
    /// On the host, and a place on the device for a piece of it.
    Streamed {
        /// All of it.
        all: Pinned,
        /// A piece, at most.
        room: Buf<T>,
    },
}

/// How many numbers a piece has at most: they all are one, if they are on the device.
pub(super) fn piece(home: Home, count: usize) -> usize {
    match home {
        Home::Device => count,
        Home::Host => state_room(count),
    }
}

/// What is in both; of the first alone, nothing at its beginning or end.
pub(super) fn within(range: &Range<usize>, own: &Range<usize>) -> Range<usize> {
    let start = own.start.clamp(range.start, range.end);
    start..own.end.clamp(start, range.end)
}

impl<T: Element> State<T> {
    /// Zeros.
    ///
    /// # Errors
    /// Out of memory, on the device or on the host.
    pub(super) fn new(gpu: &mut dyn Gpu, count: usize, home: Home) -> Result<Self> {
        let room = gpu.alloc(piece(home, count))?;
        Ok(match home {
            Home::Device => {
                if count > 0 {
                    gpu.fill(room.region(), 0)?;
                }
                Self::Resident(room)
            }
            Home::Host => Self::Streamed {
                all: gpu.pin(count * size_of::<T>())?,
                room,
            },
        })
    }

    /// The place of some of them on the device, at most a piece; of any content if they lie on the host.
    pub(super) fn room(&self, range: &Range<usize>) -> Buf<T> {
        match self {
            Self::Resident(all) => all.part(range.clone()),
            Self::Streamed { room, .. } => room.part(0..range.len()),
        }
    }

    /// Some of them, on the device.
    pub(super) fn bring(&self, gpu: &mut dyn Gpu, range: &Range<usize>) -> Result<Buf<T>> {
        let room = self.room(range);
        if let Self::Streamed { all, .. } = self {
            gpu.fetch(all.part(bytes_of::<T>(range)), room.region())?;
        }
        Ok(room)
    }

    /// Keeps what [`Self::room`] or [`Self::bring`] gave and was changed there.
    pub(super) fn keep(&self, gpu: &mut dyn Gpu, range: &Range<usize>) -> Result<()> {
        if let Self::Streamed { all, .. } = self {
            gpu.store(self.room(range).region(), all.part(bytes_of::<T>(range)))?;
        }
        Ok(())
    }

    /// Gives the bytes of some of them.
    pub(super) fn visit(
        &self,
        gpu: &mut dyn Gpu,
        range: &Range<usize>,
        take: &mut Take<'_>,
    ) -> Result<(), TrainError> {
        match self {
            Self::Resident(all) => pieces::visit(gpu, all.part(range.clone()).region(), take),
            Self::Streamed { all, .. } => pieces(bytes_of::<T>(range)).try_for_each(|part| {
                let mut bytes = vec![0; part.len()];
                gpu.read_pinned(all.part(part), &mut bytes)?;
                take(&bytes)
            }),
        }
    }

    /// Asks for the bytes of some of them.
    pub(super) fn fill(
        &self,
        gpu: &mut dyn Gpu,
        range: &Range<usize>,
        give: &mut Give<'_>,
    ) -> Result<(), TrainError> {
        match self {
            Self::Resident(all) => pieces::fill(gpu, all.part(range.clone()).region(), give),
            Self::Streamed { all, .. } => pieces(bytes_of::<T>(range)).try_for_each(|part| {
                let mut bytes = vec![0; part.len()];
                give(&mut bytes)?;
                Ok(gpu.write_pinned(&bytes, all.part(part))?)
            }),
        }
    }
}

fn bytes_of<T>(range: &Range<usize>) -> Range<usize> {
    range.start * size_of::<T>()..range.end * size_of::<T>()
}
