//! Safetensors files, read tensor by tensor.
//!
//! Nothing is mapped: a file that another process cuts short becomes an error, not a signal, and
//! only one tensor's bytes are held besides the tensors themselves.

use crate::arch::{DecoderConfig, EMBEDDING};
use crate::base::fs::read_to_string;
use crate::base::{ModelFile, PathError, counted, is_weight_file};
use crate::model::error::ModelError;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest header that is believed, bytes; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// The weights of a folder: the file or index they were found through, and the files themselves.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    /// What an error about the whole set names.
    pub(crate) source: PathBuf,
    pub(crate) files: Vec<WeightFile>,
}

/// One open file and its table of contents.
#[derive(Debug)]
pub(crate) struct WeightFile {
    pub(crate) path: PathBuf,
    pub(super) file: File,
    metadata: Metadata,
    data_start: u64,
}

/// Every tensor of a folder's weights by name, in `dtype`: for models that are no [`Decoder`].
///
/// # Errors
/// There are no weights, or a file cannot be read or is damaged.
///
/// [`Decoder`]: crate::model::Decoder
pub fn load_tensors(
    dir: &Path,
    device: &Device,
    dtype: DType,
) -> Result<BTreeMap<String, Tensor>, ModelError> {
    let mut loaded = BTreeMap::new();
    for mut file in WeightFiles::open(dir)?.files {
        for (name, info) in file.tensors() {
            let tensor = file.load(&name, &info, device, dtype)?;
            loaded.insert(name, tensor);
        }
    }
    Ok(loaded)
}

/// The shape of every tensor of a folder's weights by name, from the headers alone.
///
/// # Errors
/// As [`load_tensors`].
pub fn weight_shapes(dir: &Path) -> Result<BTreeMap<String, Vec<usize>>, ModelError> {
    let files = WeightFiles::open(dir)?.files;
    let tensors = files.iter().flat_map(WeightFile::tensors);
    Ok(tensors.map(|(name, info)| (name, info.shape)).collect())
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or all files that the index names.
    pub(crate) fn open(dir: &Path) -> Result<Self, ModelError> {
        let single = ModelFile::Weights.within(dir);
        if single.is_file() {
            let files = vec![WeightFile::open(single.clone())?];
            return Ok(Self {
                source: single,
                files,
            });
        }
        let source = ModelFile::WeightIndex.within(dir);
        if !source.is_file() {
            // What `save_pretrained` of transformers wrote before 4.35.
            let pickled = dir.join("pytorch_model.bin").exists();
            let help = if pickled {
                "; it has `pytorch_model.bin`, which transformers converts by `from_pretrained(…)\
                 .save_pretrained(…, safe_serialization=True)`"
            } else {
                ""
            };
            return Err(ModelError::NoWeights {
                dir: dir.to_path_buf(),
                help,
            });
        }
        let index: Index =
            serde_json::from_str(&read_to_string(&source)?).map_err(|e| ModelError::Json {
                path: source.clone(),
                source: e,
            })?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        if let Some(other) = names.iter().find(|name| !is_weight_file(name)) {
            return Err(ModelError::Damaged {
                path: source,
                problem: format!(
                    "it names `{other}`, which is no `.safetensors` file of the folder"
                ),
            });
        }
        let files = names
            .into_iter()
            .map(|name| WeightFile::open(dir.join(name)))
            .collect::<Result<_, _>>()?;
        Ok(Self { source, files })
    }
}

/// Most tensors of each kind of misfit that are named.
const NAMED: usize = 3;

impl WeightFiles {
    /// Everything in the tables of contents that does not fit the tensors of these names and shapes;
    /// others must be ignorable. The first few of each kind are named.
    pub(crate) fn misfits(
        &self,
        mut expected: BTreeMap<String, Vec<usize>>,
        ignorable: impl Fn(&str) -> bool,
    ) -> Vec<ModelError> {
        let (mut wrong, mut extra) = (Vec::new(), Vec::new());
        for file in &self.files {
            for (name, info) in file.tensors() {
                let Some(shape) = expected.remove(&name) else {
                    extra.extend((!ignorable(&name)).then_some(name));
                    continue;
                };
                let path = file.path.clone();
                if info.shape != shape {
                    wrong.push(ModelError::WrongShape {
                        name,
                        expected: shape,
                        found: info.shape,
                        path,
                    });
                } else if float_format(info.dtype).is_none() {
                    wrong.push(ModelError::WrongDtype {
                        name,
                        found: format!("{:?}", info.dtype),
                        path,
                    });
                }
            }
        }
        wrong.truncate(NAMED);
        let missing = expected.into_iter().take(NAMED);
        wrong.extend(missing.map(|(name, expected)| ModelError::MissingTensor {
            name,
            expected,
            path: self.source.clone(),
        }));
        if !extra.is_empty() {
            let shown: Vec<String> = extra.iter().take(NAMED).map(|n| format!("`{n}`")).collect();
            let more = match extra.len() - shown.len() {
                0 => String::new(),
                rest => format!(" and {rest} more"),
            };
            wrong.push(ModelError::ExtraTensors {
                names: shown.join(", ") + &more,
                path: self.source.clone(),
            });
        }
        wrong
    }

