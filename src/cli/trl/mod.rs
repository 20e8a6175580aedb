//! Recipes in the words of TRL: written (`lions export-recipe`), and read (`lions init --from trl`).
//!
//! The names are those of TRL's `SFTConfig` and `DPOConfig`, of transformers' `TrainingArguments` that they extend,
//! and of alignment-handbook's recipes, which add how data are mixed.

mod read;
mod reader;
mod rows;
mod sets;
mod sweep;
mod training;
mod write;
mod yaml;

pub(crate) use read::{FromTrl, read_recipe};
pub(crate) use reader::Became;
pub(crate) use rows::trl_rows;
pub(crate) use sweep::{File, Stage, Translated};
pub(crate) use write::{Around, TrlRecipe, trl_recipe};
pub(crate) use yaml::yaml_text;
