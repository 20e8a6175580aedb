//! Rows named by a file.

use super::error::SelectError;
use super::order::{Selection, take};
use super::rows::RowsRef;
use crate::base::fs::read_to_string;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Columns of a CSV file that hold ids; the first is what the LIONs authors' code writes.
const COLUMNS: [&str; 2] = ["full_id", "id"];

/// The ids of a file, and whether they are values of `full_id`.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    ids: Vec<String>,
    full: bool,
}

/// The first `keep` rows of the file, in its order. Ids of a column `full_id` are looked up in the
/// rows' own key `full_id` where they have one.
pub(super) fn select(
    root: &Path,
    path: &str,
    rows: &RowsRef<'_>,
    keep: usize,
) -> Result<Selection, SelectError> {
    let listed = read(root, path, keep)?;
    let named = (0..rows.len()).map(|index| (rows.id(index), rows.extra(index)));
    let places = places(named, listed.full);
    let place = |id: &String| {
        let found = places.get(id.as_str()).copied();
        found.ok_or_else(|| refused(path, unknown(id, &listed.ids, &places)))
    };
    let order = listed
        .ids
        .iter()
        .map(place)
        .collect::<Result<Vec<_>, _>>()?;
    let mut selection = take(order, vec![Some(0.0); rows.len()], keep, "not-listed")?;
    selection.note("listed-behind-keep", listed.ids.len() - keep);
    Ok(selection.without_scores())
}

/// Whether a file of ids can be read and has `keep` of them, each once. Where `rows` are all that there are,
/// each an id with its further keys, a row has each of the ids.
///
/// # Errors
/// As [`select_rows`](super::select_rows) with such a file, but for what a share or a filter of the rows
/// decides.
pub fn check_ids<'r>(
    root: &Path,
    path: &str,
    keep: usize,
    rows: Option<impl Iterator<Item = (&'r str, &'r Value)>>,
) -> Result<(), SelectError> {
    let listed = read(root, path, keep)?;
    let Some(rows) = rows else { return Ok(()) };
    let places = places(rows, listed.full);
    // A mixture gives rows of equal ids a suffix, which the files do not show.
    let of_mixture = |id: &str| {
        let own = id.rsplit_once('@');
        own.is_some_and(|(own, _)| places.contains_key(own))
    };
    let known = |id: &str| places.contains_key(id) || of_mixture(id);
    match listed.ids.iter().find(|id| !known(id.as_str())) {
        Some(id) => Err(refused(path, unknown(id, &listed.ids, &places))),
        None => Ok(()),
    }
}

fn refused(path: &str, problem: String) -> SelectError {
    SelectError::Ids {
        path: path.to_owned(),
        problem,
    }
}

/// The place of each id among the rows; of a row that the mixture repeats the first. Values of `full_id` are
/// used where they are `full` and a row has one.
fn places<'r>(
    rows: impl Iterator<Item = (&'r str, &'r Value)>,
    full: bool,
) -> BTreeMap<&'r str, usize> {
    let mut places = BTreeMap::new();
    for (index, (id, extra)) in rows.enumerate() {
        let own = extra.get("full_id").and_then(Value::as_str);
        let id = own.filter(|_| full).unwrap_or(id);
        places.entry(id).or_insert(index);
    }
    places
}

/// The ids of a file, `keep` at least.
fn read(root: &Path, path: &str, keep: usize) -> Result<Listed, SelectError> {
    let text = read_to_string(&root.join(path))?;
    let listed = parse(&text).map_err(|problem| refused(path, problem))?;
    let found = listed.ids.len();
    if keep > found {
        let problem = format!("`keep` is {keep}, but it has {found} ids");
        return Err(refused(path, problem));
    }
    Ok(listed)
}

/// The first id that no row has, how many there are, and what it was probably meant to be.
fn unknown(id: &str, ids: &[String], places: &BTreeMap<&str, usize>) -> String {
    let missing = ids.iter().filter(|id| !places.contains_key(id.as_str()));
    let mut text = format!(
        "no row has the id `{id}` ({} of its {} ids are unknown)",
        missing.count(),
        ids.len()
    );
    let near = places
        .keys()
        .min_by_key(|known| strsim::damerau_levenshtein(known, id));
    if let Some(near) = near {
        text.push_str(&format!("; the nearest is `{near}`"));
    }
    text
}

