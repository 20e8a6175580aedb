//! Where the project is: the folder that holds `sweeps/`, `results/` and `reports/`.

use crate::base::PathError;
use crate::cli::error::CommandError;
use crate::config::plain_path;
use crate::plan::DIGESTS_PATH;
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

    pub(crate) fn database(&self) -> PathBuf {
        self.results().join("lions.db")
    }

    pub(crate) fn digests(&self) -> PathBuf {
        self.root.join(DIGESTS_PATH)
    }

    pub(crate) fn report_dir(&self, sweep: &str) -> PathBuf {
        self.root.join("reports").join(sweep)
    }
}
