//! Values and claims that the paper and its release publish, each with its source.
//!
//! They are printed beside our own results and never mixed into them. What could not be confirmed is
//! not here.

use serde::Deserialize;
use std::sync::LazyLock;

/// Published results of one table or figure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What a sweep file calls it.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// The figure of the paper, for example `Figure 1`; absent for tables, whose numbers are not
    /// known.
    #[serde(default)]
    pub figure: Option<String>,
    /// Where it was read.
    pub source: String,
    /// What else must be known to read it.
    #[serde(default)]
    pub note: String,
    /// What is claimed, a sentence each.
    #[serde(default)]
    pub claims: Vec<String>,
    /// Heads of the columns; none if no number is known.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Cells as they are printed there, a dash where the source leaves one blank.
    #[serde(default)]
    pub rows: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    published: Vec<Published>,
}

static PUBLISHED: LazyLock<Vec<Published>> = LazyLock::new(|| {
    // A test reads the file; an unreadable one would have nothing to show.
    toml::from_str(include_str!("published.toml"))
        .map_or_else(|_| Vec::new(), |f: File| f.published)
});

/// Everything published, in the order of the file.
pub fn all_published() -> &'static [Published] {
    &PUBLISHED
}

/// The published results of this id.
pub fn published(id: &str) -> Option<&'static Published> {
    PUBLISHED.iter().find(|entry| entry.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_and_every_table_is_whole() {
        let file: Result<File, _> = toml::from_str(include_str!("published.toml"));
        assert_eq!(file.err().map(|e| e.to_string()), None);
        let mut ids: Vec<_> = all_published().iter().map(|p| p.id.as_str()).collect();
        assert_eq!(ids.len(), 8);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8, "an id stands twice");
        for entry in all_published() {
            assert!(!entry.source.is_empty() && !entry.title.is_empty());
            assert!(
                !entry.claims.is_empty() || !entry.rows.is_empty(),
                "{}",
                entry.id
            );
            assert!(
                entry.rows.iter().all(|r| r.len() == entry.columns.len()),
                "{}",
                entry.id
            );
        }
    }

    // The release's README: 5.0 and 55.98 are the last row of the Gemma table; the caption of
    // Figure 4: the best score does not have the lowest loss.
    #[test]
    fn the_numbers_are_those_of_the_sources() {
        let gemma = published("final-gemma").unwrap();
        assert_eq!(gemma.rows[7][3..], ["5.0", "9.57", "6.75", "55.98"]);
        let margin = published("figure-4").unwrap();
        assert_eq!(margin.rows[1], ["2", "14.8", "0.65"]);
        assert_eq!(published("figure-9"), None);
    }
}
