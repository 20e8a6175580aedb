//! Tables to Parquet files.

use super::error::DataError;
use crate::base::{Cells, PathError, Table};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A Parquet file that is being written; every column is optional. Each table that is added is a row group.
pub struct ParquetFile {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ParquetFile {
    /// A new file with the columns of `table`, none of whose rows are written.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path, table: &Table) -> Result<Self, DataError> {
        let failed = |source| broken(path, source);
        let column = |(name, cells): &(&'static str, Cells)| {
            let (physical, logical) = match cells {
                Cells::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Cells::Whole(_) => (Physical::INT64, None),
                Cells::Real(_) => (Physical::DOUBLE, None),
                Cells::Truth(_) => (Physical::BOOLEAN, None),
            };
            let field = Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical);
            field.build().map(Arc::new)
        };
        let columns = table.columns.iter().map(column);
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let schema = Type::group_type_builder(table.name).with_fields(columns);
        let schema = Arc::new(schema.build().map_err(failed)?);
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
        let file = File::create(path).map_err(|error| PathError::new("create", path, error))?;
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()));
        Ok(Self {
            path: path.to_owned(),
            writer: writer.map_err(failed)?,
        })
    }

    /// Appends the rows of a table with the same columns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, table: &Table) -> Result<(), DataError> {
        add(&mut self.writer, table).map_err(|source| broken(&self.path, source))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> Result<(), DataError> {
        let Self { path, writer } = self;
        writer.close().map_err(|source| broken(&path, source))?;
        Ok(())
    }
}

fn broken(path: &Path, source: ParquetError) -> DataError {
    DataError::Parquet {
        path: path.display().to_string(),
        source,
    }
}

fn add(writer: &mut SerializedFileWriter<File>, table: &Table) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let mut columns = table.columns.iter();
    while let Some(mut column) = group.next_column()? {
        if let Some((_, cells)) = columns.next() {
            match (column.untyped(), cells) {
                (ColumnWriter::ByteArrayColumnWriter(to), Cells::Text(all)) => {
                    let (values, levels) = present(all, |text| ByteArray::from(text.as_str()));
                    to.write_batch(&values, Some(&levels), None)?;
                }
                (ColumnWriter::Int64ColumnWriter(to), Cells::Whole(all)) => {
                    let (values, levels) = present(all, |&number| number);
                    to.write_batch(&values, Some(&levels), None)?;
                }
                (ColumnWriter::DoubleColumnWriter(to), Cells::Real(all)) => {
                    let (values, levels) = present(all, |&number| number);
                    to.write_batch(&values, Some(&levels), None)?;
                }
                (ColumnWriter::BoolColumnWriter(to), Cells::Truth(all)) => {
                    let (values, levels) = present(all, |&truth| truth);
                    to.write_batch(&values, Some(&levels), None)?;
                }
                _ => return Err(ParquetError::General("a column of another kind".to_owned())),
            }
        }
        column.close()?;
    }
    group.close()?;
    Ok(())
}

/// The cells that are there, and for each cell whether it is.
fn present<T, V>(cells: &[Option<T>], value: impl Fn(&T) -> V) -> (Vec<V>, Vec<i16>) {
    let levels = cells.iter().map(|cell| i16::from(cell.is_some()));
    (
        cells.iter().flatten().map(value).collect(),
        levels.collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::parquet::read_parquet;
    use super::*;
    use crate::base::Cell;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again_with_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let columns = [
            ("text", Cell::Text(None)),
            ("whole", Cell::Whole(None)),
            ("real", Cell::Real(None)),
            ("truth", Cell::Truth(None)),
        ];
        let mut table = Table::new("t", columns);
        let mut file = ParquetFile::create(&path, &table).unwrap();
        table.push(["é\n".into(), 3_u64.into(), 0.5.into(), Some(true).into()]);
        table.push([
            Cell::Text(None),
            Cell::Whole(None),
            f64::NAN.into(),
            Cell::Truth(None),
        ]);
        file.add(&table).unwrap();
        file.add(&table).unwrap();
        file.finish().unwrap();
        let rows = read_parquet(&path, "t", usize::MAX).unwrap();
        assert_eq!(rows.len(), 4);
        let want = json!({"text": "é\n", "whole": 3, "real": 0.5, "truth": true});
        assert_eq!(serde_json::Value::Object(rows[2].clone()), want);
        assert!(
            rows[3].values().all(serde_json::Value::is_null),
            "{:?}",
            rows[3]
        );
    }
}
