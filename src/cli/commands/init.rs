//! `lions init`.

use crate::arch::DecoderConfig;
use crate::base::write_atomic;
use crate::cli::commands::check;
use crate::cli::error::CommandError;
use crate::cli::global::Global;
use crate::cli::held_out::{Rows, measure, part};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::starter::{DEFAULT_BASE, Set, Starter};
use crate::cli::sweep_file::plain_name;
use crate::cli::translate::{Given, translate};
use crate::cli::ui::Ui;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

/// Write a first sweep for a model and data of your own
///
/// Looks at the model's `config.json` and at the rows, and writes `sweeps/NAME.toml` (what is varied
/// and reported) over `sweeps/base/NAME.toml` (what goes by the model and the data, and what is
/// measured) and `sweeps/base/default.toml` (every other recipe value). Without a file to test on, one prompt in ten is held out of training: both parts are
/// written below `data/`. Then checks what it wrote. On a terminal it asks for what is not given.
///
/// With `--from trl FILE` the recipe values are those of a configuration of TRL's trainers, or of
/// alignment-handbook; what became of each of its keys is told.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Folder of the project; made if it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Conversations to fine-tune on
    #[arg(long, value_name = "FILE")]
    sft: Option<PathBuf>,
    /// Preference pairs to learn from
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Conversations to test on, instead of some of those to fine-tune on
    #[arg(long, value_name = "FILE", requires = "sft")]
    test_sft: Option<PathBuf>,
    /// Pairs to test on, instead of some of those to learn from
    #[arg(long, value_name = "FILE", requires = "pairs")]
    test_pairs: Option<PathBuf>,
    /// Name of the sweep
    #[arg(long, default_value = "first")]
    name: String,
    /// The question that the sweep answers
    #[arg(long, value_name = "TEXT")]
    question: Option<String>,
    /// Translate a YAML file of TRL (`trl`) or of alignment-handbook's recipes; once for `sft`, once
    /// for `dpo`
    #[arg(long, num_args = 2, value_names = ["FORMAT", "FILE"])]
    from: Vec<String>,
    /// With `--from`: devices that the file's batch size is for
    #[arg(long, default_value_t = 1, value_name = "N", requires = "from", value_parser = at_least(1_u64))]
    processes: u64,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &InitArgs) -> Result<u8, CommandError> {
    let below = args.dir.join("sweeps/base");
    // The folder's own first.
    let missing = below.ancestors().filter(|folder| !folder.exists());
    let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    let ended = if args.from.is_empty() {
        written(ui, global, args)
    } else {
        translated(ui, global, args)
    };
    if ended.is_err() {
        // What holds something stays.
        for folder in &missing {
            drop(std::fs::remove_dir(folder));
        }
    }
    ended
}

/// A sweep for a model and data.
fn written(ui: &Ui, global: &Global, args: &InitArgs) -> Result<u8, CommandError> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => asked(ui, "Model folder (Hugging Face layout)", "--model DIR")?,
    };
    let (mut sft, mut pairs) = (args.sft.clone(), args.pairs.clone());
    if sft.is_none() && pairs.is_none() {
        let missing = "--sft FILE, --pairs FILE or both";
        pairs = asked_or_none(ui, "File of preference pairs (empty: none)", missing)?;
        sft = asked_or_none(
            ui,
            "File of conversations to fine-tune on (empty: none)",
            missing,
        )?;
    }
    if sft.is_none() && pairs.is_none() {
        return Err(CommandError::user("without data there is nothing to learn"));
    }
    own_name(&args.name)?;
    if !model.is_dir() {
        let error = CommandError::user(format!("there is no model folder `{}`", model.display()));
        return Err(error.hint(
            "`--model` names a folder in Hugging Face layout: `config.json`, `*.safetensors`, `tokenizer.json`",
        ));
    }
    let config = DecoderConfig::from_file(&model).map_err(CommandError::user)?;
    let (project, file, base) = new_files(global, args)?;
    let question = match (&args.question, &pairs) {
        (Some(question), _) => question.clone(),
        (None, Some(_)) => {
            "Which strength of the pull to the reference, β, is best here?".to_owned()
        }
        (None, None) => "Which learning rate is best here?".to_owned(),
    };
    let set = |train: Option<&PathBuf>, test: Option<&PathBuf>, rows| {
        let made = |train: &PathBuf| one_set(ui, &project.root, &args.name, train, test, rows);
        train.map(made).transpose()
    };
    let starter = Starter {
        name: &args.name,
        question: &question,
        model: &from_root(&project.root, &model)?,
        config: &config,
        sft: set(sft.as_ref(), args.test_sft.as_ref(), Rows::Chats)?,
        pairs: set(pairs.as_ref(), args.test_pairs.as_ref(), Rows::Pairs)?,
    };
    let sweep = starter.sweep(&format!("base/{}.toml", args.name));
    let below = base.with_file_name("default.toml");
    if !below.exists() {
        write_atomic(&below, DEFAULT_BASE.as_bytes()).map_err(CommandError::user)?;
        ui.say(&format!("wrote {}", below.display()));
    }
    for (path, text) in [(&base, starter.base()), (&file, sweep)] {
        write_atomic(path, text.as_bytes()).map_err(CommandError::user)?;
        ui.say(&format!("wrote {}", path.display()));
    }
    let code = check::run(ui, global, &check::CheckArgs::of(file.clone()))?;
    let shown = shown(global, args);
    ui.say(&format!(
        "next: `lions plan {shown}` says what it would cost, `lions run {shown}` does it"
    ));
    Ok(code)
}

