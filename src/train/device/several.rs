//! The engine over several devices. Each has a thread, all weights and activations of its own, and its share of the
//! optimiser's state. The micro-batches of a step are dealt out in their order, a round at a time; after each round every
//! device adds the gradients of its share of the weights, in the order of the micro-batches, to their sums. So a step is the same
//! bits on however many devices. It is not that of an engine of one device, which lets products add to what is there: the
//! two differ by rounding.
//!
//! What is only scored is scored on the first device, which alone keeps a reference that moves.

use crate::arch::{DecoderConfig, Learned};
use crate::base::SeedTree;
use crate::config::spec::{Precision, ReferenceUpdate, TrainingRecipe};
use crate::data::TokenBatch;
use crate::gpu::decoder::Layout;
use crate::gpu::{Gpu, GpuError, Meeting, SharedGpu, Stored, Threads, shares};
use crate::model::Arrays;
use crate::train::device::engine::{DeviceEngine, Kept};
use crate::train::device::open::open;
use crate::train::device::pieces::pieces;
use crate::train::device::state::within;
use crate::train::engine::{
    Engine, Give, Learner, Nll, Part, Take, Update, Weigh, WeighEach, not_filled,
};
use crate::train::error::TrainError;
use crate::train::score::{ReplyScore, Scorer, TokenScore};
use crate::train::start::EngineStart;
use half::bf16;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Opens the device of a rank, on the thread that calls it.
pub type OpenRank = dyn Fn(usize) -> Result<SharedGpu, GpuError> + Send + Sync;

/// The devices of one training.
#[derive(Clone)]
pub struct Ranks {
    /// How many.
    pub count: usize,
    /// Opens one.
    pub open: Arc<OpenRank>,
    /// Becomes the most bytes that one of them had at a time.
    pub most: Arc<AtomicU64>,
}

/// The engine of a training at its beginning, on several devices.
///
/// # Errors
/// As [`open_on_device`](crate::train::open_on_device), of each device.
pub fn open_on_devices(
    ranks: &Ranks,
    start: &EngineStart<'_>,
) -> Result<Box<dyn Engine>, TrainError> {
    Ok(match start.recipe.precision {
        Precision::F32 => Box::new(SeveralEngine::<f32>::open(ranks, start)?),
        Precision::Bf16 => Box::new(SeveralEngine::<bf16>::open(ranks, start)?),
    })
}

/// What threads are given of a start.
#[derive(Clone)]
struct Start {
    source: PathBuf,
    config: DecoderConfig,
    recipe: TrainingRecipe,
    reference: Option<ReferenceUpdate>,
    seed: SeedTree,
    recompute: bool,
    positions: usize,
}

impl Start {
    fn of(start: &EngineStart<'_>) -> Self {
        Self {
            source: start.source.to_owned(),
            config: start.config.clone(),
            recipe: start.recipe.clone(),
            reference: start.reference,
            seed: start.seed.clone(),
            recompute: start.recompute,
            positions: start.positions,
        }
    }

    fn of_rank(&self, rank: usize) -> EngineStart<'_> {
        EngineStart {
            source: &self.source,
            weights: None,
            config: &self.config,
            recipe: &self.recipe,
            reference: self.reference.filter(|_| rank == 0),
            seed: &self.seed,
            recompute: self.recompute,
            positions: self.positions,
        }
    }
}

/// Work for a device's thread; whether there may be more.
type Job<T> = Box<dyn FnOnce(&mut DeviceEngine<T>) -> bool + Send>;

/// What a job will have given.
struct Answer<R>(Receiver<Result<R, TrainError>>);

impl<R> Answer<R> {
    /// Waits for it. A thread that has ended answers nothing.
    fn get(self) -> Result<R, TrainError> {
        let gone = |_| Err(GpuError::Alone.into());
        self.0.recv().unwrap_or_else(gone)
    }
}

