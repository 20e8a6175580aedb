//! Recipes made of shared parts whose fields stand flat in one table.
//!
//! serde's own `flatten` first gathers the whole table without its places. Here a recipe asks the
//! deserialiser for its parts under the name [`PARTS`]: that of sweep files (`typed`) lends the
//! same table to each part and refuses what no part knows, so that every place is kept. From JSON,
//! where places do not matter, serde's way is taken.

use serde::de::{self, Deserialize, MapAccess};

/// The name under which a recipe asks for its parts.
pub(crate) const PARTS: &str = "$parts";

/// Reads a recipe of parts from a format that knows nothing of them.
pub(crate) fn from_map<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: A) -> Result<T, A::Error> {
    T::deserialize(de::value::MapAccessDeserializer::new(map))
}

/// `Deserialize` for a struct of parts; its `Serialize` is derived with `flatten` on each.
macro_rules! flat {
    ($name:ident { $($part:ident: $type:ty),* $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use crate::config::flat::{PARTS, from_map};
                use crate::config::struct_keys::keys_of;
                use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
                use std::sync::LazyLock;

                static FIELDS: LazyLock<&'static [&'static str]> = LazyLock::new(|| {
                    let fields = [$(keys_of::<$type>()),*].concat();
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
