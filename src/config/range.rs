//! Numbers with a range: what is out of it is refused where it is written, by the type.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Unexpected};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A number outside the range of its type.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("must be {rule}, not {value}")]
pub struct OutOfRange {
    rule: &'static str,
    value: f64,
}

macro_rules! ranges {
    ($($(#[$doc:meta])* $name:ident: $rule:literal, $bounds:tt, |$x:ident| $holds:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
        pub struct $name(f64);

        impl $name {
            /// The number.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;

            fn try_from($x: f64) -> Result<Self, OutOfRange> {
                if $x.is_finite() && $holds {
                    Ok(Self($x))
                } else {
                    Err(OutOfRange { rule: $rule, value: $x })
                }
            }
        }

        impl From<$name> for f64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($bounds);
                schema.insert("type".to_owned(), "number".into());
                schema
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_f64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let number = f64::deserialize(from)?;
                Self::try_from(number)
                    .map_err(|_| de::Error::invalid_value(Unexpected::Float(number), &$rule))
            }
        }
    )*};
}

ranges! {
    /// A number above 0.
    Positive: "above 0", {"exclusiveMinimum": 0}, |x| x > 0.0;
    /// A number of 0 or more.
    NonNegative: "0 or more", {"minimum": 0}, |x| x >= 0.0;
    /// A share that may be nothing or all: 0 to 1.
    UnitInterval: "0 to 1", {"minimum": 0, "maximum": 1}, |x| (0.0..=1.0).contains(&x);
    /// A share that is never nothing: above 0 to 1.
    Share: "above 0 to 1", {"exclusiveMinimum": 0, "maximum": 1}, |x| x > 0.0 && x <= 1.0;
    /// A share that is never all: 0 to below 1.
    BelowOne: "0 to below 1", {"minimum": 0, "exclusiveMaximum": 1}, |x| (0.0..1.0).contains(&x);
    /// A probability that a label is wrong: 0 to below 0.5.
    Smoothing: "0 to below 0.5", {"minimum": 0, "exclusiveMaximum": 0.5}, |x| (0.0..0.5).contains(&x);
    /// The same where the loss is not defined at 0: above 0 to below 0.5.
    PositiveSmoothing: "above 0 to below 0.5", {"exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, |x| x > 0.0 && x < 0.5;
    /// A cosine: -1 to 1.
    Cosine: "-1 to 1", {"minimum": -1, "maximum": 1}, |x| (-1.0..=1.0).contains(&x);
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(1.0);
}

impl NonNegative {
    /// Nothing.
    pub const ZERO: Self = Self(0.0);
}

impl Smoothing {
    /// No label is taken as flipped.
    pub const NONE: Self = Self(0.0);

    /// Whether no label is taken as flipped.
    pub fn is_none(&self) -> bool {
        self.0 <= 0.0
    }
}

impl From<Share> for Positive {
    fn from(share: Share) -> Self {
        Self(share.0)
    }
}

impl Default for Smoothing {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_range_belong_to_it_or_not_as_its_rule_says() {
        let ok = |x: f64| {
            [
                Positive::try_from(x).is_ok(),
                NonNegative::try_from(x).is_ok(),
                UnitInterval::try_from(x).is_ok(),
                Share::try_from(x).is_ok(),
                BelowOne::try_from(x).is_ok(),
                Smoothing::try_from(x).is_ok(),
                PositiveSmoothing::try_from(x).is_ok(),
                Cosine::try_from(x).is_ok(),
            ]
        };
        let all = |x: f64| ok(x).map(u8::from);
        assert_eq!(all(-1.0), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(all(0.0), [0, 1, 1, 0, 1, 1, 0, 1]);
        assert_eq!(all(0.25), [1; 8]);
        assert_eq!(all(0.5), [1, 1, 1, 1, 1, 0, 0, 1]);
        assert_eq!(all(1.0), [1, 1, 1, 1, 0, 0, 0, 1]);
        assert_eq!(all(2.0), [1, 1, 0, 0, 0, 0, 0, 0]);
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(all(x), [0; 8]);
        }
    }

    #[test]
    fn a_number_out_of_range_says_the_rule() {
        let error = Share::try_from(0.0).unwrap_err();
        assert_eq!(error.to_string(), "must be above 0 to 1, not 0");
    }
}
