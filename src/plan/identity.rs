//! The identity document of a run: whatever can change its result, and nothing else.
//!
//! A JSON object with `stage`, `semantics` (the stage's version), `seed`, `inputs` (run ids or
//! folder digests by role), `chat-template` (digest of an override, if any) and `recipe`. In the
//! recipe each path is replaced by the digest of what it names ([`with_content`]), and the seeds that
//! the recipe may fix are folded into their effective values. Runtime settings have no place in it.

use crate::base::{Digest, digest_bytes};
use crate::config::file_stem;
use crate::plan::canonical::{canonical, finite};
use crate::plan::content::with_content;
use crate::plan::error::PlanError;
use crate::plan::resolve::Resolver;
use crate::plan::stage::{InputRef, InputRole, RunId, StageKind};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

/// What names a run.
pub(crate) struct Identity<'a> {
    pub(crate) kind: StageKind,
    pub(crate) seed: u64,
    /// Canonical text of a [`RecipeDocument`].
    pub(crate) recipe: &'a str,
    pub(crate) chat_template: Option<&'a Digest>,
    pub(crate) inputs: &'a BTreeMap<InputRole, InputRef>,
}

impl Identity<'_> {
    /// The exact text that is hashed: canonical JSON, so the keys stand in byte order.
    pub(crate) fn document(self) -> String {
        let mut inputs = Map::new();
        for (role, input) in self.inputs {
            let input = match input {
                InputRef::Folder { digest, .. } => json!({ "folder": digest.0 }),
                InputRef::Run { id, artifact } => json!({ "run": id.0, "artifact": artifact }),
            };
            inputs.insert(role.name().to_owned(), input);
        }
        let mut text = String::with_capacity(self.recipe.len() + 512);
        text.push('{');
        if let Some(template) = self.chat_template {
            let template = canonical(&Value::from(template.0.clone()));
            _ = write!(text, "\"chat-template\":{template},");
        }
        let inputs = canonical(&Value::Object(inputs));
        let (recipe, seed) = (self.recipe, self.seed);
        let (semantics, stage) = (self.kind.semantics(), self.kind.name());
        _ = write!(
            text,
            "\"inputs\":{inputs},\"recipe\":{recipe},\"seed\":{seed},"
        );
        _ = write!(text, "\"semantics\":{semantics},\"stage\":\"{stage}\"}}");
        text
    }
}

/// The name that a document gives.
pub(crate) fn run_id(document: &str) -> RunId {
    RunId(digest_bytes(document.as_bytes()).0)
}

/// A recipe as it stands in an identity.
#[derive(Debug)]
pub(crate) struct RecipeDocument {
    /// Canonical JSON.
    pub(crate) text: String,
    /// The data and text files that it reads.
    pub(crate) data: BTreeMap<String, Digest>,
}

/// Makes the document of a recipe. `seed` is the stage's where the recipe names its own seed or one
/// for its data: a `data-seed` that repeats it is the same as none.
///
/// # Errors
/// A data file cannot be digested; a number is not finite.
pub(crate) fn recipe_document<T: Serialize>(
    recipe: &T,
    what: &str,
    seed: Option<u64>,
    resolver: &mut Resolver<'_>,
) -> Result<RecipeDocument, PlanError> {
    let (mut document, data) = with_content(recipe, what, resolver)?;
    finite(&document, what)?;
    let sums = in_bf16(&document).then_some(BF16_SUMS);
    if let Value::Object(fields) = &mut document {
        if let Some(sums) = sums {
            fields.insert("bf16-sums".to_owned(), sums.into());
        }
        fields.remove("seed"); // stands in the document's own `seed`
        let names = monitor_names(recipe);
        if let (Some(names), Some(monitor)) = (names, fields.get_mut("monitor")) {
            monitor["names"] = names;
        }
        if seed.is_some() && fields.get("data-seed").and_then(Value::as_u64) == seed {
            fields.remove("data-seed");
        }
    }
    Ok(RecipeDocument {
        text: canonical(&document),
        data,
    })
}

/// How the CPU computes in bf16; raised by hand whenever that gives other results. What computes in f32 does
/// not have it, and keeps its ids.
///
/// 2: products round their operands (in the backward pass, too) and add in the order of AMX.
const BF16_SUMS: u32 = 2;

/// Whether anything in a recipe is computed in bf16.
fn in_bf16(recipe: &Value) -> bool {
    match recipe {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| (key == "precision" && value == "bf16") || in_bf16(value)),
        Value::Array(items) => items.iter().any(in_bf16),
        _ => false,
    }
}

/// What the keys of a monitor's metrics call its files: of all names of data files, these alone are in a
/// run's result.
fn monitor_names<T: Serialize>(recipe: &T) -> Option<Value> {
    let recipe = serde_json::to_value(recipe).ok()?;
    let sources = recipe.get("monitor")?.get("data")?.as_array()?;
    let names = sources.iter().filter_map(|source| source["path"].as_str());
    Some(names.map(file_stem).collect())
}

/// The last document made: neighbouring trials mostly share a recipe.
#[derive(Debug)]
pub(crate) struct Memo<T, D = RecipeDocument>(Option<(T, Rc<D>)>);

impl<T, D> Default for Memo<T, D> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialEq + Clone, D> Memo<T, D> {
    /// The document of `key`, made only if the last one was of another key.
    pub(crate) fn get(
        &mut self,
        key: &T,
        make: impl FnOnce() -> Result<D, PlanError>,
    ) -> Result<Rc<D>, PlanError> {
        if let Some((last, document)) = &self.0
            && last == key
        {
            return Ok(Rc::clone(document));
        }
        let document = Rc::new(make()?);
        self.0 = Some((key.clone(), Rc::clone(&document)));
        Ok(document)
    }
}
