//! `lions note`.

use crate::base::{Clock as _, SystemClock, steers};
use crate::cli::database::{must_open, store_error, unknown_sweep};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::sweep_file::SweepWord;
use crate::cli::ui::Ui;
use crate::store::{SweepNote, add_note, read_notes};

/// Note something about a sweep, or read what was noted
///
/// `lions status SWEEP` and the report show the notes with their dates. They are kept in
/// `results/notes/`, which outlives the database.
#[derive(Debug, clap::Args)]
pub(crate) struct NoteArgs {
    #[command(flatten)]
    sweep: SweepWord,
    /// What to note; without it the notes are listed
    text: Option<String>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &NoteArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), args.sweep.near())?;
    let name = args.sweep.name()?;
    let store = must_open(&project)?;
    store
        .sweep(&name)
        .map_err(|error| unknown_sweep(&project, &store, error))?;
    if let Some(text) = &args.text {
        let text = text.trim();
        if text.is_empty() || text.chars().any(|c| c != '\n' && steers(c)) {
            let error = CommandError::user("a note is a text that can be shown");
            return Err(error.hint("leave control characters out"));
        }
        let note = SweepNote {
            at: SystemClock.now(),
            text: text.to_owned(),
        };
        add_note(&project.root, &name, &note).map_err(store_error)?;
        ui.say(&format!("noted; `lions status {name}` shows it"));
        return Ok(DONE);
    }
    let notes = read_notes(&project.root, &name).map_err(store_error)?;
    if ui.json {
        ui.print_json(&notes)?;
        return Ok(DONE);
    }
    for note in &notes {
        ui.text(&format!("{}  {}", note.at.iso8601(), note.text));
    }
    Ok(DONE)
}
