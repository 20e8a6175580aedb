//! From a tree to a typed value by serde, with every error at its place.
//!
//! An own deserialiser instead of toml's: values come from several files, and serde tells it which
//! names would have been valid.

use crate::config::diagnose::{Diagnostic, Place, nearest, suggest};
use crate::config::flat::PARTS;
use crate::config::peers::{fits, peer_key, peer_value};
use crate::config::schema::field_hint;
use crate::config::tree::{Key, Kind, Node};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use std::borrow::Cow;
use std::fmt::{self, Display};

/// What serde found wrong; the place and the path are filled in on the way up.
#[derive(Debug)]
pub(crate) struct TypeError {
    message: String,
    more: Option<Box<More>>,
    place: Option<Place>,
    /// From the innermost key outwards.
    path: Vec<String>,
}

/// What is known of a mistake beside its message.
#[derive(Debug)]
enum More {
    /// The message says what a value must be: the name of its key goes before it.
    Rule,
    /// The field that is not there.
    Missing(&'static str),
    /// How to put it right.
    Help(String),
    /// A name that is not valid, and those that are.
    Names {
        wrong: String,
        valid: &'static [&'static str],
        is_field: bool,
    },
}

impl TypeError {
    fn of(message: String) -> Self {
        Self {
            message,
            more: None,
            place: None,
            path: Vec::new(),
        }
    }

    fn with(mut self, more: More) -> Self {
        self.more = Some(Box::new(more));
        self
    }

    /// With the names of which one is to be chosen.
    fn with_choices(self, names: &'static [&'static str]) -> Self {
        match suggest("", names.iter().copied()) {
            Some(help) => self.with(More::Help(help)),
            None => self,
        }
    }

    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    fn below(mut self, name: &str) -> Self {
        self.path.push(name.to_owned());
        self
    }
}

impl Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

/// The same as a range: what a number must be.
fn range_words(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u64" | "usize" => "0 or more".to_owned(),
        "u32" => format!("0 to {}", u32::MAX),
        "a nonzero u64" | "a nonzero usize" => "1 or more".to_owned(),
        "a nonzero u32" => format!("1 to {}", u32::MAX),
        other => other.to_owned(),
    }
}

/// serde's "struct DataSource" or "f64" in a person's words.
fn expected_words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let words = match text.as_str() {
        "f64" | "f32" => "a number",
        "u64" | "usize" | "u32" => "a whole number, 0 or more",
        "i64" => "a whole number",
        "a nonzero u64" | "a nonzero usize" | "a nonzero u32" => "a whole number, 1 or more",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    words.to_owned()
}

