//! Telling people that a sweep has ended: `lions run --notify`, `--notify-command`.

use crate::backend::tell_command;
use crate::cli::text::{counted, secs};
use crate::cli::ui::Ui;
use crate::judge::{check_address, post_json};
use crate::runner::{SweepEnd, SweepSummary};
use serde_json::json;

/// Who is told.
#[derive(Debug, clap::Args)]
pub(crate) struct NotifyArgs {
    /// When a sweep ends, POST its summary to this address as JSON: `text` is a sentence, as chat webhooks
    /// show it, `summary` what `--json` prints last
    #[arg(long, value_name = "URL", value_parser = address)]
    notify: Option<String>,
    /// When a sweep ends, run this shell command with the same JSON on its standard input
    #[arg(long, value_name = "COMMAND")]
    notify_command: Option<String>,
}

/// Read before anything runs: a slip of the pen must not be told after days.
fn address(text: &str) -> Result<String, String> {
    check_address(text).map(|()| text.to_owned())
}

impl NotifyArgs {
    /// Tells who is to be told. That it could not be told is said, and changes nothing.
    pub(crate) fn tell(&self, ui: &Ui, summary: &SweepSummary) {
        let message = json!({ "text": sentence(summary), "summary": summary }).to_string();
        if let Some(url) = &self.notify
            && let Err(why) = post_json(url, &message)
        {
            // Addresses of webhooks are secrets.
            ui.warn(&format!("nobody was notified at the given address: {why}"));
        }
        if let Some(command) = &self.notify_command
            && let Err(why) = tell_command(command, &message)
        {
            ui.warn(&format!("the command of `--notify-command` failed: {why}"));
        }
    }
}

/// `lions: quickstart is done: 14 runs done, 0 failed, in 2 min`.
fn sentence(summary: &SweepSummary) -> String {
    let how = match summary.end {
        SweepEnd::Succeeded => "is done",
        SweepEnd::Incomplete => "has ended incomplete",
        SweepEnd::Interrupted => "was interrupted",
        SweepEnd::TimeUp => "has used up its time",
    };
    format!(
        "lions: {} {how}: {} done, {} failed, {} left, in {}",
        summary.sweep,
        counted(summary.succeeded, "run"),
        summary.failed,
        summary.waiting,
        secs(summary.secs)
    )
}
