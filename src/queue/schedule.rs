//! Which ready runs go to which free slots.

use crate::arch::room_for_arrays;
use crate::base::Device;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Room for one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Where it computes.
    pub device: Device,
    /// The card's own name, by which an attempt is shown this card alone.
    pub card: Option<String>,
    /// Bytes of the card that an attempt may allocate, if it shares it.
    pub card_memory: Option<u64>,
    /// Threads that an attempt may use.
    pub threads: usize,
    /// Memory for one attempt; absent: not limited.
    pub memory_bytes: Option<u64>,
    /// A scheduler shares out the device, which belongs to whatever machine it chooses.
    pub elsewhere: bool,
}

impl Slot {
    /// A processor slot without a memory limit.
    pub fn cpu(threads: usize) -> Self {
        Self {
            device: Device::Cpu,
            card: None,
            card_memory: None,
            threads,
            memory_bytes: None,
            elsewhere: false,
        }
    }

    /// Whether a run that needs so much fits.
    pub fn fits(&self, needs: Needs) -> bool {
        let holds = |room: Option<u64>, bytes| room.is_none_or(|room| bytes <= room);
        holds(self.memory_bytes, needs.memory_bytes)
            && holds(
                self.card_memory.map(|share| room_for_arrays(share, share)),
                needs.card_memory_bytes,
            )
    }
}

/// Memory that a run takes, estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// At the peak, bytes.
    pub memory_bytes: u64,
    /// Of a card, where it computes on one, with all layers but one computed again, bytes.
    pub card_memory_bytes: u64,
}

/// A run that could start now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its place in the plan, from 0.
    pub run: usize,
    /// Work from its start to the end of the longest chain that needs it; any unit.
    pub chain: f64,
    /// The place among a sweep's seeds, from 0, of the first seed that needs it.
    pub round: usize,
    /// First trial that needs it.
    pub trial: usize,
    /// Whether no run needs it: an evaluation, with which a row of a table is complete.
    pub last: bool,
    /// Memory that it takes.
    pub needs: Needs,
    /// The card that it is not to be given: it was lost under it.
    pub avoid: Option<Device>,
}

/// Pairs of (run, slot number), best first: runs that complete a trial, so that tables fill from the
/// beginning; then those of the first seed of all arms before those of the second; then by the longest
/// remaining chain, trial order, plan order. A run that fits no free slot is passed over.
pub fn schedule(ready: &[Candidate], slots: &[(usize, &Slot)]) -> Vec<(usize, usize)> {
    let mut free = slots.to_vec();
    let mut pairs = Vec::new();
    // A heap: of ten thousand that are ready few are started in a turn.
    let mut best: BinaryHeap<Ranked<'_>> = ready.iter().map(Ranked).collect();
    while !free.is_empty() {
        let Some(Ranked(candidate)) = best.pop() else {
            break;
        };
        let fitting = free.iter().position(|(_, slot)| {
            candidate.avoid != Some(slot.device) && slot.fits(candidate.needs)
        });
        if let Some(at) = fitting {
            pairs.push((candidate.run, free.remove(at).0));
        }
    }
    pairs
}

/// A candidate by how soon it is to be started: the greatest first.
struct Ranked<'a>(&'a Candidate);

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0, other.0);
        // Of evaluations the first trial's first: a longer one completes no more than a short one.
        let chain = if a.last && b.last {
            Ordering::Equal
        } else {
            a.chain.total_cmp(&b.chain)
        };
        let last = a.last.cmp(&b.last).then(b.round.cmp(&a.round));
        last.then(chain)
            .then(b.trial.cmp(&a.trial))
            .then(b.run.cmp(&a.run))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked<'_> {}

