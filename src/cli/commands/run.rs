//! `lions run`.

use crate::backend::{Backend, open_backend};
use crate::base::{Shutdown, SystemClock, Timestamp};
use crate::cli::commands::{compare, plan, report};
use crate::cli::database::{results, store_error};
use crate::cli::error::{CommandError, ErrorKind, exit_code};
use crate::cli::first_table::FirstTable;
use crate::cli::global::{DONE, Global};
use crate::cli::halving::{Phase, decided, next_phase, refuse_long_rungs};
use crate::cli::notify::NotifyArgs;
use crate::cli::numbers::at_least;
use crate::cli::pick::{OnlyStage, TrialFilter, wanted_runs};
use crate::cli::planned::make;
use crate::cli::preflight::Look;
use crate::cli::progress::BarsReporter;
use crate::cli::project::Project;
use crate::cli::quick::{QuickSweep, SWEEP_FILES};
use crate::cli::signals;
use crate::cli::slots::{Devices, Room, job_slots, slots};
use crate::cli::sweep_file::{Changes, SweepFile, refuse_one_name_twice};
use crate::cli::text::{counted, secs};
use crate::cli::time_limit::{millis_of, time_of};
use crate::cli::ui::{Tone, Ui};
use crate::config::sweep::Sweep;
use crate::config::{BackendChoice, Inputs, LOCAL};
use crate::plan::{KnownLengths, Plan, RunId};
use crate::preflight::Depth;
use crate::queue::Slot;
use crate::runner::{
    JsonReporter, LinesReporter, NoReport, Reporter, RunOptions, RunnerError, Services, SweepEnd,
    SweepJob, SweepSummary, open_store, run_sweep,
};
use crate::store::{GIVE_THE_RIGHT, ReadStore, Retry, Store, last_change};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// Run what sweeps need, then print their tables and write their reports
///
/// Runs that are done are not done again, and sweeps share theirs. Ctrl-C stops cleanly, and the same
/// command goes on where it was. Each run is a process of its own with one thread (on the CPU),
/// several side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Sweep files, run one after the other
    #[arg(id = SWEEP_FILES, value_name = "SWEEP", required_unless_present = "axes")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    quick: QuickSweep,
    #[command(flatten)]
    picked: TrialFilter,
    #[command(flatten)]
    only: OnlyStage,
    /// Runs side by side [default: one for each core, or as many as the GPUs take]
    #[arg(long, short, value_name = "N", value_parser = at_least(1_u32))]
    jobs: Option<u32>,
    /// Where to run: auto (the GPUs that suit, else the CPU), cpu, cuda:0,1, or together cuda:0+1
    #[arg(long, default_value = "auto")]
    device: Devices,
    /// Runs that share a GPU, each with its part of the memory: small ones fill it together [default: 1]
    #[arg(long, value_name = "N")]
    runs_per_gpu: Option<NonZeroU32>,
    /// Threads of each run on the CPU
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least(1_u32))]
    threads: u32,
    /// What starts the runs: `local` (processes on this machine), `slurm`, or a backend of `lions.toml`
    #[arg(long, default_value = LOCAL, value_name = "NAME", conflicts_with = "profile")]
    backend: String,
    /// A profile of `lions.toml`: a backend with other options
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Try failed and cancelled runs again
    #[arg(long)]
    retry: bool,
    /// End a run whose work does not get on (no step, row, sample or answer) for so many minutes as
    /// hung; 0: never
    #[arg(long = "hang-after", default_value = "120", value_name = "MINUTES", value_parser = millis_of_minutes)]
    hang_millis: i64,
    /// Stop after so long (`2h`, `90m`) or at a time of day (`07:30Z`): what could neither end by then nor
    /// save its state is not started, and the same command goes on later
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    until: Option<Timestamp>,
    /// Stop when runs have been running for so long, all together (`10h` is five hours of two GPUs)
    #[arg(long, value_name = "TIME", value_parser = millis_of)]
    budget: Option<i64>,
    #[command(flatten)]
    notify: NotifyArgs,
    /// Leave reports/ alone
    #[arg(long)]
    no_report: bool,
}