/// Waits for all; of errors, for the first that is not of another's.
fn all_of<R>(answers: impl IntoIterator<Item = Answer<R>>) -> Result<Vec<R>, TrainError> {
    let mut found = Vec::new();
    let mut failed: Option<TrainError> = None;
    for answer in answers {
        match (answer.get(), &failed) {
            (Ok(one), _) => found.push(one),
            (Err(error), None | Some(TrainError::Gpu(GpuError::Alone))) => failed = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    failed.map_or(Ok(found), Err)
}

/// A device's thread.
struct Worker<T> {
    /// Absent when it is to end.
    jobs: Option<Sender<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

/// A model in training on several devices, its weights and activations in `T`.
struct SeveralEngine<T> {
    workers: Vec<Worker<T>>,
    learned: Learned,
    /// Where what learns lies.
    layout: Layout,
}

impl<T: Stored + 'static> SeveralEngine<T> {
    fn open(ranks: &Ranks, start: &EngineStart<'_>) -> Result<Self, TrainError> {
        let (meeting, start) = (Meeting::new(ranks.count), Arc::new(Start::of(start)));
        let mut opened = Vec::new();
        let begin = |rank| {
            let (jobs, given) = channel();
            let (tell, answer) = channel();
            opened.push(Answer(answer));
            let (seats, ranks, start) = (Arc::clone(&meeting), ranks.clone(), Arc::clone(&start));
            let thread = std::thread::Builder::new().name(format!("device {rank}"));
            let thread = thread.spawn(move || {
                // What others read of this device's memory outlives the seat, which goes when all have gone.
                let mut device = None;
                let seat = seats.sit();
                serve::<T>(&mut device, (&seats, rank), (&ranks, &start), (given, tell));
                drop(seat);
                drop(device);
            });
            Worker {
                jobs: Some(jobs),
                // A thread that cannot be had answers nothing, and nobody waits for it.
                thread: thread.map_err(|_| meeting.miss()).ok(),
            }
        };
        let workers: Vec<Worker<T>> = (0..ranks.count).map(begin).collect();
        let mut engine = Self {
            workers,
            learned: Learned::All,
            layout: Layout::default(),
        };
        all_of(opened)?;
        engine.learned = engine.ask(0, |one| Ok(one.learned())).get()?;
        engine.layout = engine.ask(0, |one| Ok(one.layout().clone())).get()?;
        Ok(engine)
    }

    fn ranks(&self) -> usize {
        self.workers.len()
    }

    /// Has a device do something behind all that it was asked before.
    fn ask<R: Send + 'static>(
        &self,
        rank: usize,
        work: impl FnOnce(&mut DeviceEngine<T>) -> Result<R, TrainError> + Send + 'static,
    ) -> Answer<R> {
        let (tell, answer) = channel();
        let job: Job<T> = Box::new(move |engine| {
            let done = work(engine);
            let goes_on = done.is_ok();
            drop(tell.send(done));
            goes_on
        });
        if let Some(jobs) = &self.workers[rank].jobs {
            // A thread that has ended takes none, and the answer says so.
            drop(jobs.send(job));
        }
        Answer(answer)
    }

    /// Has all devices do it.
    fn ask_all<R: Send + 'static>(
        &self,
        work: impl Fn(&mut DeviceEngine<T>) -> Result<R, TrainError> + Send + Clone + 'static,
    ) -> Vec<Answer<R>> {
        let ranks = 0..self.ranks();
        ranks.map(|rank| self.ask(rank, work.clone())).collect()
    }

    /// Has a device give bytes.
    fn visit_at(
        &self,
        rank: usize,
        visit: impl FnOnce(&mut DeviceEngine<T>, &mut Take<'_>) -> Result<(), TrainError>
        + Send
        + 'static,
        take: &mut Take<'_>,
    ) -> Result<(), TrainError> {
        let (give, bytes) = sync_channel::<Vec<u8>>(2);
        let answer = self.ask(rank, move |engine| {
            visit(engine, &mut |piece| {
                let given = give.send(piece.to_vec());
                given.map_err(|_| GpuError::Alone.into())
            })
        });
        bytes.iter().try_for_each(|piece| take(&piece))?;
        answer.get()
    }

    /// Where some of the numbers are that files keep.
    fn owners(&self, kept: &Kept) -> Vec<(usize, Kept)> {
        let range = match kept {
            Kept::Region(_) => return vec![(0, kept.clone())],
            Kept::Masters(range) | Kept::Moments(_, range) | Kept::Model(range, _) => range,
        };
        let part = |part: Range<usize>| match kept {
            Kept::Moments(which, _) => Kept::Moments(*which, part),
            Kept::Model(_, format) => Kept::Model(part, *format),
            _ => Kept::Masters(part),
        };
        let all = shares(self.layout.len(), self.ranks());
        let parts = all.iter().map(|share| within(range, share)).enumerate();
        let some = parts.filter(|(_, part)| !part.is_empty());
        some.map(|(rank, own)| (rank, part(own))).collect()
    }

    /// A scorer of the first device.
    fn session(&self, open: OpenScorer<T>) -> Result<Box<dyn Scorer + '_>, TrainError> {
        let (batches, asked) = channel::<TokenBatch>();
        let (tell, scores) = channel();
        let (tell_open, opened) = channel();
        self.ask(0, move |engine| {
            let mut scorer = match open(engine) {
                Ok(scorer) => scorer,
                Err(error) => {
                    // A refusal, after which the device is as it was.
                    drop(tell_open.send(Err(error)));
                    return Ok(());
                }
            };
            drop(tell_open.send(Ok(())));
            for batch in asked {
                if tell.send(scorer.token_scores(&batch)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        Answer(opened).get()?;
        Ok(Box::new(Session { batches, scores }))
    }
}

/// What a device's thread does: opens it, says whether that went well, and then what it is asked, until it fails or is asked no
/// more.
fn serve<T: Stored>(
    device: &mut Option<(SharedGpu, Box<dyn Gpu>)>,
    (meeting, rank): (&Arc<Meeting>, usize),
    (ranks, start): (&Ranks, &Start),
    (jobs, opened): (Receiver<Job<T>>, Sender<Result<(), TrainError>>),
) {
    let mut open_rank = || -> Result<(DeviceEngine<T>, SharedGpu), TrainError> {
        let shared = (ranks.open)(rank)?;
        let (shared, own) = device.insert((shared.clone(), shared.lend()));
        let numbers = Layout::of_model(&start.config).len();
        let comm = Threads::join(meeting, rank, &mut **own, numbers)?;
        let engine = open(shared.lend(), &start.of_rank(rank), Some(Box::new(comm)))?;
        Ok((engine, shared.clone()))
    };
    let (mut engine, shared) = match open_rank() {
        Ok(open) => open,
        Err(error) => {
            drop(opened.send(Err(error)));
            return;
        }
    };
    drop(opened.send(Ok(())));
    for job in jobs {
        let goes_on = job(&mut engine);
        if let Ok(memory) = shared.memory() {
            ranks.most.fetch_max(memory.most as u64, Ordering::Relaxed);
        }
        if !goes_on {
            return;
        }
    }
}

/// Makes a scorer of an engine.
type OpenScorer<T> = fn(&mut DeviceEngine<T>) -> Result<Box<dyn Scorer + '_>, TrainError>;

/// A scorer on another thread.
struct Session {
    batches: Sender<TokenBatch>,
    scores: Receiver<Result<Vec<TokenScore>, TrainError>>,
}

impl Scorer for Session {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        let gone = || TrainError::from(GpuError::Alone);
        self.batches.send(batch.clone()).map_err(|_| gone())?;
        self.scores.recv().map_err(|_| gone())?
    }
}

impl<T> Drop for SeveralEngine<T> {
    fn drop(&mut self) {
        // No thread ends before all others may.
        for worker in &mut self.workers {
            worker.jobs = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // Of one that panicked, the answers have told.
                drop(thread.join());
            }
        }
    }
}

impl<T: Stored + 'static> Scorer for SeveralEngine<T> {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        let batch = batch.clone();
        self.ask(0, move |one| one.token_scores(&batch)).get()
    }
}

