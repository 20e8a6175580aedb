//! TOML values that know where they were written, over several files, and how later ones win.

use crate::config::diagnose::{Diagnostic, Place};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A key of a table.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// The name.
    pub(crate) name: Arc<str>,
    /// Where it was last written.
    pub(crate) place: Place,
    /// Grows with precedence: of several choices in a one-of table the highest layer is meant.
    pub(crate) layer: u32,
}

/// A TOML value at its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it was written.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) kind: Kind,
}

/// Kinds of TOML values; dates are kept as their text.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// `true`, `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A string.
    Str(Arc<str>),
    /// An array.
    List(Vec<Node>),
    /// A table, in the order of the file.
    Table(Vec<(Key, Node)>),
    /// Nothing that was written: it fits any type, so that reading goes on behind a mistake.
    Hole,
}

impl Node {
    /// Parses a whole file; `file` is its number and its layer.
    pub(crate) fn parse(text: &str, file: u32) -> Result<Self, Box<Diagnostic>> {
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let place = Place {
                file,
                start: span.start,
                end: span.end,
            };
            let message = one_line(error.message());
            let help = syntax_hint(&message);
            Box::new(Diagnostic::new(place, message).help(help))
        })?;
        let place = Place {
            file,
            start: 0,
            end: 0,
        };
        Ok(Self {
            place,
            kind: Kind::Table(convert_table(table.get_ref(), file)?),
        })
    }

    /// Raises every key to `layer`.
    pub(crate) fn set_layers(&mut self, layer: u32) {
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| item.set_layers(layer)),
            Kind::Table(entries) => entries.iter_mut().for_each(|(key, value)| {
                key.layer = layer;
                value.set_layers(layer);
            }),
            _ => {}
        }
    }

    /// An empty table at `place`.
    pub(crate) fn empty(place: Place) -> Self {
        Self {
            place,
            kind: Kind::Table(Vec::new()),
        }
    }

    /// The entries, if this is a table.
    pub(crate) fn table(&self) -> Option<&[(Key, Node)]> {
        match &self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The elements, if this is a list.
    pub(crate) fn list(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value of `name`, if this is a table that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        let entry = self.table()?.iter().find(|(key, _)| &*key.name == name)?;
        Some(&entry.1)
    }

    /// The node at a dotted path; numbers index lists.
    pub(crate) fn at(&self, path: &str) -> Option<&Node> {
        path.split('.')
            .try_fold(self, |node, part| match &node.kind {
                Kind::List(items) => items.get(part.parse::<usize>().ok()?),
                _ => node.get(part),
            })
    }

    /// As [`Node::at`], to change it.
    pub(crate) fn at_mut(&mut self, path: &[String]) -> Option<&mut Node> {
        path.iter()
            .try_fold(self, |node, part| match &mut node.kind {
                Kind::List(items) => items.get_mut(part.parse::<usize>().ok()?),
                Kind::Table(entries) => {
                    let entry = entries.iter_mut().find(|(key, _)| *key.name == **part)?;
                    Some(&mut entry.1)
                }
                _ => None,
            })
    }

    /// Leaves a key of this table out.
    pub(crate) fn remove(&mut self, name: &str) {
        if let Kind::Table(entries) = &mut self.kind {
            entries.retain(|(key, _)| &*key.name != name);
        }
    }

    /// Puts a hole under a key of this table.
    pub(crate) fn put_hole(&mut self, name: &str) {
        let place = self.place;
        if let Kind::Table(entries) = &mut self.kind {
            let key = Key {
                name: Arc::from(name),
                place,
                layer: 0,
            };
            entries.push((
                key,
                Self {
                    place,
                    kind: Kind::Hole,
                },
            ));
        }
    }

    /// The place of the deepest part of `path` that is written somewhere.
    pub(crate) fn nearest_place(&self, path: &str) -> Place {
        let mut node = self;
        for part in path.split('.') {
            match node.at(part) {
                Some(next) => node = next,
                None => break,
            }
        }
        node.place
    }

    /// The name in `{ preset = "NAME" }` and its place, if this is such a reference.
    pub(crate) fn preset(&self) -> Option<(&str, Place)> {
        match self.table()? {
            [(key, name)] if &*key.name == "preset" => Some((name.text()?, name.place)),
            _ => None,
        }
    }

    /// "a number", "a list", for messages.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Bool(_) => "true or false",
            Kind::Int(_) | Kind::Float(_) => "a number",
            Kind::Str(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
            Kind::Hole => "nothing",
        }
    }

    /// As JSON, for axis values.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Bool(value) => (*value).into(),
            Kind::Int(value) => (*value).into(),
            Kind::Float(value) => (*value).into(),
            Kind::Str(value) => (**value).into(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Table(entries) => {
                let pairs = entries
                    .iter()
                    .map(|(key, value)| (key.name.to_string(), value.to_json()));
                serde_json::Value::Object(pairs.collect())
            }
            Kind::Hole => serde_json::Value::Null,
        }
    }

    /// Lays `over` on this node: tables merge key by key, everything else replaces.
    ///
    /// Keys that `over` writes get `layer` if given, else keep the layer of their file.
    pub(crate) fn merge(&mut self, over: &Node, layer: Option<u32>) {
        let (Kind::Table(mine), Kind::Table(theirs)) = (&mut self.kind, &over.kind) else {
            *self = over.clone();
            return;
        };
        for (key, value) in theirs {
            let mut key = key.clone();
            key.layer = layer.unwrap_or(key.layer);
            match mine.iter_mut().find(|(known, _)| known.name == key.name) {
                Some((known, old)) => {
                    *known = key;
                    old.merge(value, layer);
                }
                None => mine.push((key, value.clone())),
            }
        }
    }

    /// Sets `value` at a path of keys, making tables on the way; tables merge as in [`Node::merge`].
    ///
    /// # Errors
    /// A part of the path is neither a table nor an element of a list.
    pub(crate) fn set(
        &mut self,
        path: &[Key],
        value: &Node,
        layer: u32,
    ) -> Result<(), Box<Diagnostic>> {
        let Some((key, rest)) = path.split_first() else {
            self.merge(value, Some(layer));
            return Ok(());
        };
        // A path into a word is one into another choice, or into the word's own parameters: paths
        // into anything else are unknown and refused before.
        if let Kind::Str(word) = &self.kind {
            let key = Key {
                name: Arc::clone(word),
                place: self.place,
                layer: 0,
            };
            self.kind = Kind::Table(vec![(key, Self::empty(self.place))]);
        }
        match &mut self.kind {
            Kind::Table(entries) => {
                let key = Key {
                    layer,
                    ..key.clone()
                };
                let at = entries.iter().position(|(known, _)| known.name == key.name);
                let at = at.unwrap_or_else(|| {
                    let fresh = if rest.is_empty() {
                        value.clone()
                    } else {
                        Self::empty(key.place)
                    };
                    entries.push((key.clone(), fresh));
                    entries.len() - 1
                });
                entries[at].0 = key;
                entries[at].1.set(rest, value, layer)
            }
            Kind::List(items) => {
                let count = items.len();
                let item = key
                    .name
                    .parse::<usize>()
                    .ok()
                    .and_then(|at| items.get_mut(at));
                item.ok_or_else(|| {
                    let message = format!("the list has no element `{}`", key.name);
                    let help = format!("its elements are 0 to {}", count.saturating_sub(1));
                    Box::new(Diagnostic::new(key.place, message).help(help))
                })?
                .set(rest, value, layer)
            }
            _ => {
                let what = self.kind_name();
                let message = format!("`{}` looks inside {what}, which has no parts", key.name);
                let found = Diagnostic::new(key.place, message).help("end the path before it");
                Err(Box::new(found.also(self.place, "the value stands here")))
            }
        }
    }
}

