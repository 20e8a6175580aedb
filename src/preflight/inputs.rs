//! Model folders and data files, each opened once.

use crate::config::spec::{DataSource, Fold, ModelConfig, PairLimits, RowsRecipe, TaskRecipe};
use crate::data::{
    FileRows, Message, PairEncoding, TextFormat, Wanted, look_at_rows, look_at_texts, rows_left,
};
use crate::eval::task::look_at_task;
use crate::eval::{cluster_by, constraints_of, story_prompt};
use crate::plan::KnownLengths;
use crate::preflight::folders::{Folder, Role};
use crate::preflight::lengths::Measured;
use crate::preflight::problem::{Asker, Place, Problem};
use crate::preflight::rows::{
    Encoded, conversation, encode, encode_turns, extras, name_errors, name_rows, prompt, sample,
    written,
};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Rows of each part of an evaluation task that are looked at.
const TASK_ROWS: usize = 64;

/// A file, the names of its columns, and the side of its split.
type FileKey = (String, BTreeMap<String, String>, Option<Fold>);

/// The steps of a plan, or why there is none.
pub(super) type Planned = Result<u64, Problem>;

/// What is wrong, in the order in which it was found: causes before what follows from them. What trials
/// have in common is told once, of the first.
#[derive(Debug, Default)]
struct Problems {
    found: Vec<Problem>,
    /// The number of each in that list, by place and message.
    numbers: BTreeMap<(String, String), usize>,
}

impl Problems {
    /// Adds a problem; of two that say the same of one place the heavier stays, else the earlier.
    fn add(&mut self, problem: Problem) {
        let (Place::File(at) | Place::Value { path: at, .. }) = &problem.place;
        match self.numbers.entry((at.clone(), problem.message.clone())) {
            Entry::Vacant(free) => {
                free.insert(self.found.len());
                self.found.push(problem);
            }
            Entry::Occupied(known) => {
                let known = &mut self.found[*known.get()];
                if problem.weight < known.weight {
                    *known = problem;
                }
            }
        }
    }
}

/// Something that was looked at, and what is wrong with it: a problem of whoever asks for it.
#[derive(Debug)]
struct Known<T> {
    value: T,
    problems: Vec<Problem>,
}

/// What was opened, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Inputs {
    root: PathBuf,
    /// Every row is read and encoded.
    every: bool,
    /// Models go to GPUs.
    pub(super) on_gpus: bool,
    folders: BTreeMap<Folder, Known<Option<Rc<TextFormat>>>>,
    rows: BTreeMap<(FileKey, Wanted), Known<Option<Rc<FileRows>>>>,
    texts: BTreeMap<FileKey, Known<bool>>,
    /// By file, reading, model, template and limits.
    encoded: BTreeMap<String, Known<Encoded>>,
    planned: BTreeMap<String, Planned>,
    counted: BTreeMap<String, usize>,
    left: BTreeMap<String, Option<Rc<[usize]>>>,
    pub(super) lengths: KnownLengths,
    problems: Problems,
}

