//! Which sweep, on which base: the words that commands have in common.

use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::config::sweep::Sweep;
use crate::config::{Inputs, load_sweep_on, name_on_base};
use std::path::{Path, PathBuf};

// A doc comment here would replace the help of the commands that take these.
#[derive(Debug, clap::Args)]
pub(crate) struct SweepFile {
    /// Sweep file
    pub(crate) file: PathBuf,
    /// Base file to use instead of the one in `base/` that the sweep extends; the base's name is
    /// added to the sweep's, for example `quickstart@gemma-2b`
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Option<PathBuf>,
}

impl SweepFile {
    /// The words that name it on the command line.
    pub(crate) fn shown(&self) -> String {
        let file = self.file.display();
        match &self.base {
            Some(base) => format!("{file} --base {}", base.display()),
            None => file.to_string(),
        }
    }

    /// Refuses a base file that is neither in the working folder nor beside the sweep file.
    fn base_exists(&self, project: &Project) -> Result<(), CommandError> {
        let Some(base) = &self.base else {
            return Ok(());
        };
        let beside = self.file.parent().map(|folder| folder.join(base));
        if base.is_file() || beside.is_some_and(|path| path.is_file()) {
            return Ok(());
        }
        let failure = CommandError::user(format!("there is no base file `{}`", base.display()));
        let bases = toml_files(project, "sweeps/base");
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
        let file = &self.file;
        if !file.exists() || file.is_dir() {
            let hint = match toml_files(project, "sweeps").as_slice() {
                [] => format!(
                    "sweep files live in {}",
                    project.root.join("sweeps").display()
                ),
                files => format!("sweep files here: {}", files.join(", ")),
            };
            let shown = file.display();
            let message = if file.is_dir() {
                format!("`{shown}` is a folder, not a sweep file")
            } else {
                format!("there is no sweep file `{shown}`")
            };
            return Err(CommandError::user(message).hint(hint));
        }
        self.base_exists(project)?;
        load_sweep_on(self.base.as_deref(), file, &project.root, inputs).map_err(|error| {
            let rendered = error.render(ui.colors_err());
            let mut failure = CommandError::user(error);
            failure.rendered = Some(rendered);
            failure
        })
    }
}

// As above.
#[derive(Debug, clap::Args)]
pub(crate) struct SweepWord {
    /// Sweep name, or its file
    pub(crate) sweep: String,
    /// Base file that the sweep ran on, if another than its own
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Option<PathBuf>,
}

impl SweepWord {
    /// The sweep file, if that is what was typed.
    pub(crate) fn near(&self) -> Option<&Path> {
        let path = Path::new(&self.sweep);
        path.is_file().then_some(path)
    }

    /// The sweep's name: as typed, or the stem of its file; with that of the base.
    pub(crate) fn name(&self) -> Result<String, CommandError> {
        let path = Path::new(&self.sweep);
        let is_file = path.extension().is_some_and(|ending| ending == "toml");
        let stem = if is_file {
            path.file_stem().and_then(|stem| stem.to_str())
        } else {
            Some(self.sweep.as_str())
        };
        let stem =
            stem.ok_or_else(|| CommandError::user(format!("`{}` is no sweep's name", self.sweep)))?;
        Ok(match &self.base {
            Some(base) => name_on_base(stem, base),
            None => stem.to_owned(),
        })
    }
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