/// Minutes, also a part of one, as milliseconds. However few they are they are not 0, which is for ever.
fn millis_of_minutes(text: &str) -> Result<i64, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| *minutes >= 0.0);
    let millis = minutes.map(|minutes| (minutes * 60_000.0).ceil() as i64);
    millis.ok_or_else(|| format!("`{text}` is no number of minutes"))
}

impl RunArgs {
    /// The command that goes on with a sweep where its runs execute now.
    fn again(&self, word: &SweepFile) -> String {
        format!("lions run {}{}", word.shown(), self.place_words())
    }

    /// The words that choose where runs execute, as they have to be typed again.
    fn place_words(&self) -> String {
        match &self.profile {
            Some(profile) => format!(" --profile {profile}"),
            None if self.backend != LOCAL => format!(" --backend {}", self.backend),
            None => String::new(),
        }
    }

    /// The sweep files; that of a sweep which is told on the command line is written.
    fn words(&self, ui: &Ui, project: &Project) -> Result<Vec<SweepFile>, CommandError> {
        if self.quick.is_asked() {
            return Ok(vec![self.quick.write(ui, project, &self.changes)?]);
        }
        let word = |file: &PathBuf| SweepFile {
            file: file.clone(),
            changes: self.changes.clone(),
        };
        Ok(self.files.iter().map(word).collect())
    }
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &RunArgs) -> Result<u8, CommandError> {
    let near = args.files.first().map(PathBuf::as_path);
    let project = Project::find(global.root.as_deref(), near)?;
    // Before anything is queued: a device that cannot be used ends the command.
    let place = Place::chosen(ui, &project, args)?;
    // All are read before any starts: a typo in the last must not be found after hours.
    let mut loaded = VecDeque::new();
    let mut look = Look::new(&project, Depth::Sample).for_slots(&place.slots);
    let mut errors = 0;
    for word in args.words(ui, &project)? {
        let (sweep, places) = word.load_placed(ui, &project, Inputs::Required)?;
        word.warn_of_same_name(ui, &project, &sweep);
        let found = look.tell(ui, &sweep, &places).new_errors;
        errors += found;
        let plan = make(&project, &sweep, look.lengths())?;
        if let Some(input) = plan.missing.first() {
            let (what, path) = (input.what, &input.path);
            let hint = format!(
                "`lions plan {}` lists everything that is missing",
                word.shown()
            );
            return Err(CommandError::user(format!("{what} `{path}` is not there")).hint(hint));
        }
        plan::warn_of_equal_trials(ui, &plan);
        if sweep.halving.is_some() && (!args.picked.is_empty() || args.only.stage.is_some()) {
            let message =
                "halving is decided by all configurations: `--where` and `--only` cannot pick some";
            return Err(CommandError::user(message)
                .hint("a sweep without `[search.halving]` can run in parts"));
        }
        if found == 0 {
            refuse_long_rungs(&sweep, &plan, look.counted())?;
        }
        // A slip of the pen in the filter of the last sweep, too.
        wanted_runs(&plan, &sweep.axes, &args.picked, args.only)?;
        // Of one sweep alone nothing changes before it begins; to plan ten thousand runs again takes a second.
        let plan = (args.files.len() <= 1 && sweep.halving.is_none()).then_some(plan);
        loaded.push_back(((word, plan), sweep));
    }
    if errors > 0 {
        let message = format!(
            "nothing was run: {} in what would be used",
            counted(errors, "problem")
        );
        return Err(CommandError::user(message).hint("`lions check` looks again"));
    }
    let names = loaded
        .iter()
        .map(|((word, _), sweep)| (word.file.clone(), sweep.name.clone()));
    refuse_one_name_twice(&names.collect::<Vec<_>>())?;
    // The rows that were looked at take memory, and the runs may take days.
    let lengths = look.into_lengths();
    let shutdown = Shutdown::new();
    signals::stop_on_signals(&shutdown)?;
    if let Some(until) = args.until {
        ui.say(&format!("runs until {}", until.iso8601()));
    }
    let many = loaded.len() > 1;
    let (mut code, mut spent) = (DONE, 0);
    while let Some(((word, plan), sweep)) = take_first(&project, &mut loaded) {
        if many {
            ui.say(&format!("--- {}", sweep.name));
        }
        let mut all = |phase: &Phase| {
            let at = (&place, &mut spent);
            one(ui, &project, args, (&word, phase), at, &shutdown)
        };
        let ended = match plan {
            Some(plan) => all(&Phase::whole(sweep, plan))?,
            None => in_phases(ui, &project, (&sweep, &lengths), &mut all)?,
        };
        match ended {
            exit_code::INTERRUPTED => return Ok(exit_code::INTERRUPTED),
            ended => code = code.max(ended),
        }
    }
    Ok(code)
}