impl<T: Stored + 'static> Learner for SeveralEngine<T> {
    fn nll(&mut self, batch: &TokenBatch, factor: f64) -> Result<Nll, TrainError> {
        let found = self.nll_of(std::slice::from_ref(batch), factor)?;
        Ok(found.first().copied().unwrap_or_default())
    }

    fn nll_of(&mut self, batches: &[TokenBatch], factor: f64) -> Result<Vec<Nll>, TrainError> {
        let (mut found, mut summed) = (Vec::new(), Vec::new());
        for round in batches.chunks(self.ranks()) {
            for (rank, batch) in round.iter().enumerate() {
                let batch = batch.clone();
                found.push(self.ask(rank, move |one| one.nll(&batch, factor)));
            }
            let given = round.len();
            summed.extend(self.ask_all(move |one| one.sum_up(given)));
        }
        let found = all_of(found);
        // Who waits in vain for one that failed says less than that one.
        let summed = all_of(summed);
        let found = found?;
        summed.map(|_| found)
    }

    fn weighted(&mut self, batch: &TokenBatch, weigh: &mut Weigh<'_>) -> Result<(), TrainError> {
        self.weighted_of(&[batch], &mut |_, scores| weigh(scores))
    }

    fn weighted_of(
        &mut self,
        batches: &[&TokenBatch],
        weigh: &mut WeighEach<'_>,
    ) -> Result<(), TrainError> {
        let mut done = Vec::new();
        let numbered: Vec<(usize, &&TokenBatch)> = batches.iter().enumerate().collect();
        for round in numbered.chunks(self.ranks()) {
            let mut asked = Vec::new();
            for (rank, (at, batch)) in round.iter().enumerate() {
                let (tell, scores) = channel::<Vec<ReplyScore>>();
                let (weights, told) = channel::<Vec<f64>>();
                let batch = TokenBatch::clone(batch);
                done.push(self.ask(rank, move |one| {
                    one.weighted(&batch, &mut |scores| {
                        drop(tell.send(scores.to_vec()));
                        told.recv().map_err(|_| GpuError::Alone.into())
                    })
                }));
                asked.push((*at, scores, weights));
            }
            for (at, scores, weights) in asked {
                let Ok(scores) = scores.recv() else {
                    break; // it failed, and its answer says how
                };
                drop(weights.send(weigh(at, &scores)?));
            }
            let given = round.len();
            done.extend(self.ask_all(move |one| one.sum_up(given)));
        }
        all_of(done)?;
        Ok(())
    }

    fn take_gradients(&mut self, take: &mut dyn FnMut(&[f32])) -> Result<(), TrainError> {
        let all = all_of(self.ask_all(DeviceEngine::take_sums))?.concat();
        for (_, place) in self.layout.iter() {
            take(&all[place.range.clone()]);
        }
        Ok(())
    }
}