fn found_words(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => format!("the string `{text}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        Unexpected::Unsigned(number) => format!("`{number}`"),
        // Always with a point or an exponent: it is no whole number.
        Unexpected::Float(number) => format!("`{number:?}`"),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// How to write what was found as the wanted type, where its form shows that.
fn right_form(wanted: &str, found: &Unexpected<'_>) -> Option<String> {
    let help = match (wanted, found) {
        (words, Unexpected::Float(number)) if words.contains("whole") && number.fract() == 0.0 => {
            format!("write `{number:.0}`, without a point or an exponent")
        }
        (words, Unexpected::Float(number)) if words.contains("whole") && number.is_finite() => {
            format!("write `{:.0}` or `{:.0}`", number.floor(), number.ceil())
        }
        (words, Unexpected::Str(text))
            if words.contains("number") && text.parse::<f64>().is_ok() =>
        {
            format!("write `{text}` without quotes")
        }
        ("true or false", _) => "write `true` or `false`".to_owned(),
        ("a string", Unexpected::Bool(value)) => format!("write it in quotes: `\"{value}\"`"),
        ("a string", Unexpected::Signed(value)) => format!("write it in quotes: `\"{value}\"`"),
        ("a string", Unexpected::Float(value)) => format!("write it in quotes: `\"{value}\"`"),
        ("a list", Unexpected::Map) => "put brackets around it: `[{ … }]`".to_owned(),
        ("a list", Unexpected::Str(text)) => format!("write `[\"{text}\"]`"),
        ("a list", Unexpected::Signed(value)) => format!("write `[{value}]`"),
        ("a list", Unexpected::Float(value)) => format!("write `[{value}]`"),
        _ => return None,
    };
    Some(help)
}

impl de::Error for TypeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::of(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let words = expected_words(expected);
        let error = Self::of(format!("expected {words}, found {}", found_words(&found)));
        match right_form(&words, &found) {
            Some(help) => error.with(More::Help(help)),
            None => error,
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let value = match found {
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Float(number) => number.to_string(),
            other => return Self::invalid_type(other, expected),
        };
        let rule = range_words(expected);
        Self::of(format!("must be {rule}, not {value}")).with(More::Rule)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::of(format!("unknown key `{field}`")).with(More::Names {
            wrong: field.to_owned(),
            valid: expected,
            is_field: true,
        })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::of(format!("unknown value `{variant}`")).with(More::Names {
            wrong: variant.to_owned(),
            valid: expected,
            is_field: false,
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::of(format!("key `{field}` is missing")).with(More::Missing(field))
    }
}

/// Types `node`; `prefix` is its dotted path, for messages.
///
/// `elsewhere` may know a better dotted path for an unknown one.
///
/// # Errors
/// The first thing that does not fit, at its place, with the nearest valid name.
pub(crate) fn read<T: DeserializeOwned>(
    node: &Node,
    prefix: &str,
    elsewhere: impl Fn(&str) -> Option<String>,
) -> Result<T, Box<Diagnostic>> {
    read_by(node, prefix, elsewhere, T::deserialize)
}

/// As [`read`], for what is not read by one call of `deserialize`.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_by<'n, T>(
    node: &'n Node,
    prefix: &str,
    elsewhere: impl Fn(&str) -> Option<String>,
    deserialize: impl FnOnce(&'n Node) -> Result<T, TypeError>,
) -> Result<T, Box<Diagnostic>> {
    deserialize(node).map_err(|error| Box::new(explain(error, node.place, prefix, elsewhere)))
}

/// As [`read`], but goes on behind each mistake: an unknown key is left out, and what is missing or does
/// not fit is made up, until nothing is found any more.
///
/// # Errors
/// Everything that does not fit.
pub(crate) fn read_all<T: DeserializeOwned>(
    node: &Node,
    prefix: &str,
    elsewhere: impl Fn(&str) -> Option<String>,
) -> Result<T, Vec<Diagnostic>> {
    let mut patched = Cow::Borrowed(node);
    let mut problems = Vec::new();
    while problems.len() < MOST_PROBLEMS {
        let error = match T::deserialize(&*patched) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let path: Vec<String> = error.path.iter().rev().cloned().collect();
        let (missing, unknown) = match error.more.as_deref() {
            Some(More::Missing(field)) => (Some(*field), None),
            Some(More::Names {
                wrong,
                valid,
                is_field: true,
            }) => (None, Some((wrong.clone(), *valid))),
            _ => (None, None),
        };
        let at = patched.to_mut().at_mut(&path);
        // What was made up does not fit either: its type checks more than its form.
        if at.as_ref().is_some_and(|at| matches!(at.kind, Kind::Hole)) {
            break;
        }
        problems.push(explain(error, node.place, prefix, &elsewhere));
        let Some(at) = at else {
            break;
        };
        match (missing, unknown) {
            (Some(field), _) => at.put_hole(field),
            (None, Some((key, valid))) => {
                at.remove(&key);
                // That the key which was meant is missing goes without saying.
                let meant = meant_key(&key, valid);
                if let Some(meant) = meant.filter(|meant| at.get(meant).is_none()) {
                    at.put_hole(meant);
                }
            }
            (None, None) => at.kind = Kind::Hole,
        }
    }
    Err(problems)
}

/// The valid key that an unknown one was probably meant to be.
fn meant_key(wrong: &str, valid: &[&'static str]) -> Option<&'static str> {
    let peer = peer_key(wrong).unwrap_or_default();
    let named = |name: &&&'static str| peer.contains(&format!("`{name}`"));
    let by_peer = valid.iter().find(named).copied();
    by_peer.or_else(|| nearest(wrong, valid.iter().copied()))
}

/// More mistakes than this are not told at once.
const MOST_PROBLEMS: usize = 100;

fn explain(
    error: TypeError,
    root: Place,
    prefix: &str,
    elsewhere: impl Fn(&str) -> Option<String>,
) -> Diagnostic {
    let mut parts: Vec<&str> = error.path.iter().rev().map(String::as_str).collect();
    if !prefix.is_empty() {
        parts.insert(0, prefix);
    }
    let path = parts.join(".");
    let named = parts
        .iter()
        .rev()
        .find(|part| part.parse::<usize>().is_err());
    let message = match named {
        Some(name) if matches!(error.more.as_deref(), Some(More::Rule)) => {
            format!("`{name}` {}", error.message)
        }
        Some(_) => format!("{} in `{path}`", error.message),
        None => error.message.clone(),
    };
    let mut diagnostic = Diagnostic::new(error.place.unwrap_or(root), message);
    diagnostic.absent = matches!(error.more.as_deref(), Some(More::Missing(_)));
    let (wrong, valid, is_field) = match error.more.as_deref() {
        Some(More::Help(help)) => return diagnostic.help(help.clone()),
        Some(More::Names {
            wrong,
            valid,
            is_field,
        }) => (wrong, valid, is_field),
        Some(More::Missing(field)) => {
            diagnostic.help = field_hint(&below(&path, field));
            return diagnostic;
        }
        Some(More::Rule) | None => {
            diagnostic.help = field_hint(&path);
            return diagnostic;
        }
    };
    let valid_names = valid.iter().copied();
    let near = nearest(wrong, valid_names.clone());
    let peers = if *is_field {
        // Words for another table are of use where nothing of this one is near.
        let ours = peer_key(wrong).filter(|ours| near.is_none() || fits(ours, valid));
        ours.map(|ours| format!("here it is {ours}"))
    } else {
        let ours = peer_value(wrong).filter(|ours| fits(ours, valid));
        ours.map(str::to_owned)
    };
    if let Some(help) = peers {
        return diagnostic.help(help);
    }
    let better = if *is_field && near.is_none() {
        elsewhere(&below(&path, wrong))
    } else {
        None
    };
    let help = match better {
        Some(path) => Some(format!("did you mean `{path}`?")),
        None => suggest(wrong, valid_names),
    };
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// The path of a key in the table at `path`.
fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// Methods that answer a hole with something that fits, and read everything else as it is.
macro_rules! made_up {
    ($($method:ident: |$visitor:ident| $answer:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, $visitor: V) -> Result<V::Value, TypeError> {
            match self.kind {
                Kind::Hole => $answer,
                _ => self.deserialize_any($visitor),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let result = match &self.kind {
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Int(value) => visitor.visit_i64(*value),
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Str(value) => visitor.visit_str(value),
            Kind::List(items) => visitor.visit_seq(Items {
                rest: items.iter(),
                index: 0,
            }),
            Kind::Table(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                only: None,
                value: None,
            }),
            Kind::Hole => visitor.visit_unit(),
        };
        result.map_err(|error| error.at(self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        if matches!(self.kind, Kind::Hole) {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    made_up! {
        deserialize_bool: |visitor| visitor.visit_bool(false);
        deserialize_u32: |visitor| visitor.visit_u64(1);
        deserialize_u64: |visitor| visitor.visit_u64(1);
        deserialize_i64: |visitor| visitor.visit_i64(1);
        // Within the range of every number.
        deserialize_f64: |visitor| visitor.visit_f64(0.25);
        deserialize_str: |visitor| visitor.visit_str("");
        deserialize_string: |visitor| visitor.visit_str("");
        deserialize_seq: |visitor| visitor.visit_seq(Items { rest: [].iter(), index: 0 });
        deserialize_map: |visitor| visitor.visit_map(Entries { rest: [].iter(), only: None, value: None });
    }

    /// A recipe of parts gets its table once for each of them; what no part knows is refused.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let entries = match self.table() {
            None if matches!(self.kind, Kind::Hole) && name == PARTS => {
                return visitor.visit_seq(Parts(self));
            }
            None if matches!(self.kind, Kind::Hole) => {
                return visitor.visit_map(HoleFields {
                    hole: self,
                    rest: fields.iter(),
                });
            }
            Some(entries) if name == PARTS => entries,
            // A list would be read field by field, in their order in the type.
            None if matches!(self.kind, Kind::List(_)) => {
                let error = TypeError::invalid_type(Unexpected::Seq, &"a table");
                return Err(error.at(self.place));
            }
            _ => return self.deserialize_any(visitor),
        };
        let unknown = entries
            .iter()
            .find(|(key, _)| !fields.contains(&&*key.name));
        if let Some((key, _)) = unknown {
            return Err(TypeError::unknown_field(&key.name, fields).at(key.place));
        }
        visitor
            .visit_seq(Parts(self))
            .map_err(|error| error.at(self.place))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    /// A plain string is a choice without content; a table with one key is a choice with content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let result = match &self.kind {
            Kind::Hole => visitor.visit_enum(HoleChoice {
                hole: self,
                name: variants.first().copied().unwrap_or_default(),
            }),
            Kind::Str(word) => visitor.visit_enum(Word(word)),
            Kind::Table(entries) => one_choice(entries, variants)
                .and_then(|(key, value)| visitor.visit_enum(Choice { key, value })),
            _ => {
                let error =
                    TypeError::of(format!("expected one choice, found {}", self.kind_name()));
                Err(error.with_choices(variants))
            }
        };
        result.map_err(|error| error.at(self.place))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// Of the keys of a one-of table the one that was written last; two in one place are a mistake.
fn one_choice<'n>(
    entries: &'n [(Key, Node)],
    variants: &'static [&'static str],
) -> Result<&'n (Key, Node), TypeError> {
    let top = entries.iter().map(|(key, _)| key.layer).max();
    let mut latest = entries.iter().filter(|(key, _)| Some(key.layer) == top);
    match (latest.next(), latest.next()) {
        (Some(entry), None) => Ok(entry),
        (None, _) => {
            let error = TypeError::of("expected one key, found an empty table".to_owned());
            Err(error.with_choices(variants))
        }
        (Some((first, _)), Some((second, _))) => {
            let (first, at, second) = (&first.name, second.place, &second.name);
            let message = format!("`{first}` and `{second}` cannot stand together");
            let help = format!("keep one of them: `{{ {first} = … }}` or `{{ {second} = … }}`");
            Err(TypeError::of(message).with(More::Help(help)).at(at))
        }
    }
}

/// The table of a recipe, lent to one part after another.
struct Parts<'de>(&'de Node);

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        seed.deserialize(Part(self.0)).map(Some)
    }
}

/// A table of which only the fields of one struct are seen.
struct Part<'de>(&'de Node);

impl<'de> de::Deserializer<'de> for Part<'de> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        if matches!(self.0.kind, Kind::Hole) {
            return visitor.visit_map(HoleFields {
                hole: self.0,
                rest: fields.iter(),
            });
        }
        visitor.visit_map(Entries {
            rest: self.0.table().unwrap_or_default().iter(),
            only: Some(fields),
            value: None,
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Items<'de> {
    rest: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        let Some(item) = self.rest.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item)
            .map(Some)
            .map_err(|error| error.at(item.place).below(&index.to_string()))
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Key, Node)>,
    /// The others are passed over.
    only: Option<&'static [&'static str]>,
    value: Option<&'de (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        let only = self.only;
        let seen = |key: &Key| only.is_none_or(|fields| fields.contains(&&*key.name));
        self.value = self.rest.find(|(key, _)| seen(key));
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let name: de::value::StrDeserializer<'_, TypeError> = (*key.name).into_deserializer();
        seed.deserialize(name)
            .map(Some)
            .map_err(|error| error.at(key.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        let Some((key, value)) = self.value.take() else {
            return Err(TypeError::custom("a value was asked for before its key"));
        };
        seed.deserialize(value)
            .map_err(|error| error.at(value.place).below(&key.name))
    }
}

/// A choice without a table of its own: every parameter has its default.
struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = TypeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), TypeError> {
        let name: de::value::StrDeserializer<'_, TypeError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl Word<'_> {
    fn needs(&self, what: &str, example: &str) -> TypeError {
        let help = format!("write `{{ {} = {example} }}`", self.0);
        TypeError::of(format!("`{}` needs {what}", self.0)).with(More::Help(help))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, TypeError> {
        Err(self.needs("a value", "…"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, TypeError> {
        Err(self.needs("values", "[…]"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let nothing = Entries {
            rest: [].iter(),
            only: None,
            value: None,
        };
        visitor
            .visit_map(nothing)
            .map_err(|error| match error.more.as_deref() {
                Some(More::Missing(field)) => {
                    self.needs(&format!("`{field}`"), &format!("{{ {field} = … }}"))
                }
                _ => error,
            })
    }
}

/// Every field of a struct that is made up.
struct HoleFields<'de> {
    hole: &'de Node,
    rest: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for HoleFields<'de> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        let Some(name) = self.rest.next() else {
            return Ok(None);
        };
        let name: de::value::StrDeserializer<'_, TypeError> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        seed.deserialize(self.hole)
    }
}

/// The first choice of a one-of value that is made up.
struct HoleChoice<'de> {
    hole: &'de Node,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for HoleChoice<'de> {
    type Error = TypeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), TypeError> {
        let name: de::value::StrDeserializer<'_, TypeError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for HoleChoice<'de> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TypeError> {
        seed.deserialize(self.hole)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_unit()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_map(HoleFields {
            hole: self.hole,
            rest: fields.iter(),
        })
    }
}

struct Choice<'de> {
    key: &'de Key,
    value: &'de Node,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = TypeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), TypeError> {
        let name: de::value::StrDeserializer<'_, TypeError> = (*self.key.name).into_deserializer();
        let variant = seed.deserialize(name).map_err(|mut error| {
            error.message = format!("unknown key `{}`", self.key.name);
            error.at(self.key.place)
        })?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        let name = &self.key.name;
        let error = TypeError::of(format!("`{name}` takes no value here"));
        let help = format!("write `\"{name}\"` alone");
        Err(error.with(More::Help(help)).at(self.key.place))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TypeError> {
        seed.deserialize(self.value)
            .map_err(|error| error.at(self.value.place).below(&self.key.name))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        de::Deserializer::deserialize_any(self.value, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        de::Deserializer::deserialize_struct(self.value, "", fields, visitor)
            .map_err(|error| error.below(&self.key.name))
    }
}
