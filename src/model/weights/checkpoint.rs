//! Checkpoints in Hugging Face layout, so that they open in transformers.

use crate::arch::FloatFormat;
use crate::base::{ModelFile, PathError, sync_files, write_atomic, write_new};
use crate::model::error::ModelError;
use crate::model::weights::arrays::{ArrayWriter, Arrays, Take};
use crate::model::weights::params::FrozenParams;
use crate::model::weights::weights_file::{WeightFiles, load_tensors};
use candle_core::{DType, Device};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files that belong to a model besides its weights and `config.json`, copied byte for byte.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// Largest weights file, bytes; what does not fit goes into numbered files with an index.
const MAX_FILE_BYTES: usize = 5_000_000_000;

/// What a model folder holds besides its weights, as it was when a training began: whoever changes the
/// folder meanwhile does not change what the training writes.
#[derive(Clone, Debug)]
pub struct Companions {
    config: Value,
    /// `config.json` as it stands.
    text: String,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Companions {
    /// Reads them.
    ///
    /// # Errors
    /// A file cannot be read, or `config.json` is no JSON.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = ModelFile::Config.within(dir);
        let text = crate::base::fs::read_to_string(&path)?;
        let config =
            serde_json::from_str(&text).map_err(|source| ModelError::Json { path, source })?;
        let mut files = Vec::new();
        for &name in COMPANIONS {
            let path = dir.join(name);
            if path.is_file() {
                let bytes = fs::read(&path).map_err(|e| PathError::new("read", &path, e))?;
                files.push((name, bytes));
            }
        }
        Ok(Self {
            config,
            text,
            files,
        })
    }

    /// Writes them into `dir`, as of weights in `format`.
    fn write(&self, dir: &Path, format: FloatFormat) -> Result<(), ModelError> {
        let mut config = self.config.clone();
        let field = if config.get("dtype").is_some() {
            "dtype"
        } else {
            "torch_dtype"
        };
        // A file that already says so is passed through byte for byte.
        let text = if config.get(field) == Some(&json!(format.name())) {
            self.text.clone()
        } else {
            config[field] = json!(format.name());
            serde_json::to_string_pretty(&config).unwrap_or_else(|_| self.text.clone())
        };
        write_new(&ModelFile::Config.within(dir), text.as_bytes())?;
        for (name, bytes) in &self.files {
            write_new(&dir.join(name), bytes)?;
        }
        Ok(())
    }
}

/// Writes `params`, all of one number format, into the new folder `dir`: see [`save_arrays`].
///
/// # Errors
/// As [`save_arrays`].
pub fn save_checkpoint(
    dir: &Path,
    companions: &Companions,
    params: &FrozenParams,
) -> Result<(), ModelError> {
    save_arrays(dir, companions, &params.arrays(), |take| params.visit(take))?;
    Ok(sync_files(dir)?)
}

