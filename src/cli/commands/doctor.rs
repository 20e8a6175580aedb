//! `lions doctor`.

use crate::arch::DecoderConfig;
use crate::base::{Device, available_memory};
use crate::cli::cards::access;
use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::{bytes, counted};
use crate::cli::ui::{Tone, Ui};
use crate::data::TextFormat;
use crate::gpu::{Card, Cards, Cublas, GpuError, cards, check, cublas, open_card};
use crate::model::check_weights;
use crate::report::ColumnFit::{Whole, Wrap};
use crate::rundir::{free_bytes, network_file_system};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Look at the machine and the project, and say what would go wrong
///
/// Disk, database folder, processor, memory, devices and the models below models/.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Health {
    Ok,
    Warning,
    Bad,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    health: Health,
    text: String,
}

impl Finding {
    fn new(what: &'static str, health: Health, text: impl Into<String>) -> Self {
        Self {
            what,
            health,
            text: text.into(),
        }
    }
}

/// Less free room than this is worth a warning, bytes.
const LOW_DISK_BYTES: u64 = 2 << 30;

pub(crate) fn run(ui: &Ui, global: &Global, _args: &DoctorArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let mut findings = vec![
        Finding::new(
            "lions",
            Health::Ok,
            format!(
                "{} at {}",
                env!("CARGO_PKG_VERSION"),
                project.root.display()
            ),
        ),
        writable(&project.results()),
        disk(&project.root),
        file_system(&project.root),
        processor(),
        memory(),
    ];
    findings.extend(gpus());
    findings.extend(models(&project.root.join("models")));
    let bad = findings.iter().any(|finding| finding.health == Health::Bad);
    if ui.json {
        ui.print_json(&findings)?;
    } else {
        let rows: Vec<_> = findings.iter().map(|finding| row(ui, finding)).collect();
        let fits = [Whole, Whole, Wrap];
        ui.table(&rows, &fits);
    }
    Ok(if bad { exit_code::USER } else { DONE })
}

fn row(ui: &Ui, finding: &Finding) -> Vec<String> {
    let (tone, word) = match finding.health {
        Health::Ok => (Tone::Good, "ok"),
        Health::Warning => (Tone::Warn, "warning"),
        Health::Bad => (Tone::Bad, "bad"),
    };
    vec![
        ui.tone(tone, word),
        finding.what.to_owned(),
        finding.text.clone(),
    ]
}

fn writable(results: &Path) -> Finding {
    let probe = results.join(".doctor");
    match crate::base::write_atomic(&probe, b"probe") {
        Ok(()) => {
            drop(std::fs::remove_file(&probe));
            Finding::new(
                "results",
                Health::Ok,
                format!("{} is writable", results.display()),
            )
        }
        Err(error) => Finding::new("results", Health::Bad, format!("{error}: {}", error.source)),
    }
}

fn disk(root: &Path) -> Finding {
    match free_bytes(root) {
        Ok(free) if free < LOW_DISK_BYTES => Finding::new(
            "disk",
            Health::Warning,
            format!("only {} free", bytes(free as f64)),
        ),
        Ok(free) => Finding::new("disk", Health::Ok, format!("{} free", bytes(free as f64))),
        Err(error) => Finding::new(
            "disk",
            Health::Warning,
            format!("{error}: {}", error.source),
        ),
    }
}

fn file_system(root: &Path) -> Finding {
    match network_file_system(root) {
        Ok(Some(kind)) => Finding::new(
            "file system",
            Health::Bad,
            format!(
                "{kind} is a network file system: SQLite may lose data on it; keep results/ on a local disk"
            ),
        ),
        Ok(None) => Finding::new("file system", Health::Ok, "local"),
        Err(error) => Finding::new(
            "file system",
            Health::Warning,
            format!("{error}: {}", error.source),
        ),
    }
}

fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    #[cfg(target_arch = "x86_64")]
    let features: Vec<&str> = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ]
    .iter()
    .filter_map(|(name, there)| there.then_some(*name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    let features: Vec<&str> = vec![std::env::consts::ARCH];
    let text = format!("{}: {}", counted(cores, "core"), features.join(" "));
    Finding::new("processor", Health::Ok, text)
}

fn memory() -> Finding {
    match available_memory() {
        Some(available) => Finding::new(
            "memory",
            Health::Ok,
            format!("{} available", bytes(available as f64)),
        ),
        None => Finding::new("memory", Health::Ok, "unknown on this system"),
    }
}

/// Cards, the library that they need, and whether they compute right.
fn gpus() -> Vec<Finding> {
    let none = |health, why: String| {
        vec![Finding::new(
            "gpu",
            health,
            format!("none: {why}; runs use the CPU"),
        )]
    };
    let shown = match cards() {
        Ok(shown) if shown.cards.is_empty() => {
            return none(Health::Ok, "the driver shows no card".to_owned());
        }
        Ok(shown) => shown,
        Err(error @ (GpuError::NoDriver | GpuError::NotBuiltIn | GpuError::Static)) => {
            return none(Health::Ok, error.to_string());
        }
        Err(error) => return none(Health::Warning, error.to_string()),
    };
    let folders = access().libraries;
    let cublas = cublas(&folders);
    let (mut found, mut checks) = (Vec::new(), Vec::new());
    for card in &shown.cards {
        let place = Device::Cuda(card.index as u32);
        if let Err(error) = card.suits() {
            found.push(Finding::new(
                "gpu",
                Health::Warning,
                format!("{place}  {error}"),
            ));
            continue;
        }
        let mut free = None;
        if cublas.is_ok() {
            checks.push(match right(card, &folders, &mut free) {
                Ok(text) => Finding::new("check", Health::Ok, format!("{place}  {text}")),
                Err(error) => Finding::new("check", Health::Bad, format!("{place}  {error}")),
            });
        }
        let text = described(&shown, card, free);
        found.push(Finding::new("gpu", Health::Ok, format!("{place}  {text}")));
    }
    found.push(match cublas {
        Ok(Cublas { version, folder }) => {
            let folder = folder.map(|folder| format!(" in {}", folder.display()));
            Finding::new("cublas", Health::Ok, version + &folder.unwrap_or_default())
        }
        Err(error) => Finding::new("cublas", Health::Warning, error.to_string()),
    });
    found.extend(checks);
    found
}

/// Opens a card and lets it compute; its free memory, bytes, is told on the way.
fn right(card: &Card, folders: &[PathBuf], free: &mut Option<usize>) -> Result<String, GpuError> {
    let begun = Instant::now();
    let mut gpu = open_card(card.index, folders)?;
    *free = Some(gpu.memory()?.free);
    let on_card = check(gpu.as_mut())?.as_secs_f64() * 1e3;
    let secs = begun.elapsed().as_secs_f64();
    Ok(format!(
        "products, norm, attention: right ({secs:.1} s, {on_card:.0} ms by the card's clock)"
    ))
}

fn described(shown: &Cards, card: &Card, free: Option<usize>) -> String {
    let size = |size: usize| bytes(size as f64);
    let two = |(major, minor): (i32, i32)| format!("{major}.{minor}");
    let mut text = format!("{}, {}", card.name, size(card.bytes));
    if let Some(free) = free {
        text += &format!(" ({} free)", size(free));
    }
    text += &format!(", compute {}, driver ", two(card.compute));
    text += &match &shown.release {
        Some(release) => format!("{release} (CUDA {})", two(shown.cuda)),
        None => format!("of CUDA {}", two(shown.cuda)),
    };
    text + &match card.built_for {
        Some(of) => format!(", kernels: built for {}", two(of)),
        None => ", kernels: by the driver's compiler".to_owned(),
    }
}

/// Every folder below `models/`: do its configuration, tokenizer and template open, and do the headers of
/// its weights fit?
fn models(dir: &Path) -> Vec<Finding> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return vec![Finding::new(
            "models",
            Health::Warning,
            format!("no folder {}", dir.display()),
        )];
    };
    let mut folders: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders.iter().map(|folder| model(folder)).collect()
}

fn model(folder: &Path) -> Finding {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let config = DecoderConfig::from_file(folder).map_err(|error| error.to_string());
    let fitting = config.and_then(|config| {
        let wrong = check_weights(folder, &config).into_iter().next();
        wrong.map_or(Ok(()), |error| Err(error.to_string()))
    });
    let opened =
        fitting.and_then(|()| TextFormat::open(folder, None).map_err(|error| error.to_string()));
    match opened {
        Ok(format) => Finding::new(
            "model",
            Health::Ok,
            format!(
                "{name}: {}, chat template found",
                counted(format.vocab_size(), "token")
            ),
        ),
        Err(error) => Finding::new("model", Health::Bad, format!("{name}: {error}")),
    }
}
