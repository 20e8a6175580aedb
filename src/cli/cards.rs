//! What the environment says of how cards are reached.

use crate::stage::DeviceAccess;
use std::env::{split_paths, var_os};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Names folders that hold cuBLAS, as `PATH` names folders.
const LIBRARIES: &str = "LIONS_CUDA_LIB";
/// Names the library of emulated kernels; for tests.
const EMULATION: &str = "LIONS_EMULATION";

/// How this process reaches devices beside the processor; an attempt is told of its card besides.
pub(crate) fn access() -> DeviceAccess {
    let named = var_os(LIBRARIES).unwrap_or_default();
    let folders = split_paths(&named).filter(|folder| !folder.as_os_str().is_empty());
    let toolkit = PathBuf::from("/usr/local/cuda/lib64");
    let search = var_os("PATH").unwrap_or_default();
    DeviceAccess {
        card: None,
        memory: None,
        libraries: folders
            .chain([toolkit])
            .chain(wheels(&search, var_os("HOME").map(PathBuf::from)))
            .collect(),
        emulation: var_os(EMULATION).map(PathBuf::from),
    }
}

/// Where NVIDIA's wheels put cuBLAS, for the first `python3` of a search path: newest CUDA first. A virtual environment
/// links to the interpreter that it was made from, which may have them instead, as may the user's home.
fn wheels(search: &OsStr, home: Option<PathBuf>) -> Vec<PathBuf> {
    let mut pythons = split_paths(search).map(|folder| folder.join("python3"));
    let Some(python) = pythons.find(|path| path.is_file()) else {
        return Vec::new();
    };
    let prefix = |python: &Path| python.ancestors().nth(2).map(Path::to_owned);
    let origin = python.canonicalize().ok();
    let origin = origin.and_then(|python| prefix(&python));
    let local = origin.as_ref().map(|prefix| prefix.join("local"));
    let home = home.map(|home| home.join(".local"));
    let prefixes = [prefix(&python), origin, local, home];
    let mut found: Vec<PathBuf> = Vec::new();
    for packages in prefixes
        .into_iter()
        .flatten()
        .flat_map(|prefix| packages(&prefix))
    {
        let mut folders = entries(&packages.join("nvidia"), "cu1");
        folders.push(packages.join("nvidia/cublas"));
        let libraries = folders.iter().map(|folder| folder.join("lib"));
        found.extend(libraries.filter(|folder| folder.is_dir()));
    }
    found.dedup();
    found
}

/// Folders of packages below a prefix.
fn packages(prefix: &Path) -> Vec<PathBuf> {
    let versions = entries(&prefix.join("lib"), "python3");
    let both = versions
        .iter()
        .flat_map(|version| ["site-packages", "dist-packages"].map(|name| version.join(name)));
    both.collect()
}

/// Entries of a folder whose names begin so, the last by name first.
fn entries(folder: &Path, begin: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(begin));
    let mut paths: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    paths.sort();
    paths.reverse();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn file(path: &Path) {
        crate::base::write_atomic(path, b"").unwrap();
    }

    #[test]
    fn wheels_are_found_beside_the_python_of_the_path_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let site = "lib/python3.12/site-packages/nvidia";
        file(&at("usr/bin/python3"));
        file(&at(&format!("usr/{site}/cublas/lib/libcublas.so.12")));
        file(&at(&format!("venv/{site}/cu12/lib/libcublas.so.12")));
        file(&at(&format!("venv/{site}/cu13/lib/libcublas.so.13")));
        std::fs::create_dir_all(at("venv/bin")).unwrap();
        std::fs::create_dir_all(at("empty")).unwrap();
        symlink(at("usr/bin/python3"), at("venv/bin/python3")).unwrap();
        let search = std::env::join_paths([at("empty"), at("venv/bin"), at("usr/bin")]).unwrap();
        file(&at(&format!("home/.local/{site}/cu13/lib/libcublas.so.13")));
        let usr = at("usr").canonicalize().unwrap();
        let wanted = [
            at(&format!("venv/{site}/cu13/lib")),
            at(&format!("venv/{site}/cu12/lib")),
            usr.join(format!("{site}/cublas/lib")),
            at(&format!("home/.local/{site}/cu13/lib")),
        ];
        assert_eq!(wheels(&search, Some(at("home"))), wanted);
        assert!(wheels(at("empty").as_os_str(), None).is_empty());
    }
}
