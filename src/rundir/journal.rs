//! `events.jsonl`: appended by the attempt, tailed by the runner.

use crate::base::{PathError, append_line};
use crate::rundir::error::RundirError;
use crate::rundir::event::{AttemptEvent, EVENT_FORMAT, EventHeader};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The writing end; one per attempt.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Starts a journal with its header line; parent folders are created, an old file is emptied.
    pub fn create(path: &Path) -> Result<Self, RundirError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| PathError::new("create", parent, e))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(path);
        let mut journal = Self {
            file: file.map_err(|e| PathError::new("create", path, e))?,
            path: path.to_owned(),
        };
        let header = EventHeader {
            format: EVENT_FORMAT,
        };
        journal.append_json(serde_json::to_string(&header))?;
        Ok(journal)
    }

    /// Appends one event in a single write. Step metrics that are not finite are left out, since
    /// JSON has no word for them.
    pub fn append(&mut self, event: &AttemptEvent) -> Result<(), RundirError> {
        let text = match event {
            AttemptEvent::Step { step, metrics } if metrics.values().any(|v| !v.is_finite()) => {
                let finite = metrics.iter().filter(|(_, v)| v.is_finite());
                serde_json::to_string(&AttemptEvent::Step {
                    step: *step,
                    metrics: finite.map(|(k, v)| (k.clone(), *v)).collect(),
                })
            }
            other => serde_json::to_string(other),
        };
        self.append_json(text)
    }

    /// Forces what was appended to the disk; called at checkpoints and at the end.
    pub fn sync(&self) -> Result<(), RundirError> {
        let synced = self.file.sync_data();
        Ok(synced.map_err(|e| PathError::new("sync", &self.path, e))?)
    }

    fn append_json(&mut self, text: serde_json::Result<String>) -> Result<(), RundirError> {
        let text = text.map_err(|source| RundirError::Parse {
            path: self.path.clone(),
            source,
        })?;
        let appended = append_line(&mut self.file, &text);
        Ok(appended.map_err(|e| PathError::new("append to", &self.path, e))?)
    }
}

/// The reading end: remembers how far it has read and never yields a torn last line.
///
/// A complete line that is no event (an interrupted disk, an event of a later version) is counted
/// in [`JournalReader::skipped`] and passed over.
#[derive(Debug)]
pub struct JournalReader {
    path: PathBuf,
    /// Bytes of complete lines read so far.
    offset: u64,
    saw_header: bool,
    skipped: u64,
}

impl JournalReader {
    /// A reader at the start of `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            offset: 0,
            saw_header: false,
            skipped: 0,
        }
    }

    /// The events appended since the last call; empty if the file is not there yet.
    pub fn read_new(&mut self) -> Result<Vec<AttemptEvent>, RundirError> {
        let bytes = match self.new_bytes() {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(PathError::new("read", &self.path, e).into()),
        };
        let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
            return Ok(Vec::new());
        };
        self.offset += end as u64 + 1;
        let mut events = Vec::new();
        for line in bytes.get(..end).unwrap_or_default().split(|b| *b == b'\n') {
            if !self.saw_header {
                self.saw_header = true;
                if let Ok(header) = serde_json::from_slice::<EventHeader>(line) {
                    self.check(header)?;
                    continue;
                }
            }
            match serde_json::from_slice(line) {
                Ok(event) => events.push(event),
                Err(_) => self.skipped += 1,
            }
        }
        Ok(events)
    }

    /// Complete lines that were no event.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn check(&self, header: EventHeader) -> Result<(), RundirError> {
        if header.format > EVENT_FORMAT {
            return Err(RundirError::TooNew {
                path: self.path.clone(),
                found: header.format,
                known: EVENT_FORMAT,
            });
        }
        Ok(())
    }

    fn new_bytes(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        if length <= self.offset {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Every event of a journal; a torn last line is dropped.
pub fn read_events(path: &Path) -> Result<Vec<AttemptEvent>, RundirError> {
    JournalReader::new(path).read_new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn some_events() -> Vec<AttemptEvent> {
        vec![
            AttemptEvent::Started {
                device: crate::base::Device::Cpu,
            },
            AttemptEvent::Begin {
                unit: "steps".into(),
                total: 2,
            },
            AttemptEvent::Step {
                step: 1,
                metrics: [("loss".to_owned(), 1.5)].into(),
            },
            AttemptEvent::Warning {
                message: "ümläut\n\"quoted\"".into(),
            },
            AttemptEvent::Finished,
        ]
    }

    fn written(dir: &Path) -> PathBuf {
        let path = dir.join("events.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        for event in some_events() {
            journal.append(&event).unwrap();
        }
        path
    }

    #[test]
    fn a_reader_yields_each_event_once_while_the_file_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut reader = JournalReader::new(&path);
        assert_eq!(reader.read_new().unwrap(), []);
        let mut journal = Journal::create(&path).unwrap();
        let mut seen = Vec::new();
        for event in some_events() {
            journal.append(&event).unwrap();
            seen.extend(reader.read_new().unwrap());
        }
        assert_eq!(seen, some_events());
        assert_eq!(reader.read_new().unwrap(), []);
    }

    #[test]
    fn a_half_written_line_is_withheld_until_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let mut reader = JournalReader::new(&path);
        reader.read_new().unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"kind\":\"prog").unwrap();
        assert_eq!(reader.read_new().unwrap(), []);
        file.write_all(b"ress\",\"done\":7}\n").unwrap();
        assert_eq!(
            reader.read_new().unwrap(),
            [AttemptEvent::Progress { done: 7 }]
        );
    }

    #[test]
    fn a_line_of_a_later_version_is_passed_over_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"kind\":\"sang\"}\n\0\0\n{\"kind\":\"finished\"}\n")
            .unwrap();
        let mut reader = JournalReader::new(&path);
        assert_eq!(reader.read_new().unwrap().len(), some_events().len() + 1);
        assert_eq!(reader.skipped(), 2);
    }

    #[test]
    fn a_journal_of_a_later_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        crate::base::write_atomic(&path, b"{\"format\":99}\n").unwrap();
        let error = read_events(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("has format 99, this build knows up to 1"),
            "{error}"
        );
    }

    #[test]
    fn a_value_that_is_not_finite_is_left_out_and_the_step_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        let metrics = [("a".to_owned(), f64::NAN), ("b".to_owned(), 2.0)].into();
        journal
            .append(&AttemptEvent::Step { step: 3, metrics })
            .unwrap();
        let metrics = [("b".to_owned(), 2.0)].into();
        assert_eq!(
            read_events(&path).unwrap(),
            [AttemptEvent::Step { step: 3, metrics }]
        );
    }

    proptest! {
        #[test]
        fn a_journal_cut_at_any_byte_yields_a_prefix_of_its_events(share in 0.0f64..=1.0) {
            let dir = tempfile::tempdir().unwrap();
            let path = written(dir.path());
            let bytes = std::fs::read(&path).unwrap();
            let cut = (bytes.len() as f64 * share) as usize;
            crate::base::write_atomic(&path, &bytes[..cut]).unwrap();
            let events = read_events(&path).unwrap();
            prop_assert_eq!(&events[..], &some_events()[..events.len()]);
            let whole = String::from_utf8_lossy(&bytes[..cut]).matches('\n').count();
            prop_assert_eq!(events.len(), whole.saturating_sub(1));
        }
    }
}
