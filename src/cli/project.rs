//! Where the project is: the folder that holds `sweeps/`, `results/` and `reports/`.

use crate::base::PathError;
use crate::cli::error::CommandError;
use crate::config::{ProjectFile, plain_path};
use crate::plan::DIGESTS_PATH;
use crate::store::store_path;
use std::path::{Path, PathBuf};

/// The project root.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Absolute path.
    pub(crate) root: PathBuf,
}

impl Project {
    /// `given`, or the nearest folder at or above the sweep file (else the working folder) that
    /// holds a `sweeps` folder, or the working folder.
    pub(crate) fn find(given: Option<&Path>, near: Option<&Path>) -> Result<Self, CommandError> {
        let cwd = std::env::current_dir()
            .map_err(|e| CommandError::user(PathError::new("read", ".", e)))?;
        if let Some(root) = given {
            let root = root
                .canonicalize()
                .map_err(|e| CommandError::user(PathError::new("open", root, e)))?;
            return Ok(Self { root });
        }
        // As typed: a link to a sweep file or to a folder of them does not lead to another project.
        let start = near.map_or_else(|| cwd.clone(), |file| plain_path(&cwd.join(file)));
        let holds_sweeps = |dir: &&Path| dir.join("sweeps").is_dir();
        let above = |path: &Path| path.ancestors().find(holds_sweeps).map(Path::to_path_buf);
        Ok(Self {
            root: above(&start).or_else(|| above(&cwd)).unwrap_or(cwd),
        })
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    /// Where the database lies; at the usual place if `lions.toml` cannot be read, which is told elsewhere.
    pub(crate) fn database(&self) -> PathBuf {
        store_path(&self.root).unwrap_or_else(|_| self.results().join("lions.db"))
    }

    /// What `lions.toml` says.
    pub(crate) fn file(&self, color: bool) -> Result<ProjectFile, CommandError> {
        ProjectFile::read(&self.root).map_err(|error| {
            let (rendered, findings) = (error.render(color), error.findings());
            let mut failure = CommandError::user(error);
            failure.rendered = Some(rendered);
            failure.findings = findings;
            failure
        })
    }

    pub(crate) fn digests(&self) -> PathBuf {
        self.root.join(DIGESTS_PATH)
    }

    pub(crate) fn report_dir(&self, sweep: &str) -> PathBuf {
        self.root.join("reports").join(sweep)
    }
}
