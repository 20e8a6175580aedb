//! Another base under the same study: `--base` puts a file in the place of the one in `base/`.

use crate::config::diagnose::{Diagnostic, Place, Problems};
use crate::config::file::{is_plain, made_plain};
use std::path::{Component, Path, PathBuf};

/// The base asked for, and what it has replaced so far.
#[derive(Debug)]
pub(crate) struct OtherBase {
    file: PathBuf,
    replaced: Option<(PathBuf, Place)>,
}

impl OtherBase {
    /// `file` is looked for from the working folder, then from the folder of the `sweep` file.
    pub(crate) fn new(file: &Path, sweep: &Path) -> Self {
        let beside = sweep.parent().unwrap_or(Path::new("")).join(file);
        let file = if file.is_file() {
            file.to_owned()
        } else {
            beside
        };
        Self {
            file,
            replaced: None,
        }
    }

    /// What stands for `named`, which the file `by` extends at `place`: the other base if `named`
    /// lies in a folder `base`. What a base itself extends stays.
    pub(crate) fn instead(
        &mut self,
        by: &Path,
        named: PathBuf,
        place: Place,
        problems: &mut Problems,
    ) -> PathBuf {
        if !in_base_folder(&named) || in_base_folder(by) || by == self.file {
            return named;
        }
        let plain = plain_path(&named);
        match &self.replaced {
            Some((first, at)) if *first != plain => {
                let message = "`--base` replaces one base file, and this sweep extends two";
                let found = Diagnostic::new(place, message).also(*at, "the other one");
                problems.insert(found.help("let the sweep extend one file of `base/`"));
            }
            Some(_) => {}
            None => self.replaced = Some((plain, place)),
        }
        self.file.clone()
    }

    /// The base, once it has been laid below the sweep. Its stem becomes part of the sweep's name.
    ///
    /// Nothing was replaced, or the file's name cannot stand in a sweep's: a problem at `extends`,
    /// the place of that key if there is one.
    pub(crate) fn used(&self, extends: Option<Place>, problems: &mut Problems) -> Option<()> {
        let at = |message: String, help: String| {
            let found = match extends {
                Some(place) => Diagnostic::new(place, message),
                None => Diagnostic::nowhere(message),
            };
            found.help(help)
        };
        if self.replaced.is_none() {
            let message = "`--base` replaces the file in `base/` that a sweep extends, and this \
                           one extends none";
            let help = "leave `--base` out, or let the sweep extend a file of a folder `base`";
            problems.insert(at(message.to_owned(), help.to_owned()));
            return None;
        }
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        if !is_plain(&stem, "-_.") {
            let message = format!(
                "the base file's name `{stem}` becomes part of the sweep's and has other characters \
                 than letters, digits, `-`, `_` and `.`"
            );
            let help = format!("call it `{}.toml`, for example", made_plain(&stem));
            problems.insert(at(message, help));
            return None;
        }
        Some(())
    }
}

/// The name of a sweep on another base file, so that results of two bases never mix.
pub(crate) fn name_on_base(sweep: &str, base: &Path) -> String {
    let stem = base.file_stem().unwrap_or_default().to_string_lossy();
    format!("{sweep}{BASE_MARK}{stem}")
}

/// Stands between a sweep's own name and that of its base.
pub(crate) const BASE_MARK: char = '@';

fn in_base_folder(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder == "base")
}

/// Without `.` and `a/..`.
pub(crate) fn plain_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(plain.components().next_back(), Some(Component::Normal(_))) =>
            {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