/// Parts of the parser's messages, and what to write; the first that fits.
const SYNTAX: &[(&[&str], &str)] = &[
    (&["visible characters"], "leave the control character out"),
    (
        &["basic string"],
        "close the string with `\"` where it ends",
    ),
    (
        &["must be quoted"],
        "write texts in quotes, numbers as `0.5`, lists as `[1, 2]`",
    ),
    (
        &["literal string"],
        "close the string with `'` where it ends",
    ),
    (&["unclosed array table"], "write `]]` at its end"),
    (&["unclosed inline table"], "write `}` at its end"),
    (&["unclosed"], "write `]` at its end"),
    (
        &["missing comma", "extra assignment"],
        "put a comma between the two",
    ),
    (&["extra comma"], "remove one of the commas"),
    (&["extra `=`"], "write one `=`"),
    (
        &["duplicate key"],
        "a key stands once in its table: remove one of the two, or put what both hold into one",
    ),
    (
        &["unexpected key or value", "unexpected content"],
        "remove what stands behind the value, or begin a new line there",
    ),
    (&["invalid boolean"], "write `true` or `false`"),
    (
        &["escaped", "unicode"],
        "write a backslash as `\\\\`, or the text in single quotes",
    ),
    (
        &[
            "invalid float",
            "fraction",
            "mantissa",
            "exponent",
            "leading zero",
            " sign",
            "digits",
            "radix",
        ],
        "write numbers as `10`, `0.5` or `1e-4`, texts in quotes",
    ),
    (
        &["key"],
        "write `key = value`; keys are letters, digits, `-` and `_`, others stand in quotes",
    ),
];

