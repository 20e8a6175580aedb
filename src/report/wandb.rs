//! Runs as the files that Weights & Biases writes where it is offline, which `wandb sync` uploads.
//!
//! A file is a log in the form of LevelDB (blocks of 32 KiB; a record that does not fit is cut at their ends) behind a
//! head of its own (`wandb/sdk/internal/datastore.py` of wandb 0.19). Its records are protocol buffers of `Record`
//! (`wandb_internal.proto`): the versions, the run with its configuration, a record for each step, the final numbers, the
//! end.

use crate::plan::RunId;
use crate::report::protobuf::{put_bytes, put_uint, reflected_crc};
use crate::report::select::ReportError;
use crate::store::{ReadStore, RunRow};
use serde_json::{Map, Value, json};

/// A run as Weights & Biases keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineRun {
    /// Its folder, by the time at which it was finished, and its file there.
    pub path: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// Steps in it.
    pub steps: usize,
}

/// A run with training curves or final metrics; none of any other. The project is the first sweep that uses the run, the
/// group its configuration there, the type of job its stage, and the configuration what names the run (its recipe), with
/// the axes of the trials beside it.
///
/// # Errors
/// The store cannot be read.
pub fn offline_run(store: &ReadStore, run: &RunId) -> Result<Option<OfflineRun>, ReportError> {
    let row = store.run(run)?;
    let metrics = store.metrics(run)?;
    let training = store.training_steps(run)?;
    if metrics.is_empty() && training.is_empty() {
        return Ok(None);
    }
    let mut log = Log::new(run.short());
    log.put(HEADER, &versions());
    log.put(RUN, &described(store, &row)?);
    let time = seconds(&row);
    let mut steps = 0;
    for own in training.chunk_by(|a, b| a.0 == b.0) {
        let step = own[0].0;
        let values = own.iter();
        let values = values.filter_map(|(_, key, value)| Some((key.clone(), json!((*value)?))));
        let mut items: Map<String, Value> = values.collect();
        items.insert("_step".to_owned(), json!(step));
        items.insert("_timestamp".to_owned(), json!(time));
        let mut history = items_of(1, &items);
        let mut number = Vec::new();
        put_uint(&mut number, 1, step);
        put_bytes(&mut history, 2, &number);
        log.put(HISTORY, &history);
        steps += 1;
    }
    let mut last: Map<String, Value> = Map::new();
    for (key, found) in metrics {
        if let Some(stderr) = found.stderr {
            last.insert(format!("{key}/stderr"), json!(stderr));
        }
        last.insert(key, json!(found.value));
    }
    log.put(SUMMARY, &items_of(1, &last));
    // Of exit code 0, which is not written.
    log.put(EXIT, &[]);
    let stamp: String = row.finished.unwrap_or(row.created).iso8601();
    let digits = |c: &char| c.is_ascii_digit() || *c == 'T';
    let stamp = stamp.chars().filter(digits).collect::<String>();
    let (stamp, id) = (stamp.replace('T', "_"), run.short());
    Ok(Some(OfflineRun {
        path: format!("offline-run-{stamp}-{id}/run-{id}.wandb"),
        bytes: log.bytes,
        steps,
    }))
}

/// When the run was finished, seconds since 1970.
fn seconds(row: &RunRow) -> f64 {
    row.finished.unwrap_or(row.created).0 as f64 / 1000.0
}

/// Kinds of records, the fields of `Record`.
const HISTORY: u64 = 2;
const SUMMARY: u64 = 3;
const RUN: u64 = 17;
const EXIT: u64 = 18;
const HEADER: u64 = 21;

/// `HeaderRecord`: who wrote the file.
fn versions() -> Vec<u8> {
    let mut version = Vec::new();
    let name = concat!("lions ", env!("CARGO_PKG_VERSION"));
    put_bytes(&mut version, 1, name.as_bytes());
    let mut header = Vec::new();
    put_bytes(&mut header, 1, &version);
    header
}

