//! Several devices of one program at one training: sums over the arrays of all of them, and arrays of which each keeps a share.
//!
//! Sums are made in the order in which they are asked for and in no other, so that they are the same bits on however many
//! devices. (Libraries for this, NCCL among them, promise no order; one could stand behind [`Comm`], and results would then
//! differ by rounding.)

use crate::arch::{SHARE_ALIGNMENT, passed_at_once};
use crate::gpu::buf::{Buf, Pinned, Region};
use crate::gpu::device::Gpu;
use crate::gpu::error::{GpuError, Result};
use crate::gpu::ops::rows::sum_parts;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Which numbers of an array of so many each device keeps; the last ones may keep none.
pub fn shares(len: usize, ranks: usize) -> Vec<Range<usize>> {
    let each = len.div_ceil(ranks.max(1)).next_multiple_of(SHARE_ALIGNMENT);
    let share = |rank: usize| (rank * each).min(len)..((rank + 1) * each).min(len);
    (0..ranks.max(1)).map(share).collect()
}

/// What the devices of a training do together. Each has a rank, from 0, and a thread of its own; all ask for the same in the
/// same order, of arrays of one length.
pub trait Comm {
    /// The rank of this device.
    fn rank(&self) -> usize;

    /// How many devices there are.
    fn ranks(&self) -> usize;

    /// Adds to `sum`, this rank's share, the arrays `from` of the first `given` ranks, one after the other.
    ///
    /// # Errors
    /// A device of the training refuses.
    fn reduce(
        &mut self,
        gpu: &mut dyn Gpu,
        from: Buf<f32>,
        given: usize,
        sum: Buf<f32>,
    ) -> Result<()>;

    /// Gives all ranks the shares of an array, those of rank `r` being the bytes `shares[r]`, that each of them keeps.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    fn gather(&mut self, gpu: &mut dyn Gpu, all: Region, shares: &[Range<usize>]) -> Result<()>;
}

/// Where threads wait for each other.
#[derive(Debug)]
pub struct Meeting {
    ranks: usize,
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Those who have come.
    here: usize,
    /// Meetings that are over.
    over: u64,
    /// Those who will not come any more.
    gone: usize,
    /// The memory through which each gives.
    given: Vec<Option<Pinned>>,
}

