//! Checkpoints in Hugging Face layout, so that they open in transformers.

use crate::arch::FloatFormat;
use crate::base::{ModelFile, PathError, write_atomic};
use crate::model::error::ModelError;
use crate::model::weights::params::FrozenParams;
use crate::model::weights::weights_file::{WeightFiles, load_tensors};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
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

    /// Writes them into `dir`, as of weights in `dtype`.
    fn write(&self, dir: &Path, dtype: DType) -> Result<(), ModelError> {
        let mut config = self.config.clone();
        let field = if config.get("dtype").is_some() {
            "dtype"
        } else {
            "torch_dtype"
        };
        // A file that already says so is passed through byte for byte.
        let text = if config.get(field) == Some(&json!(dtype_name(dtype))) {
            self.text.clone()
        } else {
            config[field] = json!(dtype_name(dtype));
            serde_json::to_string_pretty(&config).unwrap_or_else(|_| self.text.clone())
        };
        write_atomic(&ModelFile::Config.within(dir), text.as_bytes())?;
        for (name, bytes) in &self.files {
            write_atomic(&dir.join(name), bytes)?;
        }
        Ok(())
    }
}

/// Writes `params` into the new folder `dir`, with configuration and tokenizer of another model.
///
/// `config.json` passes through unchanged except for the number format. Everything is written into
/// a folder beside `dir` first and renamed at the end.
///
/// # Errors
/// `dir` exists, or a file cannot be written.
pub fn save_checkpoint(
    dir: &Path,
    companions: &Companions,
    params: &FrozenParams,
) -> Result<(), ModelError> {
    save_in_files(dir, companions, params, MAX_FILE_BYTES)
}

fn save_in_files(
    dir: &Path,
    companions: &Companions,
    params: &FrozenParams,
    max_file_bytes: usize,
) -> Result<(), ModelError> {
    if dir.exists() {
        let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(PathError::new("create", dir, exists).into());
    }
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temp = dir.with_file_name(name);
    let written = (|| {
        fs::create_dir_all(&temp).map_err(|e| PathError::new("create", &temp, e))?;
        let dtype = params.iter().next().map_or(DType::F32, |(_, t)| t.dtype());
        companions.write(&temp, dtype)?;
        write_weights(&temp, params, max_file_bytes)?;
        fs::rename(&temp, dir).map_err(|e| PathError::new("write", dir, e))?;
        Ok(())
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

/// How many of the weights in `params` are not what the folder `dir` holds in the same number format,
/// and how many there are. One tensor of the folder is held at a time.
///
/// # Errors
/// The folder cannot be read.
pub fn changed_weights(dir: &Path, params: &FrozenParams) -> Result<(usize, usize), ModelError> {
    let (mut changed, mut all) = (0, 0);
    for mut file in WeightFiles::open(dir)?.files {
        for (name, info) in file.tensors() {
            let Some(now) = params.get(&name) else {
                continue; // no weight of the model, such as a table of rotations
            };
            let before = file.load(&name, &info, now.device(), now.dtype())?;
            let differing = before.ne(now)?.to_dtype(DType::F64)?.sum_all()?;
            changed += differing.to_scalar::<f64>()? as usize;
            all += now.elem_count();
        }
    }
    Ok((changed, all))
}

impl From<FloatFormat> for DType {
    fn from(format: FloatFormat) -> Self {
        match format {
            FloatFormat::F32 => Self::F32,
            FloatFormat::Bf16 => Self::BF16,
            FloatFormat::F16 => Self::F16,
            FloatFormat::F64 => Self::F64,
        }
    }
}

/// The name of a number format in `config.json`.
fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        DType::F64 => "float64",
        _ => "float32",
    }
}

fn write_weights(
    dir: &Path,
    params: &FrozenParams,
    max_file_bytes: usize,
) -> Result<(), ModelError> {
    let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
    let mut files: Vec<Vec<(&str, &Tensor)>> = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in params.iter() {
        if filled > 0 && filled + bytes(tensor) > max_file_bytes {
            files.push(Vec::new());
            filled = 0;
        }
        filled += bytes(tensor);
        if let Some(file) = files.last_mut() {
            file.push((name, tensor));
        }
    }
    if let [file] = &files[..] {
        return write_file(&ModelFile::Weights.within(dir), file);
    }
    let mut weight_map = BTreeMap::new();
    for (i, file) in files.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, files.len());
        write_file(&dir.join(&name), file)?;
        weight_map.extend(file.iter().map(|(tensor, _)| (*tensor, name.clone())));
    }
    let total: usize = params.iter().map(|(_, t)| bytes(t)).sum();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    let text = serde_json::to_string_pretty(&index).unwrap_or_default();
    Ok(write_atomic(
        &ModelFile::WeightIndex.within(dir),
        text.as_bytes(),
    )?)
}

fn write_file(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<(), ModelError> {
    let mut contiguous = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        contiguous.push((*name, tensor.contiguous()?));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let pairs = contiguous.iter().map(|(name, tensor)| (*name, tensor));
    let failed = |e| PathError::new("write", path, e);
    // The library writes a file that only its owner may read; this one is as any other.
    let made = fs::File::create(path).and_then(|file| file.metadata());
    let permissions = made.map_err(failed)?.permissions();
    safetensors::serialize_to_file(pairs, Some(metadata), path).map_err(|source| match source {
        safetensors::SafeTensorError::IoError(e) => PathError::new("write", path, e).into(),
        other => ModelError::Damaged {
            path: path.to_path_buf(),
            problem: other.to_string(),
        },
    })?;
    fs::set_permissions(path, permissions).map_err(failed)?;
    let file = fs::File::open(path).map_err(|e| PathError::new("open", path, e))?;
    file.sync_all()
        .map_err(|e| PathError::new("write", path, e).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use candle_core::Device;
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
            save_in_files(&dir, &Companions::read(&source).unwrap(), &params, limit).unwrap();
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
