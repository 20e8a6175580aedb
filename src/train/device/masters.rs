//! The parameters that learn, in f32, as they are kept.

use crate::arch::{FloatFormat, JOINING_ROOM, SHARE_ALIGNMENT};
use crate::gpu::decoder::{beside, rounded};
use crate::gpu::ops::optimizer::{Halves, Parameters};
use crate::gpu::{Buf, Comm, Gpu, Result, Stored};
use crate::train::device::pieces::{fill, visit, visit_as};
use crate::train::device::state::{Home, State, piece, within};
use crate::train::engine::{Give, Take};
use crate::train::error::TrainError;
use half::bf16;
use std::ops::Range;

/// Parameters in f32.
#[derive(Clone, Copy, Debug)]
pub(super) enum Masters {
    /// As they are.
    Whole(Buf<f32>),
    /// In the two bytes that passes read and two more.
    Halves {
        value: Buf<bf16>,
        /// The other two bytes of `own` ones; those of the others are on other devices.
        low: State<i16>,
        /// Where `own` begins and ends.
        own: [usize; 2],
        /// Where some of them are made whole.
        room: Buf<f32>,
    },
}

impl Masters {
    /// Parameters and the array of them that passes read: in halves if they may be and passes read bf16, since one of
    /// the halves is then that array. Of the other half only `own` is kept.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new<T: Stored>(
        gpu: &mut dyn Gpu,
        (count, home): (usize, Home),
        own: Range<usize>,
        may_be_halves: bool,
    ) -> Result<(Self, Buf<T>)> {
        if may_be_halves && T::pick(false, true) {
            let value: Buf<bf16> = gpu.alloc(count)?;
            let low = State::new(gpu, own.len(), home)?;
            let at_once = match piece(home, own.len()) {
                // Of the others' numbers, whose rounding is kept.
                0 => SHARE_ALIGNMENT.min(count),
                piece => piece.min(JOINING_ROOM / 4),
            };
            let room = gpu.alloc(at_once)?;
            let own = [own.start, own.end];
            let halves = Self::Halves {
                value,
                low,
                own,
                room,
            };
            return Ok((halves, Buf::new(value.region())));
        }
        let master = gpu.alloc(count)?;
        Ok((Self::Whole(master), beside(gpu, master)?))
    }

    /// Some of them as AdamW takes them, with the array that passes read.
    pub(super) fn bring<T: Stored>(
        &self,
        gpu: &mut dyn Gpu,
        range: &Range<usize>,
        value: Buf<T>,
    ) -> Result<Parameters> {
        Ok(match self {
            Self::Whole(master) => {
                let copy = value.part(range.clone()).region();
                let copy = T::pick(None, Some(Buf::new(copy)));
                Parameters::Whole(master.part(range.clone()), copy)
            }
            Self::Halves {
                value, low, own, ..
            } => Parameters::Halves(Halves {
                value: value.part(range.clone()),
                low: low.bring(gpu, &local(range, *own))?,
            }),
        })
    }

    /// Keeps what [`Self::bring`] gave and was changed.
    pub(super) fn keep(&self, gpu: &mut dyn Gpu, range: &Range<usize>) -> Result<()> {
        match self {
            Self::Whole(_) => Ok(()),
            Self::Halves { low, own, .. } => low.keep(gpu, &local(range, *own)),
        }
    }

    /// Sets some of them, and what passes read of them.
    pub(super) fn set<T: Stored>(
        &self,
        gpu: &mut dyn Gpu,
        (range, value): (Range<usize>, Buf<T>),
        numbers: &[f32],
    ) -> Result<()> {
        match self {
            Self::Whole(master) => {
                let master = master.part(range.clone());
                gpu.upload(numbers, master)?;
                rounded(gpu, master, value.part(range))
            }
            Self::Halves {
                value,
                low,
                own,
                room,
            } => {
                let mut start = range.start;
                for some in numbers.chunks(room.len().max(1)) {
                    let (range, room) = (start..start + some.len(), room.part(0..some.len()));
                    gpu.upload(some, room)?;
                    set_halves(gpu, (*value, low, *own), &range, room)?;
                    start = range.end;
                }
                Ok(())
            }
        }
    }

    /// Gives this device what the others of a training have updated, each its share, and them what this one has; `value` is
    /// what passes read.
    pub(super) fn gather<T: Stored>(
        &self,
        gpu: &mut dyn Gpu,
        comm: &mut dyn Comm,
        shares: &[Range<usize>],
        value: Buf<T>,
    ) -> Result<()> {
        let bytes = |size: usize| -> Vec<Range<usize>> {
            let shares = shares.iter();
            shares.map(|s| s.start * size..s.end * size).collect()
        };
        match self {
            Self::Whole(master) => {
                comm.gather(gpu, master.region(), &bytes(4))?;
                rounded(gpu, *master, value)
            }
            Self::Halves { value, .. } => comm.gather(gpu, value.region(), &bytes(2)),
        }
    }

    /// Gives the bytes of some of them in `format`, of which all are its own where they are halves.
    pub(super) fn visit_as(
        &self,
        gpu: &mut dyn Gpu,
        range: Range<usize>,
        format: FloatFormat,
        take: &mut Take<'_>,
    ) -> std::result::Result<(), TrainError> {
        match self {
            Self::Whole(master) => visit_as(gpu, master.part(range), format, take),
            Self::Halves {
                value,
                low,
                own,
                room,
            } => parts(range, *room).try_for_each(|(range, room)| {
                let halves = Halves {
                    value: value.part(range.clone()),
                    low: low.bring(gpu, &local(&range, *own))?,
                };
                halves.get(gpu, room)?;
                visit_as(gpu, room, format, take)
            }),
        }
    }

    /// Gives the bytes of some of them.
    pub(super) fn visit(
        &self,
        gpu: &mut dyn Gpu,
        range: Range<usize>,
        take: &mut Take<'_>,
    ) -> std::result::Result<(), TrainError> {
        match self {
            Self::Whole(master) => visit(gpu, master.part(range).region(), take),
            Self::Halves { .. } => self.visit_as(gpu, range, FloatFormat::F32, take),
        }
    }

    /// Asks for the bytes of some of them. What passes read of whole ones is left as it is.
    pub(super) fn fill(
        &self,
        gpu: &mut dyn Gpu,
        range: Range<usize>,
        give: &mut Give<'_>,
    ) -> std::result::Result<(), TrainError> {
        match self {
            Self::Whole(master) => fill(gpu, master.part(range).region(), give),
            Self::Halves {
                value,
                low,
                own,
                room,
            } => parts(range, *room).try_for_each(|(range, room)| {
                fill(gpu, room.region(), give)?;
                Ok(set_halves(gpu, (*value, low, *own), &range, room)?)
            }),
        }
    }
}