/// Runs a sweep: if it is halved its rungs, one after the other, and then what is left of it.
fn in_phases(
    ui: &Ui,
    project: &Project,
    (sweep, lengths): (&Sweep, &KnownLengths),
    run: &mut dyn FnMut(&Phase) -> Result<u8, CommandError>,
) -> Result<u8, CommandError> {
    let mut phase = next_phase(project, sweep, lengths)?;
    loop {
        let code = run(&phase)?;
        if phase.rung.is_none() || code == exit_code::INTERRUPTED {
            return Ok(code);
        }
        let next = next_phase(project, sweep, lengths)?;
        if next.rung == phase.rung {
            // Something of the rung is still to be done, and cannot be now.
            ui.say(&format!(
                "`{}` is not decided, since some of its runs are not done: `lions status {0}` shows them, `lions run --retry` \
                 tries failed ones again",
                phase.sweep.name
            ));
            return Ok(code);
        }
        if let Some(line) = decided(&phase.sweep, &next) {
            ui.say(&line);
        }
        phase = next;
    }
}

/// Where the runs of a command execute.
struct Place {
    name: String,
    choice: BackendChoice,
    slots: Vec<Slot>,
}

impl Place {
    /// What was asked for. A scheduler is asked whether it would start such runs, before anything is queued.
    fn chosen(ui: &Ui, project: &Project, args: &RunArgs) -> Result<Self, CommandError> {
        let file = project.file(ui.colors_err())?;
        let (name, choice) = match &args.profile {
            Some(profile) => file.profile(profile),
            None => file
                .backend(&args.backend)
                .map(|choice| (args.backend.as_str(), choice)),
        }
        .map_err(CommandError::user)?;
        let slots = match choice {
            BackendChoice::Local(spec) => {
                let room = Room {
                    jobs: args.jobs,
                    threads: args.threads,
                    runs_per_gpu: args
                        .runs_per_gpu
                        .or(spec.runs_per_gpu)
                        .unwrap_or(NonZeroU32::MIN),
                };
                slots(ui, &args.device, room)?
            }
            other => job_slots(other, args.jobs),
        };
        let place = Self {
            name: name.to_owned(),
            choice: choice.clone(),
            slots,
        };
        let asked = place.open(project)?.rehearse();
        asked.map_err(|error| {
            let hint = format!("`[backend.{name}]` of `lions.toml` says what runs ask for");
            CommandError::user(error).hint(hint)
        })?;
        Ok(place)
    }

    fn open(&self, project: &Project) -> Result<Box<dyn Backend>, CommandError> {
        let program = std::env::current_exe().map_err(CommandError::internal)?;
        Ok(open_backend(
            &self.name,
            &self.choice,
            &project.root,
            program,
        ))
    }
}

