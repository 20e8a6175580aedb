//! The screen at several widths, and what keys do to it.

use crate::base::Timestamp;
use crate::cli::watch::look::{Page, RunDetail, Shown};
use crate::cli::watch::screen::draw;
use crate::cli::watch::state::{Next, WatchState};
use crate::live::{AtWork, Progress, RunView, SweepView};
use crate::plan::{RunId, StageKind};
use crate::report::display_width;
use crate::rundir::MetricValue;
use crate::store::{AttemptRow, StateCounts};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::sync::Arc;

fn run(digit: char, stage: StageKind, state: &'static str, label: &str) -> RunView {
    RunView {
        run: RunId(digit.to_string().repeat(64)),
        stage,
        state,
        label: label.to_owned(),
        trials: 1,
        attempts: 1,
        secs: (state != "ready").then_some(185.0),
        message: (state == "failed").then(|| "the loss is not finite".to_owned()),
    }
}

fn work(run: &RunView) -> AtWork {
    AtWork {
        run: run.run.clone(),
        stage: run.stage,
        label: run.label.clone(),
        attempt: 1,
        device: "cuda:0".to_owned(),
        started: Timestamp(0),
        progress: Progress {
            unit: "steps".to_owned(),
            done: 412,
            total: 949,
            from: 0,
            loss: Some(0.712_345),
            losses: (0..60).map(|i| 1.0 / f64::from(i + 1)).collect(),
            tokens: 1e6,
            at: Some(Timestamp(80_000)),
        },
        tokens_per_sec: Some(12_345.0),
        secs_left: Some(250.0),
        planned_memory_bytes: 3_900_000_000,
    }
}

fn sweep() -> Shown {
    let runs = vec![
        run(
            'a',
            StageKind::Dpo,
            "running",
            "beta=0.1 loss=sigmoid pairs=933 seed=1",
        ),
        run(
            'b',
            StageKind::Sft,
            "failed",
            "evil=\u{1b}[2J\u{202e}<script> rate=1e38",
        ),
        run(
            'c',
            StageKind::Eval,
            "ready",
            "データの混合=指示と物語と対話と要約 seed=2",
        ),
        run('d', StageKind::RefLogps, "done", ""),
    ];
    let states = StateCounts {
        ready: 1,
        leased: 1,
        succeeded: 1,
        failed: 1,
        ..StateCounts::default()
    };
    let view = SweepView {
        name: "quickstart".to_owned(),
        question: "How do the strength of the pull and the number of pairs act together?"
            .to_owned(),
        trials: 4,
        states,
        silent: 0,
        at_work: vec![work(&runs[0])],
        secs_left: Some(725.0),
        runs: Arc::new(runs.clone()),
    };
    Shown::Sweep(view, runs, Vec::new())
}

fn detail() -> Shown {
    let view = run('b', StageKind::Sft, "failed", "rate=1e38");
    let attempt = AttemptRow {
        number: 1,
        state: "failed".to_owned(),
        owner: "me".to_owned(),
        device: "cpu".to_owned(),
        handle: None,
        started: Timestamp(0),
        expires: Timestamp(1),
        ended: Some(Timestamp(185_000)),
        class: None,
        message: Some("the loss is not finite".to_owned()),
        usage: None,
    };
    Shown::Run(Box::new(RunDetail {
        view,
        at_work: None,
        why: vec!["failed: the loss is not finite".to_owned()],
        attempts: vec![attempt],
        metrics: [("tales/loss".to_owned(), MetricValue::single(1.5))].into(),
        losses: vec![3.0, 2.0, 1.0],
        log: vec!["said \u{1b}[31mred\u{1b}[0m".to_owned()],
    }))
}

fn in_sweep() -> WatchState {
    WatchState::new(Page::Sweep("quickstart".to_owned()))
}

/// The rows of a screen of this size.
fn drawn(width: u16, height: u16, state: &WatchState, shown: &Shown) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, state, shown, None, true))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let mut x = 0;
        let mut line = String::new();
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            x += u16::try_from(display_width(symbol).max(1)).unwrap();
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn press(state: &mut WatchState, shown: &Shown, code: KeyCode) -> Next {
    state.key(KeyEvent::new(code, KeyModifiers::NONE), shown)
}

#[test]
fn a_sweep_at_work_fits_terminals_of_every_width() {
    for width in [40, 60, 80, 120, 200] {
        insta::assert_snapshot!(
            format!("watch_sweep_{width}"),
            drawn(width, 14, &in_sweep(), &sweep())
        );
    }
}

#[test]
fn a_run_in_detail() {
    let state = WatchState::new(Page::Run {
        sweep: "quickstart".to_owned(),
        run: RunId("b".repeat(64)),
    });
    insta::assert_snapshot!("watch_run_80", drawn(80, 16, &state, &detail()));
}

#[test]
fn no_size_of_a_terminal_makes_it_panic_and_no_text_steers_it() {
    for shown in [sweep(), detail()] {
        for width in [1, 2, 9, 10, 39, 66, 110, 400] {
            for height in [1, 2, 3, 9, 50] {
                let text = drawn(width, height, &in_sweep(), &shown);
                assert!(
                    !text.contains('\u{1b}') && !text.contains('\u{202e}'),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn keys_choose_filter_open_and_go_back() {
    let shown = sweep();
    let mut state = WatchState::new(Page::Sweeps);
    let Shown::Sweep(view, ..) = &shown else {
        unreachable!()
    };
    let sweeps = Shown::Sweeps(vec![view.clone()], Vec::new());
    assert_eq!(press(&mut state, &sweeps, KeyCode::Esc), Next::Draw);
    assert_eq!(press(&mut state, &sweeps, KeyCode::Enter), Next::Look);
    assert_eq!(*state.page(), Page::Sweep("quickstart".to_owned()));
    for _ in 0..9 {
        press(&mut state, &shown, KeyCode::Down);
    }
    assert_eq!(state.place(&state.rows(&shown)), 3);
    press(&mut state, &shown, KeyCode::Up);
    press(&mut state, &shown, KeyCode::Char('/'));
    for letter in "RATE fail".chars() {
        press(&mut state, &shown, KeyCode::Char(letter));
    }
    assert_eq!(state.rows(&shown), ["b".repeat(64)]);
    let text = drawn(80, 12, &state, &shown);
    assert!(text.ends_with("/RATE fail_\n"), "{text}");
    // A letter of a filter is no command.
    press(&mut state, &shown, KeyCode::Char('q'));
    press(&mut state, &shown, KeyCode::Backspace);
    press(&mut state, &shown, KeyCode::Enter);
    assert_eq!(press(&mut state, &shown, KeyCode::Enter), Next::Look);
    let run = RunId("b".repeat(64));
    assert_eq!(
        *state.page(),
        Page::Run {
            sweep: "quickstart".to_owned(),
            run
        }
    );
    assert_eq!(press(&mut state, &detail(), KeyCode::Esc), Next::Look);
    assert_eq!(press(&mut state, &shown, KeyCode::Esc), Next::Draw);
    assert_eq!(*state.page(), Page::Sweep("quickstart".to_owned()));
    assert_eq!(state.place(&state.rows(&shown)), 1);
    assert_eq!(press(&mut state, &shown, KeyCode::Char('q')), Next::Quit);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.key(control, &shown), Next::Interrupt);
}
