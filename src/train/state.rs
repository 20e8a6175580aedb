//! The resumable state of a training stage on disk.
//!
//! A state is a folder `state-<step>` that appears by rename, with a manifest that holds the digests
//! of its files; so a kill at any moment leaves either the old state or the new. The order of the
//! data is a function of the step and is not stored.

use crate::base::fs::is_gone;
use crate::base::{Digest, PathError, digest_file, is_as_written, with_check, write_atomic};
use crate::model::{ArrayReader, ArrayWriter};
use crate::train::engine::{Engine, Part};
use crate::train::error::TrainError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of `state.json`, which carries a digest of itself since 2.
const STATE_FORMAT: u32 = 2;
const MANIFEST: &str = "state.json";
/// What of an engine lies in which file; the last one is written if there is something to keep.
const FILES: [(Part, &str); 3] = [
    (Part::Weights, "params.safetensors"),
    (Part::Optimizer, "optimizer.safetensors"),
    (Part::Reference, "objective.safetensors"),
];

/// How far training has come, and what it has used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimiser steps taken.
    pub step: u64,
    /// Real tokens processed forward in training.
    pub tokens: u64,
    /// Positions computed in training, padding included.
    pub positions: u64,
    /// Estimated floating-point operations of training.
    pub flops: f64,
    /// The latest value of every metric along training.
    pub metrics: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// What the state belongs to, for example the run's id.
    owner: String,
    state: TrainState,
    files: BTreeMap<String, Digest>,
}

/// Writes the state below `work`, atomically, and then removes older states there.
///
/// # Errors
/// A file cannot be written; the earlier state stays.
pub fn save_state(
    work: &Path,
    owner: &str,
    state: &TrainState,
    engine: &dyn Engine,
) -> Result<(), TrainError> {
    let temp = work.join("state.tmp");
    remove_if_there(&temp)?;
    fs::create_dir_all(&temp).map_err(|e| PathError::new("create", &temp, e))?;
    let mut names = Vec::new();
    for (part, name) in FILES.into_iter().filter(|(part, _)| engine.holds(*part)) {
        let mut file = ArrayWriter::create(&temp.join(name), &engine.arrays(part), &[])?;
        engine.visit(part, &mut |bytes| Ok(file.take(bytes)?))?;
        file.finish()?;
        names.push(name);
    }
    let files = names
        .into_iter()
        .map(|name| Ok((name.to_owned(), digest_file(&temp.join(name))?)))
        .collect::<Result<_, PathError>>()?;
    let manifest = Manifest {
        format: STATE_FORMAT,
        owner: owner.to_owned(),
        state: state.clone(),
        files,
    };
    let json = serde_json::to_string_pretty(&manifest).map_err(|e| TrainError::State {
        path: temp.clone(),
        why: e.to_string(),
    })?;
    write_atomic(&temp.join(MANIFEST), with_check(&json).as_bytes())?;
    let home = work.join(format!("state-{:09}", state.step));
    let older = list_states(work)?;
    remove_if_there(&home)?;
    fs::rename(&temp, &home).map_err(|e| PathError::new("rename", &temp, e))?;
    for old in older.into_iter().filter(|old| *old != home) {
        remove_if_there(&old)?;
    }
    Ok(())
}

/// A state that was found on disk and whose files are whole.
#[derive(Debug)]
pub struct SavedState {
    path: PathBuf,
    manifest: Manifest,
}

impl SavedState {
    /// The step it continues after.
    pub fn step(&self) -> u64 {
        self.manifest.state.step
    }

