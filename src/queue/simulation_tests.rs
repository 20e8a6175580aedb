//! A thousand nodes that fail in every way, over the pure state step and a clock that nobody waits for.
//!
//! Nodes die, or go on unheard after their claim has run out; drivers die; people cancel, retry and lose
//! results. Whatever comes, a run has one live attempt at most, is done once, and none is lost.

use crate::base::Timestamp;
use crate::queue::schedule::{Candidate, Needs, Slot, schedule};
use crate::queue::state::{
    AttemptEnd, CRASH_LIMIT, Effect, Inputs, LEASE_MILLIS, QueuedRun, RunEvent, RunState, step,
};
use crate::rundir::FailureClass;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

const NODES: usize = 1000;
/// Preference trainings behind one supervised one, each with its evaluation.
const ARMS: usize = 4;

#[test]
fn twenty_thousand_events_on_a_thousand_nodes_lose_and_double_no_run() {
    for seed in 1..=3 {
        World::new(seed).live(20_000);
    }
}

#[test]
#[ignore = "minutes: a million events"]
fn a_million_events_on_a_thousand_nodes_lose_and_double_no_run() {
    World::new(11).live(1_000_000);
}

/// What happens somewhere at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// An attempt is over, and its node is free.
    Over(How),
    /// A node is up again.
    Back,
    /// A claim runs out, and nothing was heard of its attempt.
    Expired,
    /// An attempt whose claim ran out, or whose driver died, turns out to have finished.
    Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Published,
    Crashed { progressed: bool },
    NoMemory,
    NotFinite,
    Interrupted,
}

type Event = Reverse<(i64, u64, Happening, (usize, u32), usize)>;

