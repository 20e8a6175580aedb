//! What is measured on a preference pair.

use crate::train::reference::ReferencePair;
use crate::train::score::PairScore;

/// Measures of one pair under a policy and its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairMeasures {
    /// Implicit reward of the preferred reply, `β (log π(y) - log π_ref(y))`; of a loss without a
    /// reference what [`crate::train::PreferenceLoss::rewards`] says.
    pub chosen_reward: f64,
    /// The same of the other reply.
    pub rejected_reward: f64,
    /// 1 if the preferred reply has the higher reward, else 0.
    pub accuracy: f64,
    /// Log-probability of the preferred reply, nats.
    pub chosen_logp: f64,
    /// The same of the other reply.
    pub rejected_logp: f64,
    /// `π(y_w) - π(y_l)` with π(y) = exp(mean token log-probability).
    pub prob_margin: f64,
}

impl PairMeasures {
    /// Measures a pair; `beta` scales the rewards and nothing else.
    pub fn new(policy: &PairScore, reference: ReferencePair, beta: f64) -> Self {
        let chosen_reward = beta * (policy.chosen.logp - reference.chosen);
        let rejected_reward = beta * (policy.rejected.logp - reference.rejected);
        Self::with_rewards(policy, chosen_reward, rejected_reward)
    }

    /// Measures a pair whose rewards are known.
    pub fn with_rewards(policy: &PairScore, chosen_reward: f64, rejected_reward: f64) -> Self {
        Self {
            chosen_reward,
            rejected_reward,
            accuracy: if chosen_reward > rejected_reward {
                1.0
            } else {
                0.0
            },
            chosen_logp: policy.chosen.logp,
            rejected_logp: policy.rejected.logp,
            prob_margin: policy.chosen.probability() - policy.rejected.probability(),
        }
    }

    /// Difference of the rewards.
    pub fn margin(&self) -> f64 {
        self.chosen_reward - self.rejected_reward
    }

    /// Values by metric key, in the words of TRL.
    pub fn by_key(&self) -> [(&'static str, f64); 7] {
        [
            ("rewards/chosen", self.chosen_reward),
            ("rewards/rejected", self.rejected_reward),
            ("rewards/margins", self.margin()),
            ("rewards/accuracies", self.accuracy),
            ("logps/chosen", self.chosen_logp),
            ("logps/rejected", self.rejected_logp),
            ("prob_margin", self.prob_margin),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::score::ReplyScore;

    // π(y_w) = exp(-2 / 2), π(y_l) = exp(-6 / 3): the margin is e^-1 - e^-2. Log-ratios 1 and -2.
    #[test]
    fn measures_match_the_hand_computed_values() {
        let reply = |logp, tokens| ReplyScore { logp, tokens };
        let policy = PairScore {
            chosen: reply(-2.0, 2),
            rejected: reply(-6.0, 3),
        };
        let reference = ReferencePair {
            chosen: -3.0,
            rejected: -4.0,
        };
        let got = PairMeasures::new(&policy, reference, 0.5);
        assert!((got.chosen_reward - 0.5).abs() < 1e-12);
        assert!((got.rejected_reward + 1.0).abs() < 1e-12);
        assert!((got.margin() - 1.5).abs() < 1e-12);
        assert!((got.accuracy - 1.0).abs() < 1e-12);
        assert!((got.prob_margin - ((-1.0f64).exp() - (-2.0f64).exp())).abs() < 1e-12);
    }

    #[test]
    fn equal_rewards_count_as_not_accurate() {
        let score = PairScore::default();
        let reference = ReferencePair {
            chosen: 0.0,
            rejected: 0.0,
        };
        assert!(PairMeasures::new(&score, reference, 1.0).accuracy.abs() < 1e-12);
    }
}