impl<T: Stored + 'static> Engine for SeveralEngine<T> {
    fn learned(&self) -> Learned {
        self.learned.clone()
    }

    fn update(&mut self, step: u64, rate: f64, max_norm: f64) -> Result<Update, TrainError> {
        let all = all_of(self.ask_all(move |one| one.update(step, rate, max_norm)))?;
        let mut norm = 0.0;
        let mut not_finite: Option<String> = None;
        for update in all {
            norm = update.norm;
            // Each looks through its own numbers, and has no name where the fault is another's.
            not_finite = match (not_finite, update.not_finite) {
                (Some(one), Some(other)) if !one.is_empty() && !other.is_empty() => {
                    Some(one.min(other))
                }
                (Some(one), Some(other)) => Some(one.max(other)),
                (one, other) => one.or(other),
            };
        }
        Ok(Update { norm, not_finite })
    }

    fn written(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError> {
        self.session(<DeviceEngine<T> as Engine>::written)
    }

    fn reference(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError> {
        self.session(<DeviceEngine<T> as Engine>::reference)
    }

    fn move_reference(&mut self) -> Result<(), TrainError> {
        self.ask(0, DeviceEngine::move_reference).get()
    }

    fn arrays(&self, part: Part) -> Arrays {
        let arrays = self.ask(0, move |one| Ok(one.arrays(part)));
        arrays.get().unwrap_or_default()
    }

    fn holds(&self, part: Part) -> bool {
        self.ask(0, move |one| Ok(one.holds(part)))
            .get()
            .unwrap_or(false)
    }

    fn visit(&self, part: Part, take: &mut Take<'_>) -> Result<(), TrainError> {
        if matches!(
            (part, &self.learned),
            (Part::Model(_), Learned::Adapters { .. })
        ) {
            // Adapters are whole on every device.
            return self.visit_at(0, move |one, take| one.visit(part, take), take);
        }
        let kept = self.ask(0, move |one| one.kept(part)).get()?;
        for (rank, kept) in kept.iter().flat_map(|kept| self.owners(kept)) {
            self.visit_at(rank, move |one, take| one.visit_kept(kept, take), take)?;
        }
        Ok(())
    }

    fn fill(&mut self, part: Part, give: &mut Give<'_>) -> Result<(), TrainError> {
        if matches!(part, Part::Model(_)) {
            return Err(not_filled(part));
        }
        let ranks = if part == Part::Reference {
            1
        } else {
            self.ranks()
        };
        let arrays = self.ask(0, move |one| Ok(one.arrays(part))).get()?;
        let sizes = arrays.shapes.values().map(|shape| arrays.bytes_of(shape));
        let mut pipes: Vec<SyncSender<Arc<Vec<u8>>>> = Vec::new();
        let mut answers = Vec::new();
        for rank in 0..ranks {
            let (pipe, pieces) = sync_channel(1);
            pipes.push(pipe);
            let mut bytes = Bytes {
                pieces,
                piece: Arc::default(),
                at: 0,
            };
            answers.push(self.ask(rank, move |one| {
                one.fill(part, &mut |into| bytes.give(into))
            }));
        }
        for bytes in sizes {
            for piece in pieces(0..bytes) {
                let mut bytes = vec![0; piece.len()];
                give(&mut bytes)?;
                let bytes = Arc::new(bytes);
                for pipe in &pipes {
                    // Who takes no more has failed, and its answer says how.
                    drop(pipe.send(Arc::clone(&bytes)));
                }
            }
        }
        drop(pipes);
        all_of(answers)?;
        Ok(())
    }
}

/// The bytes that one device is filled with.
struct Bytes {
    pieces: Receiver<Arc<Vec<u8>>>,
    piece: Arc<Vec<u8>>,
    /// How many of the piece are gone.
    at: usize,
}

impl Bytes {
    fn give(&mut self, mut into: &mut [u8]) -> Result<(), TrainError> {
        while !into.is_empty() {
            if self.at == self.piece.len() {
                let next = self.pieces.recv();
                self.piece = next.map_err(|_| GpuError::Alone)?;
                self.at = 0;
            }
            let some = into.len().min(self.piece.len() - self.at);
            into[..some].copy_from_slice(&self.piece[self.at..self.at + some]);
            self.at += some;
            into = &mut into[some..];
        }
        Ok(())
    }
}