/// Writes weights into the new folder `dir`, with configuration and tokenizer of another model. `visit`
/// gives the bytes of `arrays`.
///
/// `config.json` passes through unchanged except for the number format. Everything is written into
/// a folder beside `dir` first and renamed at the end. The weights are on disk then; the other files are once somebody syncs
/// them, which attempts do when they digest what they made.
///
/// # Errors
/// `dir` exists, a file cannot be written, or `visit` fails.
pub fn save_arrays<E: From<ModelError>>(
    dir: &Path,
    companions: &Companions,
    arrays: &Arrays,
    visit: impl FnOnce(&mut Take<'_, E>) -> Result<(), E>,
) -> Result<(), E> {
    save_in_files(dir, companions, (arrays, MAX_FILE_BYTES), visit)
}

fn save_in_files<E: From<ModelError>>(
    dir: &Path,
    companions: &Companions,
    (arrays, max_file_bytes): (&Arrays, usize),
    visit: impl FnOnce(&mut Take<'_, E>) -> Result<(), E>,
) -> Result<(), E> {
    if dir.exists() {
        let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(ModelError::from(PathError::new("create", dir, exists)).into());
    }
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temp = dir.with_file_name(name);
    let refused = |e: PathError| E::from(ModelError::from(e));
    let written = (|| {
        fs::create_dir_all(&temp).map_err(|e| refused(PathError::new("create", &temp, e)))?;
        companions.write(&temp, arrays.format)?;
        let mut files = WeightsWriter::create(&temp, arrays, max_file_bytes).map_err(refused)?;
        visit(&mut |bytes| files.take(bytes).map_err(refused))?;
        files.finish().map_err(refused)?;
        fs::rename(&temp, dir).map_err(|e| refused(PathError::new("write", dir, e)))
    })();
    if written.is_err() {
        drop(fs::remove_dir_all(&temp));
    }
    written
}

/// Writes the model in `from` as the new folder `to` with weights in `format`; returns how many
/// tensors it has.
///
/// # Errors
/// A file is missing or damaged, or `to` exists.
pub fn convert_checkpoint(
    from: &Path,
    to: &Path,
    format: FloatFormat,
) -> Result<usize, ModelError> {
    let tensors = load_tensors(from, &Device::Cpu, format.into())?;
    let count = tensors.len();
    let params = FrozenParams::from_tensors(tensors);
    save_checkpoint(to, &Companions::read(from)?, &params)?;
    Ok(count)
}

/// How many of the weights in the folder `after` are not what the folder `before` holds in the same
/// number format, and how many there are. One tensor of each folder is held at a time.
///
/// # Errors
/// A folder cannot be read.
pub fn changed_weights(before: &Path, after: &Path) -> Result<(usize, usize), ModelError> {
    let (mut changed, mut all) = (0, 0);
    let mut written = WeightFiles::open(after)?.files;
    for mut file in WeightFiles::open(before)?.files {
        for (name, info) in file.tensors() {
            let mut places = written.iter_mut();
            let Some((place, found)) = places.find_map(|f| {
                let found = f.tensors().remove(&name)?;
                Some((f, found))
            }) else {
                continue; // no weight of the model, such as a table of rotations
            };
            let now = place.load_as_stored(&name, &found)?;
            let old = file.load(&name, &info, now.device(), now.dtype())?;
            let differing = old.ne(&now)?.to_dtype(DType::F64)?.sum_all()?;
            changed += differing.to_scalar::<f64>()? as usize;
            all += now.elem_count();
        }
    }
    Ok((changed, all))
}

/// The weights of a folder in one file, or in numbered ones with an index.
struct WeightsWriter<'a> {
    dir: &'a Path,
    /// What comes into each file; the next one last.
    left: Vec<(String, Arrays)>,
    file: Option<ArrayWriter>,
}

impl<'a> WeightsWriter<'a> {
    fn create(dir: &'a Path, arrays: &Arrays, max_file_bytes: usize) -> Result<Self, PathError> {
        let mut files = in_files(arrays, max_file_bytes);
        if files.len() > 1 {
            let names = |(file, arrays): &(String, Arrays)| {
                let names = arrays.shapes.keys().cloned();
                names.map(|name| (name, file.clone())).collect::<Vec<_>>()
            };
            let weight_map: BTreeMap<String, String> = files.iter().flat_map(names).collect();
            let metadata = json!({ "total_size": arrays.bytes() });
            let index = json!({ "metadata": metadata, "weight_map": weight_map });
            let text = serde_json::to_string_pretty(&index).unwrap_or_default();
            write_atomic(&ModelFile::WeightIndex.within(dir), text.as_bytes())?;
        }
        files.reverse();
        Ok(Self {
            dir,
            left: files,
            file: None,
        })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        // What comes after the last file is refused by that one.
        if self.file.as_ref().is_none_or(ArrayWriter::is_full) && !self.left.is_empty() {
            self.next()?;
        }
        match &mut self.file {
            Some(file) => file.take(bytes),
            None => Ok(()),
        }
    }

    /// Ends the file and begins the next.
    fn next(&mut self) -> Result<(), PathError> {
        if let Some(file) = self.file.take() {
            file.finish()?;
        }
        if let Some((name, arrays)) = self.left.pop() {
            let format = [("format", "pt".to_owned())];
            let file = ArrayWriter::create(&self.dir.join(name), &arrays, &format)?;
            self.file = Some(file);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), PathError> {
        while self.file.is_some() || !self.left.is_empty() {
            self.next()?;
        }
        Ok(())
    }
}

/// Which arrays come into which file, none of more than `most` bytes unless it holds one array.
fn in_files(arrays: &Arrays, most: usize) -> Vec<(String, Arrays)> {
    let empty = || Arrays {
        format: arrays.format,
        shapes: BTreeMap::new(),
    };
    let (mut files, mut filled) = (vec![empty()], 0);
    for (name, shape) in &arrays.shapes {
        let bytes = arrays.bytes_of(shape);
        if filled > 0 && filled + bytes > most {
            files.push(empty());
            filled = 0;
        }
        filled += bytes;
        if let Some(file) = files.last_mut() {
            file.shapes.insert(name.clone(), shape.clone());
        }
    }
    let count = files.len();
    let name = |i: usize| match count {
        1 => ModelFile::Weights.name().to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    };
    let files = files.into_iter().enumerate();
    files.map(|(i, arrays)| (name(i), arrays)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use candle_core::{Device, Tensor};
    use std::path::PathBuf;

    fn shipped() -> (PathBuf, DecoderConfig, FrozenParams) {
        let dir = PathBuf::from("models/stories260k");
        let config = DecoderConfig::from_file(&dir).unwrap();
        let params = FrozenParams::load(&dir, &config, &Device::Cpu, DType::F32).unwrap();
        (dir, config, params)
    }

    fn assert_equal(a: &FrozenParams, b: &FrozenParams) {
        let names = |p: &FrozenParams| p.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(a), names(b));
        for ((_, a), (_, b)) in a.iter().zip(b.iter()) {
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(a), flat(b));
        }
    }

    #[test]
    fn a_saved_checkpoint_loads_as_it_was_in_one_file_or_many() {
        let (source, config, params) = shipped();
        let temp = tempfile::tempdir().unwrap();
        for (name, limit) in [("one", MAX_FILE_BYTES), ("many", 200_000)] {
            let dir = temp.path().join(name);
            let companions = Companions::read(&source).unwrap();
            let cut = (&params.arrays(), limit);
            save_in_files(&dir, &companions, cut, |take| params.visit(take)).unwrap();
            let back = FrozenParams::load(&dir, &config, &Device::Cpu, DType::F32).unwrap();
            assert_equal(&back, &params);
            assert!(dir.join("tokenizer.json").is_file());
            assert_eq!(DecoderConfig::from_file(&dir).unwrap(), config);
        }
        assert!(
            temp.path()
                .join("many/model.safetensors.index.json")
                .is_file()
        );
        assert_eq!(
            fs::read_dir(temp.path()).unwrap().count(),
            2,
            "a temporary folder stayed"
        );
    }

    #[test]
    fn a_bf16_checkpoint_is_written_in_two_bytes_a_weight_and_says_so() {
        let (source, config, _) = shipped();
        let params = FrozenParams::load(&source, &config, &Device::Cpu, DType::BF16).unwrap();
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("short");
        save_checkpoint(&dir, &Companions::read(&source).unwrap(), &params).unwrap();
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let written = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = written.tensors();
        assert_eq!(tensors.len(), params.iter().count());
        assert!(
            tensors
                .iter()
                .all(|(_, t)| t.dtype() == safetensors::Dtype::BF16)
        );
        let text = fs::read_to_string(dir.join("config.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let written = json.get("dtype").or(json.get("torch_dtype"));
        assert_eq!(written, Some(&json!("bfloat16")));
        let back = FrozenParams::load(&dir, &config, &Device::Cpu, DType::F32).unwrap();
        let rounded = params.iter().map(|(name, t)| {
            let wide = t.to_dtype(DType::F32).unwrap();
            (name.to_owned(), wide)
        });
        assert_equal(&back, &FrozenParams::from_tensors(rounded.collect()));
    }

    #[test]
    fn a_checkpoint_is_never_written_over_another() {
        let (source, _, params) = shipped();
        let temp = tempfile::tempdir().unwrap();
        let error =
            save_checkpoint(temp.path(), &Companions::read(&source).unwrap(), &params).unwrap_err();
        assert!(error.to_string().starts_with("cannot create"), "{error}");
    }

    #[test]
    fn cut_missing_extra_and_wrong_tensors_are_named() {
        let (source, config, params) = shipped();
        let temp = tempfile::tempdir().unwrap();
        let load = |dir: &Path, config: &DecoderConfig| {
            FrozenParams::load(dir, config, &Device::Cpu, DType::F32)
                .unwrap_err()
                .to_string()
        };

        let cut = temp.path().join("cut");
        save_checkpoint(&cut, &Companions::read(&source).unwrap(), &params).unwrap();
        let bytes = fs::read(cut.join("model.safetensors")).unwrap();
        write_atomic(&cut.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
        let error = load(&cut, &config);
        assert!(error.contains("is damaged: its header promises"), "{error}");

        let mut wide = config.clone();
        wide.intermediate_size = 200;
        let error = load(&source, &wide);
        assert!(
            error.contains("has shape [64, 172], `config.json` asks for [64, 200]"),
            "{error}"
        );
        assert!(
            error.contains("down_proj") && error.contains("model.safetensors"),
            "{error}"
        );

        let mut deep = config.clone();
        deep.windows.push(None);
        let error = load(&source, &deep);
        assert!(
            error.contains(
                "tensor `model.layers.5.input_layernorm.weight` of shape [64] is missing"
            ),
            "{error}"
        );

        let mut shallow = config.clone();
        shallow.windows.pop();
        let error = load(&source, &shallow);
        assert!(
            error.contains("no place for: `model.layers.4.input_layernorm.weight`"),
            "{error}"
        );

        let error = load(temp.path(), &config);
        assert!(error.starts_with("no `model.safetensors`"), "{error}");
    }
}