impl Inputs {
    pub(super) fn new(root: &Path, every: bool) -> Self {
        Self {
            root: root.to_owned(),
            every,
            on_gpus: false,
            folders: BTreeMap::new(),
            rows: BTreeMap::new(),
            texts: BTreeMap::new(),
            encoded: BTreeMap::new(),
            planned: BTreeMap::new(),
            counted: BTreeMap::new(),
            left: BTreeMap::new(),
            lengths: KnownLengths::default(),
            problems: Problems::default(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.add(problem);
    }

    /// What is wrong with everything that was asked for since the last time, errors first.
    pub(super) fn take(&mut self) -> Vec<Problem> {
        let mut all = std::mem::take(&mut self.problems).found;
        all.sort_by_key(|problem| problem.weight);
        all
    }

    /// Tokenizer and template of the policy; absent if there is no such folder or they cannot be used,
    /// which is a problem then.
    pub(super) fn format(&mut self, model: &ModelConfig, trial: usize) -> Option<Rc<TextFormat>> {
        let folder = Folder {
            template: model.chat_template.as_ref().map(ToString::to_string),
            ..Folder::new(&model.path, Role::Chat)
        };
        let asker = Asker {
            trial,
            path: "model.path",
            uses_all: true,
        };
        self.folder(folder, asker)
    }

    /// How the model of a folder reads conversations, if it is there, fit for its role and does.
    pub(super) fn folder(&mut self, folder: Folder, asker: Asker<'_>) -> Option<Rc<TextFormat>> {
        let (root, on_gpus, key) = (&self.root, self.on_gpus, folder.clone());
        once(&mut self.folders, &mut self.problems, key, asker, |found| {
            folder.look(root, on_gpus, found)
        })
    }

    /// The rows of a file; absent if there is none or they cannot be read, which is a problem then.
    pub(super) fn rows(
        &mut self,
        source: &DataSource,
        wanted: Wanted,
        asker: Asker<'_>,
    ) -> Option<Rc<FileRows>> {
        let (root, every) = (&self.root, self.every);
        let key = (file_key(source), wanted);
        once(&mut self.rows, &mut self.problems, key, asker, |found| {
            if !root.join(&source.path).is_file() {
                return None;
            }
            match look_at_rows(root, source, wanted, every) {
                Ok(rows) => Some(Rc::new(rows)),
                Err(error) => {
                    name_errors(&source.path, &error, found);
                    None
                }
            }
        })
    }

    /// The same of a file that was asked for before.
    pub(super) fn known_rows(&self, source: &DataSource, wanted: Wanted) -> Option<Rc<FileRows>> {
        let known = self.rows.get(&(file_key(source), wanted))?;
        known.value.clone()
    }

    /// Looks whether the texts of an evaluation's file can be looked for; whether they can, and were all read.
    pub(super) fn texts(&mut self, source: &DataSource, asker: Asker<'_>) -> bool {
        let (root, every) = (&self.root, self.every);
        let key = file_key(source);
        once(&mut self.texts, &mut self.problems, key, asker, |found| {
            let there = root.join(&source.path).is_file();
            let read = there.then(|| look_at_texts(root, source, every));
            match read {
                Some(Ok(whole)) => whole,
                Some(Err(error)) => {
                    name_errors(&source.path, &error, found);
                    false
                }
                None => false,
            }
        })
    }

    /// How many rows of each file the filters of a recipe leave; nothing if that cannot be told, which is told
    /// elsewhere.
    pub(super) fn left(
        &mut self,
        files: &[&Rc<FileRows>],
        recipe: &RowsRecipe,
    ) -> Option<Rc<[usize]>> {
        let files_key: Vec<String> = files
            .iter()
            .map(|rows| format!("{:p}", Rc::as_ptr(rows)))
            .collect();
        let key = format!("{files_key:?} {} {:?}", recipe.dedup, recipe.decontaminate);
        let root = &self.root;
        let left = self.left.entry(key).or_insert_with(|| {
            let files: Vec<&FileRows> = files.iter().map(|rows| &***rows).collect();
            rows_left(&files, root, recipe).ok().map(Rc::from)
        });
        left.clone()
    }

    /// Sends conversations through template and tokenizer: how many have a target among their first
    /// `limit` tokens.
    pub(super) fn chats(
        &mut self,
        format: &TextFormat,
        rows: &Rc<FileRows>,
        limit: Option<usize>,
        asker: Asker<'_>,
    ) -> Encoded {
        let key = format!("chats {} {limit:?}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let look = |at: usize| {
                let mask = format.encode_chat(&rows.chats[at])?.loss_mask;
                let most = limit.unwrap_or(usize::MAX);
                let measured = Measured {
                    at,
                    tokens: mask.len(),
                    replies: mask.iter().filter(|target| **target).count(),
                };
                // The first token follows none.
                let mut within = mask.iter().take(most).skip(1);
                Ok((within.any(|target| *target), Some(measured)))
            };
            let path = rows.chats.first().map(|row| row.origin.path.as_str());
            let chosen = sample(every, rows.chats.len());
            encode(path.unwrap_or_default(), rows, &chosen, look, found)
        })
    }

