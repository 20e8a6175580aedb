//! Every dotted path that a trial's configuration may have, derived from the types themselves.
//!
//! A deserialiser that answers every request with a made-up value and notes what it was asked for.

use crate::config::flat::PARTS;
use crate::config::spec::TrialConfig;
use serde::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use std::cell::{Cell, RefCell};
use std::sync::LazyLock;

/// Stands in a path for a name that the user chooses, or for the number of a list's element.
const ANY: &str = "*";

/// Within the range of every whole number of a recipe.
const INTEGER: u8 = 8;
/// Within the range of every number of a recipe.
const NUMBER: f64 = 0.25;

/// All paths, tables and leaves; `*` for a chosen name or a list's element.
pub(crate) fn paths() -> &'static [String] {
    static PATHS: LazyLock<Vec<String>> = LazyLock::new(paths_of::<TrialConfig>);
    &PATHS
}

/// All paths of one type. An answer can name one choice of a one-of table, so the type is asked
/// again until each has been named.
fn paths_of<'de, T: Deserialize<'de>>() -> Vec<String> {
    let seen = RefCell::new(Vec::new());
    let most_choices = Cell::new(1);
    let mut round = 0;
    while round < most_choices.get() {
        let probe = Probe {
            path: String::new(),
            seen: &seen,
            round,
            most_choices: &most_choices,
        };
        // The made-up value itself is of no use; a failed probe would only shorten the hints.
        drop(T::deserialize(probe));
        round += 1;
    }
    let mut paths = seen.into_inner();
    paths.sort();
    paths.dedup();
    paths
}

/// How many parts of a dotted path are known, all of them if it is valid.
pub(crate) fn known_prefix(path: &str) -> usize {
    let parts: Vec<&str> = path.split('.').collect();
    let agree = |known: &String| {
        let known = known.split('.').zip(&parts);
        known
            .take_while(|(known, part)| *known == ANY || known == *part)
            .count()
    };
    paths().iter().map(agree).max().unwrap_or_default()
}

/// The valid path that `wrong` was probably meant to be: one that ends in the same key, or one
/// spelt alike.
pub(crate) fn nearest_path(wrong: &str) -> Option<String> {
    let tail = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let wrong_tail = tail(wrong);
    let same_tail = paths()
        .iter()
        .filter(|path| tail(path) == wrong_tail && !path.contains(ANY))
        .min_by_key(|path| strsim::damerau_levenshtein(path, wrong));
    let alike = || crate::config::diagnose::nearest(wrong, paths().iter().map(String::as_str));
    same_tail.cloned().or_else(|| alike().map(str::to_owned))
}

struct Probe<'a> {
    path: String,
    seen: &'a RefCell<Vec<String>>,
    /// Which choice of every one-of table is named this time.
    round: usize,
    most_choices: &'a Cell<usize>,
}

type ProbeError = de::value::Error;

impl Probe<'_> {
    fn child(&self, name: &str) -> Self {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        self.seen.borrow_mut().push(path.clone());
        Self { path, ..*self }
    }
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = ProbeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_bool(false)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_u32(INTEGER.into())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_u64(INTEGER.into())
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_i64(INTEGER.into())
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_f64(NUMBER)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_str("")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_str("")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_seq(ProbeItems {
            probe: self,
            left: 1,
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_map(ProbeFields {
            probe: self,
            names: &[ANY],
            at: 0,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        if name == PARTS {
            return visitor.visit_seq(ProbeParts(self));
        }
        visitor.visit_map(ProbeFields {
            probe: self,
            names: fields,
            at: 0,
        })
    }

    /// Goes on with one choice; those that have content are told as paths.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        let most = self.most_choices.get().max(variants.len());
        self.most_choices.set(most);
        let name = variants.get(self.round % variants.len().max(1));
        visitor.visit_enum(ProbeChoice {
            probe: self,
            name: name.copied().unwrap_or_default(),
            variants,
        })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct ProbeParts<'a>(Probe<'a>);

impl<'de> SeqAccess<'de> for ProbeParts<'_> {
    type Error = ProbeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ProbeError> {
        let path = self.0.path.clone();
        seed.deserialize(Probe { path, ..self.0 }).map(Some)
    }
}

struct ProbeItems<'a> {
    probe: Probe<'a>,
    left: usize,
}

impl<'de> SeqAccess<'de> for ProbeItems<'_> {
    type Error = ProbeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ProbeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.probe.child(ANY)).map(Some)
    }
}

struct ProbeFields<'a> {
    probe: Probe<'a>,
    names: &'static [&'static str],
    at: usize,
}

impl<'de> MapAccess<'de> for ProbeFields<'_> {
    type Error = ProbeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ProbeError> {
        let Some(name) = self.names.get(self.at) else {
            return Ok(None);
        };
        let name: de::value::StrDeserializer<'_, ProbeError> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ProbeError> {
        let name = self.names.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        seed.deserialize(self.probe.child(name))
    }
}

struct ProbeChoice<'a> {
    probe: Probe<'a>,
    name: &'static str,
    variants: &'static [&'static str],
}

impl<'de> EnumAccess<'de> for ProbeChoice<'_> {
    type Error = ProbeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), ProbeError> {
        let name: de::value::StrDeserializer<'_, ProbeError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for ProbeChoice<'_> {
    type Error = ProbeError;

    fn unit_variant(self) -> Result<(), ProbeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ProbeError> {
        for name in self.variants {
            self.probe.child(name);
        }
        seed.deserialize(self.probe.child(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        visitor.visit_unit()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        visitor.visit_map(ProbeFields {
            probe: self.probe.child(self.name),
            names: fields,
            at: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_types_is_known_even_of_absent_options() {
        let known = |path: &str| paths().iter().any(|p| p == path);
        for path in [
            "pipeline",
            "model.chat-template",
            "sft.recipe.batch.rows",
            "sft.recipe.monitor.every-steps",
            "dpo.recipe.limits.max-prompt-len",
            "dpo.runtime.micro-batch-tokens",
            "sft.runtime.recompute-layers",
            "eval.recipe.stories.*.sampling.top-p",
            "sft.recipe.data.*.fraction",
        ] {
            assert!(known(path), "`{path}` is not among {:?}", paths());
        }
        assert!(!known("dpo.beta"));
    }

    #[test]
    fn the_fields_of_every_choice_are_known() {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Holder {
            #[expect(dead_code, reason = "only its paths are asked for")]
            judge: crate::config::spec::JudgeRecipe,
        }
        let known = paths_of::<Holder>();
        for path in [
            "judge.pairrm.model-path",
            "judge.reward-model.precision",
            "judge.openai.temperature",
        ] {
            assert!(known.iter().any(|p| p == path), "`{path}` in {known:?}");
        }
    }

    #[test]
    fn a_path_that_lacks_a_part_is_completed() {
        assert_eq!(nearest_path("dpo.beta").as_deref(), Some("dpo.recipe.beta"));
        assert_eq!(
            nearest_path("sft.recipe.learning-rate").as_deref(),
            Some("sft.recipe.optimizer.learning-rate")
        );
        assert_eq!(
            nearest_path("dpo.recipe.betta").as_deref(),
            Some("dpo.recipe.beta")
        );
    }
}
