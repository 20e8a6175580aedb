//! What a person sees on a terminal of 60, 80, 120 and 200 columns: every line fits, every number is whole.

use crate::project::Project;
use crate::session::Study;
use lions::report::display_width;
use regex::Regex;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::LazyLock;
use std::thread;

const WIDTHS: [u16; 4] = [60, 80, 120, 200];

/// Ends what was written to a terminal: no text has it.
const MARK: &str = "\u{1}end\u{1}";

/// What comes from a terminal before the mark.
fn until_the_mark(mut terminal: File) -> Vec<u8> {
    let (mut said, mut part) = (Vec::new(), [0; 4096]);
    while !said.ends_with(MARK.as_bytes()) {
        let read = terminal.read(&mut part).unwrap();
        said.extend_from_slice(&part[..read]);
    }
    said.truncate(said.len() - MARK.len());
    said
}

/// Both ends of a terminal so wide: ours, and the program's.
pub(crate) fn pty(width: u16) -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = open(
        name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    resize(&slave, width);
    (master, slave)
}

/// Makes a terminal so wide.
pub(crate) fn resize(slave: &OwnedFd, width: u16) {
    let size = Winsize {
        ws_row: 40,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(slave, size).unwrap();
}

/// What the program writes to a terminal so wide, with the codes that colour and move, and how it ended.
fn on_a_terminal(project: &Project, width: u16, words: &[&str]) -> (String, i32) {
    let (master, slave) = pty(width);
    let mut command = project.command(words);
    command
        .env("TERM", "xterm-256color")
        .stdin(Stdio::null())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    // What was not read yet may be lost where the last end of a terminal is closed (seen once in CI: the last lines of a
    // text were missing). Ours stays open, and a mark of ours says where the program's text ends.
    let reader = thread::spawn(move || until_the_mark(File::from(master)));
    let code = child.wait().unwrap().code().unwrap_or(-1);
    File::from(slave).write_all(MARK.as_bytes()).unwrap();
    let said = reader.join().unwrap();
    let said = String::from_utf8(said).unwrap();
    // How long the name of a temporary folder is, is not the program's business.
    let root = project.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    (said.replace(root, "/p"), code)
}

/// The text without the codes that colour it.
fn plain(text: &str) -> String {
    static CODES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]").unwrap());
    CODES.replace_all(text, "").into_owned()
}

/// Every word of a text that is a number.
fn numbers(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c.is_whitespace() || "[](),;:*".contains(c));
    let words = words.map(|word| word.trim_end_matches('.'));
    let numbers = words.filter(|word| word.parse::<f64>().is_ok());
    numbers.map(str::to_owned).collect()
}

#[test]
fn tables_and_sentences_fit_the_terminal_with_their_numbers_whole() {
    let study = Study::copied();
    let (dpo, failed) = (study.id("dpo"), study.id("failed"));
    for words in [
        ["status", ""].as_slice(),
        &["status", "study"],
        &["status", "broken"],
        &["status", "broken", "--trials"],
        &["show", dpo],
        &["show", failed],
        &["why", failed],
        &["why", study.id("skipped")],
        &["log", dpo],
        &["log", failed],
        &["compare", "study"],
        &["compare", "broken"],
        &[
            "compare",
            "study",
            "--metrics",
            "tales/loss,polite/rewards/accuracies,polite/prob_margin",
        ],
        &["plan", "sweeps/study.toml", "--gpu", "a100"],
        &["plan", "sweeps/broken.toml"],
        &["inspect", "sweeps/study.toml", "--tokens"],
        &["doctor"],
        &["status", "nope"],
        &["compare", "study", "--metrics", "nope"],
    ] {
        let words: Vec<&str> = words
            .iter()
            .copied()
            .filter(|word| !word.is_empty())
            .collect();
        let piped = study.project.lions(&words);
        // What the moment decides differs between two calls.
        let changes = ["doctor", "why"].contains(&words[0]);
        for width in WIDTHS {
            let (said, code) = on_a_terminal(&study.project, width, &words);
            assert_eq!(code, piped.code, "{said}");
            let text = plain(&said);
            for line in text.lines() {
                let line = line.trim_end();
                assert!(
                    display_width(line) <= width.into(),
                    "{words:?} at {width}: {line}\nof\n{text}"
                );
            }
            let (whole, shown) = (numbers(&piped.out), numbers(&text));
            let lost: Vec<_> = whole.difference(&shown).collect();
            assert!(
                changes || lost.is_empty(),
                "{words:?} at {width} loses {lost:?}:\n{text}"
            );
        }
    }
}