impl Meeting {
    /// Of so many threads.
    pub fn new(ranks: usize) -> Arc<Self> {
        let waiting = Waiting {
            given: vec![None; ranks],
            ..Waiting::default()
        };
        Arc::new(Self {
            ranks,
            state: Mutex::new(waiting),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked has gone, and its seat says so.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all have come.
    fn wait(&self) -> Result<()> {
        let mut state = self.state();
        state.here += 1;
        if state.here == self.ranks {
            (state.here, state.over) = (0, state.over + 1);
            self.changed.notify_all();
        }
        let mine = state.over + u64::from(state.here > 0);
        while state.over < mine && state.gone == 0 {
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        if state.over < mine {
            return Err(GpuError::Alone);
        }
        Ok(())
    }

    /// Says that one of them will not come.
    pub fn miss(&self) {
        self.state().gone += 1;
        self.changed.notify_all();
    }

    /// A place in it.
    pub fn sit(self: &Arc<Self>) -> Seat {
        Seat(Arc::clone(self))
    }
}

/// Somebody's place in a meeting. When it is dropped, the others wait for nobody any more; it goes when all have gone, so that
/// what they may still read outlives it.
#[derive(Debug)]
pub struct Seat(Arc<Meeting>);

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.gone += 1;
        self.0.changed.notify_all();
        while state.gone < self.0.ranks {
            let woken = self.0.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Devices with a thread each, which pass arrays on through page-locked memory of the host.
#[derive(Debug)]
pub struct Threads {
    meeting: Arc<Meeting>,
    rank: usize,
    /// Numbers of a piece.
    piece: usize,
    /// Of each rank, a piece for each rank.
    given: Vec<Pinned>,
    /// On the device, likewise.
    taken: Buf<f32>,
}

impl Threads {
    /// Joins as one of the ranks, for arrays of at most so many numbers; returns when all have joined. What `gpu` pins for it
    /// must be there until all have gone: whoever joins has a [`Seat`] that is dropped before.
    ///
    /// # Errors
    /// Out of memory, or another one failed.
    pub fn join(
        meeting: &Arc<Meeting>,
        rank: usize,
        gpu: &mut dyn Gpu,
        len: usize,
    ) -> Result<Self> {
        let (ranks, piece) = (meeting.ranks, passed_at_once(len, meeting.ranks));
        let taken = gpu.alloc(ranks * piece)?;
        let own = gpu.pin(4 * ranks * piece)?;
        if let Some(place) = meeting.state().given.get_mut(rank) {
            *place = Some(own);
        }
        meeting.wait()?;
        let given: Vec<Pinned> = meeting.state().given.iter().copied().flatten().collect();
        for (other, pinned) in given.iter().enumerate() {
            if other != rank {
                gpu.reach(*pinned)?;
            }
        }
        Ok(Self {
            meeting: Arc::clone(meeting),
            rank,
            piece,
            given,
            taken,
        })
    }

    /// Where rank `from` lays so many numbers for rank `to`.
    fn between(&self, from: usize, to: usize, numbers: usize) -> Pinned {
        let start = 4 * to * self.piece;
        self.given[from].part(start..start + 4 * numbers)
    }

    /// Lays the numbers of each other rank's share that are its next ones down for it.
    fn lay_down(
        &self,
        gpu: &mut dyn Gpu,
        from: Buf<f32>,
        shares: &[Range<usize>],
        at: usize,
    ) -> Result<()> {
        for (to, share) in shares.iter().enumerate() {
            let part = part_of(share, at, self.piece);
            if to != self.rank && !part.is_empty() {
                let place = self.between(self.rank, to, part.len());
                gpu.store(from.part(part).region(), place)?;
            }
        }
        gpu.sync()
    }

    /// Adds the next ones of this rank's share of the first `given` ranks.
    fn take_up(
        &self,
        gpu: &mut dyn Gpu,
        (from, given): (Buf<f32>, usize),
        share: &Range<usize>,
        at: usize,
        sum: Buf<f32>,
    ) -> Result<()> {
        let part = part_of(share, at, self.piece);
        if part.is_empty() || given == 0 {
            return Ok(());
        }
        let len = part.len();
        for rank in 0..given {
            let to = self.taken.part(rank * len..(rank + 1) * len);
            if rank == self.rank {
                gpu.copy(from.part(part.clone()), to)?;
            } else {
                gpu.fetch(self.between(rank, self.rank, len), to.region())?;
            }
        }
        let sum = sum.part(part.start - share.start..part.end - share.start);
        sum_parts(gpu, self.taken.part(0..given * len), sum, true)?;
        gpu.sync()
    }
}

/// The numbers of a share from its `at`th on, of a piece at most.
fn part_of(share: &Range<usize>, at: usize, piece: usize) -> Range<usize> {
    let start = (share.start + at).min(share.end);
    start..share.end.min(start + piece)
}

impl Comm for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.meeting.ranks
    }

    fn reduce(
        &mut self,
        gpu: &mut dyn Gpu,
        from: Buf<f32>,
        given: usize,
        sum: Buf<f32>,
    ) -> Result<()> {
        let shares = shares(from.len(), self.ranks());
        let largest = shares.first().map_or(0, Range::len);
        for at in (0..largest).step_by(self.piece) {
            if self.rank < given {
                self.lay_down(gpu, from, &shares, at)?;
            }
            self.meeting.wait()?;
            self.take_up(gpu, (from, given), &shares[self.rank], at, sum)?;
            // Nobody lays down more before all have taken this.
            self.meeting.wait()?;
        }
        Ok(())
    }

    fn gather(&mut self, gpu: &mut dyn Gpu, all: Region, shares: &[Range<usize>]) -> Result<()> {
        let (all, room) = (Buf::<u8>::new(all), 4 * self.ranks() * self.piece);
        let largest = shares.iter().map(Range::len).max().unwrap_or(0);
        for at in (0..largest).step_by(room) {
            let part = |rank: usize| part_of(&shares[rank], at, room);
            let own = part(self.rank);
            if !own.is_empty() {
                let place = self.given[self.rank].part(0..own.len());
                gpu.store(all.part(own).region(), place)?;
                gpu.sync()?;
            }
            self.meeting.wait()?;
            for (rank, given) in self.given.iter().enumerate() {
                let other = part(rank);
                if rank != self.rank && !other.is_empty() {
                    gpu.fetch(given.part(0..other.len()), all.part(other).region())?;
                }
            }
            gpu.sync()?;
            self.meeting.wait()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::{device, noise};

    /// What every rank finds, each on a thread of its own and an emulated device of its own; on a card they share it.
    fn on_ranks<R: Send>(
        ranks: usize,
        len: usize,
        run: impl Fn(&mut Threads, &mut dyn Gpu) -> R + Sync,
    ) -> Vec<R> {
        let (meeting, run) = (&Meeting::new(ranks), &run);
        std::thread::scope(|scope| {
            let thread = |rank| {
                scope.spawn(move || {
                    let mut gpu = device(1 << 24);
                    let _seat = meeting.sit();
                    let mut comm = Threads::join(meeting, rank, &mut *gpu, len).unwrap();
                    run(&mut comm, &mut *gpu)
                })
            };
            let threads: Vec<_> = (0..ranks).map(thread).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    fn put(gpu: &mut dyn Gpu, numbers: &[f32]) -> Buf<f32> {
        let buf = gpu.alloc(numbers.len()).unwrap();
        gpu.upload(numbers, buf).unwrap();
        buf
    }

    fn get(gpu: &mut dyn Gpu, buf: Buf<f32>) -> Vec<u32> {
        let mut numbers = vec![0.0; buf.len()];
        gpu.download(buf, &mut numbers).unwrap();
        numbers.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn shares_hold_every_number_once_and_begin_where_parts_of_norms_do() {
        for (len, ranks) in [
            (0, 2),
            (1, 4),
            (4096, 2),
            (10_000, 1),
            (50_000, 3),
            (1 << 20, 8),
        ] {
            let all = shares(len, ranks);
            assert_eq!(all.len(), ranks);
            assert_eq!((all[0].start, all[ranks - 1].end), (0, len));
            for pair in all.windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
                let begins = pair[1].start;
                assert!(begins.is_multiple_of(SHARE_ALIGNMENT) || begins == len);
            }
        }
    }

    // Seven arrays in rounds of as many as there are ranks; the last round is not full.
    #[test]
    fn sums_of_one_two_and_four_devices_are_those_of_one_order_to_the_bit() {
        const LEN: usize = 21_000;
        const ARRAYS: usize = 7;
        let array = |i: usize| noise::<f32>(LEN, i as u64 + 1);
        let mut want = vec![0.0f32; LEN];
        for i in 0..ARRAYS {
            want.iter_mut().zip(array(i)).for_each(|(sum, x)| *sum += x);
        }
        let want: Vec<u32> = want.into_iter().map(f32::to_bits).collect();
        for ranks in [1, 2, 3, 4] {
            let found = on_ranks(ranks, LEN, |comm, gpu| {
                let own = shares(LEN, ranks)[comm.rank()].clone();
                let all = put(gpu, &vec![0.0; LEN]);
                let sum = all.part(own.clone());
                for first in (0..ARRAYS).step_by(ranks) {
                    let mine = put(gpu, &array(first + comm.rank()));
                    comm.reduce(gpu, mine, ranks.min(ARRAYS - first), sum)
                        .unwrap();
                }
                let bytes: Vec<_> = shares(LEN, ranks)
                    .into_iter()
                    .map(|share| 4 * share.start..4 * share.end)
                    .collect();
                comm.gather(gpu, all.region(), &bytes).unwrap();
                get(gpu, all)
            });
            assert!(found.iter().all(|all| *all == want), "{ranks}");
        }
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let found = on_ranks(3, 9000, |comm, gpu| {
            let (all, sum) = (put(gpu, &vec![0.0; 9000]), put(gpu, &[0.0; 4096]));
            if comm.rank() == 1 {
                return None;
            }
            let sum = sum.part(0..shares(9000, 3)[comm.rank()].len());
            Some(comm.reduce(gpu, all, 3, sum).unwrap_err().to_string())
        });
        let alone = Some("another device of this training failed".to_owned());
        assert_eq!(found, [alone.clone(), None, alone]);
    }
}
