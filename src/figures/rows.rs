//! The CSV of a figure: a row a drawn number.

use crate::base::csv_line;
use crate::figures::data::{Point, Series};

/// Heads of the columns.
const COLUMNS: [&str; 9] = [
    "panel", "series", "x", "seed", "n", "value", "low", "high", "runs",
];

/// The rows of one figure, of whose panels one after another is written.
#[derive(Debug)]
pub struct FigureRows {
    text: String,
    panel: String,
}

impl FigureRows {
    /// The heads and nothing else.
    pub(crate) fn new() -> Self {
        Self {
            text: csv_line(&COLUMNS),
            panel: String::new(),
        }
    }

    /// What follows belongs to the panel of this title.
    pub(crate) fn panel(&mut self, title: &str) {
        title.clone_into(&mut self.panel);
    }

    /// The CSV.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// One row: series, x, seed, n, value, low, high, runs.
    pub fn row(&mut self, fields: [&str; 8]) {
        let [series, x, seed, n, value, low, high, runs] = fields;
        let fields = [&self.panel, series, x, seed, n, value, low, high, runs];
        self.text += &csv_line(&fields);
    }

    /// The points of a series over numbers.
    pub fn series(&mut self, one: &Series) {
        for p in &one.points {
            self.point(&one.name, &p.x.to_string(), p);
        }
    }

    /// A mean (`seed` is `mean`) and its seeds; an absent mean has no value and says why in `runs`.
    pub fn point(&mut self, series: &str, x: &str, p: &Point) {
        let (low, high) = p.interval.map_or_else(Default::default, |i| {
            (i.low.to_string(), i.high.to_string())
        });
        let (value, n, runs) = match p.estimate {
            None => (String::new(), "0".to_owned(), p.absent.clone()),
            Some(e) => {
                let runs: Vec<&str> = p.seeds.iter().map(|s| s.run.as_str()).collect();
                (e.value.to_string(), e.n.to_string(), runs.join(" "))
            }
        };
        self.row([series, x, "mean", &n, &value, &low, &high, &runs]);
        for s in &p.seeds {
            let (own, seed) = (s.x.map(|x| x.to_string()), s.seed.to_string());
            let x = own.as_deref().unwrap_or(x);
            self.row([series, x, &seed, "1", &s.value.to_string(), "", "", &s.run]);
        }
    }
}