    /// Puts everything back into an engine of the same training; gives how far that had come.
    ///
    /// # Errors
    /// The state is of another model, or a file cannot be read.
    pub fn restore(&self, engine: &mut dyn Engine) -> Result<TrainState, TrainError> {
        for (part, name) in FILES {
            let arrays = engine.arrays(part);
            // A reference that is replaced whole is in no state before its first move.
            let kept = self.manifest.files.contains_key(name) || engine.holds(part);
            if arrays.shapes.is_empty() || !kept {
                continue;
            }
            let path = self.path.join(name);
            let mut file = ArrayReader::open(&path)?;
            if let Some(why) = file.misfit(&arrays) {
                return Err(TrainError::State { path, why });
            }
            engine.fill(part, &mut |into| Ok(file.give(into)?))?;
        }
        Ok(self.manifest.state.clone())
    }
}

/// The states of a run, newest first.
#[derive(Debug, Default)]
pub struct FoundStates {
    /// Not given yet; the newest last.
    left: Vec<(PathBuf, Manifest)>,
    /// The damaged ones met so far and what is wrong with each, a clause for a person.
    pub damaged: Vec<String>,
}

impl FoundStates {
    /// Those of `owner` below any of `works`; foreign ones and those of an earlier version are passed
    /// over. Manifests alone are read.
    ///
    /// # Errors
    /// A folder or manifest is there and cannot be read: what cannot be read is not missing.
    pub fn of(works: &[PathBuf], owner: &str) -> Result<Self, TrainError> {
        let mut found = Self::default();
        for work in works {
            for path in list_states(work)? {
                match read_manifest(&path)? {
                    Ok(manifest) if manifest.owner != owner || manifest.format < STATE_FORMAT => {}
                    Ok(manifest) => found.left.push((path, manifest)),
                    Err(why) => found.tell(&path, &why),
                }
            }
        }
        found.left.sort_by_key(|(_, manifest)| manifest.state.step);
        Ok(found)
    }

    /// The most advanced whole one that was not given yet. Its files are read and digested here, and
    /// those of the damaged ones before it.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn next_whole(&mut self) -> Result<Option<SavedState>, TrainError> {
        while let Some((path, manifest)) = self.left.pop() {
            match damage_of(&path, &manifest)? {
                None => return Ok(Some(SavedState { path, manifest })),
                Some(why) => self.tell(&path, &why),
            }
        }
        Ok(None)
    }

    fn tell(&mut self, path: &Path, why: &str) {
        let path = path.display();
        self.damaged
            .push(format!("the state `{path}` is damaged: {why}"));
    }
}

