//! Tables of typed columns, for whoever writes them into files.

/// The cells of a column; absent ones are none.
#[derive(Clone, Debug, PartialEq)]
pub enum Cells {
    /// Texts.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Whole(Vec<Option<i64>>),
    /// Numbers; those that are not finite are none.
    Real(Vec<Option<f64>>),
    /// True or false.
    Truth(Vec<Option<bool>>),
}

/// A value for a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A text.
    Text(Option<String>),
    /// A whole number.
    Whole(Option<i64>),
    /// A number.
    Real(Option<f64>),
    /// True or false.
    Truth(Option<bool>),
}

/// Rows in columns: the first ones of a table, or further ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name: that of its file.
    pub name: &'static str,
    /// Names and cells of its columns, all of one length.
    pub columns: Vec<(&'static str, Cells)>,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Whole(i64::try_from(number).ok())
    }
}

impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        Self::Whole(number)
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        Self::Real(number.filter(|x| x.is_finite()))
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Some(number).into()
    }
}

impl From<Option<bool>> for Cell {
    fn from(truth: Option<bool>) -> Self {
        Self::Truth(truth)
    }
}

impl Table {
    /// A table without rows; a column is of the kind of its example.
    pub fn new<const N: usize>(name: &'static str, columns: [(&'static str, Cell); N]) -> Self {
        let empty = |example: Cell| match example {
            Cell::Text(_) => Cells::Text(Vec::new()),
            Cell::Whole(_) => Cells::Whole(Vec::new()),
            Cell::Real(_) => Cells::Real(Vec::new()),
            Cell::Truth(_) => Cells::Truth(Vec::new()),
        };
        let columns = columns.into_iter().map(|(name, kind)| (name, empty(kind)));
        Self {
            name,
            columns: columns.collect(),
        }
    }

    /// Appends a row; a cell of another kind than its column's, or one that is missing, is none.
    pub fn push<const N: usize>(&mut self, row: [Cell; N]) {
        let mut row = row.into_iter();
        for (_, cells) in &mut self.columns {
            match (cells, row.next()) {
                (Cells::Text(all), Some(Cell::Text(cell))) => all.push(cell),
                (Cells::Whole(all), Some(Cell::Whole(cell))) => all.push(cell),
                (Cells::Real(all), Some(Cell::Real(cell))) => all.push(cell),
                (Cells::Truth(all), Some(Cell::Truth(cell))) => all.push(cell),
                (Cells::Text(all), _) => all.push(None),
                (Cells::Whole(all), _) => all.push(None),
                (Cells::Real(all), _) => all.push(None),
                (Cells::Truth(all), _) => all.push(None),
            }
        }
    }

    /// Its rows.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, |(_, cells)| match cells {
            Cells::Text(all) => all.len(),
            Cells::Whole(all) => all.len(),
            Cells::Real(all) => all.len(),
            Cells::Truth(all) => all.len(),
        })
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
