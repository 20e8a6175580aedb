//! Ways to score an answer, a file each.

mod choices;
mod ifeval;
mod open;
mod scorer;
mod texts;

pub use open::open_scorers;
pub use scorer::{Answer, Likelihood, RowScore, RowScorer};
