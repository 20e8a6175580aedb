//! What a policy and its reference say of a preference pair, for its metrics.

use crate::metrics::families::{PairMeasures, ReplyMeasures};
use crate::train::reference::ReferencePair;
use crate::train::score::{PairScore, ReplyScore};

/// Measures of a scored pair; `rewards` of both replies are as the loss defines them.
pub fn pair_measures(
    policy: &PairScore,
    reference: ReferencePair,
    rewards: (f64, f64),
) -> PairMeasures {
    let reply = |score: ReplyScore, reference_logp, reward| ReplyMeasures {
        logp: score.logp,
        tokens: score.tokens,
        reference_logp,
        reward,
    };
    PairMeasures {
        chosen: reply(policy.chosen, reference.chosen, rewards.0),
        rejected: reply(policy.rejected, reference.rejected, rewards.1),
    }
}