/// The manifest of a state, or what is wrong with it.
fn read_manifest(path: &Path) -> Result<Result<Manifest, String>, PathError> {
    let path = path.join(MANIFEST);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if is_gone(&e) => return Ok(Err(format!("{MANIFEST} is missing"))),
        Err(e) => return Err(PathError::new("read", path, e)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let manifest: Manifest = match serde_json::from_str(&text) {
        Ok(manifest) => manifest,
        Err(e) => return Ok(Err(format!("{MANIFEST}: {e}"))),
    };
    Ok(if manifest.format > STATE_FORMAT {
        Err(format!("{MANIFEST} is of a later version"))
    } else if manifest.format == STATE_FORMAT && is_as_written(&text) != Some(true) {
        Err(format!("{MANIFEST} is not as it was written"))
    } else {
        Ok(manifest)
    })
}

/// What is wrong with the files of a state; nothing if they are as the manifest says.
fn damage_of(path: &Path, manifest: &Manifest) -> Result<Option<String>, PathError> {
    for (name, digest) in &manifest.files {
        match digest_file(&path.join(name)) {
            Ok(found) if found == *digest => {}
            Ok(_) => return Ok(Some(format!("{name} is not as it was written"))),
            Err(e) if is_gone(&e.source) => return Ok(Some(format!("{name} is missing"))),
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

fn list_states(work: &Path) -> Result<Vec<PathBuf>, PathError> {
    let unread = |e| PathError::new("read", work, e);
    let entries = match fs::read_dir(work) {
        Ok(entries) => entries,
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(unread(e)),
    };
    let mut states = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unread)?;
        if entry.file_name().to_string_lossy().starts_with("state-") {
            states.push(entry.path());
        }
    }
    states.sort();
    Ok(states)
}

fn remove_if_there(dir: &Path) -> Result<(), PathError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(PathError::new("remove", dir, e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use crate::config::spec::OptimizerRecipe;
    use crate::model::{FrozenParams, Params};
    use crate::train::host::{HostEngine, Trained};
    use candle_core::{DType, Device, Tensor};
    use std::sync::LazyLock;

    static RECIPE: LazyLock<OptimizerRecipe> = LazyLock::new(|| OptimizerRecipe {
        learning_rate: 0.1.try_into().unwrap(),
        beta1: 0.9.try_into().unwrap(),
        beta2: 0.99.try_into().unwrap(),
        eps: 1e-8.try_into().unwrap(),
        weight_decay: 0.0.try_into().unwrap(),
        max_grad_norm: 1.0.try_into().unwrap(),
    });

    /// An engine on a model of two weights, which keeps a reference; none of its passes can be run.
    fn engine(width: usize, value: f32) -> HostEngine {
        let mut config = DecoderConfig::from_file(Path::new("models/stories260k")).unwrap();
        config.windows.clear();
        (config.vocab_size, config.hidden_size) = (1, width);
        let tensors = config.tensors().into_iter().map(|(name, shape)| {
            let tensor = Tensor::full(value, shape, &Device::Cpu).unwrap();
            (name, tensor)
        });
        let weights = FrozenParams::from_tensors(tensors.collect());
        let params = Params::from_frozen(&weights, DType::F32).unwrap();
        let mut engine = HostEngine::new(&config, Trained::All(params), &RECIPE).unwrap();
        engine.keep_reference(0.5).unwrap();
        engine
    }

    fn bytes_of(engine: &HostEngine, part: Part) -> Vec<u8> {
        let mut all = Vec::new();
        let mut take = |bytes: &[u8]| {
            all.extend_from_slice(bytes);
            Ok(())
        };
        engine.visit(part, &mut take).unwrap();
        all
    }

    fn save(work: &Path, step: u64, value: f32) {
        let state = TrainState {
            step,
            ..TrainState::default()
        };
        save_state(work, "run", &state, &engine(2, value)).unwrap();
    }

    #[test]
    fn the_newest_whole_state_wins_and_a_damaged_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let works = [dir.path().join("001/work"), dir.path().join("002/work")];
        save(&works[0], 5, 5.0);
        save(&works[1], 8, 8.0);
        let mut found = FoundStates::of(&works, "run").unwrap();
        let mut next = || found.next_whole().unwrap().map(|state| state.step());
        assert_eq!([next(), next(), next()], [Some(8), Some(5), None]);
        let mut others = FoundStates::of(&works, "another run").unwrap();
        assert!(others.next_whole().unwrap().is_none());

        let file = works[1].join("state-000000008").join("params.safetensors");
        let bytes = fs::read(&file).unwrap();
        write_atomic(&file, &bytes[..bytes.len() - 1]).unwrap();
        let mut states = FoundStates::of(&works, "run").unwrap();
        let found = states.next_whole().unwrap().unwrap();
        assert!(states.damaged[0].contains("params.safetensors is not as it was written"));
        assert_eq!(found.step(), 5);
        let mut restored = engine(2, 0.0);
        found.restore(&mut restored).unwrap();
        for part in [Part::Weights, Part::Optimizer, Part::Reference] {
            assert!(bytes_of(&restored, part) == bytes_of(&engine(2, 5.0), part));
            assert!(!bytes_of(&restored, part).is_empty());
        }
    }

    #[test]
    fn only_the_last_state_of_an_attempt_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), 5, 5.0);
        save(dir.path(), 6, 6.0);
        assert_eq!(list_states(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), 5, 5.0);
        let mut states = FoundStates::of(&[dir.path().to_owned()], "run").unwrap();
        let found = states.next_whole().unwrap().unwrap();
        assert!(found.restore(&mut engine(3, 0.0)).is_err());
    }
}
