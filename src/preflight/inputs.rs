//! Model folders and data files, each opened once.

use crate::arch::DecoderConfig;
use crate::base::ModelFile;
use crate::config::spec::{DataSource, ModelConfig, PairLimits};
use crate::data::{DataError, FileRows, Message, PairEncoding, TextFormat, Wanted, look_at_rows};
use crate::eval::story_prompt;
use crate::model::check_weights;
use crate::preflight::problem::{Place, Problem};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Most bad rows of a file that are named; how many more there are is said.
const ROWS_NAMED: usize = 5;

/// Rows at the beginning of a file that go through template and tokenizer, and how many more are
/// taken from all over it.
const SAMPLED: (usize, usize) = (16, 48);

/// A model folder and the template that replaces its own.
type FormatKey = (String, Option<String>);

/// A file and how it is read.
type RowsKey = (String, Wanted, BTreeMap<String, String>);

/// What is wrong, by place and message: what trials have in common is told once, of the first.
type Problems = BTreeMap<(String, String), Problem>;

/// The steps of a plan, or why there is none.
type Planned = Option<Result<u64, String>>;

/// Something that was looked at, and what is wrong with it: a problem of whoever asks for it.
#[derive(Debug)]
struct Known<T> {
    value: T,
    problems: Vec<Problem>,
}

/// What became of the rows of a file in template and tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Encoded {
    /// Rows of which something is left to be used.
    pub(super) left: usize,
    /// Rows looked at.
    pub(super) seen: usize,
    /// Whether those are all rows of the file.
    pub(super) all: bool,
}

/// What was opened, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Inputs {
    root: PathBuf,
    /// Every row is read and encoded.
    every: bool,
    formats: BTreeMap<FormatKey, Known<Option<Rc<TextFormat>>>>,
    rows: BTreeMap<RowsKey, Known<Option<Rc<FileRows>>>>,
    /// By file, reading, model, template and limits.
    encoded: BTreeMap<String, Known<Encoded>>,
    planned: BTreeMap<String, Planned>,
    counted: BTreeMap<String, usize>,
    problems: Problems,
}

impl Inputs {
    pub(super) fn new(root: &Path, every: bool) -> Self {
        Self {
            root: root.to_owned(),
            every,
            formats: BTreeMap::new(),
            rows: BTreeMap::new(),
            encoded: BTreeMap::new(),
            planned: BTreeMap::new(),
            counted: BTreeMap::new(),
            problems: Problems::new(),
        }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        add(&mut self.problems, problem);
    }

    /// What is wrong with everything that was asked for since the last time, errors first.
    pub(super) fn take(&mut self) -> Vec<Problem> {
        let found = std::mem::take(&mut self.problems);
        let mut all: Vec<Problem> = found.into_values().collect();
        all.sort();
        all
    }

    /// Tokenizer and template of a model; absent if there is no such folder or they cannot be used,
    /// which is a problem then.
    pub(super) fn format(&mut self, model: &ModelConfig) -> Option<Rc<TextFormat>> {
        let path = model.path.to_string();
        let template = model.chat_template.as_ref().map(ToString::to_string);
        let folder = self.root.join(&path);
        let file = template.as_ref().map(|path| self.root.join(path));
        let key = (path.clone(), template);
        once(&mut self.formats, &mut self.problems, key, |found| {
            let there = folder.is_dir() && file.as_ref().is_none_or(|path| path.is_file());
            if !there {
                return None;
            }
            look_at_weights(&path, &folder, found);
            open(&path, &folder, file.as_deref(), found)
        })
    }

    /// The rows of a file; absent if there is none or they cannot be read, which is a problem then.
    pub(super) fn rows(&mut self, source: &DataSource, wanted: Wanted) -> Option<Rc<FileRows>> {
        let path = source.path.to_string();
        let key = (path.clone(), wanted, source.columns.clone());
        let (root, every) = (&self.root, self.every);
        once(&mut self.rows, &mut self.problems, key, |found| {
            if !root.join(&path).is_file() {
                return None;
            }
            match look_at_rows(root, source, wanted, every) {
                Ok(rows) => Some(Rc::new(rows)),
                Err(error) => {
                    name_errors(&path, &error, found);
                    None
                }
            }
        })
    }

