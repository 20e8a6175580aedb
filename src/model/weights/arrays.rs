//! Safetensors files written and read by pieces, so that no file's content is held as a whole.

use crate::arch::FloatFormat;
use crate::base::PathError;
use crate::model::error::ModelError;
use crate::model::weights::formats::stored_format;
use crate::model::weights::weights_file::WeightFile;
use candle_core::DType;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Takes the next bytes of [`Arrays`]; they never cross from one array into the next.
pub type Take<'a, E> = dyn FnMut(&[u8]) -> Result<(), E> + 'a;

/// Arrays of one number format that stand one after the other, in name order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrays {
    /// Their number format.
    pub format: FloatFormat,
    /// Their shapes.
    pub shapes: BTreeMap<String, Vec<usize>>,
}

impl Arrays {
    /// Bytes of an array of this shape.
    pub fn bytes_of(&self, shape: &[usize]) -> usize {
        shape.iter().product::<usize>() * DType::from(self.format).size_in_bytes()
    }

    /// Bytes of all arrays.
    pub fn bytes(&self) -> usize {
        self.shapes.values().map(|shape| self.bytes_of(shape)).sum()
    }

    /// What stands before the first byte of the first array: the bytes that `safetensors::serialize`
    /// writes there.
    fn header(&self, metadata: &[(&str, String)]) -> Result<Vec<u8>, String> {
        let (mut infos, mut end) = (Vec::with_capacity(self.shapes.len()), 0);
        for (name, shape) in &self.shapes {
            let start = end;
            end += self.bytes_of(shape);
            let info = TensorInfo {
                dtype: stored_format(self.format),
                shape: shape.clone(),
                data_offsets: (start, end),
            };
            infos.push((name.clone(), info));
        }
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        let metadata: HashMap<String, String> = metadata.collect();
        let metadata = (!metadata.is_empty()).then_some(metadata);
        let metadata = Metadata::new(metadata, infos).map_err(|e| e.to_string())?;
        let mut text = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.append(&mut text);
        Ok(header)
    }
}

/// A file that is being written; it is whole once [`ArrayWriter::finish`] has said so.
pub struct ArrayWriter {
    path: PathBuf,
    file: BufWriter<File>,
    /// Bytes that have not come yet.
    left: usize,
}

impl ArrayWriter {
    /// Begins a file of these arrays, with entries for whoever reads it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(
        path: &Path,
        arrays: &Arrays,
        metadata: &[(&str, String)],
    ) -> Result<Self, PathError> {
        let header = arrays.header(metadata);
        let header = header.map_err(|e| PathError::new("write", path, std::io::Error::other(e)))?;
        let file = File::create(path).map_err(|e| PathError::new("write", path, e))?;
        let mut file = BufWriter::new(file);
        file.write_all(&header)
            .map_err(|e| PathError::new("write", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            left: arrays.bytes(),
        })
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// The file cannot be written, or there are more bytes than the arrays have.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or_else(|| self.misfit("more"))?;
        let written = self.file.write_all(bytes);
        written.map_err(|e| PathError::new("write", &self.path, e))
    }

    /// Whether all bytes have come.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Puts the whole file on disk.
    ///
    /// # Errors
    /// It cannot be written, or bytes are missing.
    pub fn finish(mut self) -> Result<(), PathError> {
        if self.left > 0 {
            return Err(self.misfit("fewer"));
        }
        let written = self.file.flush();
        let written = written.and_then(|()| self.file.get_ref().sync_all());
        written.map_err(|e| PathError::new("write", &self.path, e))
    }

    fn misfit(&self, how: &str) -> PathError {
        let problem = format!("{how} bytes came than its arrays have");
        PathError::new("write", &self.path, std::io::Error::other(problem))
    }
}

/// A file that is read from its first array to its last.
pub struct ArrayReader(WeightFile);

impl ArrayReader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Ok(Self(WeightFile::open(path.to_owned())?))
    }

    /// In what the file differs from these arrays, a clause for a person.
    pub fn misfit(&self, arrays: &Arrays) -> Option<String> {
        let found = self.0.tensors();
        let (count, want) = (found.len(), arrays.shapes.len());
        if count != want {
            return Some(format!("it has {count} tensors, the model {want}"));
        }
        let (mut end, format) = (0, stored_format(arrays.format));
        for (name, shape) in &arrays.shapes {
            let fits = |info: &TensorInfo| {
                info.shape == *shape && info.dtype == format && info.data_offsets.0 == end
            };
            if !found.get(name).is_some_and(fits) {
                return Some(format!("`{name}` is missing or of another shape or type"));
            }
            end += arrays.bytes_of(shape);
        }
        None
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn give(&mut self, into: &mut [u8]) -> Result<(), PathError> {
        let read = self.0.file.read_exact(into);
        read.map_err(|e| PathError::new("read", &self.0.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::params::FrozenParams;
    use candle_core::{Device, Tensor};

    #[test]
    fn a_file_written_by_pieces_has_the_bytes_of_one_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let tensor = |n: f32, shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| n + i as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        for (dtype, metadata) in [(DType::F32, None), (DType::BF16, Some("pt"))] {
            let tensors = [
                ("m.b", tensor(1.5, &[2, 3])),
                ("m.a", tensor(-2.0, &[5])),
                ("v.\"é\"", tensor(0.25, &[1, 1, 2])),
            ];
            let tensors = tensors.map(|(n, t)| (n.to_owned(), t.to_dtype(dtype).unwrap()));
            let tensors = BTreeMap::from(tensors);
            let entries: Vec<(&str, String)> = metadata
                .iter()
                .map(|m| ("format", (*m).to_owned()))
                .collect();
            let owned = metadata.map(|m| HashMap::from([("format".to_owned(), m.to_owned())]));
            let want = safetensors::serialize(&tensors, owned).unwrap();
            let params = FrozenParams::from_tensors(tensors);
            let arrays = params.arrays();
            let mut writer = ArrayWriter::create(&path, &arrays, &entries).unwrap();
            for (_, tensor) in params.iter() {
                for piece in safetensors::View::data(&tensor).chunks(3) {
                    writer.take(piece).unwrap();
                }
            }
            writer.finish().unwrap();
            assert!(std::fs::read(&path).unwrap() == want, "{dtype:?}");

            let mut reader = ArrayReader::open(&path).unwrap();
            assert_eq!(reader.misfit(&arrays), None);
            let mut bytes = vec![0; arrays.bytes()];
            let (first, second) = bytes.split_at_mut(7);
            reader.give(first).unwrap();
            reader.give(second).unwrap();
            assert!(want.ends_with(&bytes));
        }
    }

    #[test]
    fn a_file_with_too_few_or_too_many_bytes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let arrays = Arrays {
            format: FloatFormat::F32,
            shapes: BTreeMap::from([("a".to_owned(), vec![2])]),
        };
        let mut writer = ArrayWriter::create(&path, &arrays, &[]).unwrap();
        writer.take(&[0; 7]).unwrap();
        assert!(writer.take(&[0; 2]).is_err());
        assert!(writer.finish().is_err());
    }
}
