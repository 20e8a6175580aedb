//! What keys do: which page is shown, what is chosen on it, what it is filtered by.

use crate::cli::watch::look::{Page, Shown};
use crate::live::RunView;
use crate::plan::RunId;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Draw anew.
    Draw,
    /// Another page: read it first.
    Look,
    /// End, as asked.
    Quit,
    /// End, interrupted.
    Interrupt,
}

/// Where a person is on the screen.
#[derive(Clone, Debug)]
pub(crate) struct WatchState {
    /// Pages from the first to the one that is shown, each with what it was filtered by when it was left.
    stack: Vec<(Page, String)>,
    /// What is chosen: it may move on the page while it is watched.
    chosen: Option<String>,
    /// Its place when it was chosen, for when it is gone.
    cursor: usize,
    /// Words that rows must have.
    pub(crate) filter: String,
    /// Whether keys go into the filter.
    pub(crate) typing: bool,
}

/// A screen moves by so many rows with PageUp and PageDown.
const PAGE_ROWS: isize = 10;

impl WatchState {
    /// At the beginning of a page.
    pub(crate) fn new(first: Page) -> Self {
        Self {
            stack: vec![(first, String::new())],
            chosen: None,
            cursor: 0,
            filter: String::new(),
            typing: false,
        }
    }

    /// The page that is shown.
    pub(crate) fn page(&self) -> &Page {
        self.stack.last().map_or(&Page::Sweeps, |(page, _)| page)
    }

    /// Whether there is a page to go back to.
    pub(crate) fn is_deep(&self) -> bool {
        self.stack.len() > 1
    }

    /// Names of the rows that are shown, in order: what can be chosen.
    pub(crate) fn rows(&self, shown: &Shown) -> Vec<String> {
        match shown {
            Shown::Sweeps(sweeps, _) => {
                let fits = sweeps.iter().filter(|sweep| self.fits(&[&sweep.name]));
                fits.map(|sweep| sweep.name.clone()).collect()
            }
            Shown::Sweep(_, runs, _) => {
                let fits = runs.iter().filter(|run| self.fits_run(run));
                fits.map(|run| run.run.0.clone()).collect()
            }
            Shown::Run(_) => Vec::new(),
        }
    }

    /// Whether a run has every word of the filter.
    pub(crate) fn fits_run(&self, run: &RunView) -> bool {
        self.fits(&[&run.label, &run.run.0, run.stage.name(), run.state])
    }

    fn fits(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        let is_there = |word: &str| texts.iter().any(|text| text.to_lowercase().contains(word));
        filter.split_whitespace().all(is_there)
    }

    /// The place of what is chosen among `rows`; on a page of text, its first line.
    pub(crate) fn place(&self, rows: &[String]) -> usize {
        let chosen = self.chosen.as_ref();
        let place = chosen.and_then(|chosen| rows.iter().position(|row| row == chosen));
        match rows.len() {
            0 => self.cursor,
            n => place.unwrap_or(self.cursor).min(n - 1),
        }
    }

    /// What a key does.
    pub(crate) fn key(&mut self, key: KeyEvent, shown: &Shown) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Next::Interrupt,
                _ => Next::Draw,
            };
        }
        if self.typing {
            self.type_on(key.code);
            return Next::Draw;
        }
        let rows = self.rows(shown);
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('/') => self.typing = !matches!(shown, Shown::Run(_)),
            KeyCode::Up | KeyCode::Char('k') => self.step(&rows, -1),
            KeyCode::Down | KeyCode::Char('j') => self.step(&rows, 1),
            KeyCode::PageUp => self.step(&rows, -PAGE_ROWS),
            KeyCode::PageDown => self.step(&rows, PAGE_ROWS),
            KeyCode::Home => self.step(&rows, isize::MIN),
            KeyCode::End => self.step(&rows, isize::MAX),
            KeyCode::Enter | KeyCode::Right => return self.open(&rows),
            KeyCode::Esc if !self.filter.is_empty() && !matches!(shown, Shown::Run(_)) => {
                self.filter.clear();
            }
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => return self.back(),
            _ => {}
        }
        Next::Draw
    }

    fn type_on(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }

    fn step(&mut self, rows: &[String], by: isize) {
        // A page of text knows its end when it is drawn.
        let last = if rows.is_empty() {
            1000
        } else {
            rows.len() - 1
        };
        self.cursor = self.place(rows).saturating_add_signed(by).min(last);
        self.chosen = rows.get(self.cursor).cloned();
    }

    fn open(&mut self, rows: &[String]) -> Next {
        let place = self.place(rows);
        let Some(name) = rows.get(place).cloned() else {
            return Next::Draw;
        };
        let page = match self.page() {
            Page::Sweeps => Page::Sweep(name),
            Page::Sweep(sweep) => Page::Run {
                sweep: sweep.clone(),
                run: RunId(name),
            },
            Page::Run { .. } => return Next::Draw,
        };
        if let Some((_, kept)) = self.stack.last_mut() {
            *kept = std::mem::take(&mut self.filter);
        }
        self.stack.push((page, String::new()));
        (self.chosen, self.cursor) = (None, 0);
        Next::Look
    }

    fn back(&mut self) -> Next {
        if !self.is_deep() {
            return Next::Draw;
        }
        let left = self.stack.pop().map(|(page, _)| page);
        self.cursor = 0;
        if let Some((_, kept)) = self.stack.last_mut() {
            self.filter = std::mem::take(kept);
        }
        self.chosen = match left {
            Some(Page::Sweep(name)) => Some(name),
            Some(Page::Run { run, .. }) => Some(run.0),
            _ => None,
        };
        Next::Look
    }
}