/// For each run of a plan in topological order: its own work plus the longest chain after it.
/// `parents[i]` are the places of run `i`'s parents, all before `i`.
pub fn chains(work: &[f64], parents: &[Vec<usize>]) -> Vec<f64> {
    let mut chains = work.to_vec();
    for (child, needs) in parents.iter().enumerate().rev() {
        let after = chains.get(child).copied().unwrap_or_default();
        for parent in needs {
            if let (Some(chain), Some(own)) = (chains.get_mut(*parent), work.get(*parent)) {
                *chain = chain.max(own + after);
            }
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(memory_bytes: u64, card_memory_bytes: u64) -> Needs {
        Needs {
            memory_bytes,
            card_memory_bytes,
        }
    }

    fn candidate(run: usize, chain: f64, trial: usize) -> Candidate {
        Candidate {
            run,
            chain,
            round: 0,
            trial,
            last: false,
            needs: needs(10, 0),
            avoid: None,
        }
    }

    #[test]
    fn the_longest_chain_goes_first_and_trial_order_breaks_ties() {
        let ready = [
            candidate(0, 1.0, 0),
            candidate(1, 5.0, 2),
            candidate(2, 5.0, 1),
        ];
        let slot = Slot::cpu(1);
        assert_eq!(
            schedule(&ready, &[(7, &slot), (8, &slot)]),
            [(2, 7), (1, 8)]
        );
    }

    #[test]
    fn the_first_seed_of_all_arms_goes_before_the_second_of_any() {
        let mut ready = [candidate(0, 9.0, 1), candidate(1, 1.0, 2)];
        ready[0].round = 1;
        let slot = Slot::cpu(1);
        assert_eq!(schedule(&ready, &[(0, &slot)]), [(1, 0)]);
    }

    #[test]
    fn a_run_is_not_given_the_card_that_was_lost_under_it() {
        let mut ready = [candidate(0, 9.0, 0), candidate(1, 1.0, 1)];
        ready[0].avoid = Some(Device::Cuda(0));
        let card = |number| Slot {
            device: Device::Cuda(number),
            ..Slot::cpu(1)
        };
        let (lost, other) = (card(0), card(1));
        let two_of_one = [(3, &lost), (4, &lost)];
        assert_eq!(schedule(&ready, &two_of_one), [(1, 3)]);
        assert_eq!(
            schedule(&ready, &[(3, &lost), (4, &other)]),
            [(0, 4), (1, 3)]
        );
    }

    // 0 sft → 1, 2, 3 dpo → 4, 5, 6 eval, one slot: each evaluation follows its training.
    #[test]
    fn an_evaluation_runs_as_soon_as_its_checkpoint_is_there() {
        let parents = [vec![], vec![0], vec![0], vec![0], vec![1], vec![2], vec![3]];
        let work = [5.0, 3.0, 3.0, 4.0, 1.0, 1.0, 1.0];
        let chains = chains(&work, &parents);
        let trials = [0, 0, 1, 2, 0, 1, 2];
        let slot = Slot::cpu(1);
        let mut done: Vec<usize> = Vec::new();
        while done.len() < work.len() {
            let is_ready = |at: &usize| {
                !done.contains(at) && parents[*at].iter().all(|parent| done.contains(parent))
            };
            let ready: Vec<Candidate> = (0..work.len())
                .filter(is_ready)
                .map(|at| Candidate {
                    last: !parents.iter().any(|needs| needs.contains(&at)),
                    ..candidate(at, chains[at], trials[at])
                })
                .collect();
            done.push(schedule(&ready, &[(0, &slot)])[0].0);
        }
        assert_eq!(done, [0, 3, 6, 1, 4, 2, 5]);
    }

    #[test]
    fn a_run_that_is_too_large_is_passed_over_and_the_next_one_takes_the_slot() {
        let mut large = candidate(0, 9.0, 0);
        let processor = Slot {
            memory_bytes: Some(50),
            ..Slot::cpu(1)
        };
        let card = Slot {
            card_memory: Some(64),
            ..Slot::cpu(1)
        };
        // A thirty-second of a run's part is left to its batches.
        assert!(card.fits(needs(0, 62)) && !card.fits(needs(0, 63)));
        for (slot, too_much) in [(processor, needs(100, 0)), (card, needs(0, 100))] {
            large.needs = too_much;
            assert_eq!(
                schedule(&[large, candidate(1, 1.0, 1)], &[(0, &slot)]),
                [(1, 0)]
            );
        }
    }

    // 0 -> 1 -> 3 and 0 -> 2: chains 1+2+4, 2+4, 3, 4.
    #[test]
    fn a_chain_is_the_work_up_to_the_last_descendant() {
        let parents = [vec![], vec![0], vec![0], vec![1]];
        assert_eq!(
            chains(&[1.0, 2.0, 3.0, 4.0], &parents),
            [7.0, 6.0, 3.0, 4.0]
        );
    }
}