/// Rows of a terminal, as far as what indicatif writes moves about in them.
struct Screen {
    width: usize,
    rows: Vec<Vec<char>>,
    at: (usize, usize),
    /// Words that went on in the next row because theirs was full.
    broken: Vec<String>,
}

impl Screen {
    fn show(width: usize, text: &str) -> Self {
        let mut screen = Self {
            width,
            rows: vec![Vec::new()],
            at: (0, 0),
            broken: Vec::new(),
        };
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\u{1b}' => screen.obey(&mut chars),
                '\r' => screen.at.1 = 0,
                '\n' => screen.down(1),
                c if c.is_control() => {}
                c => screen.put(c),
            }
        }
        screen
    }

    /// A code that begins with ESC.
    fn obey(&mut self, chars: &mut std::str::Chars<'_>) {
        assert_eq!(chars.next(), Some('['), "only codes of this kind are known");
        let mut number = String::new();
        let code = loop {
            match chars.next().unwrap() {
                digit @ ('0'..='9' | ';' | '?') => number.push(digit),
                letter => break letter,
            }
        };
        let count = number.parse().unwrap_or(1);
        match code {
            'A' => self.at.0 = self.at.0.saturating_sub(count),
            'B' => self.down(count),
            'K' => self.rows[self.at.0].clear(),
            _ => {}
        }
    }

    fn down(&mut self, rows: usize) {
        self.at.0 += rows;
        self.rows
            .resize(self.rows.len().max(self.at.0 + 1), Vec::new());
    }

    fn put(&mut self, c: char) {
        let wide = display_width(&c.to_string());
        if self.at.1 + wide > self.width {
            let last = self.rows[self.at.0].last();
            if c != ' ' && last.is_some_and(|last| *last != ' ') {
                let row: String = self.rows[self.at.0].iter().collect();
                self.broken.push(row);
            }
            self.at.1 = 0;
            self.down(1);
        }
        let row = &mut self.rows[self.at.0];
        let end = self.at.1 + wide.max(1);
        row.resize(row.len().max(end), ' ');
        row[self.at.1] = c;
        self.at.1 = end;
    }
}

/// A label of three axes, longer than a terminal.
const LABELS: &str = r#"extends = ["base/mini.toml"]
[sweep]
name = "labels-of-three-axes"
question = "Does a long label break the lines of a sweep at work?"
seeds = [1]
[base]
pipeline = ["sft"]
[base.sft.recipe]
batch = { tokens = 256 }
max-seq-len = 256
duration = { steps = 40 }
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 4 }], max-seq-len = 256 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 2 }], max-seq-len = 256 }
[[axis]]
name = "batching-of-documents"
path = "sft.recipe.batching"
values = ["padded", "best-fit"]
[[axis]]
name = "peak-learning-rate"
path = "sft.recipe.optimizer.learning-rate"
values = [0.00123456]
[[axis]]
name = "mix"
path = "sft.recipe.loss-mask"
values = ["assistant-only"]
labels = ["返答だけを学ぶ"]
"#;

#[test]
fn the_lines_of_a_sweep_at_work_fit_the_terminal() {
    let step = Regex::new(r"\b\d+/40 +steps, loss \d+\.\d{4} ").unwrap();
    let head = Regex::new(r"^labels-of-three-axes (.* )?\d/4 runs  \d+\.\ds").unwrap();
    let ended = Regex::new(r"(?m)^✓ sft       [0-9a-f]{12} .*  [0-9.hms]+s$").unwrap();
    for width in WIDTHS {
        let project = Project::new();
        project.write("sweeps/labels.toml", LABELS);
        let words = ["run", "sweeps/labels.toml", "--jobs", "2"];
        let (said, code) = on_a_terminal(&project, width, &words);
        assert_eq!(code, 0, "{said}");
        let screen = Screen::show(width.into(), &said);
        assert!(
            screen.broken.is_empty(),
            "at {width}: {:#?} of\n{}",
            screen.broken,
            plain(&said)
        );
        // Each state of a line stands between two moves of the cursor.
        let drawn = plain(&said).replace(['\r', '\n'], "  ");
        assert!(step.is_match(&drawn), "at {width}: {said:?}");
        let mut lines = said.split(['\r', '\n']).map(plain);
        assert!(
            lines.any(|line| head.is_match(line.trim_start())),
            "at {width}: {said:?}"
        );
        // The ends of runs stay: a label gives way, a time does not.
        let rows: Vec<String> = screen
            .rows
            .iter()
            .map(|row| row.iter().collect::<String>())
            .collect();
        let rows: Vec<&str> = rows.iter().map(|row| row.trim_end()).collect();
        assert_eq!(
            ended.find_iter(&rows.join("\n")).count(),
            2,
            "at {width}: {rows:#?}"
        );
    }
}
