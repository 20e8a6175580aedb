//! Model folders and data files, each opened once.

use crate::arch::DecoderConfig;
use crate::base::ModelFile;
use crate::config::spec::{DataSource, ModelConfig, PairLimits};
use crate::data::{DataError, FileRows, PairEncoding, TextFormat, Wanted, look_at_rows};
use crate::model::check_weights;
use crate::preflight::problem::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Most bad rows of a file that are named; how many more there are is said.
const ROWS_NAMED: usize = 5;

/// Rows at the beginning of a file that go through template and tokenizer, and how many more are
/// taken from all over it.
const SAMPLED: (usize, usize) = (16, 48);

/// A file and how it is read.
type RowsKey = (String, Wanted, BTreeMap<String, String>);

/// What was opened, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) root: PathBuf,
    /// Every row is read and encoded.
    every: bool,
    formats: BTreeMap<(String, Option<String>), Option<Rc<TextFormat>>>,
    rows: BTreeMap<RowsKey, Option<Rc<FileRows>>>,
    /// What was encoded, by file, reading, model, template and limits.
    encoded: BTreeSet<String>,
    pub(super) problems: BTreeSet<Problem>,
}

impl Inputs {
    pub(super) fn new(root: &Path, every: bool) -> Self {
        Self {
            root: root.to_owned(),
            every,
            formats: BTreeMap::new(),
            rows: BTreeMap::new(),
            encoded: BTreeSet::new(),
            problems: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.insert(problem);
    }

    /// Tokenizer and template of a model; absent if there is no such folder or they cannot be used,
    /// which is a problem then.
    pub(super) fn format(&mut self, model: &ModelConfig) -> Option<Rc<TextFormat>> {
        let template = model.chat_template.as_ref().map(ToString::to_string);
        let key = (model.path.to_string(), template);
        if let Some(known) = self.formats.get(&key) {
            return known.clone();
        }
        let folder = self.root.join(&key.0);
        let template = key.1.as_ref().map(|path| self.root.join(path));
        let there = folder.is_dir() && template.as_ref().is_none_or(|path| path.is_file());
        let format = if there {
            self.weights(&key.0, &folder);
            self.open(&key.0, &folder, template.as_deref())
        } else {
            None
        };
        self.formats.insert(key, format.clone());
        format
    }

    /// `config.json` and what the headers of the weights say.
    fn weights(&mut self, path: &str, folder: &Path) {
        let config = match DecoderConfig::from_file(folder) {
            Ok(config) => config,
            Err(error) => {
                let at = ModelFile::Config.within(Path::new(path));
                self.add(Problem::of_file(at.display().to_string(), told(&error)));
                return;
            }
        };
        for error in check_weights(folder, &config) {
            self.add(Problem::of_file(path, told(&error)));
        }
    }

    fn open(
        &mut self,
        path: &str,
        folder: &Path,
        template: Option<&Path>,
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
                self.add(problem);
                return None;
            }
        };
        let words = DecoderConfig::from_file(folder).map_or(usize::MAX, |c| c.vocab_size);
        if format.vocab_size() > words {
            let message = format!(
                "the tokenizer has {} tokens, but the model has only {words}",
                format.vocab_size()
            );
            self.add(Problem::of_file(path, message));
        }
        Some(Rc::new(format))
    }

    /// The rows of a file; absent if there is none or they cannot be read, which is a problem then.
    pub(super) fn rows(&mut self, source: &DataSource, wanted: Wanted) -> Option<Rc<FileRows>> {
        let path = source.path.to_string();
        let key = (path.clone(), wanted, source.columns.clone());
        if let Some(known) = self.rows.get(&key) {
            return known.clone();
        }
        let there = self.root.join(&path).is_file();
        let looked = there.then(|| look_at_rows(&self.root, source, wanted, self.every));
        let rows = match looked {
            None => None,
            Some(Ok(rows)) => Some(Rc::new(rows)),
            Some(Err(error)) => {
                self.of_data(&path, &error);
                None
            }
        };
        self.rows.insert(key, rows.clone());
        rows
    }

    /// An error about data, each bad row at its own place.
    fn of_data(&mut self, path: &str, error: &DataError) {
        match error {
            DataError::BadRows { problems } => {
                for row in problems.rows.iter().take(ROWS_NAMED) {
                    let column = row.column.map(|column| format!(":{column}"));
                    let at = format!("{path}:{}{}", row.row, column.unwrap_or_default());
                    self.add(Problem::of_file(at, row.reason.clone()).help(MEND_ROW));
                }
                if let Some(more) = problems.rows.len().checked_sub(ROWS_NAMED + 1) {
                    let message = format!("{} more rows cannot be used", more + 1);
                    self.add(Problem::of_file(path, message));
                }
            }
            DataError::Row { origin, reason, .. } => {
                self.add(Problem::of_file(origin.clone(), reason.clone()).help(MEND_ROW));
            }
            other => self.add(Problem::of_file(path, told(other))),
        }
    }

    /// Sends conversations through template and tokenizer: how many have a target among their first
    /// `limit` tokens, of how many.
    pub(super) fn chats(
        &mut self,
        format: &TextFormat,
        rows: &FileRows,
        limit: Option<usize>,
    ) -> (usize, usize) {
        let (mut targets, mut seen, mut bad) = (0, 0, 0);
        for at in self.sample(rows.chats.len()) {
            match format.encode_chat(&rows.chats[at]) {
                Ok(example) => {
                    let within = example.loss_mask.iter().take(limit.unwrap_or(usize::MAX));
                    targets += usize::from(within.into_iter().any(|target| *target));
                    seen += 1;
                }
                Err(error) => {
                    bad += 1;
                    self.of_data(&rows.chats[at].origin.path, &error);
                }
            }
            if bad >= ROWS_NAMED {
                break;
            }
        }
        (targets, seen)
    }

    /// Sends pairs through template and tokenizer: how many are left within the limits, of how many.
    pub(super) fn pairs(
        &mut self,
        format: &TextFormat,
        rows: &FileRows,
        limits: &PairLimits,
    ) -> (usize, usize) {
        let (mut kept, mut seen, mut bad) = (0, 0, 0);
        for at in self.sample(rows.pairs.len()) {
            match format.encode_pair(&rows.pairs[at], limits) {
                Ok(encoding) => {
                    kept += usize::from(matches!(encoding, PairEncoding::Kept(_)));
                    seen += 1;
                }
                Err(error) => {
                    bad += 1;
                    self.of_data(&rows.pairs[at].origin.path, &error);
                }
            }
            if bad >= ROWS_NAMED {
                break;
            }
        }
        (kept, seen)
    }

    /// Sends prompts through template and tokenizer.
    pub(super) fn prompts(&mut self, format: &TextFormat, rows: &FileRows) {
        let of_chats = rows.chats.iter().map(|row| (row.prompt(), &row.origin));
        let of_pairs = rows.pairs.iter().map(|row| (&*row.prompt, &row.origin));
        let all: Vec<_> = of_chats.chain(of_pairs).collect();
        for at in self.sample(all.len()) {
            let (messages, origin) = all[at];
            if let Err(error) = format.encode_prompt(messages) {
                let problem = Problem::of_file(origin.to_string(), told(&error));
                self.add(problem.help(MEND_ROW));
                return;
            }
        }
    }

    /// Whether something is looked at for the first time; the same rows are not encoded twice.
    pub(super) fn is_new(&mut self, key: String) -> bool {
        self.encoded.insert(key)
    }

    /// Which of `count` rows are sent through the tokenizer: the first, then some from all over.
    fn sample(&self, count: usize) -> Vec<usize> {
        let (first, spread) = SAMPLED;
        if self.every || count <= first + spread {
            return (0..count).collect();
        }
        let rest = count - first;
        let mut chosen: Vec<usize> = (0..first).collect();
        chosen.extend((1..=spread).map(|at| first + at * rest / spread - 1));
        chosen
    }
}

/// What helps against a bad row.
const MEND_ROW: &str = "mend the row or take it out; `lions check --deep` looks at every row";

/// An error with its causes on one line.
pub(super) fn told(error: &dyn Error) -> String {
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
