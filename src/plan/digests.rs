//! Digests and rough text sizes of input files, remembered so that big files are read once.

use crate::base::fs::is_gone;
use crate::base::{
    Digest, ModelFile, PathError, Stamp, digest_bytes, digest_file, is_model_file, is_weight_file,
    other_ends, token_rules, write_atomic,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where the digests of a project are remembered, below its root.
pub const DIGESTS_PATH: &str = "results/digests.json";

/// Remembers (path, [`Stamp`]) → digest, in memory and in a JSON file.
///
/// A file that had only just changed when it was read is not remembered on disk: a second change
/// might leave its stamp as it is.
#[derive(Debug, Default)]
pub struct DigestCache {
    entries: BTreeMap<PathBuf, Entry>,
    changed: bool,
}

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    /// Whether the stamp vouches for the content.
    settled: bool,
    digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<TextSize>,
}

/// Rows and text of a data file, for estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextSize {
    /// Rows.
    pub rows: u64,
    /// Characters that become tokens once a row is used: of a preference pair the prompt and both
    /// completions behind it.
    pub chars: u64,
    /// Those among them that a model is to learn: replies.
    pub reply_chars: u64,
    /// Whether rows are preference pairs.
    pub pairs: bool,
}

#[derive(Serialize, Deserialize)]
struct CacheFile {
    format: u32,
    entries: BTreeMap<PathBuf, Entry>,
}

const CACHE_FORMAT: u32 = 5;

/// Beyond this much of a data file its size is extrapolated, bytes.
const SAMPLE_BYTES: u64 = 4 << 20;

impl DigestCache {
    /// Reads a cache file; one that is missing, damaged or of another format counts as empty.
    pub fn load(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let entries = match serde_json::from_str::<CacheFile>(&text) {
            Ok(file) if file.format == CACHE_FORMAT => file.entries,
            _ => BTreeMap::new(),
        };
        Self {
            entries,
            changed: false,
        }
    }

    /// Writes the cache if something was learnt since it was read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&mut self, path: &Path) -> Result<(), PathError> {
        if !self.changed {
            return Ok(());
        }
        // Over what another command has saved since this one read it.
        let mut entries = Self::load(path).entries;
        let own = self.entries.iter().filter(|(_, entry)| entry.settled);
        entries.extend(own.map(|(path, entry)| (path.clone(), entry.clone())));
        let file = CacheFile {
            format: CACHE_FORMAT,
            entries,
        };
        let text = serde_json::to_vec_pretty(&file)
            .map_err(|error| PathError::new("write", path, error.into()))?;
        write_atomic(path, &text)?;
        self.changed = false;
        Ok(())
    }

    /// The digest of a file's content; `None` if there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn file(&mut self, path: &Path) -> Result<Option<Digest>, PathError> {
        Ok(self
            .entry(path, SystemTime::now())?
            .map(|entry| entry.digest.clone()))
    }

    /// Rows and text of a data file; `None` if there is no such file.
    ///
    /// JSON lines are parsed, the part beyond 4 MiB extrapolated, and so are lists of rows up to that
    /// size; of Parquet and compressed files a row is taken as 500 bytes and 1,000 characters, as their
    /// text cannot be seen from here. Columns that a source renames are not counted.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn text_size(&mut self, path: &Path) -> Result<Option<TextSize>, PathError> {
        let Some(entry) = self.entry(path, SystemTime::now())? else {
            return Ok(None);
        };
        if let Some(text) = entry.text {
            return Ok(Some(text));
        }
        let size = entry.stamp.bytes;
        let text = measure(path, size)?;
        if let Some(entry) = self.entries.get_mut(path) {
            entry.text = Some(text);
        }
        self.changed = true;
        Ok(Some(text))
    }

    /// What is known of a file that was last looked at by `moment`.
    fn entry(&mut self, path: &Path, moment: SystemTime) -> Result<Option<&Entry>, PathError> {
        let meta = match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return Ok(None),
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(PathError::new("read", path, error)),
        };
        let stamp = Stamp::of(&meta);
        let fresh = |entry: &Entry| entry.settled && entry.stamp == stamp;
        if !self.entries.get(path).is_some_and(fresh) {
            let settled = stamp.is_settled(moment);
            let entry = Entry {
                stamp,
                settled,
                digest: digest_file(path)?,
                text: None,
            };
            self.entries.insert(path.to_owned(), entry);
            self.changed = true;
        }
        Ok(self.entries.get(path))
    }

    /// Digest of a model folder: names and contents of the files that can change what it computes.
    ///
    /// `None` for the weights if there are none: the folder counts as missing.
    ///
    /// # Errors
    /// A file is there but cannot be read.
    pub fn model_folder(&mut self, folder: &Path) -> Result<Option<Digest>, PathError> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) => return Err(PathError::new("read", folder, e)),
        };
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| is_model_file(name)).collect();
        names.extend(other_ends(folder).map(str::to_owned));
        names.sort();
        let weights = names.iter().any(|name| is_weight_file(name));
        if !weights || !names.iter().any(|name| name == ModelFile::Config.name()) {
            return Ok(None);
        }
        let mut text = String::new();
        for name in names {
            if let Some(digest) = self.file(&folder.join(&name))? {
                _ = writeln!(text, "{digest} {name}");
            }
        }
        if let Some(rules) = token_rules(folder) {
            _ = writeln!(text, "{rules}");
        }
        Ok(Some(digest_bytes(text.as_bytes())))
    }
}

