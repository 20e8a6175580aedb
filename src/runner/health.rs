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
    /// As `lost`, by the name of a machine that a scheduler chose.
    lost_nodes: BTreeMap<String, usize>,
    /// Machines that were told of as lost under two runs.
    given_up: BTreeSet<String>,
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

    /// A run came to its end on a machine that a scheduler chose.
    pub(crate) fn well_on(&mut self, node: &str) {
        self.lost_nodes.remove(node);
    }

    /// A card was lost under a run on a machine that a scheduler chose; whether one was under another run just before,
    /// which is said once of a machine.
    pub(crate) fn node_fault(&mut self, node: &str, at: usize) -> bool {
        let before = self.lost_nodes.insert(node.to_owned(), at);
        before.is_some_and(|before| before != at) && self.given_up.insert(node.to_owned())
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
