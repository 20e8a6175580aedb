//! Which sweep, on which base: the words that commands have in common.

use crate::base::quoted;
use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::config::sweep::Sweep;
use crate::config::{
    ConfigError, Inputs, Overrides, Places, load_placed_sweep, nearest, stated_name,
};
use std::path::{Path, PathBuf};

// A doc comment here would replace the help of the commands that take these.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Changes {
    /// Base file to use instead of the one in `base/` that a sweep extends; the base's name is
    /// added to the sweep's, for example `quickstart@gemma-2b`
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Option<PathBuf>,
    /// A value of `[base]` as if the sweep file gave it, in TOML; repeatable, and added to the
    /// sweep's name, for example `quickstart+dpo.recipe.max-examples=100`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) sets: Vec<String>,
}

impl Changes {
    /// What the configuration is told.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            base: self.base.clone(),
            sets: self.sets.clone(),
            text: None,
        }
    }

    /// The words of the command line, each behind a blank.
    fn shown(&self) -> String {
        let base = self
            .base
            .iter()
            .map(|base| format!(" --base {}", base.display()));
        let sets = self
            .sets
            .iter()
            .map(|set| format!(" --set {}", quoted(set)));
        base.chain(sets).collect()
    }
}

// As above.
#[derive(Debug, clap::Args)]
pub(crate) struct SweepFile {
    /// Sweep file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) changes: Changes,
}

impl SweepFile {
    /// The words that name it on the command line.
    pub(crate) fn shown(&self) -> String {
        format!("{}{}", self.file.display(), self.changes.shown())
    }

    /// Refuses a base file that is neither in the working folder nor beside the sweep file.
    fn base_exists(&self, project: &Project) -> Result<(), CommandError> {
        let Some(base) = &self.changes.base else {
            return Ok(());
        };
        let beside = self.file.parent().map(|folder| folder.join(base));
        if base.is_file() || beside.is_some_and(|path| path.is_file()) {
            return Ok(());
        }
        let failure = CommandError::user(format!("there is no base file `{}`", base.display()));
        let bases = base_files(project);
        Err(if bases.is_empty() {
            failure
        } else {
            failure.hint(format!("base files here: {}", bases.join(", ")))
        })
    }

    /// Reads and expands the file; a mistake becomes a diagnostic.
    pub(crate) fn load(
        &self,
        ui: &Ui,
        project: &Project,
        inputs: Inputs,
    ) -> Result<Sweep, CommandError> {
        self.load_placed(ui, project, inputs)
            .map(|(sweep, _)| sweep)
    }

    /// The file that was meant: as typed, or that of a sweep's name, or `sweeps/NAME.toml`.
    fn found(&self, project: &Project) -> Result<PathBuf, CommandError> {
        let file = &self.file;
        if file.exists() && !file.is_dir() {
            return Ok(file.clone());
        }
        let files = toml_files(project, "sweeps");
        let typed = file.to_string_lossy();
        let own = format!("sweeps/{typed}.toml");
        let of_stem = || files.contains(&own).then(|| project.root.join(&own));
        let below = project.root.join("sweeps").join(file);
        let of_base = || (file.starts_with("base") && below.is_file()).then_some(below);
        let named = sweep_file_named(project, &typed).or_else(of_stem);
        if let Some(named) = named.or_else(of_base) {
            return Ok(named);
        }
        let message = if file.is_dir() {
            format!("`{typed}` is a folder, not a sweep file")
        } else {
            format!("there is no sweep file `{typed}`")
        };
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let stems = files
            .iter()
            .filter_map(|known| Path::new(known).file_stem()?.to_str());
        let near = nearest(&stem, stems);
        let hint = match (near, files.as_slice()) {
            (Some(near), _) => format!("did you mean `sweeps/{near}.toml`?"),
            (None, []) => format!(
                "sweep files live in {}",
                project.root.join("sweeps").display()
            ),
            (None, files) => format!("sweep files here: {}", files.join(", ")),
        };
        Err(CommandError::user(message).hint(hint))
    }

    /// Warns of another sweep file of the project that states the same name.
    pub(crate) fn warn_of_same_name(&self, ui: &Ui, project: &Project, sweep: &Sweep) {
        let Ok(file) = self.found(project) else {
            return;
        };
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        for other in toml_files(project, "sweeps") {
            let path = project.root.join(&other);
            let same = sweep_name(&path).is_some_and(|name| name == sweep.name);
            if same && real(&path) != real(&file) {
                ui.warn(&format!(
                    "`{other}` has the name `{}`, too: whichever runs last keeps its trials and report",
                    sweep.name
                ));
            }
        }
    }

