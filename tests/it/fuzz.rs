//! Files of strangers, damaged at random: no reader panics, hangs or asks for memory without bound.
//!
//! Each case is a valid file with a few edits, drawn by its number; `tests/fuzz.sh` runs many.

use crate::project::Project;
use candle_core::{DType, Device};
use lions::arch::DecoderConfig;
use lions::base::SeedTree;
use lions::config::spec::DataSource;
use lions::data::{TextFormat, load_chat, load_pairs};
use lions::model::FrozenParams;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Cases of each reader where nobody asks for more.
const FEW: u64 = 24;
/// No reading of a small file takes so long, even on a busy machine.
const LONGEST: Duration = Duration::from_mins(5);

/// What stands in the place of a number, or between two bytes.
const WORDS: [&str; 36] = [
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "9999999999",
    "0.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{{",
    "}}",
    "{% for x in messages %}",
    "{% endfor %}",
    "{{ x ~ x }}",
    "|tojson",
    "|join('a')",
    "* 1000000",
    "range(100000)",
    "'a' * 100000",
    "\u{0}",
    "\u{feff}",
    "\u{FDD0}",
    "\r\n",
    "\\ud800",
    "../..",
    "/dev/zero",
    "NaN",
    "\"messages\"",
    "preset",
    "[sweep]",
    "[[axis]]",
    "= ",
    "é",
];

/// A few edits of `bytes`.
fn damaged(rng: &mut ChaCha8Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        // Most of what matters in a binary file stands at its ends.
        let at = match rng.random_range(0..4) {
            0 => at.min(200),
            1 => bytes.len() - (bytes.len() - at).min(200),
            _ => at,
        };
        let span = at..(at + rng.random_range(0..40)).min(bytes.len());
        match rng.random_range(0..7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b']'][rng.random_range(0..8)];
                }
            }
            2 => drop(bytes.drain(span)),
            3 => {
                let piece = bytes[span].to_vec();
                for _ in 0..rng.random_range(1..30) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            4 => bytes.truncate(at),
            5 => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            _ => {
                // The next number becomes another one.
                let from = at
                    + bytes[at..]
                        .iter()
                        .take_while(|b| !b.is_ascii_digit())
                        .count();
                let digits = bytes[from..]
                    .iter()
                    .take_while(|b| b.is_ascii_digit())
                    .count();
                let word = WORDS[rng.random_range(0..8)];
                bytes.splice(from..from + digits, word.bytes());
            }
        }
    }
    bytes
}

/// How many cases: `LIONS_FUZZ_CASES`, or few.
#[expect(
    clippy::disallowed_methods,
    reason = "what a person asks of a test, not of the program"
)]
fn cases() -> u64 {
    let asked = std::env::var("LIONS_FUZZ_CASES").ok();
    asked.map_or(FEW, |number| number.parse().unwrap())
}

/// Ends the process when one case takes too long, which nothing else could.
struct Watch {
    now: Arc<Mutex<(String, Instant)>>,
    done: Arc<AtomicBool>,
}

