//! What people say of the queue while it is at work: pauses and priorities.

use crate::base::Timestamp;
use crate::queue::RunState;
use crate::runner::admission::Admission;
use crate::runner::attempts::Attempts;
use crate::runner::ledger::Ledger;

/// Tells why nothing is started although runs could be, or that this is over.
pub(super) fn obey(
    ledger: &mut Ledger<'_>,
    attempts: &Attempts<'_>,
    admission: &mut Admission,
    rival: Option<&str>,
    now: Timestamp,
) {
    let reason = if ledger.orders.paused.is_some() {
        Some("the sweep is paused; `lions resume` lets it go on".to_owned())
    } else if let Some(rival) = rival {
        Some(format!(
            "the sweep `{rival}` has a higher priority and goes first"
        ))
    } else if attempts.is_empty() {
        let ready = ledger.graph.runs_in(|state| state == RunState::Ready);
        let held = |at: &usize| ledger.orders.hold(ledger.graph.id(*at));
        let all = !ready.is_empty() && ready.iter().all(held);
        all.then(|| "all that could start is paused; `lions resume` lets it go on".to_owned())
    } else {
        // Others can start when what is at work has ended.
        None
    };
    admission.obey(&mut ledger.reporting, reason, now);
}