    /// Sends pairs through template and tokenizer: how many are left within the limits.
    pub(super) fn pairs(
        &mut self,
        format: &TextFormat,
        rows: &Rc<FileRows>,
        limits: &PairLimits,
        asker: Asker<'_>,
    ) -> Encoded {
        let key = format!("pairs {} {limits:?}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let look = |at: usize| {
                let encoding = format.encode_pair(&rows.pairs[at], limits)?;
                let PairEncoding::Kept(pair) = encoding else {
                    return Ok((false, None));
                };
                let cut = pair.cut.chosen + pair.cut.rejected;
                let measured = Measured {
                    at,
                    tokens: pair.positions() + pair.cut.prompt + cut,
                    replies: pair.chosen.len() + pair.rejected.len() + cut,
                };
                Ok((true, Some(measured)))
            };
            let path = rows.pairs.first().map(|row| row.origin.path.as_str());
            let chosen = sample(every, rows.pairs.len());
            encode(path.unwrap_or_default(), rows, &chosen, look, found)
        })
    }

    /// Sends prompts through template and tokenizer: how many are not empty and have at most `limit` tokens.
    pub(super) fn prompts(
        &mut self,
        format: &TextFormat,
        rows: &Rc<FileRows>,
        limit: usize,
        asker: Asker<'_>,
    ) -> Encoded {
        let key = format!("prompts {} {limit}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let (chosen, turns) = (sample(every, rows.len()), |at| prompt(rows, at));
            let fits = |turns: &[Message]| {
                Ok(!turns.is_empty() && format.encode_prompt(turns)?.len() <= limit)
            };
            encode_turns(rows, &chosen, turns, fits, found)
        })
    }

    /// Sends conversations through template and tokenizer of a model that reads them whole.
    pub(super) fn whole(&mut self, format: &TextFormat, rows: &Rc<FileRows>, asker: Asker<'_>) {
        let key = format!("whole {}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let (chosen, turns) = (sample(every, rows.len()), |at| conversation(rows, at));
            let is_written = |turns: &[Message]| written(format, turns).map(|_| true);
            encode_turns(rows, &chosen, turns, is_written, found)
        });
    }

    /// Reads the first `most` rows as story prompts and sends them through template and tokenizer.
    pub(super) fn stories(
        &mut self,
        format: &TextFormat,
        rows: &Rc<FileRows>,
        most: usize,
        asker: Asker<'_>,
    ) {
        let key = format!("stories {} {most}", key_of(format, rows));
        let every = self.every;
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let used = &rows.chats[..most.min(rows.chats.len())];
            let wrong = used.iter().filter_map(|row| story_prompt(row).err());
            let wrong: Vec<_> = wrong.map(|error| (error.origin, error.reason)).collect();
            let path = used.first().map(|row| row.origin.path.as_str());
            name_rows(path.unwrap_or_default(), &wrong, found);
            if wrong.is_empty() {
                let (chosen, turns) = (sample(every, used.len()), |at| prompt(rows, at));
                let is_written = |turns: &[Message]| format.encode_prompt(turns).map(|_| true);
                encode_turns(rows, &chosen, turns, is_written, found);
            }
            Encoded::default()
        });
    }

    /// Whether a task's rows fit it: of a large one the first of each part. Files that are not there yet are told of
    /// elsewhere.
    pub(super) fn task(
        &mut self,
        format: &TextFormat,
        (name, recipe): (&str, &TaskRecipe),
        asker: Asker<'_>,
    ) {
        let solved = recipe.few_shot.iter().flat_map(|few_shot| &few_shot.data);
        if !recipe
            .data
            .iter()
            .chain(solved)
            .all(|file| self.root.join(file).is_file())
        {
            return;
        }
        let key = format!("task {:p} {recipe:?}", std::ptr::from_ref(format));
        let most = if self.every { usize::MAX } else { TASK_ROWS };
        let root = &self.root;
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let write = |turns: &[Message]| format.render(turns, true).map_err(|e| e.to_string());
            let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
            if let Err(error) = look_at_task(root, (name, recipe), most, &write) {
                let help = "mend the row, or the part of the task that is named";
                found.push(Problem::of_asker(error.to_string()).help(help));
            }
            Encoded::default()
        });
    }

    /// Whether each row says what a story is to be. Where only `some` are asked, one that does not need not
    /// be among them.
    pub(super) fn constraints(&mut self, rows: &Rc<FileRows>, some: bool, asker: Asker<'_>) {
        let key = format!("constraints {:p} {some}", Rc::as_ptr(rows));
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let wrong = extras(rows).filter_map(|(extra, origin)| {
                let none = "the judge `rules` needs `constraints`, an object";
                let reason = match constraints_of(extra) {
                    Ok(Some(_)) => return None,
                    Ok(None) => none,
                    Err(reason) => reason,
                };
                Some((origin.to_string(), reason.to_owned()))
            });
            let wrong: Vec<_> = wrong.collect();
            let sure = !some || wrong.len() == rows.len();
            let path = wrong.first().and_then(|(at, _)| at.rsplit_once(':'));
            name_rows(path.map_or("", |(path, _)| path), &wrong, found);
            for problem in found {
                *problem = problem.clone().warning_unless(sure);
            }
            Encoded::default()
        });
    }

    /// Whether each of the first `most` rows has a cluster by the key that an evaluation names.
    pub(super) fn clusters(
        &mut self,
        rows: &Rc<FileRows>,
        (by, most): (&str, usize),
        asker: Asker<'_>,
    ) {
        let key = format!("clusters {:p} {by} {most}", Rc::as_ptr(rows));
        once(&mut self.encoded, &mut self.problems, key, asker, |found| {
            let wrong = extras(rows).take(most).filter_map(|(extra, origin)| {
                let reason = cluster_by(by, "", extra).err()?;
                Some((origin.to_string(), reason))
            });
            let wrong: Vec<_> = wrong.collect();
            let path = wrong.first().and_then(|(at, _)| at.rsplit_once(':'));
            name_rows(path.map_or("", |(path, _)| path), &wrong, found);
            Encoded::default()
        });
    }

    /// What `plan` says, asked once for each key.
    pub(super) fn planned(&mut self, key: String, plan: impl FnOnce(&Path) -> Planned) -> Planned {
        let root = &self.root;
        self.planned
            .entry(key)
            .or_insert_with(|| plan(root))
            .clone()
    }

    /// What `count` says, asked once for each key.
    pub(super) fn counted(&mut self, key: String, count: impl FnOnce() -> usize) -> usize {
        *self.counted.entry(key).or_insert_with(count)
    }
}

/// What is known under `key`, looked at now if it was not; in either case what is wrong with it is a
/// problem of the asker.
fn once<K: Ord, T: Clone>(
    kept: &mut BTreeMap<K, Known<T>>,
    problems: &mut Problems,
    key: K,
    asker: Asker<'_>,
    look: impl FnOnce(&mut Vec<Problem>) -> T,
) -> T {
    let known = kept.entry(key).or_insert_with(|| {
        let mut problems = Vec::new();
        let value = look(&mut problems);
        Known { value, problems }
    });
    for problem in &known.problems {
        problems.add(problem.clone().asked_by(asker));
    }
    known.value.clone()
}

fn file_key(source: &DataSource) -> FileKey {
    (source.path.to_string(), source.columns.clone(), source.fold)
}

/// Names rows and what they are written for. Both are kept as long as the look, so that no other has
/// their address.
fn key_of(format: &TextFormat, rows: &Rc<FileRows>) -> String {
    format!("{:p} {:p}", std::ptr::from_ref(format), Rc::as_ptr(rows))
}
