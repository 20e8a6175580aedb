//! `lions init --from trl`: recipes of TRL's trainers become a sweep.

use crate::base::{counted, write_atomic};
use crate::cli::error::CommandError;
use crate::cli::global::DONE;
use crate::cli::held_out::{Rows, part};
use crate::cli::project::Project;
use crate::cli::sweep_file::mistakes;
use crate::cli::trl::{Became, File, FromTrl, Stage, Translated, read_recipe};
use crate::cli::ui::{Tone, Ui};
use crate::config::{Inputs, Overrides, load_placed_sweep, toml_text};
use crate::report::ColumnFit::{Cut, Whole, Wrap};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The programs whose files can be read; alignment-handbook's recipes have the keys of TRL.
const FORMATS: [&str; 2] = ["trl", "alignment-handbook"];

/// What `init` is given beside the recipes.
pub(crate) struct Given<'a> {
    pub(crate) project: &'a Project,
    pub(crate) name: &'a str,
    pub(crate) question: Option<&'a str>,
    /// As the sweep names it.
    pub(crate) model: Option<String>,
    /// Files of conversations to train and to test on, as the sweep names them.
    pub(crate) sft: (Option<String>, Option<String>),
    /// Files of pairs.
    pub(crate) pairs: (Option<String>, Option<String>),
    pub(crate) processes: u64,
    /// As typed, for what to do next.
    pub(crate) shown: String,
}

/// Reads the recipes, pairs of a format and a file, and writes the sweep.
pub(crate) fn translate(ui: &Ui, words: &[String], given: &Given<'_>) -> Result<u8, CommandError> {
    let mut stages = Vec::new();
    for pair in words.chunks(2) {
        let [format, file] = pair else { break };
        stages.push(read(format, file, given)?);
    }
    stages.sort_by_key(|stage| stage.recipe.stage == "dpo");
    if stages
        .windows(2)
        .any(|two| two[0].recipe.stage == two[1].recipe.stage)
    {
        let message = format!(
            "two of the files are recipes of `{}`",
            stages[0].recipe.stage
        );
        return Err(CommandError::user(message).hint("name one for each stage"));
    }
    // The first stage begins from the base model, later ones from what came before.
    for stage in stages.iter_mut().skip(1) {
        let mut told = stage.recipe.told.iter_mut();
        if let Some(told) = told.find(|told| told.key == "model_name_or_path") {
            told.became = Became::Differs;
            "the stage before it makes the model".clone_into(&mut told.words);
        }
    }
    let named = stages.first().and_then(|stage| stage.recipe.model.clone());
    let (model, model_from) = match (&given.model, named) {
        (Some(model), _) => (model.clone(), None),
        (None, Some(name)) => placed_model(given.project, &name),
        (None, None) => {
            let error = CommandError::user("the recipe names no model");
            return Err(error.hint("`--model DIR` names one"));
        }
    };
    let is_dpo = stages
        .last()
        .is_some_and(|stage| stage.recipe.stage == "dpo");
    let usual = if is_dpo {
        "Which strength of the pull to the reference, β, is best here?"
    } else {
        "Which learning rate is best here?"
    };
    let translated = Translated {
        name: given.name,
        question: given.question.unwrap_or(usual),
        model: &model,
        model_from,
        stages,
    };
    let file = given
        .project
        .root
        .join(format!("sweeps/{}.toml", given.name));
    let base = given
        .project
        .root
        .join(format!("sweeps/base/{}.toml", given.name));
    let sweep = translated.sweep(&format!("base/{}.toml", given.name));
    for (path, text) in [(&base, translated.base()), (&file, sweep)] {
        write_atomic(path, text.as_bytes()).map_err(CommandError::user)?;
        ui.say(&format!("wrote {}", path.display()));
    }
    tell(ui, &translated)?;
    ui.say("a key that a file leaves out has TRL's default");
    let root = &given.project.root;
    load_placed_sweep(&Overrides::default(), &file, root, Inputs::Optional)
        .map_err(|error| mistakes(ui, error))?;
    let shown = &given.shown;
    ui.say(&format!(
        "next: `lions plan {shown}` says what is missing and what it would cost, `lions run {shown}` does it"
    ));
    Ok(DONE)
}

