//! The command line as a whole: global options, dispatch, exit code.

use crate::base::silence_guarded_panics;
use crate::cli::commands;
use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::Global;
use crate::cli::ui::{Ui, json_line};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::json;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;

/// Define, run and compare alignment ablations of language models
///
/// A sweep file becomes trials, trials become a graph of runs named by their content, runs are
/// executed once each and shared, results go to SQLite, figures and tables come from there.
///
/// Exit codes: 0 all well; 1 the sweep file, data or request is wrong; 2 usage; 100 the sweep
/// finished and some runs failed; 130 interrupted, state saved; 255 a bug of lions.
#[derive(Debug, Parser)]
#[command(
    name = "lions",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Lions {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

macro_rules! commands {
    ($($variant:ident => $module:ident, $args:ident;)* -- $($of_all:ident => $of:ident, $all:ident;)*) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $(#[allow(missing_docs, reason = "the help comes from the Args type")] $variant(commands::$module::$args),)*
            $(#[allow(missing_docs, reason = "the help comes from the Args type")] $of_all(commands::$of::$all),)*
        }

        fn dispatch(command: &Command, ui: &Ui, global: &Global) -> Result<u8, CommandError> {
            match command {
                $(Command::$variant(args) => commands::$module::run(ui, global, args),)*
                // These tell of the command line as a whole.
                $(Command::$of_all(args) => commands::$of::run(ui, Lions::command(), args),)*
            }
        }
    };
}

commands! {
    Init => init, InitArgs;
    Check => check, CheckArgs;
    Plan => plan, PlanArgs;
    Run => run, RunArgs;
    Status => status, StatusArgs;
    Serve => serve, ServeArgs;
    Note => note, NoteArgs;
    Show => show, ShowArgs;
    Why => why, WhyArgs;
    Log => log, LogArgs;
    Pause => pause, PauseArgs;
    Resume => resume, ResumeArgs;
    Priority => priority, PriorityArgs;
    Cancel => cancel, CancelArgs;
    Retry => retry, RetryArgs;
    Compare => compare, CompareArgs;
    Samples => samples, SamplesArgs;
    Diff => diff, DiffArgs;
    Figures => figures, FiguresArgs;
    Report => report, ReportArgs;
    Inspect => inspect, InspectArgs;
    Config => config, ConfigArgs;
    Schema => schema, SchemaArgs;
    Merge => merge, MergeArgs;
    Export => export, ExportArgs;
    ExportRecipe => export_recipe, ExportRecipeArgs;
    Eval => eval, EvalArgs;
    Generate => generate, GenerateArgs;
    ServeModel => serve_model, ServeModelArgs;
    Bench => bench, BenchArgs;
    Doctor => doctor, DoctorArgs;
    Gc => gc, GcArgs;
    Rm => rm, RmArgs;
    Store => store, StoreArgs;
    Exec => exec, ExecArgs;
    Job => job, JobArgs;
    --
    Completions => completions, CompletionsArgs;
    Man => man, ManArgs;
}

/// Parses the command line, runs the command, returns the exit code.
pub fn main() -> ExitCode {
    silence_guarded_panics();
    let lions = match Lions::try_parse() {
        Ok(lions) => lions,
        Err(error) => return not_understood(error),
    };
    let no_color = variable("NO_COLOR").is_some();
    let ui = Ui::new(
        lions.global.color,
        no_color,
        lions.global.json,
        lions.global.quiet,
    );
    let logged = log_to_stderr(&ui, variable("LIONS_LOG").as_deref());
    let work = || logged.and_then(|()| dispatch(&lions.command, &ui, &lions.global));
    match caught(work) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.kind.code())
        }
    }
}

/// Says what is wrong with the command line, or prints the help or version that was asked for.
fn not_understood(error: clap::Error) -> ExitCode {
    let error = without_double_dash(error);
    if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
        let text = error.render().to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        json_line(&json!({
            "error": message, "hints": ["`lions help` lists the commands"], "findings": [],
            "exit_code": exit_code::USAGE,
        }));
    } else {
        drop(error.print());
    }
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(exit_code::USAGE),
    }
}

/// The error without clap's advice to write `-- --option`: no sweep, file or run is called so.
fn without_double_dash(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains("as a value, use"));
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    error
}

/// A panic, which has told its place on stderr, becomes an error of ours, so that the exit code is
/// the documented one.
fn caught(work: impl FnOnce() -> Result<u8, CommandError>) -> Result<u8, CommandError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let error = CommandError::internal("the command panicked; this is a bug of lions");
        Err(error.hint("what finished before is kept; the same command goes on from there"))
    })
}

/// An environment variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read here and nowhere else"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes diagnostics of this level and above to stderr; where none is named warnings, which programs get
/// as such.
fn log_to_stderr(ui: &Ui, level: Option<&str>) -> Result<(), CommandError> {
    let most: LevelFilter = level.unwrap_or("warn").parse().map_err(|_| {
        let known = "`error`, `warn`, `info`, `debug`, `trace` or `off`";
        let found = level.unwrap_or_default();
        CommandError::user(format!("`LIONS_LOG` is `{found}`; expected {known}"))
    })?;
    let log = tracing_subscriber::fmt()
        .with_max_level(most)
        .with_ansi(ui.colors_err());
    if ui.json && level.is_none() {
        let bare = log.without_time().with_level(false).with_target(false);
        bare.with_writer(|| JsonWarnings).init();
    } else {
        log.with_writer(io::stderr).init();
    }
    Ok(())
}

/// Makes an object of each diagnostic, which comes in one piece.
struct JsonWarnings;

impl io::Write for JsonWarnings {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let warning = String::from_utf8_lossy(text);
        json_line(&json!({ "warning": warning.trim() }));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::DONE;

    #[test]
    fn an_unknown_option_is_not_told_to_hide_behind_two_dashes() {
        let said = |words: &[&str]| {
            let error = Lions::try_parse_from(words).unwrap_err();
            without_double_dash(error).render().to_string()
        };
        let unknown = said(&["lions", "status", "--nope"]);
        assert!(
            unknown.contains("unexpected argument '--nope'"),
            "{unknown}"
        );
        assert!(!unknown.contains("-- --nope"), "{unknown}");
        // What helps stays.
        let near = said(&["lions", "status", "--trial"]);
        assert!(near.contains("'--trials'"), "{near}");
        let command = said(&["lions", "stats"]);
        assert!(command.contains("'status'"), "{command}");
    }

    #[test]
    fn a_panic_is_our_bug() {
        let error = caught(|| panic!("on purpose")).unwrap_err();
        assert_eq!(error.kind.code(), exit_code::INTERNAL);
        assert_eq!(caught(|| Ok(DONE)).unwrap(), DONE);
    }
}