/// Takes the sweep that is next: the one with the highest priority, of several the first.
fn take_first<T>(project: &Project, loaded: &mut VecDeque<(T, Sweep)>) -> Option<(T, Sweep)> {
    // What is said of them may have changed while the one before was running; none is said of a new one.
    let store = ReadStore::of_project(&project.root).ok();
    let priority = |name: &str| {
        // Rungs have what is said of their sweep, which may not be known yet.
        let orders = store.as_ref().and_then(|store| {
            let rung = store.rungs_of(name).ok()?.pop();
            store.orders(rung.as_deref().unwrap_or(name)).ok()
        });
        orders.unwrap_or_default().priority
    };
    let places = loaded.iter().enumerate();
    let first = places.max_by_key(|(at, (_, sweep))| (priority(&sweep.name), Reverse(*at)));
    let at = first.map(|(at, _)| at)?;
    loaded.remove(at)
}

/// Runs one sweep to its report.
fn one(
    ui: &Ui,
    project: &Project,
    args: &RunArgs,
    (word, phase): (&SweepFile, &Phase),
    (place, spent): (&Place, &mut i64),
    shutdown: &Shutdown,
) -> Result<u8, CommandError> {
    let (sweep, plan) = (&phase.sweep, &phase.plan);
    let is_rung = phase.rung.is_some();
    let only = wanted_runs(plan, &sweep.axes, &args.picked, args.only)?;
    let mut reporter = reporter(ui, project, (sweep, plan), only.as_ref());
    let failed = |error| failed(error, &args.again(word), shutdown);
    let opened = open_store(&project.root, shutdown, reporter.as_mut());
    let mut store = opened.map_err(failed)?;
    let mut options = RunOptions::new(place.slots.clone());
    options.retry = if args.retry {
        Retry::Failed
    } else {
        Retry::Never
    };
    options.hang_millis = args.hang_millis;
    options.only = only;
    options.until = args.until;
    options.budget_millis = args.budget.map(|budget| budget - *spent);
    let mut backend = place.open(project)?;
    options.lease_millis = backend.habits().silence_millis;
    let job = SweepJob {
        root: &project.root,
        sweep,
        plan,
        options: &options,
    };
    let services = Services {
        store: &mut store,
        backend: backend.as_mut(),
        shutdown,
        clock: &SystemClock,
    };
    let summary = run_sweep(&job, services, reporter.as_mut()).map_err(failed)?;
    drop(reporter);
    *spent += (summary.work_secs * 1000.0) as i64;
    if !is_rung || summary.end != SweepEnd::Succeeded {
        args.notify.tell(ui, &summary);
    }
    // The page of the sweep tells of its rungs.
    let current = !is_rung && has_later_pages(project, &store, &summary.sweep);
    let no_report = args.no_report || is_rung;
    let code = after(ui, project, (args, no_report), word, &summary, current)?;
    let left_out = plan.runs.len().saturating_sub(summary.runs);
    if left_out > 0 && code != exit_code::INTERRUPTED {
        ui.say(&format!(
            "{} of the sweep left out; `{}` does the rest",
            counted(left_out, "run"),
            args.again(word)
        ));
    }
    Ok(code)
}

/// Whether the pages of a sweep are later than its last change and than the end of every attempt at its runs.
fn has_later_pages(project: &Project, store: &Store, sweep: &str) -> bool {
    // The time of a file lags behind the clock by a tick of the kernel, 10 ms at most.
    const TICK: Duration = Duration::from_millis(20);
    let page = page(project, sweep);
    let written = page.metadata().and_then(|meta| meta.modified());
    let (Ok(written), Ok(changed), Ok(last)) = (
        written,
        last_change(&project.root, sweep),
        store.read().last_end(sweep),
    ) else {
        return false;
    };
    let last = last.map_or(0, |at| at.0.max(0)).cast_unsigned();
    written >= changed && written + TICK >= UNIX_EPOCH + Duration::from_millis(last)
}

fn page(project: &Project, sweep: &str) -> PathBuf {
    project.report_dir(sweep).join("index.html")
}