fn read(format: &str, file: &str, given: &Given<'_>) -> Result<Stage, CommandError> {
    if !FORMATS.contains(&format) {
        let error = CommandError::user(format!("`{format}` is no format that is known"));
        return Err(error.hint(format!("known are {}", FORMATS.join(" and "))));
    }
    let refused = |why: String| {
        let error = CommandError::user(format!("cannot read `{file}`: {why}"));
        error.hint("a YAML file of `trl sft`, `trl dpo` or of alignment-handbook's recipes")
    };
    let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
    let recipe = read_recipe(&text, given.processes).map_err(refused)?;
    let (own, rows) = match recipe.stage {
        "dpo" => (&given.pairs, Rows::Pairs),
        _ => (&given.sft, Rows::Chats),
    };
    let (train, test) = match own {
        (Some(train), Some(test)) => (vec![owned(train)], vec![owned(test)]),
        (Some(train), None) => parted(given, train, rows)?,
        (None, _) => {
            let files = |named: &[_]| named.iter().map(File::of).collect::<Vec<_>>();
            (files(&recipe.data), files(&recipe.test))
        }
    };
    if train.is_empty() {
        let (stage, flag) = match rows {
            Rows::Pairs => ("dpo", "--pairs"),
            Rows::Chats => ("sft", "--sft"),
        };
        let error = CommandError::user(format!("the recipe of `{stage}` names no data"));
        return Err(error.hint(format!("`{flag} FILE` names a file")));
    }
    Ok(Stage {
        recipe,
        train,
        test,
    })
}

fn owned(path: &str) -> File {
    File {
        path: path.to_owned(),
        from: None,
        share: 1.0,
    }
}

/// A file of the user's own, some prompts of it held out.
fn parted(
    given: &Given<'_>,
    path: &str,
    rows: Rows,
) -> Result<(Vec<File>, Vec<File>), CommandError> {
    let word = match rows {
        Rows::Chats => "sft",
        Rows::Pairs => "pairs",
    };
    let [train, test] =
        ["train", "test"].map(|part| format!("data/{}/{word}_{part}.jsonl", given.name));
    part(&given.project.root, path, rows, (&train, &test))?;
    Ok((vec![owned(&train)], vec![owned(&test)]))
}

/// Where a model lies, or belongs: a folder as it is named, else one of `models`.
fn placed_model(project: &Project, name: &str) -> (String, Option<String>) {
    if project.root.join(name).is_dir() {
        return (name.to_owned(), None);
    }
    let stem = Path::new(name)
        .file_name()
        .map_or(name.into(), |stem| stem.to_string_lossy());
    let folder: PathBuf = Path::new("models").join(stem.as_ref());
    let from = format!("model {name} (config.json, tokenizer files, *.safetensors)");
    (folder.display().to_string(), Some(from))
}

/// What became of each key.
fn tell(ui: &Ui, translated: &Translated<'_>) -> Result<(), CommandError> {
    let recipes: Vec<&FromTrl> = translated
        .stages
        .iter()
        .map(|stage| &stage.recipe)
        .collect();
    if ui.json {
        let files = recipes
            .iter()
            .map(|recipe| json!({"stage": recipe.stage, "keys": recipe.told}));
        return ui
            .print_json(&json!({"sweep": translated.name, "recipes": files.collect::<Vec<_>>()}));
    }
    for recipe in recipes {
        ui.out(&ui.tone(Tone::Strong, recipe.stage));
        let rows = recipe.told.iter().map(|told| {
            let (tone, word) = match told.became {
                Became::Taken => (Tone::Good, "taken"),
                Became::Differs => (Tone::Warn, "differs"),
                Became::Idle => (Tone::Dim, "left out"),
                Became::Unknown => (Tone::Bad, "unknown"),
            };
            let value = toml_text(&told.value);
            vec![
                told.key.clone(),
                value,
                ui.tone(tone, word),
                told.words.clone(),
            ]
        });
        let columns = [("key", Whole), ("value", Cut), ("", Whole), ("here", Wrap)];
        ui.headed_table(columns, rows);
        let unknown = recipe
            .told
            .iter()
            .filter(|told| told.became == Became::Unknown)
            .count();
        if unknown > 0 {
            let of_stage = recipe.stage;
            let keys = counted(unknown, "key");
            ui.warn(&format!(
                "the file of `{of_stage}` has {keys} that lions does not know"
            ));
        }
    }
    Ok(())
}
