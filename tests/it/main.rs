//! The one integration-test binary.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may panic")]

mod adapters;
mod bad_input;
mod bases;
mod check;
mod cli_changes;
mod cli_help;
mod cli_results;
mod cli_sweeps;
mod damaged;
mod documents;
mod figures;
mod fuzz;
mod grammar;
mod imports;
mod judged;
mod judges;
mod losses;
mod number_formats;
mod old_store;
mod options;
mod parity_candle;
mod parity_dpo;
mod parity_engine;
mod parity_export;
mod parity_families;
mod parity_lora;
mod parity_losses;
mod parity_model;
mod parity_packing;
mod parity_reward;
mod parity_select;
mod parity_support;
mod project;
mod rows;
mod selection;
mod session;
mod shipped;
mod tidy;
mod tiny;
mod whole_way;
