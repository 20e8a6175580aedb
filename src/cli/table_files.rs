//! Tables to the files of a folder.

use crate::base::{Cells, PathError, Table, csv_line};
use crate::cli::error::CommandError;
use crate::data::ParquetFile;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Forms of table files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableForm {
    Csv,
    Jsonl,
    Parquet,
}

impl TableForm {
    fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// A file for each table, in the order in which they come first.
pub(crate) struct TableFiles {
    dir: PathBuf,
    form: TableForm,
    open: Vec<OneFile>,
}

struct OneFile {
    name: String,
    rows: usize,
    to: To,
}

enum To {
    Lines(PathBuf, BufWriter<File>),
    Parquet(ParquetFile),
}

impl TableFiles {
    /// Files in a folder that is there.
    pub(crate) fn new(dir: &Path, form: TableForm) -> Self {
        Self {
            dir: dir.to_owned(),
            form,
            open: Vec::new(),
        }
    }

    /// Appends the rows of a table to its file, which begins with the first.
    pub(crate) fn add(&mut self, table: &Table) -> Result<(), CommandError> {
        let name = format!("{}.{}", table.name, self.form.ending());
        let known = self.open.iter().position(|file| file.name == name);
        let at = known.unwrap_or(self.open.len());
        if known.is_none() {
            let to = self.begin(&self.dir.join(&name), table)?;
            self.open.push(OneFile { name, rows: 0, to });
        }
        let file = &mut self.open[at];
        file.rows += table.len();
        match &mut file.to {
            To::Parquet(_) if table.is_empty() => Ok(()),
            To::Parquet(file) => file.add(table).map_err(CommandError::user),
            To::Lines(path, file) => {
                let text = lines(table, self.form);
                file.write_all(text.as_bytes())
                    .map_err(|error| failed(path, error))
            }
        }
    }

    fn begin(&self, path: &Path, table: &Table) -> Result<To, CommandError> {
        if self.form == TableForm::Parquet {
            let file = ParquetFile::create(path, table).map_err(CommandError::user)?;
            return Ok(To::Parquet(file));
        }
        let file = File::create(path).map_err(|error| failed(path, error))?;
        let mut file = BufWriter::new(file);
        if self.form == TableForm::Csv {
            let heads: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
            file.write_all(csv_line(&heads).as_bytes())
                .map_err(|error| failed(path, error))?;
        }
        Ok(To::Lines(path.to_owned(), file))
    }

    /// Ends all files: their names and rows.
    pub(crate) fn finish(self) -> Result<Vec<(String, usize)>, CommandError> {
        let mut written = Vec::new();
        for OneFile { name, rows, to } in self.open {
            match to {
                To::Parquet(file) => file.finish().map_err(CommandError::user)?,
                To::Lines(path, file) => {
                    let file = file
                        .into_inner()
                        .map_err(|error| failed(&path, error.into_error()))?;
                    file.sync_all().map_err(|error| failed(&path, error))?;
                }
            }
            written.push((name, rows));
        }
        Ok(written)
    }
}

fn failed(path: &Path, error: std::io::Error) -> CommandError {
    CommandError::user(PathError::new("write", path, error))
}

fn lines(table: &Table, form: TableForm) -> String {
    let mut text = String::new();
    for row in 0..table.len() {
        if form == TableForm::Csv {
            let cells: Vec<String> = table
                .columns
                .iter()
                .map(|(_, cells)| csv_cell(cells, row))
                .collect();
            text.push_str(&csv_line(&cells));
        } else {
            let fields = table
                .columns
                .iter()
                .map(|(name, cells)| ((*name).to_owned(), json_cell(cells, row)));
            text.push_str(&Value::Object(fields.collect::<Map<_, _>>()).to_string());
            text.push('\n');
        }
    }
    text
}

fn csv_cell(cells: &Cells, row: usize) -> String {
    match json_cell(cells, row) {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn json_cell(cells: &Cells, row: usize) -> Value {
    match cells {
        Cells::Text(all) => json!(all[row]),
        Cells::Whole(all) => json!(all[row]),
        Cells::Real(all) => json!(all[row]),
        Cells::Truth(all) => json!(all[row]),
    }
}