/// One id a line, or CSV whose header names a column of ids.
fn parse(text: &str) -> Result<Listed, String> {
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .filter(|line| !line.trim().is_empty())
        .peekable();
    let header = lines.peek().map(|line| fields(line)).unwrap_or_default();
    let column = COLUMNS.into_iter().find_map(|name| {
        let at = header.iter().position(|field| field == name)?;
        Some((name, at))
    });
    let Some((name, at)) = column else {
        if header.len() > 1 {
            let names = header.join("`, `");
            return Err(format!(
                "a table needs a column `full_id` or `id`; its first line has `{names}`"
            ));
        }
        return listed(lines.map(|line| line.trim().to_owned()).collect(), false);
    };
    let mut ids = Vec::new();
    for line in lines.skip(1) {
        match fields(line).into_iter().nth(at) {
            Some(id) if !id.is_empty() => ids.push(id),
            _ => return Err(format!("the line `{line}` has no `{name}`")),
        }
    }
    listed(ids, name == "full_id")
}

fn listed(ids: Vec<String>, full: bool) -> Result<Listed, String> {
    if ids.is_empty() {
        return Err("it holds no ids".to_owned());
    }
    let mut seen = BTreeSet::new();
    if let Some(id) = ids.iter().find(|id| !seen.insert(id.as_str())) {
        return Err(format!("the id `{id}` stands in it twice"));
    }
    Ok(Listed { ids, full })
}

/// The fields of a CSV line (RFC 4180): quotes may hold commas, and two of them are one.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => push(&mut fields, c),
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(text: &str) -> Result<(Vec<String>, bool), String> {
        parse(text).map(|listed| (listed.ids, listed.full))
    }

    #[test]
    fn lines_and_tables_give_the_same_ids() {
        let want = (vec!["a".to_owned(), "b,1".to_owned()], false);
        assert_eq!(parsed("id\na\n\"b,1\"\n").unwrap(), want);
        assert_eq!(
            parsed("score,id\r\n1,a\r\n\r\n2,\"b,1\"\r\n").unwrap(),
            want
        );
        let plain = parsed(" a \n\nb\n").unwrap();
        assert_eq!(plain, (vec!["a".to_owned(), "b".to_owned()], false));
        let full = parsed("id,full_id\n1,x/\"\"\n").unwrap();
        assert!(full.1);
        assert_eq!(fields("1,\"x \"\"y\"\"\""), ["1", "x \"y\""]);
    }

    #[test]
    fn tables_without_ids_are_refused() {
        let refused = |text| parsed(text).unwrap_err();
        assert_eq!(
            refused("a,b\n1,2\n"),
            "a table needs a column `full_id` or `id`; its first line has `a`, `b`"
        );
        assert_eq!(refused("\n"), "it holds no ids");
        assert_eq!(refused("id\n"), "it holds no ids");
        assert_eq!(refused("x,id\n1\n"), "the line `1` has no `id`");
        assert_eq!(refused("a\nb\na\n"), "the id `a` stands in it twice");
    }

    #[test]
    fn ids_are_looked_for_where_all_rows_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |text: &str, all: bool| {
            crate::base::write_atomic(&dir.path().join("ids"), text.as_bytes()).unwrap();
            let extra = json!({"full_id": "x/1"});
            let rows = [("r1", &extra), ("r2", &Value::Null)];
            let checked = check_ids(dir.path(), "ids", 1, all.then_some(rows.into_iter()));
            checked.err().map(|error| error.to_string())
        };
        for text in ["r2\nr1\n", "full_id\nx/1\nr2\n", "r1\nr1@2:7\n"] {
            assert_eq!(refused(text, true), None, "{text}");
        }
        let want =
            "`ids`: no row has the id `r3` (1 of its 2 ids are unknown); the nearest is `r1`";
        assert_eq!(refused("r2\nr3\n", true).unwrap(), want);
        assert_eq!(refused("r2\nr3\n", false), None);
    }
}
