//! Asks the store and the journals again and again, and reads only what is new.

use crate::base::{Clock as _, SystemClock, Timestamp};
use crate::live::progress::{Progress, Tail};
use crate::live::view::{RunView, Stored, SweepView};
use crate::plan::RunId;
use crate::rundir::RunDir;
use crate::store::{ReadStore, StoreError, SweepRow, store_path};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A sweep is read anew so many times the reading took after the last one began, so that a large sweep whose leases move
/// every other second costs a tenth of a processor at most.
const PAUSE: u32 = 10;

/// A sweep as it was read.
#[derive(Debug)]
struct Kept {
    version: i64,
    stored: Stored,
    runs: Arc<Vec<RunView>>,
    /// Not read again before.
    until: Instant,
}

/// Reads a project that others change.
#[derive(Debug)]
pub struct Watch {
    root: PathBuf,
    store: ReadStore,
    /// Which file the store was when it was opened.
    file: Option<u64>,
    sweeps: BTreeMap<String, Kept>,
    tails: BTreeMap<(RunId, u32), Tail>,
}

impl Watch {
    /// A watch over the project at `root`; nothing where no store is there yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(root: &Path) -> Result<Option<Self>, StoreError> {
        let store = match ReadStore::of_project(root) {
            Err(StoreError::Missing { .. }) => return Ok(None),
            opened => opened?,
        };
        Ok(Some(Self {
            root: root.to_owned(),
            file: file_number(root),
            store,
            sweeps: BTreeMap::new(),
            tails: BTreeMap::new(),
        }))
    }

    /// Whether the store's file is another one now, or gone: a rebuilt one takes the place of the old.
    pub fn is_gone(&self) -> bool {
        self.file != file_number(&self.root)
    }

    /// The store that is read.
    pub fn store(&self) -> &ReadStore {
        &self.store
    }

    /// Every sweep, latest registration first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sweeps(&self) -> Result<Vec<SweepRow>, StoreError> {
        self.store.sweeps()
    }

    /// A sweep as it is now.
    ///
    /// # Errors
    /// There is none of that name, or the store cannot be read.
    pub fn sweep(&mut self, name: &str) -> Result<SweepView, StoreError> {
        let now = SystemClock.now();
        self.read_on(name, now)?;
        let Some(kept) = self.sweeps.get(name) else {
            return Err(StoreError::NoSweep {
                name: name.to_owned(),
                known: String::new(),
            });
        };
        let (root, tails) = (&self.root, &mut self.tails);
        let view = kept
            .stored
            .view(name, Arc::clone(&kept.runs), now, |run, attempt| {
                follow(tails, root, run, attempt)
            });
        // Attempts that have ended are not asked again.
        let live = kept.stored.live(now);
        let runs: BTreeMap<&RunId, u32> = live.iter().map(|(row, a)| (&row.id, a.number)).collect();
        let of_sweep = |run: &RunId| kept.runs.iter().any(|view| view.run == *run);
        self.tails
            .retain(|(run, attempt), _| runs.get(run) == Some(attempt) || !of_sweep(run));
        Ok(view)
    }

    fn read_on(&mut self, name: &str, now: Timestamp) -> Result<(), StoreError> {
        let version = self.store.version()?;
        let begun = Instant::now();
        let is_current = |kept: &Kept| {
            begun < kept.until || kept.version == version && !kept.stored.is_at_work()
        };
        if self.sweeps.get(name).is_some_and(is_current) {
            return Ok(());
        }
        let stored = Stored::read(&self.store, name)?;
        let runs = Arc::new(stored.runs(now));
        let until = begun + (begun.elapsed() * PAUSE).min(Duration::from_secs(10));
        let kept = Kept {
            version,
            stored,
            runs,
            until,
        };
        self.sweeps.insert(name.to_owned(), kept);
        Ok(())
    }
}

/// What tells the store's file from another one of its name.
#[cfg(unix)]
fn file_number(root: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = store_path(root).ok()?.metadata();
    meta.ok().map(|meta| meta.ino())
}

#[cfg(not(unix))]
fn file_number(root: &Path) -> Option<u64> {
    store_path(root).ok()?.is_file().then_some(0)
}

fn follow(
    tails: &mut BTreeMap<(RunId, u32), Tail>,
    root: &Path,
    run: &RunId,
    attempt: u32,
) -> Progress {
    let tail = tails
        .entry((run.clone(), attempt))
        .or_insert_with(|| Tail::new(&RunDir::new(root, run).attempt(attempt)));
    tail.read_on().clone()
}