    /// Sends conversations through template and tokenizer: how many have a target among their first
    /// `limit` tokens.
    pub(super) fn chats(
        &mut self,
        format: &TextFormat,
        rows: &Rc<FileRows>,
        limit: Option<usize>,
    ) -> Encoded {
        let key = format!("chats {} {limit:?}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, |found| {
            let has_target = |at: usize| {
                let mask = format.encode_chat(&rows.chats[at])?.loss_mask;
                let most = limit.unwrap_or(usize::MAX);
                Ok(mask.iter().take(most).any(|target| *target))
            };
            let path = rows.chats.first().map(|row| row.origin.path.as_str());
            let chosen = sample(every, rows.chats.len());
            encode(path.unwrap_or_default(), rows, &chosen, has_target, found)
        })
    }

    /// Sends pairs through template and tokenizer: how many are left within the limits.
    pub(super) fn pairs(
        &mut self,
        format: &TextFormat,
        rows: &Rc<FileRows>,
        limits: &PairLimits,
    ) -> Encoded {
        let key = format!("pairs {} {limits:?}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, |found| {
            let is_kept = |at: usize| {
                let encoding = format.encode_pair(&rows.pairs[at], limits)?;
                Ok(matches!(encoding, PairEncoding::Kept(_)))
            };
            let path = rows.pairs.first().map(|row| row.origin.path.as_str());
            let chosen = sample(every, rows.pairs.len());
            encode(path.unwrap_or_default(), rows, &chosen, is_kept, found)
        })
    }

    /// Sends prompts through template and tokenizer.
    pub(super) fn prompts(&mut self, format: &TextFormat, rows: &Rc<FileRows>) {
        let key = format!("prompts {}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, |found| {
            let of_chats = rows.chats.iter().map(|row| (row.prompt(), &row.origin));
            let of_pairs = rows.pairs.iter().map(|row| (&*row.prompt, &row.origin));
            let all = of_chats.chain(of_pairs);
            let all: Vec<_> = all.map(|(turns, at)| (turns, at.to_string())).collect();
            encode_prompts(format, &all, every, found);
            Encoded::default()
        });
    }

    /// Reads the first `most` rows as story prompts and sends them through template and tokenizer.
    /// Where only some are `drawn`, a bad one need not be among them.
    pub(super) fn stories(
        &mut self,
        format: &TextFormat,
        rows: &Rc<FileRows>,
        most: usize,
        drawn: bool,
    ) {
        let key = format!("stories {} {most} {drawn}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, |found| {
            let used = &rows.chats[..most.min(rows.chats.len())];
            let wrong = used.iter().filter_map(|row| story_prompt(row).err());
            let wrong: Vec<_> = wrong.map(|error| (error.origin, error.reason)).collect();
            let path = used.first().map(|row| row.origin.path.as_str());
            name_rows(path.unwrap_or_default(), &wrong, found);
            if wrong.is_empty() {
                let all = used
                    .iter()
                    .map(|row| (row.prompt(), row.origin.to_string()));
                encode_prompts(format, &all.collect::<Vec<_>>(), every, found);
            }
            for problem in found {
                *problem = problem.clone().warning_unless(!drawn);
            }
            Encoded::default()
        });
    }

    /// What `plan` says, asked once for each key.
    pub(super) fn planned(&mut self, key: String, plan: impl FnOnce() -> Planned) -> Planned {
        self.planned.entry(key).or_insert_with(plan).clone()
    }

    /// What `count` says, asked once for each key.
    pub(super) fn counted(&mut self, key: String, count: impl FnOnce() -> usize) -> usize {
        *self.counted.entry(key).or_insert_with(count)
    }
}

/// Adds a problem; of two that say the same of one place the heavier stays, else the earlier.
fn add(problems: &mut Problems, problem: Problem) {
    let (Place::File(at) | Place::Value { path: at, .. }) = &problem.place;
    match problems.entry((at.clone(), problem.message.clone())) {
        Entry::Vacant(free) => {
            free.insert(problem);
        }
        Entry::Occupied(mut known) if problem.weight < known.get().weight => {
            known.insert(problem);
        }
        Entry::Occupied(_) => {}
    }
}

/// What is known under `key`, looked at now if it was not; in either case what is wrong with it is a
/// problem.
fn once<K: Ord, T: Clone>(
    kept: &mut BTreeMap<K, Known<T>>,
    problems: &mut Problems,
    key: K,
    look: impl FnOnce(&mut Vec<Problem>) -> T,
) -> T {
    let known = kept.entry(key).or_insert_with(|| {
        let mut problems = Vec::new();
        let value = look(&mut problems);
        Known { value, problems }
    });
    for problem in &known.problems {
        add(problems, problem.clone());
    }
    known.value.clone()
}

/// Names rows and what they are written for. Both are kept as long as the look, so that no other has
/// their address.
fn key_of(format: &TextFormat, rows: &Rc<FileRows>) -> String {
    format!("{:p} {:p}", std::ptr::from_ref(format), Rc::as_ptr(rows))
}

