//! Verifiable instructions: IFEval (Zhou et al. 2023) as `lm_eval` 0.4.13 checks it.
//!
//! Two things of other programs are done again here, because counts of sentences and verdicts about languages are theirs:
//! NLTK's Punkt (`punkt.rs`, its knowledge of English is read from files) and langdetect (`language.rs`).

mod checks;
mod instructions;
mod json;
mod language;
mod punkt;
mod words;

pub(super) use instructions::Instructions;