/// What goes on with a sweep that was stopped.
fn goes_on(again: &str) -> String {
    format!("`{again}` goes on from here")
}

/// Why a sweep ended before its end. One that was stopped while the store took nothing was interrupted
/// like any other.
fn failed(error: RunnerError, again: &str, shutdown: &Shutdown) -> CommandError {
    if shutdown.requested() && error.is_passing() {
        return CommandError::of(ErrorKind::Interrupted, error).hint(goes_on(again));
    }
    match error {
        RunnerError::Store(error) => store_error(error),
        other if other.is_denied() => CommandError::user(other).hint(GIVE_THE_RIGHT),
        other => CommandError::user(other),
    }
}

fn reporter<'a>(
    ui: &'a Ui,
    project: &'a Project,
    (sweep, plan): (&Sweep, &Plan),
    only: Option<&BTreeSet<RunId>>,
) -> Box<dyn Reporter + 'a> {
    if ui.json {
        return Box::new(JsonReporter(io::stdout()));
    }
    if ui.quiet {
        return Box::new(NoReport);
    }
    let (done, _) = plan::done_and_again(plan, &project.root);
    let wanted = |id| !done.contains(id) && only.is_none_or(|only| only.contains(id));
    let todo = plan.runs.iter().filter(|run| wanted(&run.id));
    let todo: BTreeMap<_, _> = todo
        .map(|run| (run.id.clone(), run.estimate.flops))
        .collect();
    let inner: Box<dyn Reporter> = if ui.interactive() {
        Box::new(BarsReporter::new(ui.colors_err(), todo.clone()))
    } else {
        Box::new(LinesReporter::new(io::stderr()))
    };
    Box::new(FirstTable::new((ui, project), inner, (sweep, plan), todo))
}

/// Tables, report, last words and exit code. `current`: the pages are what they would be.
fn after(
    ui: &Ui,
    project: &Project,
    (args, no_report): (&RunArgs, bool),
    word: &SweepFile,
    summary: &SweepSummary,
    current: bool,
) -> Result<u8, CommandError> {
    if summary.end == SweepEnd::Interrupted {
        ui.say(&format!("stopped; {}", goes_on(&args.again(word))));
        return Ok(exit_code::INTERRUPTED);
    }
    let page = page(project, &summary.sweep);
    if current {
        // When the time is up something was left, which is said below.
        if summary.end != SweepEnd::TimeUp {
            ui.say(&format!(
                "nothing to do; `lions compare {}` prints the tables",
                summary.sweep
            ));
        }
    } else {
        let results = results(ui, project, &summary.sweep)?;
        if !ui.json && !ui.quiet {
            compare::print_tables(ui, &results, None)?;
        }
        if !no_report {
            report::write(ui, project, &results)?;
        }
    }
    if page.is_file() && !no_report {
        ui.say(&format!("report: {}", page.display()));
    }
    last_words(ui, &args.again(word), summary);
    Ok(match summary.end {
        SweepEnd::Succeeded => DONE,
        SweepEnd::TimeUp => {
            ui.say(&format!("the time is up; {}", goes_on(&args.again(word))));
            exit_code::INTERRUPTED
        }
        _ => exit_code::RUNS,
    })
}

fn last_words(ui: &Ui, again: &str, summary: &SweepSummary) {
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
            "`lions log <run>` shows what a run said; `{again} --retry` tries failed runs again"
        ));
    }
    let done = counted(summary.succeeded, "run");
    let tone = if summary.failed > 0 {
        Tone::Warn
    } else {
        Tone::Good
    };
    let word = ui.tone_err(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_minute_is_not_for_ever() {
        let read = ["120", "0.5", "0", "1e-9"].map(|text| millis_of_minutes(text).unwrap());
        assert_eq!(read, [7_200_000, 30_000, 0, 1]);
        for text in ["-1", "nan", "two", ""] {
            assert!(millis_of_minutes(text).is_err(), "{text}");
        }
    }
}
