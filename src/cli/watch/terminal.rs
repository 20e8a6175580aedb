//! The terminal while a screen is on it: raw, on a page of its own, and given back however this ends.

use crate::base::Shutdown;
use crate::base::chain;
use crate::cli::database::store_error;
use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::DONE;
use crate::cli::signals::stop_on_signals;
use crate::cli::watch::look::{Looker, Shown};
use crate::cli::watch::screen::draw;
use crate::cli::watch::state::{Next, WatchState};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, Stdout, Write};
use std::panic;
use std::time::{Duration, Instant};

/// How often what is shown is read anew.
const LOOK: Duration = Duration::from_millis(500);
/// How soon a signal is noticed.
const TICK: Duration = Duration::from_millis(100);

/// Follows what is running until a key or a signal ends it.
///
/// # Errors
/// The first page cannot be read, or the terminal refuses.
pub(crate) fn watch(
    looker: &mut Looker,
    mut state: WatchState,
    color: bool,
) -> Result<u8, CommandError> {
    let shutdown = Shutdown::new();
    stop_on_signals(&shutdown)?;
    // Before the terminal is taken, so that what is wrong is told as ever.
    let mut shown = looker.look(state.page()).map_err(store_error)?;
    restore_on_panic();
    let _taken = Taken::take(io::stdout()).map_err(CommandError::user)?;
    let mut terminal =
        Terminal::new(CrosstermBackend::new(io::stdout())).map_err(CommandError::user)?;
    let mut note: Option<String> = None;
    let mut looked = Instant::now();
    loop {
        paint(&mut terminal, &state, &shown, note.as_deref(), color)?;
        let mut next = match read_key(TICK).map_err(CommandError::user)? {
            Some(Event::Key(key)) if key.kind != KeyEventKind::Release => state.key(key, &shown),
            _ => Next::Draw,
        };
        if shutdown.requested() {
            next = Next::Interrupt;
        }
        match next {
            Next::Quit => return Ok(DONE),
            Next::Interrupt => return Ok(exit_code::INTERRUPTED),
            Next::Draw if looked.elapsed() < LOOK => continue,
            Next::Draw | Next::Look => {}
        }
        looked = Instant::now();
        match looker.look(state.page()) {
            Ok(found) => (shown, note) = (found, None),
            // A moment in which the store does not answer passes; what was shown stays.
            Err(error) => note = Some(chain(&error)),
        }
    }
}

fn paint(
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    state: &WatchState,
    shown: &Shown,
    note: Option<&str>,
    color: bool,
) -> Result<(), CommandError> {
    let drawn = terminal.draw(|frame| draw(frame, state, shown, note, color));
    drawn.map(drop).map_err(CommandError::user)
}

/// A key or a new size, if one comes in time.
fn read_key(wait: Duration) -> io::Result<Option<Event>> {
    let come = match event::poll(wait) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
        come => come?,
    };
    if come {
        event::read().map(Some)
    } else {
        Ok(None)
    }
}

/// The terminal, taken until this is dropped.
struct Taken<W: Write>(W);

impl<W: Write> Taken<W> {
    fn take(out: W) -> io::Result<Self> {
        enable_raw_mode()?;
        let mut taken = Self(out);
        execute!(taken.0, EnterAlternateScreen)?;
        Ok(taken)
    }
}

impl<W: Write> Drop for Taken<W> {
    fn drop(&mut self) {
        give_back(&mut self.0);
    }
}

/// Makes the terminal what it was; once more does no harm.
fn give_back(out: &mut impl Write) {
    drop(disable_raw_mode());
    drop(execute!(out, LeaveAlternateScreen, Show));
}

/// What a panic says is to stand where it stays: the terminal is given back first.
fn restore_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        give_back(&mut io::stdout());
        before(info);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let mut said: Vec<u8> = Vec::new();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _taken = Taken(&mut said);
            panic!("on purpose");
        }));
        assert!(ended.is_err());
        let said = String::from_utf8(said).unwrap();
        assert_eq!(said, "\u{1b}[?1049l\u{1b}[?25h");
    }
}
