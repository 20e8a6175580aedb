//! What a page says once: sentences that stand further up, and names of metrics instead of their keys.

use crate::metrics::metric_spec;
use std::collections::BTreeSet;

/// Sentences that stand on a page already.
#[derive(Debug, Default)]
pub(crate) struct Said(BTreeSet<String>);

impl Said {
    /// The sentences of `text` that are new on the page, which they now are no longer.
    pub(crate) fn rest(&mut self, text: &str) -> String {
        let new: Vec<&str> = sentences(text)
            .into_iter()
            .filter(|sentence| self.0.insert((*sentence).to_owned()))
            .collect();
        new.join(" ")
    }
}

/// A text in sentences: parted behind a full stop that a capital follows.
fn sentences(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    let mut from = 0;
    while let Some(at) = rest[from..].find(". ") {
        let end = from + at + 1;
        let begins = rest[end..].trim_start().chars().next();
        if begins.is_some_and(char::is_uppercase) {
            parts.push(&rest[..end]);
            rest = rest[end..].trim_start();
            from = 0;
        } else {
            from = end;
        }
    }
    parts.extend((!rest.is_empty()).then_some(rest));
    parts
}

/// `text` with what metrics are called in place of their keys, in code marks or bare.
pub(crate) fn named(text: &str, keys: &BTreeSet<String>) -> String {
    // Longer keys first: one may end in another.
    let mut keys: Vec<&String> = keys.iter().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
    let mut out = text.to_owned();
    for key in keys {
        let name = metric_spec(key).name_of(key);
        out = out.replace(&format!("`{key}`"), &name);
        // Bare words such as `loss` are no key but themselves.
        if key.contains('/') {
            out = out.replace(key.as_str(), &name);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_said_once() {
        let mut said = Said::default();
        let whole = "Share of pairs (vs. chance). One seed each, p < .05. Unit: the pipeline.";
        assert_eq!(said.rest(whole), whole);
        assert_eq!(
            said.rest("Another caption. Unit: the pipeline."),
            "Another caption."
        );
        assert_eq!(said.rest(whole), "");
    }

    #[test]
    fn keys_become_names() {
        let keys = ["polite/rewards/accuracies", "loss", "instruct/loss"];
        let keys = keys.map(str::to_owned).into();
        let text = "`polite/rewards/accuracies` ↑, instruct/loss: lower loss";
        assert_eq!(
            named(text, &keys),
            "preference accuracy on polite ↑, loss on instruct: lower loss"
        );
    }
}
