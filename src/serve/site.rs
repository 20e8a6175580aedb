//! The project that is shown, and what is remembered of it between requests.

use crate::live::Watch;
use crate::serve::response::{Response, refusal};
use crate::serve::results::{Results, Shelf};
use crate::store::{ReadStore, StoreError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The project that is shown.
#[derive(Debug)]
pub struct Site {
    root: PathBuf,
    /// One connection to the store for whatever is asked often. It is held for milliseconds; what takes longer opens its own.
    watch: Mutex<Option<Watch>>,
    shelf: Shelf,
}

impl Site {
    /// The project at `root`, which need not have run anything yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            watch: Mutex::new(None),
            shelf: Shelf::default(),
        }
    }

    /// The project's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Asks the watch; nothing where nothing has run yet.
    ///
    /// # Errors
    /// What a client is told.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&mut Watch) -> Result<T, StoreError>,
    ) -> Result<Option<T>, Response> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.as_ref().is_none_or(Watch::is_gone) {
            *watch = Watch::open(&self.root).map_err(|error| refusal(&error))?;
        }
        let Some(open) = watch.as_mut() else {
            return Ok(None);
        };
        let answer = question(open);
        if matches!(answer, Err(StoreError::Sql(_) | StoreError::Damaged { .. })) {
            // Another connection may fare better.
            *watch = None;
        }
        answer.map(Some).map_err(|error| refusal(&error))
    }

    /// The same of what must be there.
    ///
    /// # Errors
    /// As [`Site::ask`]; nothing has run yet.
    pub(crate) fn must_ask<T>(
        &self,
        question: impl FnOnce(&mut Watch) -> Result<T, StoreError>,
    ) -> Result<T, Response> {
        self.ask(question)?
            .ok_or_else(|| Response::error(404, "nothing has run here yet"))
    }

    /// Tables, claims and figures of a sweep.
    ///
    /// # Errors
    /// What a client is told.
    pub(crate) fn results(&self, name: &str) -> Result<Arc<Results>, Response> {
        let (states, registered) = self.must_ask(|watch| {
            let registered = watch.store().sweep(name)?.registered;
            Ok((watch.sweep(name)?.states, registered))
        })?;
        let key = (
            states.succeeded,
            states.failed + states.skipped + states.cancelled,
            registered,
        );
        self.shelf.get(name, key, || {
            let store = ReadStore::of_project(&self.root).map_err(|error| refusal(&error))?;
            Results::of(&store, &self.root, name)
        })
    }
}