fn measure(path: &Path, size: u64) -> Result<TextSize, PathError> {
    let packed = ["parquet", "gz", "zst"];
    if path
        .extension()
        .is_some_and(|ending| packed.iter().any(|known| ending == *known))
    {
        let rows = size / 500;
        return Ok(TextSize {
            rows,
            chars: rows * 1000,
            reply_chars: rows * 500,
            pairs: false,
        });
    }
    let failed = |error| PathError::new("read", path, error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // No more than it says that it holds: some files of the kernel's never end.
    file.take(size.min(SAMPLE_BYTES))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut seen = TextSize::default();
    let mut read = 0u64;
    for (length, row) in rows_in(&text) {
        let sum = |keys: &[&str]| -> u64 {
            let values = keys.iter().filter_map(|key| row.get(key));
            values.map(chars).sum()
        };
        seen.rows += 1;
        seen.pairs |= row.get("rejected").is_some();
        seen.chars += sum(&[
            "prompt",
            "system",
            "messages",
            "conversations",
            "instruction",
            "input",
        ]) + sum(&REPLIES);
        seen.reply_chars += said_chars(&row) + sum(&REPLIES);
        read += length as u64;
    }
    if size > SAMPLE_BYTES && read > 0 {
        let scale = size as f64 / read as f64;
        seen.rows = (seen.rows as f64 * scale) as u64;
        seen.chars = (seen.chars as f64 * scale) as u64;
        seen.reply_chars = (seen.reply_chars as f64 * scale) as u64;
    }
    Ok(seen)
}

/// Columns that hold nothing but replies.
const REPLIES: [&str; 5] = ["output", "completion", "response", "chosen", "rejected"];

/// The rows of JSON lines, or of a list, with the bytes that each takes. What is no JSON is left out: a
/// line that the sample cuts, a malformed one.
fn rows_in(text: &str) -> Vec<(usize, serde_json::Value)> {
    if text.trim_start().starts_with('[')
        && let Ok(rows) = serde_json::from_str::<Vec<serde_json::Value>>(text)
    {
        let length = text.len() / rows.len().max(1);
        return rows.into_iter().map(|row| (length, row)).collect();
    }
    let parsed = |line: &str| Some((line.len() + 1, serde_json::from_str(line).ok()?));
    text.lines().filter_map(parsed).collect()
}

/// Characters of what the assistant says in a conversation.
fn said_chars(row: &serde_json::Value) -> u64 {
    let said = row.get("messages").or(row.get("conversations"));
    let said = said.and_then(serde_json::Value::as_array);
    let said = said.into_iter().flatten().filter(|message| {
        let by = message.get("role").or(message.get("from"));
        by.and_then(serde_json::Value::as_str)
            .is_some_and(|by| ["assistant", "gpt", "chatgpt"].contains(&by))
    });
    said.map(chars).sum()
}

/// Characters of a text, or of the `content` (or `value`) of each message of a list.
fn chars(value: &serde_json::Value) -> u64 {
    match value {
        serde_json::Value::String(text) => text.chars().count() as u64,
        serde_json::Value::Array(items) => items.iter().map(chars).sum(),
        serde_json::Value::Object(fields) => ["content", "value"]
            .iter()
            .filter_map(|key| fields.get(*key))
            .map(chars)
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        write_atomic(path, text.as_bytes()).unwrap();
    }

    #[test]
    fn a_digest_follows_the_content_and_a_missing_file_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let mut cache = DigestCache::default();
        assert_eq!(cache.file(&path).unwrap(), None);
        write(&path, "one");
        let one = cache.file(&path).unwrap().unwrap();
        assert_eq!(one, digest_bytes(b"one"));
        write(&path, "three");
        assert_eq!(cache.file(&path).unwrap().unwrap(), digest_bytes(b"three"));
    }

    #[test]
    fn what_has_just_changed_is_not_remembered_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (path, saved) = (
            dir.path().join("rows.jsonl"),
            dir.path().join("digests.json"),
        );
        write(&path, "one");
        let mut cache = DigestCache::default();
        cache.file(&path).unwrap();
        cache.save(&saved).unwrap();
        assert!(DigestCache::load(&saved).entries.is_empty());

        let later = SystemTime::now() + std::time::Duration::from_secs(3);
        cache.entry(&path, later).unwrap();
        cache.save(&saved).unwrap();
        let mut again = DigestCache::load(&saved);
        assert_eq!(again.entries.len(), 1);
        assert_eq!(again.file(&path).unwrap(), Some(digest_bytes(b"one")));
        assert!(!again.changed, "the digest came from the file");
    }

    // By hand: prompt "ab", "cde" and "f": 2 + 3 + 1 = 6.
    #[test]
    fn a_pair_counts_its_prompt_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.jsonl");
        write(
            &path,
            "{\"prompt\":[{\"role\":\"user\",\"content\":\"ab\"}],\"chosen\":\"cde\",\"rejected\":\"f\"}\n",
        );
        let size = DigestCache::default().text_size(&path).unwrap().unwrap();
        assert_eq!(
            size,
            TextSize {
                rows: 1,
                chars: 6,
                reply_chars: 4,
                pairs: true
            }
        );
    }

    #[test]
    fn a_model_folder_is_named_by_the_files_that_matter() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let mut cache = DigestCache::default();
        write(&file("config.json"), "{}");
        assert_eq!(cache.model_folder(dir.path()).unwrap(), None, "no weights");
        write(&file("model.safetensors"), "weights");
        let first = cache.model_folder(dir.path()).unwrap().unwrap();
        write(&file("generation_config.json"), "{}");
        write(&file("README.md"), "text");
        assert_eq!(cache.model_folder(dir.path()).unwrap().unwrap(), first);
        let mut known = vec![first];
        for part in ModelFile::ALL {
            write(&part.within(dir.path()), "other");
            let digest = cache.model_folder(dir.path()).unwrap().unwrap();
            assert!(
                !known.contains(&digest),
                "{part:?} does not name the folder"
            );
            known.push(digest);
        }
    }
}