impl Watch {
    fn start(reader: &str) -> Self {
        let watch = Self {
            now: Arc::new(Mutex::new((reader.to_owned(), Instant::now()))),
            done: Arc::new(AtomicBool::new(false)),
        };
        let (now, done) = (Arc::clone(&watch.now), Arc::clone(&watch.done));
        std::thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                let (what, since) = now.lock().unwrap().clone();
                if since.elapsed() > LONGEST {
                    let said = format!("{what} takes more than {} s\n", LONGEST.as_secs());
                    drop(std::io::stderr().write_all(said.as_bytes()));
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        watch
    }

    fn case(&self, what: String) {
        *self.now.lock().unwrap() = (what, Instant::now());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
    }
}

/// Every case of one reader: `files` are valid, each with the name under which `read` finds it. `read`
/// says whether it was read.
fn fuzz(
    reader: &str,
    files: &[(&str, Vec<u8>)],
    read: impl Fn(&str) -> bool,
    write: impl Fn(&str, &[u8]),
) {
    let watch = Watch::start(reader);
    let (mut read_well, mut failed) = (0u64, Vec::new());
    for (name, bytes) in files {
        write(name, bytes);
        assert!(read(name), "{reader}: {name} is valid");
    }
    for case in 0..cases() {
        watch.case(format!("{reader}, case {case}"));
        let mut rng = ChaCha8Rng::seed_from_u64(case);
        let (name, bytes) = &files[rng.random_range(0..files.len())];
        write(name, &damaged(&mut rng, bytes));
        match catch_unwind(AssertUnwindSafe(|| read(name))) {
            Ok(well) => read_well += u64::from(well),
            Err(_) => failed.push(case),
        }
        // The next case finds this file whole.
        write(name, bytes);
    }
    let said = format!(
        "{reader}: {} cases, {read_well} read, {} panics\n",
        cases(),
        failed.len()
    );
    drop(std::io::stderr().write_all(said.as_bytes()));
    assert!(failed.is_empty(), "{reader}: cases {failed:?} panic");
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(here(path)).unwrap()
}

fn source(path: &str) -> DataSource {
    DataSource {
        path: path.into(),
        fraction: None,
        count: None,
        columns: BTreeMap::new(),
        fold: None,
    }
}

/// Rows of either kind, told from each other by what reads them.
fn reads_rows(root: &Path, name: &str) -> bool {
    let seed = SeedTree::root(1);
    let chats = load_chat(root, &[source(name)], &seed).map(drop);
    let pairs = load_pairs(root, &[source(name)], &seed).map(drop);
    let both = [
        chats.map_err(|e| e.to_string()),
        pairs.map_err(|e| e.to_string()),
    ];
    both.iter().any(Result::is_ok)
}

#[test]
fn sweeps() {
    let project = Project::new();
    let smoke = project.read("sweeps/smoke.toml").into_bytes();
    let mini = project.read("sweeps/base/mini.toml").into_bytes();
    let files = [
        ("sweeps/smoke.toml", smoke),
        ("sweeps/base/mini.toml", mini),
    ];
    let read = |_: &str| {
        let loaded =
            lions::config::load_sweep(&project.path("sweeps/smoke.toml"), &project.path(""));
        loaded.map_err(|e| e.render(false)).is_ok()
    };
    fuzz("sweeps", &files, read, |name, bytes| {
        project.write(name, bytes);
    });
}

#[test]
fn rows_of_text() {
    let project = Project::bare();
    let chat = r#"{"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 1}], "id": "a"}"#;
    let sharegpt = r#"[{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"}]"#;
    let alpaca = "{\"instruction\": \"Add.\", \"input\": \"1 + 1\", \"output\": \"2\"}\n{\"instruction\": \"Go.\", \"input\": null, \"output\": \"No.\"}\n";
    let pair = r#"{"prompt": [{"role": "user", "content": "Q"}], "chosen": "A", "rejected": "B", "meta": {"score": 1.5}}"#;
    let transcript =
        r#"{"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"}"#;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(alpaca.as_bytes()).unwrap();
    let files = [
        ("chat.jsonl", chat.into()),
        ("sharegpt.json", sharegpt.into()),
        ("alpaca.ndjson", alpaca.into()),
        ("pair.jsonl", pair.into()),
        ("transcript.jsonl", transcript.into()),
        ("alpaca.jsonl.gz", packed.finish().unwrap()),
        (
            "pair.jsonl.zst",
            zstd::encode_all(pair.as_bytes(), 3).unwrap(),
        ),
    ];
    let read = |name: &str| reads_rows(&project.path(""), name);
    fuzz("rows", &files, read, |name, bytes| {
        project.write(name, bytes);
    });
}

#[test]
fn rows_of_parquet() {
    let project = Project::bare();
    let files = ["chat", "pairs"].map(|name| bytes(&format!("tests/fixtures/{name}.parquet")));
    let [chat, pairs] = files;
    let files = [("chat.parquet", chat), ("pairs.parquet", pairs)];
    let read = |name: &str| reads_rows(&project.path(""), name);
    fuzz("Parquet", &files, read, |name, bytes| {
        project.write(name, bytes);
    });
}

// The library asserts something of this file, found by `tests/fuzz.sh`.
#[test]
fn what_a_library_panics_on_is_an_error_without_a_trace() {
    let project = Project::new();
    let mut rng = ChaCha8Rng::seed_from_u64(1693);
    let name = ["chat", "pairs"][rng.random_range(0..2)];
    let whole = bytes(&format!("tests/fixtures/{name}.parquet"));
    project.write("data/rows.parquet", damaged(&mut rng, &whole));
    project.write("sweeps/rows.toml", ROWS);
    let said = project.lions(&["inspect", "sweeps/rows.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("data/rows.parquet"), "{said:?}");
    assert!(!said.err.contains("panicked"), "{said:?}");
}

const ROWS: &str = r#"extends = ["base/mini.toml"]
[sweep]
name = "rows"
question = "Can they be read?"
seeds = [1]
[base.sft.recipe]
data = [{ path = "data/rows.parquet" }]
"#;

/// Opens a folder's tokenizer and template and writes a row with them.
fn encodes(folder: &Path, template: Option<&Path>) -> bool {
    let row = r#"{"messages": [{"role": "user", "content": "Say é 1."}, {"role": "assistant", "content": "I do."}]}"#;
    let rows = tempfile::tempdir().unwrap();
    let file = rows.path().join("row.jsonl");
    std::fs::File::create(&file)
        .unwrap()
        .write_all(row.as_bytes())
        .unwrap();
    let (rows, _) = load_chat(rows.path(), &[source("row.jsonl")], &SeedTree::root(1)).unwrap();
    let format = TextFormat::open(folder, template).map_err(|e| e.to_string());
    format.is_ok_and(|format| {
        format
            .encode_chats(&rows)
            .map_err(|e| e.to_string())
            .is_ok()
    })
}

#[test]
fn templates() {
    let project = Project::new();
    let model = project.path("models/stories260k");
    let config: serde_json::Value =
        serde_json::from_slice(&bytes("models/stories260k/tokenizer_config.json")).unwrap();
    let own = config["chat_template"].as_str().unwrap().to_owned();
    let other = "{%- macro head(m, n=2) %}{{ '<|%s|>' % m.role }}{{ m['content'].strip()[:n * 100] | trim }}{% endmacro -%}\n\
        {% set ns = namespace(seen=[], text='') %}{% for m in messages if m.role != 'system' %}{% set ns.seen = ns.seen + [m] %}\
        {{ head(m) ~ eos_token }}{% set ns.text = ns.text ~ (m | tojson(indent=2)) %}{% endfor %}\
        {{ ns.seen | map(attribute='role') | join(', ') | replace('user', 'User') | indent(2) }}{{ '%05.1f|%r' | format(1.5, 'a') }}";
    let files = [
        ("a.jinja", own.into_bytes()),
        ("b.jinja", other.as_bytes().to_vec()),
    ];
    let read = |name: &str| encodes(&model, Some(&project.path(name)));
    // The second writes its replies where they cannot be found again: what it shows is that it ends.
    let read = |name: &str| read(name) || name == "b.jinja";
    fuzz("templates", &files, read, |name, bytes| {
        project.write(name, bytes);
    });
}

#[test]
fn tokenizers() {
    let project = Project::new();
    let model = project.path("models/stories260k");
    let names = ["tokenizer.json", "tokenizer_config.json"];
    let files = names.map(|name| (name, bytes(&format!("models/stories260k/{name}"))));
    let read = |_: &str| encodes(&model, None);
    let write =
        |name: &str, bytes: &[u8]| project.write(Path::new("models/stories260k").join(name), bytes);
    fuzz("tokenizers", &files, read, write);
}

#[test]
fn shapes_of_models() {
    let project = Project::bare();
    let families = ["gemma2", "llama3-rope", "mistral", "qwen3", "smollm"];
    let files = families.map(|name| {
        (
            name,
            bytes(&format!("tests/golden/families/{name}/config.json")),
        )
    });
    let read = |name: &str| {
        DecoderConfig::from_file(&project.path(name))
            .map_err(|e| e.to_string())
            .is_ok()
    };
    fuzz("config.json", &files, read, |name, bytes| {
        project.write(Path::new(name).join("config.json"), bytes);
    });
}

#[test]
fn weights() {
    let project = Project::bare();
    let families = ["gemma2", "smollm"];
    let files = families.map(|name| {
        (
            name,
            bytes(&format!("tests/golden/families/{name}/model.safetensors")),
        )
    });
    let read = |name: &str| {
        let config = DecoderConfig::from_file(&here("tests/golden/families").join(name)).unwrap();
        let loaded = FrozenParams::load(&project.path(name), &config, &Device::Cpu, DType::F32);
        loaded.map_err(|e| e.to_string()).is_ok()
    };
    fuzz("safetensors", &files, read, |name, bytes| {
        project.write(Path::new(name).join("model.safetensors"), bytes);
    });
}
