//! One optimisation loop, several objectives.
