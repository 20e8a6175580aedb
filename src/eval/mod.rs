//! Scores a checkpoint: likelihood, preferences, sampled text.
