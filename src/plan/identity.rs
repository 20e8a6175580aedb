//! The identity document of a run: whatever can change its result, and nothing else.
//!
//! A JSON object with `stage`, `semantics` (the stage's version), `seed`, `inputs` (run ids or
//! folder digests by role), `chat-template` (digest of an override, if any) and `recipe`. In the
//! recipe each data source's path is replaced by the digest of its content, and the seeds that the
//! recipe may fix are folded into their effective values. Runtime settings have no place in it.

use crate::base::{Digest, digest_bytes};
use crate::plan::canonical::{canonical, to_json};
use crate::plan::error::PlanError;
use crate::plan::resolve::Resolver;
use crate::plan::stage::{InputRef, InputRole, RunId, StageKind};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What names a run.
pub(crate) struct Identity<'a> {
    pub(crate) kind: StageKind,
    pub(crate) seed: u64,
    /// From [`recipe_document`].
    pub(crate) recipe: Value,
    pub(crate) chat_template: Option<&'a Digest>,
    pub(crate) inputs: &'a BTreeMap<InputRole, InputRef>,
}

impl Identity<'_> {
    /// The exact text that is hashed.
    pub(crate) fn document(self) -> String {
        let mut inputs = Map::new();
        for (role, input) in self.inputs {
            let role = match role {
                InputRole::Model => "model",
                InputRole::RefLogps => "ref-logps",
            };
            let input = match input {
                InputRef::Folder { digest, .. } => json!({ "folder": digest.0 }),
                InputRef::Run { id, artifact } => json!({ "run": id.0, "artifact": artifact }),
            };
            inputs.insert(role.to_owned(), input);
        }
        let mut document = Map::new();
        document.insert("stage".to_owned(), self.kind.name().into());
        document.insert("semantics".to_owned(), self.kind.semantics().into());
        document.insert("seed".to_owned(), self.seed.into());
        document.insert("inputs".to_owned(), Value::Object(inputs));
        if let Some(template) = self.chat_template {
            document.insert("chat-template".to_owned(), template.0.clone().into());
        }
        document.insert("recipe".to_owned(), self.recipe);
        canonical(&Value::Object(document))
    }
}

/// The name that a document gives.
pub(crate) fn run_id(document: &str) -> RunId {
    RunId(digest_bytes(document.as_bytes()).0)
}

/// A recipe as it stands in an identity, and the data files that it reads; `seed` is the stage's,
/// where the recipe may name another one for its data.
///
/// # Errors
/// A data file cannot be digested; a number is not finite.
pub(crate) fn recipe_document<T: Serialize>(
    recipe: &T,
    what: &str,
    seed: Option<u64>,
    resolver: &mut Resolver<'_>,
) -> Result<(Value, BTreeMap<String, Digest>), PlanError> {
    let mut document = to_json(recipe, what)?;
    if let Value::Object(fields) = &mut document {
        fields.remove("seed"); // folded into the document's own `seed`
        if seed.is_some() && fields.get("data-seed").and_then(Value::as_u64) == seed {
            fields.remove("data-seed"); // the same as leaving it to the stage's seed
        }
    }
    let mut files = BTreeMap::new();
    replace_sources(&mut document, resolver, &mut files)?;
    Ok((document, files))
}

/// In every list called `data`: each source's `path` becomes `content`, its digest.
fn replace_sources(
    value: &mut Value,
    resolver: &mut Resolver<'_>,
    files: &mut BTreeMap<String, Digest>,
) -> Result<(), PlanError> {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::Array(sources) if name == "data" => {
                        for source in sources {
                            replace_source(source, resolver, files)?;
                        }
                    }
                    other => replace_sources(other, resolver, files)?,
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                replace_sources(item, resolver, files)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn replace_source(
    source: &mut Value,
    resolver: &mut Resolver<'_>,
    files: &mut BTreeMap<String, Digest>,
) -> Result<(), PlanError> {
    let Value::Object(fields) = source else {
        return Ok(());
    };
    if let Some(Value::String(path)) = fields.remove("path") {
        let digest = resolver.file("data file", &path)?;
        fields.insert("content".to_owned(), digest.0.clone().into());
        files.insert(path, digest);
    }
    Ok(())
}
