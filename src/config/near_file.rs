//! What stands where a file or folder was looked for, and what was probably meant.

use crate::config::diagnose::nearest;
use std::collections::BTreeSet;
use std::path::Path;

/// What a folder with a model is called here.
pub(super) const MODEL: &str = "model folder";

/// That below `root` there is no `what` (data file, model folder, file) called `path`, and what to do about it.
pub(super) fn no_such(root: &Path, path: &str, what: &str) -> (String, String) {
    let full = root.join(path);
    let message = format!("there is no {what} `{path}`");
    let meta = match std::fs::symlink_metadata(&full) {
        Ok(meta) => meta,
        Err(_) if path.contains("://") => {
            let help = format!("nothing is fetched from elsewhere: name a {what} of this machine");
            return (message, help);
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return (
                format!("cannot look at `{path}`: {error}"),
                "see whether you may read the folders that it lies in".to_owned(),
            );
        }
        Err(_) if what == MODEL && is_of_a_hub(root, path) => {
            let name = path.rsplit('/').next().unwrap_or(path);
            let help = format!("models are read from folders: put it into `models/{name}`");
            return (message, help);
        }
        Err(_) => return (message, near_file(root, path)),
    };
    if meta.is_symlink() && !full.exists() {
        let target = std::fs::read_link(&full).unwrap_or_default();
        let help = format!("it leads to `{}`", target.display());
        return (format!("`{path}` is a link that leads nowhere"), help);
    }
    if full.is_dir() {
        let message = format!("`{path}` is a folder, not a {what}");
        return (message, content(&full, path));
    }
    (
        format!("`{path}` is neither a file nor a folder"),
        format!("name a {what}"),
    )
}

/// Whether a path looks like `ORGANISATION/MODEL` on a hub.
fn is_of_a_hub(root: &Path, path: &str) -> bool {
    let mut parts = path.split('/').map(|part| !part.is_empty());
    let two = [parts.next(), parts.next(), parts.next()] == [Some(true), Some(true), None];
    let first = path.split('/').next().unwrap_or_default();
    two && !first.starts_with('.') && !root.join(first).exists() && near_name(root, first).is_none()
}

/// The entry of a folder whose name is nearest to another.
fn near_name(folder: &Path, wrong: &str) -> Option<String> {
    let names = names_in(folder);
    let near = nearest(wrong, names.iter().map(String::as_str));
    near.map(str::to_owned)
}

/// Names of files and folders, in order.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What is in a folder, which is called `shown`.
pub(super) fn content(folder: &Path, shown: &str) -> String {
    let names = names_in(folder);
    let listed: Vec<String> = names
        .iter()
        .take(8)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if names.len() > listed.len() {
        ", …"
    } else {
        ""
    };
    match (listed.join(", "), shown) {
        (listed, shown) if listed.is_empty() => format!("`{shown}` is empty"),
        (listed, "") => format!("the project's folder holds {listed}{more}"),
        (listed, shown) => format!("`{shown}` holds {listed}{more}"),
    }
}

/// The existing file that `path` was probably meant to be, or what there is instead.
fn near_file(root: &Path, path: &str) -> String {
    let full = root.join(path);
    let Some(folder) = full.ancestors().skip(1).find(|folder| folder.is_dir()) else {
        return "paths begin at the project's folder".to_owned();
    };
    let shown = |path: &Path| {
        path.strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let below = full
        .strip_prefix(folder)
        .ok()
        .and_then(|rest| rest.components().next());
    let wrong = below.map(|part| part.as_os_str().to_string_lossy().into_owned());
    let near = wrong.and_then(|wrong| near_name(folder, &wrong));
    near.map_or_else(
        || content(folder, &shown(folder)),
        |near| format!("did you mean `{}`?", shown(&folder.join(near))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a data file called `path` in a folder with some oddities.
    fn said(path: &str, what: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("models/tiny")).unwrap();
        crate::base::write_atomic(&dir.path().join("rows.jsonl"), b"{}").unwrap();
        std::os::unix::fs::symlink("gone.jsonl", dir.path().join("link.jsonl")).unwrap();
        std::os::unix::fs::symlink("round.jsonl", dir.path().join("round.jsonl")).unwrap();
        let (message, help) = no_such(dir.path(), path, what);
        format!("{message} ({help})")
    }

    #[test]
    fn what_is_there_and_no_file_is_not_said_to_be_missing_nor_suggested() {
        let data = |path| said(path, "data file");
        assert_eq!(
            data("row.jsonl"),
            "there is no data file `row.jsonl` (did you mean `rows.jsonl`?)"
        );
        assert_eq!(
            data("/dev/null"),
            "`/dev/null` is neither a file nor a folder (name a data file)"
        );
        assert_eq!(
            data("models"),
            "`models` is a folder, not a data file (`models` holds `tiny`)"
        );
        assert_eq!(
            data("link.jsonl"),
            "`link.jsonl` is a link that leads nowhere (it leads to `gone.jsonl`)"
        );
        assert_eq!(
            data("round.jsonl"),
            "`round.jsonl` is a link that leads nowhere (it leads to `round.jsonl`)"
        );
    }

    #[test]
    fn what_lies_elsewhere_is_to_be_put_here() {
        assert_eq!(
            said("https://example.org/rows.jsonl", "data file"),
            "there is no data file `https://example.org/rows.jsonl` (nothing is fetched from elsewhere: \
             name a data file of this machine)"
        );
        assert_eq!(
            said("someone/big-model", MODEL),
            "there is no model folder `someone/big-model` (models are read from folders: put it into \
             `models/big-model`)"
        );
        for (path, want) in [
            ("models/tinny", "did you mean `models/tiny`?"),
            ("model/tiny", "did you mean `models`?"),
        ] {
            assert!(said(path, MODEL).contains(want), "{}", said(path, MODEL));
        }
    }
}