    /// Refuses a base file, on which sweeps lie.
    fn is_no_base(&self, project: &Project, file: &Path) -> Result<(), CommandError> {
        let folder = file.parent().and_then(Path::file_name);
        if folder.is_none_or(|name| name != "base") || sweep_name(file).is_some() {
            return Ok(());
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let message = format!("`{}` is a base file, not a sweep", self.file.display());
        let hint = format!(
            "a sweep on it begins with `extends = [\"base/{name}\"]`; `lions run --base base/{name} --axis PATH=VALUES` writes one"
        );
        Err(match toml_files(project, "sweeps").as_slice() {
            [] => CommandError::user(message).hint(hint),
            files => CommandError::user(message)
                .hint(hint)
                .hint(format!("sweep files here: {}", files.join(", "))),
        })
    }

    /// As [`Self::load`], with where the values stand in the files.
    pub(crate) fn load_placed(
        &self,
        ui: &Ui,
        project: &Project,
        inputs: Inputs,
    ) -> Result<(Sweep, Places), CommandError> {
        let file = &self.found(project)?;
        self.is_no_base(project, file)?;
        self.base_exists(project)?;
        load_placed_sweep(&self.changes.overrides(), file, &project.root, inputs)
            .map_err(|error| mistakes(ui, error))
    }
}

/// What is wrong with a sweep file, as an error that shows the places.
pub(crate) fn mistakes(ui: &Ui, error: ConfigError) -> CommandError {
    let (rendered, findings) = (error.render(ui.colors_err()), error.findings());
    let mut failure = CommandError::user(error);
    failure.rendered = Some(rendered);
    failure.findings = findings;
    failure
}

// As above.
#[derive(Debug, clap::Args)]
pub(crate) struct SweepWord {
    /// Sweep name, or its file
    pub(crate) sweep: String,
    #[command(flatten)]
    pub(crate) changes: Changes,
}

impl SweepWord {
    /// The sweep file, if that is what was typed.
    pub(crate) fn near(&self) -> Option<&Path> {
        let path = Path::new(&self.sweep);
        path.is_file().then_some(path)
    }

    /// Of a sweep as it is.
    pub(crate) fn of(sweep: String) -> Self {
        Self {
            sweep,
            changes: Changes::default(),
        }
    }

    /// The sweep's name: as typed, or as its file says; with those of the base and of the values set.
    pub(crate) fn name(&self) -> Result<String, CommandError> {
        let name = name_typed(&self.sweep)?;
        Ok(self.changes.overrides().name(&name))
    }
}

/// The name of the sweep that was typed as its name or as its file, which may be gone: then the file's stem.
pub(crate) fn name_typed(typed: &str) -> Result<String, CommandError> {
    let path = Path::new(typed);
    if path.extension().is_none_or(|ending| ending != "toml") {
        return Ok(typed.to_owned());
    }
    let stem = || path.file_stem()?.to_str().map(str::to_owned);
    let name = sweep_name(path).or_else(stem);
    name.ok_or_else(|| CommandError::user(format!("`{typed}` is no sweep's name")))
}

/// The name that a sweep file states.
fn sweep_name(file: &Path) -> Option<String> {
    // A device may never end.
    let text = file
        .is_file()
        .then(|| std::fs::read_to_string(file))?
        .ok()?;
    stated_name(&text)
}

/// The sweep file of the project that states this name: `sweeps/NAME.toml`, else the first other.
pub(crate) fn sweep_file_named(project: &Project, name: &str) -> Option<PathBuf> {
    let own = format!("sweeps/{name}.toml");
    let others = toml_files(project, "sweeps");
    let mut paths = std::iter::once(own)
        .chain(others)
        .map(|file| project.root.join(file));
    paths.find(|path| sweep_name(path).is_some_and(|stated| stated == name))
}

/// Refuses what could not be the name of a file.
pub(crate) fn plain_name(name: &str) -> Result<(), CommandError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = !name.is_empty() && !name.starts_with('.') && name.len() <= 100;
    if fits && name.chars().all(plain) {
        return Ok(());
    }
    let error = CommandError::user(format!("`{name}` cannot be a sweep's name"));
    Err(error.hint("letters, digits, `-`, `_` and, behind the first, `.`, at most 100"))
}

/// Refuses files that say to be the same sweep: the later one would replace the trials and the report of
/// the other.
pub(crate) fn refuse_one_name_twice(named: &[(PathBuf, String)]) -> Result<(), CommandError> {
    for (index, (file, name)) in named.iter().enumerate() {
        let Some((first, _)) = named[..index].iter().find(|(_, other)| other == name) else {
            continue;
        };
        let message = format!(
            "`{}` and `{}` both have the name `{name}`",
            first.display(),
            file.display()
        );
        let hint = "each sweep keeps its trials and report under its name; change one `name`";
        return Err(CommandError::user(message).hint(hint));
    }
    Ok(())
}

/// The base files of the project, without the one that others lie on: alone it names no model.
pub(crate) fn base_files(project: &Project) -> Vec<String> {
    let mut bases = toml_files(project, "sweeps/base");
    bases.retain(|base| !base.ends_with("/default.toml"));
    bases
}

/// The TOML files of a folder of the project, in name order.
fn toml_files(project: &Project, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project.root.join(folder))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let tomls = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "toml"));
    let mut files: Vec<_> = tomls.map(|name| format!("{folder}/{name}")).collect();
    files.sort();
    files
}