struct World {
    dice: u64,
    now: i64,
    events: BinaryHeap<Event>,
    /// Events that were put to the state step.
    steps: u64,
    order: u64,
    calm: bool,
    runs: Vec<QueuedRun>,
    parents: Vec<Vec<usize>>,
    children: Vec<Vec<usize>>,
    /// The attempt that is live, as effects tell, and the highest number.
    live: Vec<Option<u32>>,
    highest: Vec<u32>,
    /// How often a run has become done, less how often that was lost.
    done: Vec<u32>,
    ready: BTreeSet<usize>,
    free: BTreeSet<usize>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            dice: seed,
            now: 0,
            events: BinaryHeap::new(),
            steps: 0,
            order: 0,
            calm: false,
            runs: Vec::new(),
            parents: Vec::new(),
            children: Vec::new(),
            live: Vec::new(),
            highest: Vec::new(),
            done: Vec::new(),
            ready: BTreeSet::new(),
            free: (0..NODES).collect(),
        }
    }

    /// So many events, and then until all is done with nothing failing any more.
    fn live(mut self, events: u64) {
        while self.steps < events {
            while self.ready.len() < 2 * NODES {
                self.add_study();
            }
            self.turn();
            if self.roll(20) == 0 {
                self.person();
            }
        }
        self.calm = true;
        self.retry_all();
        while !(self.events.is_empty() && self.ready.is_empty()) {
            self.turn();
            self.retry_all();
        }
        for (at, run) in self.runs.iter().enumerate() {
            assert_eq!(run.state, RunState::Succeeded, "run {at} is lost");
            assert_eq!((self.done[at], self.live[at]), (1, None), "run {at}");
        }
    }

    /// Splitmix64; a number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn add_run(&mut self, parents: Vec<usize>) -> usize {
        let at = self.runs.len();
        self.runs.push(QueuedRun::new(Inputs::Done));
        self.runs[at].state = if parents.is_empty() {
            RunState::Ready
        } else {
            RunState::Blocked
        };
        for parent in &parents {
            self.children[*parent].push(at);
        }
        self.parents.push(parents);
        self.children.push(Vec::new());
        self.live.push(None);
        self.highest.push(0);
        self.done.push(0);
        self.note(at);
        at
    }

    fn add_study(&mut self) {
        let first = self.add_run(vec![]);
        for _ in 0..ARMS {
            let trained = self.add_run(vec![first]);
            self.add_run(vec![trained]);
        }
    }

    fn note(&mut self, at: usize) {
        if self.runs[at].state == RunState::Ready {
            self.ready.insert(at);
        } else {
            self.ready.remove(&at);
        }
    }

    fn later(&mut self, millis: i64, what: Happening, attempt: (usize, u32), node: usize) {
        self.order += 1;
        let at = self.now + millis;
        self.events
            .push(Reverse((at, self.order, what, attempt, node)));
    }

    fn inputs(&self, at: usize) -> Inputs {
        Inputs::of(
            self.parents[at]
                .iter()
                .map(|parent| self.runs[*parent].state),
        )
    }

    /// One event to one run, as the store does it: the state, its effects, the runs that need it.
    fn apply(&mut self, at: usize, event: &RunEvent) -> bool {
        self.steps += 1;
        let before = self.runs[at];
        let Ok((next, effects)) = step(&before, event, CRASH_LIMIT) else {
            return false;
        };
        self.runs[at] = next;
        self.note(at);
        if before.state != RunState::Succeeded && next.state == RunState::Succeeded {
            self.done[at] += 1;
        }
        if before.state == RunState::Succeeded && next.state != RunState::Succeeded {
            self.done[at] -= 1;
        }
        assert!(self.done[at] <= 1, "run {at} was done twice");
        let mut tell = false;
        for effect in effects {
            match effect {
                Effect::BeginAttempt(number) => {
                    assert_eq!(self.live[at], None, "run {at} has two live attempts");
                    assert!(number > self.highest[at], "number {number} comes twice");
                    (self.live[at], self.highest[at]) = (Some(number), number);
                }
                Effect::CloseAttempt(number) => {
                    assert_eq!(self.live[at].take(), Some(number), "run {at}");
                }
                Effect::TellChildren => tell = true,
            }
        }
        if tell {
            for child in self.children[at].clone() {
                let event = RunEvent::InputsChanged(self.inputs(child));
                self.apply(child, &event);
            }
        }
        true
    }

    fn ended(&mut self, (at, attempt): (usize, u32), end: AttemptEnd) {
        let inputs = self.inputs(at);
        let event = RunEvent::Ended {
            attempt,
            end,
            inputs,
        };
        self.apply(at, &event);
    }

    /// Claims what fits, then lets the next things happen.
    fn turn(&mut self) {
        let candidate = |at: &usize| Candidate {
            run: *at,
            chain: 1.0,
            round: 0,
            trial: *at,
            last: self.children[*at].is_empty(),
            needs: Needs {
                memory_bytes: 1,
                card_memory_bytes: 0,
            },
            avoid: None,
        };
        let ready: Vec<Candidate> = self.ready.iter().map(candidate).collect();
        let slot = Slot::cpu(1);
        let free: Vec<(usize, &Slot)> = self.free.iter().map(|node| (*node, &slot)).collect();
        for (at, node) in schedule(&ready, &free) {
            self.begin(at, node);
        }
        let until = self.events.peek().map_or(self.now, |Reverse(next)| next.0) + 250;
        while self
            .events
            .peek()
            .is_some_and(|Reverse(next)| next.0 <= until)
        {
            let Some(Reverse((at, _, what, attempt, node))) = self.events.pop() else {
                break;
            };
            self.now = self.now.max(at);
            self.happen(what, attempt, node);
        }
    }

    fn begin(&mut self, at: usize, node: usize) {
        let expires = Timestamp(self.now + LEASE_MILLIS);
        assert!(self.apply(at, &RunEvent::Claimed { expires }));
        let attempt = (at, self.runs[at].attempts);
        self.free.remove(&node);
        let takes = 100 + self.roll(10_000).cast_signed();
        let fate = if self.calm { 0 } else { self.roll(100) };
        let how = match fate {
            // The node is gone and comes back later; its attempt is gone for good.
            70..76 => {
                self.later(LEASE_MILLIS, Happening::Expired, attempt, node);
                return self.later(LEASE_MILLIS + takes, Happening::Back, attempt, node);
            }
            // It is only unheard: the claim runs out while it works, and it finishes late.
            76..80 => {
                self.later(LEASE_MILLIS, Happening::Expired, attempt, node);
                self.later(LEASE_MILLIS + takes, Happening::Found, attempt, node);
                return self.later(LEASE_MILLIS + takes, Happening::Back, attempt, node);
            }
            // Its driver dies after it has finished; the next driver finds what it made.
            80..84 => {
                self.later(takes + 1000, Happening::Found, attempt, node);
                return self.later(takes, Happening::Back, attempt, node);
            }
            84..92 => How::Crashed {
                progressed: fate % 2 == 0,
            },
            92..95 => How::NoMemory,
            95..97 => How::NotFinite,
            97..100 => How::Interrupted,
            _ => How::Published,
        };
        self.later(takes, Happening::Over(how), attempt, node);
    }

    fn happen(&mut self, what: Happening, of: (usize, u32), node: usize) {
        let (at, attempt) = of;
        let failed = |class| AttemptEnd::Failed {
            class,
            message: String::new(),
        };
        let end = match what {
            Happening::Back => {
                self.free.insert(node);
                return;
            }
            Happening::Expired => return self.ended(of, AttemptEnd::Lost),
            Happening::Found => {
                self.apply(at, &RunEvent::Published { attempt });
                return;
            }
            Happening::Over(how) => how,
        };
        self.free.insert(node);
        match end {
            How::Published => {
                self.apply(at, &RunEvent::Published { attempt });
            }
            How::Crashed { progressed } => self.ended(
                of,
                AttemptEnd::Crashed {
                    class: None,
                    message: String::new(),
                    progressed,
                },
            ),
            How::NoMemory => self.ended(of, failed(FailureClass::OutOfMemory)),
            How::NotFinite => self.ended(of, failed(FailureClass::NotFinite)),
            How::Interrupted => self.ended(of, AttemptEnd::Interrupted),
        }
    }

    /// Somebody cancels, loses a result, or retries all that failed.
    fn person(&mut self) {
        let at = self.roll(self.runs.len() as u64) as usize;
        match self.roll(4) {
            0 => {
                self.apply(at, &RunEvent::Cancelled);
            }
            1 => {
                let inputs = self.inputs(at);
                self.apply(at, &RunEvent::OutcomeLost(inputs));
            }
            _ => self.retry_all(),
        }
    }

    fn retry_all(&mut self) {
        for at in 0..self.runs.len() {
            let state = self.runs[at].state;
            if matches!(state, RunState::Failed | RunState::Cancelled) {
                let inputs = self.inputs(at);
                self.apply(at, &RunEvent::Retried(inputs));
            }
        }
    }
}
