//! The keys that a type takes, asked of the type itself.

use serde::{Deserialize, Deserializer, de};

/// The keys of a struct, as it asks serde for them.
pub(crate) fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    T::deserialize(Asked(&[]))
        .err()
        .map_or(&[], |asked| asked.0)
}

/// Answers with nothing but the keys that it was asked for.
#[derive(Debug)]
struct Asked(&'static [&'static str]);

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "asked for {:?}", self.0)
    }
}

impl std::error::Error for Asked {}

impl de::Error for Asked {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Self;

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self> {
        Err(self)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self> {
        Err(Self(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_says_its_keys_and_other_types_have_none() {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[expect(dead_code, reason = "only its keys are asked for")]
        struct Two {
            #[serde(rename = "where")]
            first: u32,
            log_x: bool,
        }
        assert_eq!(keys_of::<Two>(), ["where", "log-x"]);
        assert!(keys_of::<u32>().is_empty());
    }
}