/// `RunRecord`.
fn described(store: &ReadStore, row: &RunRow) -> Result<Vec<u8>, ReportError> {
    let uses = store.trials_of(&row.id)?;
    let identity: Value = serde_json::from_str(&store.identity(&row.id)?).unwrap_or_default();
    let mut config = match identity {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let trials = uses.iter().map(|used| {
        json!({"sweep": used.sweep, "trial": used.index, "label": used.label, "seed": used.seed})
    });
    config.insert("trials".to_owned(), trials.collect());
    config.values_mut().for_each(mark_empty);
    let mut run = Vec::new();
    put_bytes(&mut run, 1, row.id.short().as_bytes());
    let first = uses.first();
    let project = first.map_or("lions", |used| used.sweep.as_str());
    put_bytes(&mut run, 3, project.as_bytes());
    put_bytes(&mut run, 4, &items_of(1, &config));
    let group = first.map_or("", |used| used.label.as_str());
    put_bytes(&mut run, 6, group.as_bytes());
    put_bytes(&mut run, 7, row.kind.name().as_bytes());
    let name = format!("{}-{}", row.kind.name(), row.id.short());
    put_bytes(&mut run, 8, name.as_bytes());
    let mut started = Vec::new();
    put_uint(&mut started, 1, seconds(row) as u64);
    put_bytes(&mut run, 17, &started);
    Ok(run)
}

/// Makes empty tables `true`: the package leaves them out, and with them which of several things was chosen.
fn mark_empty(value: &mut Value) {
    match value {
        Value::Object(fields) if fields.is_empty() => *value = Value::Bool(true),
        Value::Object(fields) => fields.values_mut().for_each(mark_empty),
        Value::Array(items) => items.iter_mut().for_each(mark_empty),
        _ => {}
    }
}

/// Key and value, as JSON, of each of `items`: `ConfigItem`, `HistoryItem` or `SummaryItem`, which agree.
fn items_of(field: u64, items: &Map<String, Value>) -> Vec<u8> {
    let mut all = Vec::new();
    for (key, value) in items {
        let mut item = Vec::new();
        put_bytes(&mut item, 1, key.as_bytes());
        put_bytes(&mut item, 16, value.to_string().as_bytes());
        put_bytes(&mut all, field, &item);
    }
    all
}

const BLOCK: usize = 32_768;
/// Check, length and kind of a part.
const PART_HEAD: usize = 4 + 2 + 1;

/// A log that is written.
struct Log {
    bytes: Vec<u8>,
    records: u64,
    /// `_RecordInfo`: the run's id.
    info: Vec<u8>,
}

impl Log {
    fn new(run: &str) -> Self {
        let mut info = Vec::new();
        put_bytes(&mut info, 1, run.as_bytes());
        let mut bytes = b":W&B".to_vec();
        bytes.extend(0xbee1_u16.to_le_bytes());
        bytes.push(0);
        Self {
            bytes,
            records: 0,
            info,
        }
    }

    fn put(&mut self, kind: u64, content: &[u8]) {
        self.records += 1;
        let mut record = Vec::new();
        put_uint(&mut record, 1, self.records);
        put_bytes(&mut record, kind, content);
        put_bytes(&mut record, 200, &self.info);
        self.put_parts(&record);
    }

    /// Cuts a record at the ends of blocks.
    fn put_parts(&mut self, mut record: &[u8]) {
        let mut begins = true;
        loop {
            let mut room = BLOCK - self.bytes.len() % BLOCK;
            if room < PART_HEAD {
                self.bytes.resize(self.bytes.len() + room, 0);
                room = BLOCK;
            }
            let (part, rest) = record.split_at(record.len().min(room - PART_HEAD));
            let kind: u8 = match (begins, rest.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let checked = [&[kind], part].concat();
            // CRC-32 as of zlib.
            let check = reflected_crc(0xedb8_8320, &checked);
            self.bytes.extend(check.to_le_bytes());
            self.bytes.extend((part.len() as u16).to_le_bytes());
            self.bytes.extend(checked);
            if rest.is_empty() {
                return;
            }
            (record, begins) = (rest, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The catalogue's check value of CRC-32/ISO-HDLC.
    #[test]
    fn the_check_is_zlibs() {
        assert_eq!(reflected_crc(0xedb8_8320, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn records_are_cut_at_the_ends_of_blocks_and_padded_where_no_head_fits() {
        let mut log = Log::new("r");
        log.put_parts(&vec![1; BLOCK - 7 - PART_HEAD - 3]);
        assert_eq!(log.bytes.len(), BLOCK - 3);
        log.put_parts(&vec![2; 2 * BLOCK]);
        assert_eq!(log.bytes[BLOCK - 3..BLOCK], [0; 3]);
        let kinds = [BLOCK, 2 * BLOCK, 3 * BLOCK].map(|at| log.bytes[at + PART_HEAD - 1]);
        assert_eq!(kinds, [2, 3, 4]);
        assert_eq!(log.bytes.len(), 3 * BLOCK + PART_HEAD + 2 * PART_HEAD);
    }
}