    /// Refuses a head of its own where the configuration says that the embedding is the head, unless it
    /// is a copy; the first `most` bytes are compared.
    ///
    /// # Errors
    /// The two differ, or cannot be read.
    pub(crate) fn check_tied_head(&mut self, most: usize) -> Result<(), ModelError> {
        let place = |name: &str| {
            let mut files = self.files.iter().enumerate();
            files.find_map(|(at, file)| Some((at, file.tensors().remove(name)?)))
        };
        let (Some(head), Some(embedding)) = (place("lm_head.weight"), place(EMBEDDING)) else {
            return Ok(());
        };
        let other = ModelError::OtherHead {
            path: self.files[head.0].path.clone(),
        };
        if head.1.shape != embedding.1.shape || head.1.dtype != embedding.1.dtype {
            return Err(other);
        }
        let (start, end) = head.1.data_offsets;
        let most = (end - start).min(most);
        for done in (0..most).step_by(CHUNK) {
            let size = CHUNK.min(most - done);
            let first = self.files[head.0].bytes(start + done, size)?;
            let second = self.files[embedding.0].bytes(embedding.1.data_offsets.0 + done, size)?;
            if first != second {
                return Err(other);
            }
        }
        Ok(())
    }
}

/// Bytes compared at a time.
const CHUNK: usize = 1 << 20;

/// Everything about the weights in `dir` that their headers show not to fit the configuration; of the
/// tensors themselves at most a head beside a tied embedding is read, and of that the beginning.
pub fn check_weights(dir: &Path, config: &DecoderConfig) -> Vec<ModelError> {
    let mut weights = match WeightFiles::open(dir) {
        Ok(weights) => weights,
        Err(error) => return vec![error],
    };
    let mut wrong = weights.misfits(config.tensors(), |name| config.may_ignore(name));
    if config.tied {
        wrong.extend(weights.check_tied_head(CHUNK).err());
    }
    wrong
}

/// Our name of a format of weights on disk, if it is one of floats.
fn float_format(stored: safetensors::Dtype) -> Option<DType> {
    match stored {
        safetensors::Dtype::F64 => Some(DType::F64),
        safetensors::Dtype::F32 => Some(DType::F32),
        safetensors::Dtype::F16 => Some(DType::F16),
        safetensors::Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

impl WeightFile {
    /// Opens a file; what is read next is its first array.
    pub(super) fn open(path: PathBuf) -> Result<Self, ModelError> {
        let mut file = File::open(&path).map_err(|e| PathError::new("open", &path, e))?;
        let size = file
            .metadata()
            .map_err(|e| PathError::new("read", &path, e))?
            .len();
        let damaged = |problem: String| ModelError::Damaged {
            path: path.clone(),
            problem,
        };
        let mut prefix = [0u8; 8];
        file.read_exact(&mut prefix)
            .map_err(|_| damaged(format!("{} cannot hold a header", counted(size, "byte"))))?;
        if &prefix == b"version " {
            return Err(damaged(
                "it is a Git LFS pointer, the weights were not fetched (`git lfs pull`)".to_owned(),
            ));
        }
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MAX_HEADER || header_len + 8 > size {
            return Err(damaged(format!(
                "a header of {header_len} bytes in a file of {size}"
            )));
        }
        let mut header = vec![0u8; header_len as usize];
        file.read_exact(&mut header)
            .map_err(|e| PathError::new("read", &path, e))?;
        // The library checks offsets only together with the data; both checks are repeated here.
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| damaged(format!("header: {e}")))?;
        let end = metadata.data_len() as u64;
        if header_len + 8 + end != size {
            return Err(damaged(format!(
                "its header promises {} bytes, it has {size}",
                header_len + 8 + end
            )));
        }
        Ok(Self {
            path,
            file,
            metadata,
            data_start: header_len + 8,
        })
    }

    /// Table of contents in name order.
    pub(crate) fn tensors(&self) -> BTreeMap<String, TensorInfo> {
        self.metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect()
    }

    /// Reads one tensor in its own format.
    pub(crate) fn load_as_stored(
        &mut self,
        name: &str,
        info: &TensorInfo,
    ) -> Result<Tensor, ModelError> {
        let dtype = float_format(info.dtype).unwrap_or(DType::F32);
        self.load(name, info, &Device::Cpu, dtype)
    }

    /// Reads one tensor in `dtype`.
    pub(crate) fn load(
        &mut self,
        name: &str,
        info: &TensorInfo,
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        let stored = float_format(info.dtype).ok_or_else(|| ModelError::WrongDtype {
            name: name.to_owned(),
            found: format!("{:?}", info.dtype),
            path: self.path.clone(),
        })?;
        let (start, end) = info.data_offsets;
        let elements: usize = info.shape.iter().product();
        if end - start != elements * stored.size_in_bytes() {
            return Err(ModelError::Damaged {
                path: self.path.clone(),
                problem: format!(
                    "tensor `{name}` of shape {:?} in {} bytes",
                    info.shape,
                    end - start
                ),
            });
        }
        let bytes = self.bytes(start, end - start)?;
        let tensor = Tensor::from_raw_buffer(&bytes, stored, &info.shape, device)?;
        Ok(tensor.to_dtype(dtype)?)
    }

    /// `size` bytes of the data behind the header.
    fn bytes(&mut self, start: usize, size: usize) -> Result<Vec<u8>, ModelError> {
        let mut bytes = vec![0u8; size];
        self.file
            .seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| PathError::new("read", &self.path, e))?;
        Ok(bytes)
    }
}
