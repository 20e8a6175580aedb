//! `lions status --watch`: on a terminal of a test, with keys, new sizes and signals, and into a pipe.

use crate::driver::{Driver, process_of, run_words, signal, write_sweep};
use crate::project::{Project, Said};
use crate::session::Study;
use crate::terminal::{pty, resize};
use crate::tiny;
use lions::report::display_width;
use regex::Regex;
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_mins(2);

/// The program on a terminal, with the other end in our hands.
struct Screen {
    child: Child,
    keys: File,
    slave: OwnedFd,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    fn start(project: &Project, width: u16, words: &[&str]) -> Self {
        let (master, slave) = pty(width);
        let mut command = project.command(words);
        command
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap());
        let child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, into) = (File::from(master.try_clone().unwrap()), Arc::clone(&said));
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(read) = reader.read(&mut part) {
                if read == 0 {
                    break;
                }
                into.lock().unwrap().extend_from_slice(&part[..read]);
            }
        });
        Self {
            child,
            keys: File::from(master),
            slave,
            said,
        }
    }

    /// What was written so far, and where it is now.
    fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Rows of the screen as it is now.
    fn rows(&self, width: usize) -> Vec<String> {
        screen(&self.said(), width)
    }

    fn wait(&self, width: usize, what: &str) {
        let begun = Instant::now();
        let is_there = || self.rows(width).iter().any(|row| row.contains(what));
        while !is_there() {
            assert!(
                begun.elapsed() < LONG,
                "no `{what}` on\n{}",
                self.rows(width).join("\n")
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether lines are edited by the terminal and letters echoed, as a shell wants it.
    fn is_given_back(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for its end: the terminal must be as it was.
    fn end(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert!(self.is_given_back());
        let begun = Instant::now();
        let left = "\u{1b}[?1049l";
        while !self.said().contains(left) {
            assert!(begun.elapsed() < LONG, "{:?}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
        let after = self.said();
        let after = after.split(left).nth(1).unwrap();
        assert!(after.contains("\u{1b}[?25h"), "{after:?}");
        code
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What stands for a row in which something was written beyond the edge.
const BEYOND: &str = "beyond the edge";

/// The rows that what was written since the screen was last emptied leaves on it.
fn screen(said: &str, width: usize) -> Vec<String> {
    static CODES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\x1b\[([0-9;?]*)([A-Za-z])").unwrap());
    let Some((_, text)) = said.rsplit_once("\u{1b}[?1049h") else {
        return Vec::new();
    };
    let text = text.rsplit_once("\u{1b}[2J").map_or(text, |(_, text)| text);
    let mut rows: Vec<Vec<String>> = vec![vec![" ".to_owned(); width]; 40];
    let (mut y, mut x, mut from) = (0, 0, 0);
    for code in CODES.captures_iter(text) {
        let whole = code.get(0).unwrap();
        for c in text[from..whole.start()]
            .chars()
            .filter(|c| !c.is_control())
        {
            let wide = display_width(&c.to_string()).max(1);
            if x + wide > width {
                rows[y] = vec![BEYOND.to_owned()];
                x = width;
                continue;
            }
            rows[y][x] = c.to_string();
            (1..wide).for_each(|i| rows[y][x + i].clear());
            x += wide;
        }
        from = whole.end();
        if &code[2] == "H" {
            let mut numbers = code[1].split(';').map(|number| number.parse().unwrap_or(1));
            (y, x) = (
                numbers.next().unwrap_or(1) - 1,
                numbers.next().unwrap_or(1) - 1,
            );
        }
    }
    let text = |row: &Vec<String>| row.concat().trim_end().to_owned();
    rows.iter().map(text).collect()
}

#[test]
fn keys_lead_from_the_sweeps_to_a_run_and_out() {
    let study = Study::shared();
    let mut screen = Screen::start(&study.project, 80, &["status", "--watch"]);
    screen.wait(80, "q quit");
    assert!(!screen.is_given_back());
    screen.wait(80, "study");
    screen.press("/stud\r\r");
    screen.wait(80, "How fast may the policy learn?");
    screen.wait(80, "10/10 runs");
    screen.press("/dpo\r\r");
    screen.wait(80, "attempts");
    screen.wait(80, "loss ");
    screen.wait(80, "succeeded");
    screen.press("\u{1b}");
    screen.wait(80, "/dpo");
    screen.press("q");
    assert_eq!(screen.end(), Some(0));
}

#[test]
fn a_signal_or_ctrl_c_gives_the_terminal_back() {
    let study = Study::shared();
    let words = ["status", "study", "--watch"];
    for end in ["\u{3}", "TERM", "INT"] {
        let mut screen = Screen::start(&study.project, 80, &words);
        screen.wait(80, "10/10 runs");
        match end {
            "\u{3}" => screen.press(end),
            name => signal(name, &screen.child.id().to_string()),
        }
        assert_eq!(screen.end(), Some(130), "{end:?}");
    }
}

#[test]
fn what_is_at_work_is_followed_on_a_screen_of_any_width_and_in_a_pipe() {
    let project = tiny::project();
    write_sweep(&project, "watched", 150, "");
    let mut driver = Driver::start(&mut project.command(&run_words("sweeps/watched.toml")));
    let started = driver.wait("run-started");
    let attempt = process_of(&project, &started);
    while driver.wait("run-progress")["done"].as_u64() < Some(2) {}
    driver.stop(&attempt);
    let mut piped = project.command(&["status", "watched", "--watch"]);
    let piped = piped
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = Screen::start(&project, 200, &["status", "watched", "--watch"]);
    screen.wait(200, "/150");
    screen.wait(200, " tok/s");
    screen.wait(200, "(left ");
    for width in [40_u16, 120] {
        resize(&screen.slave, width);
        let before = screen.said().len();
        let begun = Instant::now();
        // Drawn anew from an empty screen.
        while !screen.said()[before..].contains("\u{1b}[2J") {
            assert!(begun.elapsed() < LONG, "{:?}", &screen.said()[before..]);
            thread::sleep(Duration::from_millis(20));
        }
        screen.wait(width.into(), "q quit");
        let rows = screen.rows(width.into());
        assert!(!rows.iter().any(|row| row == BEYOND), "{rows:#?}");
    }
    driver.go_on(&attempt);
    assert_eq!(driver.end().code, Some(0));
    screen.wait(120, "2/2 runs");
    screen.press("q");
    assert_eq!(screen.end(), Some(0));
    let said = Said::of(&piped.wait_with_output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let hex = Regex::new(r"\b[0-9a-f]{12}\b|\d+\.\d+s|\d+m\d+s|\d+s\b").unwrap();
    let lines: Vec<String> = said
        .out
        .lines()
        .map(|line| hex.replace_all(line, "…").into_owned())
        .collect();
    let has = |line: &str| lines.iter().any(|found| found == line);
    assert!(has("running   sft       …  seed=1"), "{lines:#?}");
    assert!(has("done      sft       …  seed=1"), "{lines:#?}");
    assert!(has("done      eval      …  seed=1"), "{lines:#?}");
    assert_eq!(
        lines.last().unwrap(),
        "watched  2 of 2 runs done",
        "{lines:#?}"
    );
}

#[test]
fn into_a_pipe_a_finished_sweep_is_told_and_nothing_more() {
    let project = &Study::shared().project;
    let said = project.lions(&["status", "study", "--watch"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "study  10 of 10 runs done\n"),
        "{said:?}"
    );
    let said = project.lions(&["status", "--watch"]);
    assert_eq!(said.out.lines().count(), 2, "{said:?}");
    let said = project.lions(&["status", "broken", "--watch", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&value["kind"], &value["over"], &value["states"]["failed"]),
        (&"sweep".into(), &true.into(), &1.into())
    );
    let said = project.lions(&["status", "nope", "--watch"]);
    assert_eq!(said.code, 1, "{said:?}");
}
