//! Cards that were lost, and what is kept from them.

use crate::base::Device;
use crate::queue::{Needs, Slot};
use crate::runner::graph::Graph;
use crate::runner::report::Reporting;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the slots, by number, and of the cards they are on; and of the runs that were lost with one, by index.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The run with which a card was lost last, if nothing has come to its end there since.
    lost: BTreeMap<usize, usize>,
    /// Cards where nothing more is started, in whatever slot.
    excluded: BTreeSet<Device>,
    /// The card that was lost under a run last.
    avoided: BTreeMap<usize, Device>,
    /// As `lost`, by the name of a machine that a scheduler chose, which may have several runs at once.
    lost_nodes: BTreeMap<String, Loss>,
    /// Machines that were told of as lost under two runs.
    given_up: BTreeSet<String>,
}

/// That a card was lost under a run.
#[derive(Clone, Copy, Debug)]
struct Loss {
    /// The run, by index.
    at: usize,
    /// When its attempt had ended, by a clock that nobody sets, ms.
    ended: i64,
}

impl Health {
    /// A run came to its end in a slot.
    pub(crate) fn well(&mut self, slot: usize, at: usize) {
        self.lost.remove(&slot);
        self.avoided.remove(&at);
    }

    /// The card of a slot was lost under a run. One run may be to blame itself; two different ones in a row
    /// are not, and the card is excluded. In a row is in one slot: of several that share a card all are lost with it at once.
    pub(crate) fn fault(
        &mut self,
        slots: &[Slot],
        slot: usize,
        at: usize,
        reporting: &mut Reporting<'_>,
        graph: &Graph<'_>,
    ) {
        // A scheduler's next job may be on any machine: see `node_fault`.
        let Some(room) = slots.get(slot).filter(|room| !room.elsewhere) else {
            return;
        };
        self.avoided.insert(at, room.device);
        let before = self.lost.insert(slot, at);
        if before.is_some_and(|before| before != at) && self.excluded.insert(room.device) {
            let device = room.device;
            let message = format!(
                "{device} was lost under two runs, one after the other; nothing more is started on it before the next `lions run`"
            );
            reporting.warn(graph.id(at), message);
        }
    }

    /// A run came to its end on a machine that a scheduler chose; its attempt was seen to begin there at `began`. If that
    /// was after a loss, what was lost is back; one that was at work beside it says nothing of the machine since.
    pub(crate) fn well_on(&mut self, node: &str, began: i64) {
        // What is seen in one look may have been beside each other.
        let is_later = |loss: &Loss| began > loss.ended;
        if self.lost_nodes.get(node).is_some_and(is_later) {
            self.lost_nodes.remove(node);
        }
    }

    /// A card was lost under a run on a machine that a scheduler chose, in an attempt that was seen to begin and end at
    /// these times; whether one was under another run just before, which is said once of a machine. Attempts that were
    /// there together are lost by one fault.
    pub(crate) fn node_fault(&mut self, node: &str, at: usize, (began, ended): (i64, i64)) -> bool {
        let before = self.lost_nodes.get(node).copied();
        if before.is_some_and(|before| began <= before.ended) {
            return false;
        }
        self.lost_nodes.insert(node.to_owned(), Loss { at, ended });
        before.is_some_and(|before| before.at != at) && self.given_up.insert(node.to_owned())
    }

    pub(crate) fn is_excluded(&self, device: Device) -> bool {
        self.excluded.contains(&device)
    }

    /// The card that a run is not to be given: the one that it was lost with, if there are others where it
    /// fits. With one card alone it is tried there again.
    pub(crate) fn avoided(&self, slots: &[Slot], at: usize, needs: Needs) -> Option<Device> {
        let avoided = *self.avoided.get(&at)?;
        let others = slots.iter().any(|room| {
            room.device != avoided && !self.is_excluded(room.device) && room.fits(needs)
        });
        others.then_some(avoided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a node is given up after losses of (run, began, ended), among which a run that began then ends well.
    fn given_up(events: &[(&str, usize, i64, i64)]) -> bool {
        let mut health = Health::default();
        let mut given_up = false;
        for (what, at, began, ended) in events {
            match *what {
                "lost" => given_up |= health.node_fault("node7", *at, (*began, *ended)),
                _ => health.well_on("node7", *began),
            }
        }
        given_up
    }

    #[test]
    fn two_losses_one_after_the_other_give_a_node_up_and_nothing_else_does() {
        assert!(given_up(&[("lost", 0, 0, 10), ("lost", 1, 11, 20)]));
        // What began before the first loss, and ends well after it on another card, shows nothing.
        let beside = ("well", 2, 5, 15);
        assert!(given_up(&[("lost", 0, 0, 10), beside, ("lost", 1, 20, 30)]));
        // What began after it does: the row is broken, and begins anew.
        let after = ("well", 2, 12, 15);
        assert!(!given_up(&[("lost", 0, 0, 10), after, ("lost", 1, 20, 30)]));
        assert!(given_up(&[
            ("lost", 0, 0, 10),
            after,
            ("lost", 1, 20, 30),
            ("lost", 2, 31, 40)
        ]));
        // Both were there when it failed: that is one fault. The next is the second.
        let together = [("lost", 0, 0, 10), ("lost", 1, 10, 11)];
        assert!(!given_up(&together));
        assert!(given_up(&[together[0], together[1], ("lost", 2, 20, 30)]));
        // A run may be to blame itself.
        assert!(!given_up(&[("lost", 0, 0, 10), ("lost", 0, 20, 30)]));
    }
}