/// Some numbers in halves become those of `room`; of those that are not its own, what passes read.
fn set_halves(
    gpu: &mut dyn Gpu,
    (value, low, own): (Buf<bf16>, &State<i16>, [usize; 2]),
    range: &Range<usize>,
    room: Buf<f32>,
) -> Result<()> {
    let both = within(range, &(own[0]..own[1]));
    let in_room = |part: &Range<usize>| room.part(part.start - range.start..part.end - range.start);
    for others in [range.start..both.start, both.end..range.end] {
        if !others.is_empty() {
            rounded(gpu, in_room(&others), value.part(others))?;
        }
    }
    if both.is_empty() {
        return Ok(());
    }
    let kept = local(&both, own);
    let halves = Halves {
        value: value.part(both.clone()),
        low: low.room(&kept),
    };
    halves.set(gpu, in_room(&both))?;
    low.keep(gpu, &kept)
}

/// Where its own numbers lie among themselves.
fn local(range: &Range<usize>, own: [usize; 2]) -> Range<usize> {
    range.start - own[0]..range.end - own[0]
}

/// A range in parts that the room takes, each with its part of the room.
fn parts(range: Range<usize>, room: Buf<f32>) -> impl Iterator<Item = (Range<usize>, Buf<f32>)> {
    let starts = range.clone().step_by(room.len().max(1));
    starts.map(move |start| {
        let end = range.end.min(start + room.len());
        (start..end, room.part(0..end - start))
    })
}