/// What to write instead of what the parser stopped at.
fn syntax_hint(message: &str) -> &'static str {
    let fits = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    let known = SYNTAX.iter().find(|(parts, _)| fits(parts));
    known.map_or(
        "a line is `key = value`, `[table]` or `# a remark`",
        |entry| entry.1,
    )
}

/// The parser's message may span lines.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn convert_table(table: &DeTable<'_>, file: u32) -> Result<Vec<(Key, Node)>, Box<Diagnostic>> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let span = key.span();
        let place = Place {
            file,
            start: span.start,
            end: span.end,
        };
        let name = Arc::from(key.get_ref().as_ref());
        let span = value.span();
        let mut node = convert(
            value.get_ref(),
            Place {
                file,
                start: span.start,
                end: span.end,
            },
        )?;
        if node.place.start == node.place.end {
            node.place = place; // a table that only dotted keys make has no place of its own
        }
        entries.push((
            Key {
                name,
                place,
                layer: file,
            },
            node,
        ));
    }
    entries.sort_by_key(|(key, _)| key.place.start);
    Ok(entries)
}

fn convert(value: &DeValue<'_>, place: Place) -> Result<Node, Box<Diagnostic>> {
    let out_of_range = |what: &str| {
        let found = Diagnostic::new(place, format!("this {what} is out of range"));
        Box::new(found.help("whole numbers go up to 9223372036854775807"))
    };
    let kind = match value {
        DeValue::String(text) => Kind::Str(Arc::from(text.as_ref())),
        DeValue::Integer(number) => Kind::Int(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| out_of_range("integer"))?,
        ),
        DeValue::Float(number) => Kind::Float(
            number
                .as_str()
                .parse()
                .map_err(|_| out_of_range("number"))?,
        ),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Datetime(date) => Kind::Str(Arc::from(date.to_string())),
        DeValue::Array(items) => {
            let convert_item = |item: &toml::Spanned<DeValue<'_>>| {
                let span = item.span();
                convert(
                    item.get_ref(),
                    Place {
                        file: place.file,
                        start: span.start,
                        end: span.end,
                    },
                )
            };
            Kind::List(items.iter().map(convert_item).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Kind::Table(convert_table(table, place.file)?),
    };
    Ok(Node { place, kind })
}