/// The sweep file as a person types it.
fn shown(global: &Global, args: &InitArgs) -> String {
    let typed = global.root.as_ref().unwrap_or(&args.dir);
    let shown = typed.join(format!("sweeps/{}.toml", args.name));
    let shown = shown.strip_prefix(".").unwrap_or(&shown);
    shown.display().to_string()
}

/// The project, made if need be, with the sweep and base files that are to be written and not there yet.
fn new_files(
    global: &Global,
    args: &InitArgs,
) -> Result<(Project, PathBuf, PathBuf), CommandError> {
    std::fs::create_dir_all(args.dir.join("sweeps/base")).map_err(|error| {
        CommandError::user(format!(
            "cannot make `{}/sweeps/base`: {error}",
            args.dir.display()
        ))
    })?;
    let project = Project::find(Some(global.root.as_deref().unwrap_or(&args.dir)), None)?;
    let file = project.root.join(format!("sweeps/{}.toml", args.name));
    let base = project.root.join(format!("sweeps/base/{}.toml", args.name));
    for path in [&file, &base] {
        if path.exists() {
            let error = CommandError::user(format!("`{}` is there already", path.display()));
            return Err(error.hint("`--name` gives the sweep another name"));
        }
    }
    Ok((project, file, base))
}

/// A sweep from the recipes of another program.
fn translated(ui: &Ui, global: &Global, args: &InitArgs) -> Result<u8, CommandError> {
    own_name(&args.name)?;
    let (project, ..) = new_files(global, args)?;
    let named = |path: &Option<PathBuf>| {
        let path = path.as_ref();
        path.map(|path| from_root(&project.root, path)).transpose()
    };
    let given = Given {
        project: &project,
        name: &args.name,
        question: args.question.as_deref(),
        model: named(&args.model)?,
        sft: (named(&args.sft)?, named(&args.test_sft)?),
        pairs: (named(&args.pairs)?, named(&args.test_pairs)?),
        processes: args.processes,
        shown: shown(global, args),
    };
    translate(ui, &args.from, &given)
}

/// The training file and what is held out of it, as the sweep names them.
fn one_set(
    ui: &Ui,
    root: &Path,
    name: &str,
    train: &Path,
    test: Option<&PathBuf>,
    rows: Rows,
) -> Result<Set, CommandError> {
    let path = from_root(root, train)?;
    if let Some(test) = test {
        return Ok(Set {
            size: measure(root, &path, rows)?,
            train: path,
            test: from_root(root, test)?,
        });
    }
    let word = match rows {
        Rows::Chats => "sft",
        Rows::Pairs => "pairs",
    };
    let files = ["train", "test"].map(|part| format!("data/{name}/{word}_{part}.jsonl"));
    let [train, test] = files;
    let learnt = part(root, &path, rows, (&train, &test))?;
    let rows = learnt.rows;
    ui.say(&format!(
        "parted `{path}` into {train} ({rows} rows) and {test}"
    ));
    Ok(Set {
        train,
        size: learnt,
        test,
    })
}

/// A path as a sweep of this project names it: relative to its root if it is below that.
fn from_root(root: &Path, path: &Path) -> Result<String, CommandError> {
    let full = path.canonicalize().map_err(|error| {
        CommandError::user(format!("cannot open `{}`: {error}", path.display()))
    })?;
    let named = full.strip_prefix(root).unwrap_or(&full);
    let text = named.to_str().ok_or_else(|| {
        CommandError::user(format!("the path `{}` is not UTF-8", named.display()))
    })?;
    Ok(text.to_owned())
}

/// Refuses what cannot be the name of a sweep and of its base.
fn own_name(name: &str) -> Result<(), CommandError> {
    if name == "default" {
        let error = CommandError::user("`default` is the base that others lie on");
        return Err(error.hint("`--name` gives the sweep another name"));
    }
    plain_name(name)
}

/// Asks on a terminal; elsewhere the flag must be given.
fn asked(ui: &Ui, question: &str, flag: &str) -> Result<PathBuf, CommandError> {
    asked_or_none(ui, question, flag)?
        .ok_or_else(|| CommandError::user("no answer").hint(format!("give `{flag}`")))
}

fn asked_or_none(ui: &Ui, question: &str, flag: &str) -> Result<Option<PathBuf>, CommandError> {
    if !std::io::stdin().is_terminal() {
        let error = CommandError::user("a first sweep needs to know more");
        return Err(error.hint(format!("give {flag}")));
    }
    ui.ask(question);
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| CommandError::user(format!("cannot read the answer: {error}")))?;
    Ok(Some(line.trim())
        .filter(|answer| !answer.is_empty())
        .map(PathBuf::from))
}
