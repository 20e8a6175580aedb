//! Recipes as they stand in identities: JSON with content in place of paths.
//!
//! A serialiser of its own, because it sees the *types* of the values: whatever is a
//! [`DataFile`](crate::config::spec::DataFile), a `TextFile` or a `ModelDir` becomes the digest of
//! what it names, in whichever field it stands.

use crate::base::Digest;
use crate::config::spec::PathKind;
use crate::plan::error::PlanError;
use crate::plan::resolve::Resolver;
use serde::ser::{self, Serialize, Serializer};
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// A recipe with its paths resolved, and the files and model folders that it names.
///
/// The word `path` in the name of a field that holds a path becomes `content`.
///
/// # Errors
/// A file cannot be digested, or `value` has a map whose keys are no strings.
pub(crate) fn with_content<T: Serialize>(
    value: &T,
    what: &str,
    resolver: &mut Resolver<'_>,
) -> Result<(Value, BTreeMap<String, Digest>), PlanError> {
    let context = Context {
        resolver: RefCell::new(resolver),
        files: RefCell::default(),
        is_content: Cell::new(false),
    };
    let value = value.serialize(&context).map_err(|fault| match fault {
        Fault::Plan(error) => *error,
        Fault::Form(text) => PlanError::Json {
            what: what.to_owned(),
            source: ser::Error::custom(text),
        },
    })?;
    Ok((value, context.files.into_inner()))
}

struct Context<'c, 'r> {
    resolver: RefCell<&'c mut Resolver<'r>>,
    files: RefCell<BTreeMap<String, Digest>>,
    /// Whether the value that was written last is a digest in place of a path.
    is_content: Cell<bool>,
}

/// What can go wrong on the way.
#[derive(Debug)]
enum Fault {
    Plan(Box<PlanError>),
    Form(String),
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::Form(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::Form(message.to_string())
    }
}

impl From<PlanError> for Fault {
    fn from(error: PlanError) -> Self {
        Self::Plan(Box::new(error))
    }
}

impl Context<'_, '_> {
    fn resolve(&self, kind: PathKind, path: String) -> Result<Value, Fault> {
        let mut resolver = self.resolver.borrow_mut();
        let digest = match kind {
            PathKind::Model => resolver.model(&path)?.0,
            PathKind::Data => resolver.file("data file", &path)?,
            PathKind::Text => resolver.file("text file", &path)?,
        };
        self.is_content.set(true);
        let value = Value::from(digest.0.clone());
        self.files.borrow_mut().insert(path, digest);
        Ok(value)
    }

    fn field<T: Serialize + ?Sized>(
        &self,
        fields: &mut Map<String, Value>,
        name: &str,
        value: &T,
    ) -> Result<(), Fault> {
        let value = value.serialize(self)?;
        let name = if self.is_content.take() {
            name.replace("path", "content")
        } else {
            name.to_owned()
        };
        fields.insert(name, value);
        Ok(())
    }

    fn list(&self, variant: Option<&'static str>) -> List<'_, Self> {
        List {
            context: self,
            variant,
            items: Vec::new(),
        }
    }

    fn table(&self, variant: Option<&'static str>) -> Table<'_, Self> {
        Table {
            context: self,
            variant,
            key: String::new(),
            fields: Map::new(),
        }
    }
}

/// `{ variant: value }`.
fn chosen(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::Object(Map::from_iter([(variant.to_owned(), value)])),
        None => value,
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<Value, Fault> {
            Ok(Value::from(value))
        }
    )*};
}

impl<'a, 'c, 'r> Serializer for &'a Context<'c, 'r> {
    type Ok = Value;
    type Error = Fault;
    type SerializeSeq = List<'a, Context<'c, 'r>>;
    type SerializeTuple = List<'a, Context<'c, 'r>>;
    type SerializeTupleStruct = List<'a, Context<'c, 'r>>;
    type SerializeTupleVariant = List<'a, Context<'c, 'r>>;
    type SerializeMap = Table<'a, Context<'c, 'r>>;
    type SerializeStruct = Table<'a, Context<'c, 'r>>;
    type SerializeStructVariant = Table<'a, Context<'c, 'r>>;

    plain! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_f32: f32, serialize_f64: f64, serialize_str: &str,
        serialize_bytes: &[u8]
    }

    fn serialize_char(self, value: char) -> Result<Value, Fault> {
        Ok(value.to_string().into())
    }

    fn serialize_none(self) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Fault> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, Fault> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, Fault> {
        match (PathKind::of_type(name), value.serialize(self)?) {
            (Some(kind), Value::String(path)) => self.resolve(kind, path),
            (_, value) => Ok(value),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Fault> {
        let mut fields = Map::new();
        self.field(&mut fields, variant, value)?;
        Ok(Value::Object(fields))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq, Fault> {
        Ok(self.list(None))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, Fault> {
        Ok(self.list(None))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, Fault> {
        Ok(self.list(None))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, Fault> {
        Ok(self.list(Some(variant)))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Self::SerializeMap, Fault> {
        Ok(self.table(None))
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStruct, Fault> {
        Ok(self.table(None))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, Fault> {
        Ok(self.table(Some(variant)))
    }
}

struct List<'a, C> {
    context: &'a C,
    variant: Option<&'static str>,
    items: Vec<Value>,
}

macro_rules! list {
    ($($trait:ident $method:ident),*) => {$(
        impl ser::$trait for List<'_, Context<'_, '_>> {
            type Ok = Value;
            type Error = Fault;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.items.push(value.serialize(self.context)?);
                self.context.is_content.set(false); // the field around the list is no path
                Ok(())
            }

            fn end(self) -> Result<Value, Fault> {
                Ok(chosen(self.variant, self.items.into()))
            }
        }
    )*};
}

list!(SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

struct Table<'a, C> {
    context: &'a C,
    variant: Option<&'static str>,
    /// Of the map's value that comes next.
    key: String,
    fields: Map<String, Value>,
}

macro_rules! table {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Table<'_, Context<'_, '_>> {
            type Ok = Value;
            type Error = Fault;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Fault> {
                self.context.field(&mut self.fields, name, value)
            }

            fn end(self) -> Result<Value, Fault> {
                Ok(chosen(self.variant, self.fields.into()))
            }
        }
    )*};
}

table!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Table<'_, Context<'_, '_>> {
    type Ok = Value;
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        let Value::String(key) = key.serialize(self.context)? else {
            return Err(ser::Error::custom("a key is no string"));
        };
        self.key = key;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let key = std::mem::take(&mut self.key);
        self.context.field(&mut self.fields, &key, value)
    }

    fn end(self) -> Result<Value, Fault> {
        Ok(self.fields.into())
    }
}
