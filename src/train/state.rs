//! The resumable state of a training stage on disk.
//!
//! A state is a folder `state-<step>` that appears by rename, with a manifest that holds the digests
//! of its files; so a kill at any moment leaves either the old state or the new. The order of the
//! data is a function of the step and is not stored.

use crate::base::fs::is_gone;
use crate::base::{Digest, PathError, digest_file, is_as_written, with_check, write_atomic};
use crate::train::error::TrainError;
use crate::train::optimizer::AdamW;
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of `state.json`, which carries a digest of itself since 2.
const STATE_FORMAT: u32 = 2;
const MANIFEST: &str = "state.json";
const PARAMS: &str = "params.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
/// What the objective keeps, if it keeps anything.
const OBJECTIVE: &str = "objective.safetensors";

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
    vars: &BTreeMap<String, Var>,
    optimizer: &AdamW,
    objective: &BTreeMap<String, Tensor>,
) -> Result<(), TrainError> {
    let temp = work.join("state.tmp");
    remove_if_there(&temp)?;
    fs::create_dir_all(&temp).map_err(|e| PathError::new("create", &temp, e))?;
    let params = vars.iter().map(|(n, v)| (n, v.as_tensor()));
    write_tensors(&temp.join(PARAMS), params)?;
    optimizer.save(&temp.join(OPTIMIZER))?;
    let mut names = vec![PARAMS, OPTIMIZER];
    if !objective.is_empty() {
        write_tensors(&temp.join(OBJECTIVE), objective.iter())?;
        names.push(OBJECTIVE);
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

fn write_tensors<'t>(
    path: &Path,
    tensors: impl Iterator<Item = (&'t String, &'t Tensor)>,
) -> Result<(), PathError> {
    let tensors: BTreeMap<&String, &Tensor> = tensors.collect();
    let bytes = safetensors::serialize(tensors, None)
        .map_err(|e| PathError::new("serialise", path, std::io::Error::other(e.to_string())))?;
    write_atomic(path, &bytes)
}

/// A state that was found on disk and whose files are whole.
#[derive(Debug)]
pub struct SavedState {
    path: PathBuf,
    state: TrainState,
}

impl SavedState {
    /// The step it continues after.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// What the objective had kept; empty if nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn objective(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let path = self.path.join(OBJECTIVE);
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let bytes = fs::read(&path).map_err(|e| PathError::new("read", &path, e))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        let tensors = tensors.map_err(|e| TrainError::State {
            path,
            why: e.to_string(),
        })?;
        Ok(tensors.into_iter().collect())
    }

    /// Puts parameters and optimiser back; gives how far training had come.
    ///
    /// # Errors
    /// The state is of other parameters than these.
    pub fn restore(
        &self,
        vars: &BTreeMap<String, Var>,
        optimizer: &mut AdamW,
    ) -> Result<TrainState, TrainError> {
        let path = self.path.join(PARAMS);
        let wrong = |why: String| TrainError::State {
            path: path.clone(),
            why,
        };
        let bytes = fs::read(&path).map_err(|e| PathError::new("read", &path, e))?;
        let saved = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| wrong(e.to_string()))?;
        if saved.len() != vars.len() {
            let (found, want) = (saved.len(), vars.len());
            return Err(wrong(format!("it has {found} tensors, the model {want}")));
        }
        for (name, var) in vars {
            let tensor = saved
                .get(name)
                .filter(|t| t.shape() == var.shape() && t.dtype() == var.dtype())
                .ok_or_else(|| wrong(format!("`{name}` is missing or of another shape or type")))?;
            var.set(&tensor.to_device(var.device())?)?;
        }
        optimizer.load(&self.path.join(OPTIMIZER), self.state.step)?;
        Ok(self.state.clone())
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
                None => {
                    let state = manifest.state;
                    return Ok(Some(SavedState { path, state }));
                }
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
    use crate::config::spec::OptimizerRecipe;
    use std::sync::LazyLock;

    static RECIPE: LazyLock<OptimizerRecipe> = LazyLock::new(|| OptimizerRecipe {
        learning_rate: 0.1.try_into().unwrap(),
        beta1: 0.9.try_into().unwrap(),
        beta2: 0.99.try_into().unwrap(),
        eps: 1e-8.try_into().unwrap(),
        weight_decay: 0.0.try_into().unwrap(),
        max_grad_norm: 1.0.try_into().unwrap(),
    });

    fn parts(value: f32) -> (BTreeMap<String, Var>, AdamW) {
        let var = Var::from_tensor(&Tensor::new(&[value, value], &Device::Cpu).unwrap()).unwrap();
        let vars = BTreeMap::from([("w".to_owned(), var)]);
        let optimizer = AdamW::new(&vars, &RECIPE).unwrap();
        (vars, optimizer)
    }

    fn save(work: &Path, step: u64, value: f32) {
        let (vars, optimizer) = parts(value);
        let state = TrainState {
            step,
            ..TrainState::default()
        };
        let kept = BTreeMap::from([("kept".to_owned(), vars["w"].as_detached_tensor())]);
        save_state(work, "run", &state, &vars, &optimizer, &kept).unwrap();
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

        let file = works[1].join("state-000000008").join(PARAMS);
        let bytes = fs::read(&file).unwrap();
        write_atomic(&file, &bytes[..bytes.len() - 1]).unwrap();
        let mut states = FoundStates::of(&works, "run").unwrap();
        let found = states.next_whole().unwrap().unwrap();
        assert!(states.damaged[0].contains("params.safetensors is not as it was written"));
        assert_eq!(found.step(), 5);
        let (vars, mut optimizer) = parts(0.0);
        found.restore(&vars, &mut optimizer).unwrap();
        assert_eq!(vars["w"].to_vec1::<f32>().unwrap(), [5.0, 5.0]);
        let kept = &found.objective().unwrap()["kept"];
        assert_eq!(kept.to_vec1::<f32>().unwrap(), [5.0, 5.0]);
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
        let other = Var::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        let vars = BTreeMap::from([("w".to_owned(), other)]);
        let mut optimizer = AdamW::new(&vars, &RECIPE).unwrap();
        let mut states = FoundStates::of(&[dir.path().to_owned()], "run").unwrap();
        let found = states.next_whole().unwrap().unwrap();
        assert!(found.restore(&vars, &mut optimizer).is_err());
    }
}
