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
    let fail = |problem: String| SelectError::Ids {
        path: path.to_owned(),
        problem,
    };
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for index in 0..rows.len() {
        let full = rows.extra(index).get("full_id").and_then(Value::as_str);
        let id = full.filter(|_| listed.full).unwrap_or(rows.id(index));
        // Of a row that the mixture repeats the first.
        places.entry(id).or_insert(index);
    }
    let mut order = Vec::with_capacity(listed.ids.len());
    let mut seen = BTreeSet::new();
    for id in &listed.ids {
        let Some(&place) = places.get(id.as_str()) else {
            return Err(fail(unknown(id, &listed.ids, &places)));
        };
        if !seen.insert(place) {
            return Err(fail(format!("the id `{id}` stands in it twice")));
        }
        order.push(place);
    }
    let mut selection = take(order, vec![Some(0.0); rows.len()], keep, "not-listed")?;
    selection.note("listed-behind-keep", listed.ids.len() - keep);
    Ok(selection.without_scores())
}

/// Whether a file of ids can be read and has `keep` of them.
///
/// # Errors
/// As [`select`], but for what the rows decide.
pub fn check_ids(root: &Path, path: &str, keep: usize) -> Result<(), SelectError> {
    read(root, path, keep).map(drop)
}

/// The ids of a file, `keep` at least.
fn read(root: &Path, path: &str, keep: usize) -> Result<Listed, SelectError> {
    let text = read_to_string(&root.join(path))?;
    let fail = |problem: String| SelectError::Ids {
        path: path.to_owned(),
        problem,
    };
    let listed = parse(&text).map_err(fail)?;
    let found = listed.ids.len();
    if keep > found {
        return Err(fail(format!("`keep` is {keep}, but it has {found} ids")));
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
    }
}
