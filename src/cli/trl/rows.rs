//! The rows that a run was trained on, in the form in which TRL reads conversations.

use crate::base::digest_file;
use crate::cli::error::CommandError;
use crate::config::spec::{LossMask, RowsRecipe};
use crate::data::record::{CHOSEN_FINISHED, REJECTED_FINISHED};
use crate::data::{
    ChatRow, Message, Narrowed, PairRow, TextFormat, training_chats, training_pairs,
};
use crate::plan::{InputRef, InputRole, StageFile, StageRecipe};
use crate::stage::{kept_rows, run_input};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Rows for TRL.
#[derive(Debug)]
pub(crate) struct TrlRows {
    /// `{messages}`, or `{prompt, chosen, rejected}`: each a list of turns.
    pub(crate) rows: Vec<Value>,
    /// Rows of which TRL learns what the run did not: what those hold, and their number, if there are any.
    pub(crate) differ: Option<(&'static str, usize)>,
}

/// The rows that a training stage uses: of its files, filtered and drawn as it does.
///
/// # Errors
/// A data file is gone or was changed since the run was planned, or `lions gc` deleted its model; the rows were made online.
pub(crate) fn trl_rows(root: &Path, stage: &StageFile) -> Result<TrlRows, CommandError> {
    if stage.inputs.contains_key(&InputRole::Pairs) {
        let message = "pairs that were made online are no rows of a file".to_owned();
        return Err(CommandError::user(message).hint("leave `--rows` out"));
    }
    let model = input(root, stage, InputRole::Model)?;
    let template = stage.chat_template.as_ref().map(|path| root.join(path));
    let open = || TextFormat::open(&model.unwrap_or_default(), template.as_deref());
    let kept = input(root, stage, InputRole::Selection)?
        .map(|path| kept_rows(&path))
        .transpose()
        .map_err(CommandError::user)?;
    let drawn_by = |rows: &RowsRecipe| rows.data_seed.unwrap_or(stage.seed);
    match &stage.task {
        StageRecipe::Sft(recipe) => {
            unchanged(root, stage, &recipe.rows)?;
            let format = open().map_err(CommandError::user)?;
            let seed = drawn_by(&recipe.rows);
            let (rows, _) = training_chats(root, &recipe.rows, seed, &format, kept.as_deref())
                .map_err(CommandError::user)?;
            let masked = recipe.layout.loss_mask == LossMask::AssistantOnly;
            let flagged = |row: &&ChatRow| {
                let mut turns = row.messages.iter();
                masked && turns.any(|m| m.role == "assistant" && !m.train)
            };
            let differ = some("a reply of weight 0", rows.iter().filter(flagged).count());
            let rows = rows
                .iter()
                .map(|row| json!({"messages": turns(&row.messages)}));
            Ok(TrlRows {
                rows: rows.collect(),
                differ,
            })
        }
        StageRecipe::Dpo(recipe) => {
            unchanged(root, stage, &recipe.rows)?;
            let format = open().map_err(CommandError::user)?;
            let narrowed = Narrowed {
                kept: kept.as_deref(),
                made: Vec::new(),
            };
            let seed = drawn_by(&recipe.rows);
            let (rows, _) = training_pairs(root, &recipe.rows, seed, &format, narrowed)
                .map_err(CommandError::user)?;
            let ends = |row: &PairRow| {
                let said = [CHOSEN_FINISHED, REJECTED_FINISHED];
                said.iter().all(|key| row.extra[*key] != false)
            };
            let unended = rows.iter().filter(|row| !ends(row)).count();
            let differ = some("a reply without its end", unended);
            let rows = rows.iter().map(|row| {
                json!({"prompt": turns(&row.prompt), "chosen": turns(&row.chosen), "rejected": turns(&row.rejected)})
            });
            Ok(TrlRows {
                rows: rows.collect(),
                differ,
            })
        }
        _ => Ok(TrlRows {
            rows: Vec::new(),
            differ: None,
        }),
    }
}

fn some(what: &'static str, count: usize) -> Option<(&'static str, usize)> {
    (count > 0).then_some((what, count))
}

/// Where an input lies, if the stage has it.
///
/// # Errors
/// It is not there any more.
fn input(root: &Path, stage: &StageFile, role: InputRole) -> Result<Option<PathBuf>, CommandError> {
    let Some(input) = stage.inputs.get(&role) else {
        return Ok(None);
    };
    let place = run_input(root, input);
    if place.exists() {
        return Ok(Some(place));
    }
    let error = CommandError::user(format!("`{}` is not there any more", place.display()));
    Err(match input {
        InputRef::Run { id, .. } => {
            error.hint(format!("`lions retry {}` has it made again", id.short()))
        }
        InputRef::Folder { .. } => error,
    })
}

/// Refuses files that are not what they were when the run was planned.
fn unchanged(root: &Path, stage: &StageFile, rows: &RowsRecipe) -> Result<(), CommandError> {
    let filtered_by = rows.decontaminate.iter().flat_map(|by| &by.data);
    for source in rows.data.iter().chain(filtered_by) {
        let path: &str = &source.path;
        let digest = digest_file(&root.join(path)).map_err(CommandError::user)?;
        if stage.data.get(path).is_some_and(|known| *known != digest) {
            let message = format!("`{path}` is not what the run was trained on: it was changed");
            return Err(
                CommandError::user(message).hint("bring the file back, or leave `--rows` out")
            );
        }
    }
    Ok(())
}

fn turns(messages: &[Message]) -> Vec<Value> {
    let turn = |m: &Message| json!({"role": m.role, "content": m.content});
    messages.iter().map(turn).collect()
}
