//! `lions run`.

use crate::backend::LocalBackend;
use crate::base::{Shutdown, SystemClock};
use crate::cli::app::{DONE, Global};
use crate::cli::commands::{check, compare, plan, report};
use crate::cli::error::{CommandError, exit_code};
use crate::cli::progress::BarsReporter;
use crate::cli::project::Project;
use crate::cli::signals;
use crate::cli::slots::{DeviceArg, slots};
use crate::cli::text::{counted, secs};
use crate::cli::ui::{Tone, Ui};
use crate::runner::{
    JsonReporter, LinesReporter, NoReport, Reporter, Rim, RunOptions, SweepEnd, SweepJob,
    SweepSummary, run_sweep,
};
use crate::store::{Retry, Store};
use std::io;
use std::path::PathBuf;

/// Run what a sweep needs, then print its tables and write its report
///
/// Runs that are done are not done again. Ctrl-C stops cleanly, and the same command goes on where
/// it was. Each run is a process of its own with one thread (on the CPU), several side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Sweep file
    file: PathBuf,
    /// Runs side by side [default: one for each core, or one for each GPU]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Where to run: auto, cpu, or cuda:0,1
    #[arg(long, default_value = "auto")]
    device: DeviceArg,
    /// Threads of each run on the CPU
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Try failed and cancelled runs again
    #[arg(long)]
    retry: bool,
    /// Leave reports/ alone
    #[arg(long)]
    no_report: bool,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &RunArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), Some(&args.file))?;
    let sweep = check::load(ui, &project, &args.file)?;
    let plan = plan::make(&project, &sweep)?;
    if let Some(input) = plan.missing.first() {
        let (what, path) = (input.what, &input.path);
        return Err(
            CommandError::user(format!("{what} `{path}` is not there")).hint(format!(
                "`lions plan {}` lists everything that is missing",
                args.file.display()
            )),
        );
    }
    let mut store = Store::of_project(&project.root).map_err(store_error)?;
    let mut options = RunOptions::new(slots(&args.device, args.jobs, args.threads)?);
    options.retry = if args.retry {
        Retry::Failed
    } else {
        Retry::Never
    };
    let shutdown = Shutdown::new();
    signals::stop_on_signals(&shutdown)?;
    let program = std::env::current_exe().map_err(CommandError::internal)?;
    let mut backend = LocalBackend::new(program);
    let job = SweepJob {
        root: &project.root,
        sweep: &sweep,
        plan: &plan,
        options: &options,
    };
    let rim = Rim {
        store: &mut store,
        backend: &mut backend,
        shutdown: &shutdown,
        clock: &SystemClock,
    };
    let mut reporter = reporter(ui);
    let summary = run_sweep(&job, rim, reporter.as_mut()).map_err(CommandError::user)?;
    drop(reporter);
    after(ui, &project, args, &summary)
}

fn reporter(ui: &Ui) -> Box<dyn Reporter> {
    if ui.json {
        Box::new(JsonReporter(io::stdout()))
    } else if ui.quiet {
        Box::new(NoReport)
    } else if ui.interactive() {
        Box::new(BarsReporter::new(ui.colors_err()))
    } else {
        Box::new(LinesReporter::new(io::stderr()))
    }
}

/// Tables, report, last words and exit code.
fn after(
    ui: &Ui,
    project: &Project,
    args: &RunArgs,
    summary: &SweepSummary,
) -> Result<u8, CommandError> {
    if summary.end == SweepEnd::Interrupted {
        ui.say(&format!(
            "stopped; `lions run {}` goes on from here",
            args.file.display()
        ));
        return Ok(exit_code::INTERRUPTED);
    }
    let page = project.report_dir(&summary.sweep).join("index.html");
    // Nothing new since the pages were written: they are what they would be.
    if summary.executed == 0 && page.is_file() {
        ui.say(&format!(
            "nothing to do; `lions compare {}` prints the tables",
            summary.sweep
        ));
    } else {
        let results = report::results(project, &summary.sweep)?;
        if !ui.json && !ui.quiet {
            compare::print_tables(ui, &results, None)?;
        }
        if !args.no_report {
            report::write(project, &results)?;
        }
    }
    if page.is_file() {
        ui.say(&format!("report: {}", page.display()));
    }
    last_words(ui, args, summary);
    Ok(
        if summary.failed + summary.skipped + summary.cancelled > 0 {
            exit_code::RUNS
        } else {
            DONE
        },
    )
}

fn last_words(ui: &Ui, args: &RunArgs, summary: &SweepSummary) {
    for failure in &summary.failures {
        ui.warn(&format!(
            "{} {} failed: {}",
            failure.stage, failure.run, failure.message
        ));
        if !failure.hint.is_empty() {
            ui.say(&format!("  {}", failure.hint));
        }
    }
    if summary.failed > 0 {
        ui.say(&format!(
            "`lions log <run>` shows what a run said; `lions run {} --retry` tries failed runs again",
            args.file.display()
        ));
    }
    let done = counted(summary.succeeded, "run");
    let tone = if summary.failed > 0 {
        Tone::Warn
    } else {
        Tone::Good
    };
    let word = ui.tone(
        tone,
        if summary.failed > 0 {
            "finished"
        } else {
            "done"
        },
    );
    ui.say(&format!(
        "{word}: {done} done ({} before), {} failed, {} skipped, {} cancelled, in {}",
        summary.reused,
        summary.failed,
        summary.skipped,
        summary.cancelled,
        secs(summary.secs)
    ));
}

/// A store that cannot be opened, with the way out.
pub(crate) fn store_error(error: crate::store::StoreError) -> CommandError {
    CommandError::user(error)
        .hint("`lions store rebuild` makes the database anew from the run folders")
}
