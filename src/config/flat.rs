//! Recipes made of shared parts whose fields stand flat in one table.
//!
//! serde's own `flatten` first gathers the whole table without its places. Here a recipe asks the
//! deserialiser for its parts under the name [`PARTS`]: that of sweep files (`typed`) lends the
//! same table to each part and refuses what no part knows, so that every place is kept. From JSON,
//! where places do not matter, serde's way is taken.

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// The name under which a recipe asks for its parts.
pub(crate) const PARTS: &str = "$parts";

/// The names of the fields of `T`, a struct.
pub(crate) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // Only the question counts: the answer is always an error.
    drop(T::deserialize(Asked(&mut fields)));
    fields
}

struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("a part is a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("only the names are wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Reads a recipe of parts from a format that knows nothing of them.
pub(crate) fn from_map<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: A) -> Result<T, A::Error> {
    T::deserialize(de::value::MapAccessDeserializer::new(map))
}

/// `Deserialize` for a struct of parts; its `Serialize` is derived with `flatten` on each.
macro_rules! flat {
    ($name:ident { $($part:ident: $type:ty),* $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use crate::config::flat::{PARTS, fields_of, from_map};
                use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
                use std::sync::LazyLock;

                static FIELDS: LazyLock<&'static [&'static str]> = LazyLock::new(|| {
                    let fields = [$(fields_of::<$type>()),*].concat();
                    Box::leak(fields.into_boxed_slice()) // once, as serde wants them to live
                });

                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Plain {
                    $(#[serde(flatten)]
                    $part: $type,)*
                }

                struct Parts;

                impl<'de> Visitor<'de> for Parts {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a table")
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<$name, A::Error> {
                        let missing = || A::Error::custom("a part is missing");
                        Ok($name {
                            $($part: parts.next_element()?.ok_or_else(missing)?,)*
                        })
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        let plain: Plain = from_map(map)?;
                        Ok($name { $($part: plain.$part,)* })
                    }
                }

                from.deserialize_struct(PARTS, *FIELDS, Parts)
            }
        }
    };
}
pub(crate) use flat;