/// `config.json` and what the headers of the weights say.
fn look_at_weights(path: &str, folder: &Path, found: &mut Vec<Problem>) {
    let config = match DecoderConfig::from_file(folder) {
        Ok(config) => config,
        Err(error) => {
            let at = ModelFile::Config.within(Path::new(path));
            found.push(Problem::of_file(at.display().to_string(), told(&error)));
            return;
        }
    };
    for error in check_weights(folder, &config) {
        found.push(Problem::of_file(path, told(&error)));
    }
}

fn open(
    path: &str,
    folder: &Path,
    template: Option<&Path>,
    found: &mut Vec<Problem>,
) -> Option<Rc<TextFormat>> {
    let format = match TextFormat::open(folder, template) {
        Ok(format) => format,
        Err(error) => {
            let slow = folder.join("tokenizer.model").is_file()
                && !ModelFile::Tokenizer.within(folder).is_file();
            let mut problem = Problem::of_file(path, told(&error));
            if slow {
                problem = problem.help(
                    "there is `tokenizer.model` only; transformers writes `tokenizer.json` by \
                     `AutoTokenizer.from_pretrained(…).save_pretrained(…)`",
                );
            }
            found.push(problem);
            return None;
        }
    };
    let words = DecoderConfig::from_file(folder).map_or(usize::MAX, |c| c.vocab_size);
    if format.vocab_size() > words {
        let message = format!(
            "the tokenizer has {} tokens, but the model has only {words}",
            format.vocab_size()
        );
        found.push(Problem::of_file(path, message));
    }
    Some(Rc::new(format))
}

/// Sends the `chosen` rows of a file through template and tokenizer, until too many of them cannot be
/// used; `is_left` says whether something of a row is left.
fn encode(
    path: &str,
    rows: &FileRows,
    chosen: &[usize],
    is_left: impl Fn(usize) -> Result<bool, DataError>,
    found: &mut Vec<Problem>,
) -> Encoded {
    let (mut left, mut seen, mut bad) = (0, 0, 0);
    for at in chosen {
        match is_left(*at) {
            Ok(is_left) => {
                left += usize::from(is_left);
                seen += 1;
            }
            Err(error) => {
                bad += 1;
                name_errors(path, &error, found);
            }
        }
        if bad >= ROWS_NAMED {
            break;
        }
    }
    let all = rows.whole && seen == rows.len();
    Encoded { left, seen, all }
}

/// Sends a sample of prompts, each with where it stands, through template and tokenizer. The first
/// that fails is told alone: it is the template that refuses it.
fn encode_prompts(
    format: &TextFormat,
    prompts: &[(&[Message], String)],
    every: bool,
    found: &mut Vec<Problem>,
) {
    for at in sample(every, prompts.len()) {
        let (turns, place) = &prompts[at];
        if let Err(error) = format.encode_prompt(turns) {
            let problem = Problem::of_file(place.clone(), told(&error));
            found.push(problem.help(MEND_ROW));
            return;
        }
    }
}

/// An error about data, each bad row at its own place.
fn name_errors(path: &str, error: &DataError, found: &mut Vec<Problem>) {
    match error {
        DataError::BadRows { problems } => {
            let rows = problems.rows.iter().map(|row| {
                let column = row.column.map(|column| format!(":{column}"));
                let at = format!("{path}:{}{}", row.row, column.unwrap_or_default());
                (at, row.reason.clone())
            });
            name_rows(path, &rows.collect::<Vec<_>>(), found);
        }
        DataError::Row { origin, reason, .. } => {
            found.push(Problem::of_file(origin.clone(), reason.clone()).help(MEND_ROW));
        }
        other => found.push(Problem::of_file(path, told(other))),
    }
}

/// Names the first of some bad rows, each with what is wrong with it, and says how many more there are.
fn name_rows(path: &str, bad: &[(String, String)], found: &mut Vec<Problem>) {
    let named = bad.iter().take(ROWS_NAMED);
    found.extend(named.map(|(at, reason)| Problem::of_file(at, reason).help(MEND_ROW)));
    if bad.len() > ROWS_NAMED {
        let message = format!("{} more rows cannot be used", bad.len() - ROWS_NAMED);
        found.push(Problem::of_file(path, message));
    }
}

/// Which of `count` rows are sent through the tokenizer: the first, then some from all over.
fn sample(every: bool, count: usize) -> Vec<usize> {
    let (first, spread) = SAMPLED;
    if every || count <= first + spread {
        return (0..count).collect();
    }
    let rest = count - first;
    let mut chosen: Vec<usize> = (0..first).collect();
    chosen.extend((1..=spread).map(|at| first + at * rest / spread - 1));
    chosen
}

/// What helps against a bad row.
const MEND_ROW: &str = "mend the row or take it out; `lions check --deep` looks at every row";

/// An error with its causes on one line.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.ends_with(&line) {
            text = format!("{text}: {line}");
        }
        cause = error.source();
    }
    text
}
