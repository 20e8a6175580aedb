//! What is usually written where a number stands: the hint for one that is out of its range.

/// Ends of paths, and the hint.
const USUAL: &[(&[&str], &str)] = &[
    // How a stage learns.
    (
        &["learning-rate"],
        "usual are 1e-6 to 1e-3, and up to 1e-2 for small models and adapters; a stage that is to learn \
         nothing is left out of `pipeline`",
    ),
    (&["beta1"], "usual is 0.9"),
    (&["beta2"], "usual are 0.95 to 0.999"),
    (&["eps"], "usual is 1e-8"),
    (&["weight-decay"], "usual are 0 to 0.1"),
    (&["max-grad-norm"], "usual is 1.0; 0 switches clipping off"),
    (
        &["warmup-ratio", "decay-ratio"],
        "it is a share of all steps; usual are 0 to 0.2",
    ),
    (
        &["min-ratio"],
        "it is a share of the peak rate; usual are 0 to 0.1",
    ),
    (
        &["epochs", "steps"],
        "for example `{ epochs = 1 }` or `{ steps = 200 }`; a stage that is to learn nothing is left out of \
         `pipeline`",
    ),
    (
        &["batch.rows", "batch.tokens", "global-batch-size"],
        "it is the size of a whole step; usual are 16 to 128 conversations or pairs",
    ),
    (&["fold.of"], "usual are 5 and 10"),
    (
        &["fold.index"],
        "leave it out, so that the trial's seed says which part is held out",
    ),
    (
        &["save-steps"],
        "they are counted from 1; without them the last weights alone are kept",
    ),
    (
        &["delta"],
        "it is a difference that would not matter, in the metric's unit; 0.02 of shares and losses where it is absent",
    ),
    (&["rank"], "usual are 4 to 64"),
    (&["alpha"], "usual are the rank to twice the rank"),
    (
        &["targets"],
        "valid are `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj` and `down_proj`",
    ),
    (
        &["trainable-embeddings.from", "trainable-embeddings.below"],
        "it is an id of a token; without `trainable-embeddings` all of them learn",
    ),
    // What is minimised over pairs.
    (&["beta"], "usual are 0.01 to 0.5"),
    (
        &["label-smoothing"],
        "it is the share of pairs that are taken as labelled the wrong way round; usual are 0 to 0.1",
    ),
    (&["gamma"], "the paper's values are 0.3 to 1.6"),
    (&["tau"], "the paper's value is 0.05"),
    (
        &["sft-weight"],
        "usual are 0.1 to 1; without it the term is not added",
    ),
    (
        &["mix"],
        "it is the policy's share; 1 replaces the reference",
    ),
    // Which rows, and how much of them.
    (
        &["count", "fraction", "max-examples", "max-rows"],
        "leave it out to use all rows",
    ),
    (
        &["seed", "data-seed", "seeds"],
        "any whole number from 0 on will do, for example 1",
    ),
    (
        &["max-seq-len", "max-prompt-len", "max-reply-len"],
        "it is counted in tokens; usual are 256 to 4096",
    ),
    (
        &[
            "empty-system-turn",
            "max-masked-fraction",
            "online-fraction",
        ],
        "it is a share; leave it out if there is to be none",
    ),
    (
        &["min-words", "ngram"],
        "it is counted in words; for example 13",
    ),
    (&["keep"], "it is the number of rows that are kept"),
    (
        &["range.from", "range.to"],
        "values are drawn between both; `from` is the smaller one",
    ),
    (&["draws"], "so many points are drawn, 1 to 10000"),
    (
        &["low", "high"],
        "they are quantiles, for example 0.1 and 0.9",
    ),
    (
        &["edges", "weights"],
        "for example `edges = [0, 1, 2, 3]`, three bins, with `weights = [1, 1, 2]`",
    ),
    (&["at-least", "at-most"], "it is on the scale of the column"),
    (&["dimension"], "the paper's value is 8192"),
    (&["threshold"], "it is a cosine; the paper's value is 0.9"),
    // Samples and who judges them.
    (&["temperature"], "usual are 0.7 to 1.0; 0 is greedy"),
    (&["top-p"], "1 keeps every token; usual are 0.9 to 1"),
    (&["max-new-tokens", "max-tokens"], "usual are 64 to 1024"),
    (&["samples"], "usual are 1 to 8"),
    (&["prompts"], "leave it out to show 3"),
    (&["rounds"], "usual are 1 to 4"),
    (
        &["per-round", "max-prompts", "max-questions"],
        "leave it out to use all prompts",
    ),
    (
        &["p-ori-pair", "p-ori-chosen"],
        "it is a share of the judged prompts; without it all pairs are of samples",
    ),
    (
        &["lowest", "highest"],
        "without them replies are rated from 1 to 10",
    ),
    (
        &["asks", "concurrency", "retries", "timeout-secs"],
        "leave it out for what is usual",
    ),
    // What is measured, and how it is executed.
    (
        &["every-steps", "checkpoint-every-steps"],
        "it is counted in steps; usual are 10 to 100",
    ),
    (
        &["checkpoint-step"],
        "it is one of the stage's `save-steps`",
    ),
    (&["micro-batch-tokens"], "leave it out to have it chosen"),
    (
        &["version"],
        "it is the task's version in lm-evaluation-harness, for example 1.0",
    ),
    // What a base file says of inputs that are not there yet.
    (
        &["rows", "tokens-per-row"],
        "leave it out if it is not known",
    ),
    (
        &[
            "vocab-size",
            "hidden-size",
            "layers",
            "heads",
            "kv-heads",
            "head-size",
            "intermediate-size",
        ],
        "it stands in the model's `config.json`",
    ),
];

/// The hint for a number that is out of range at a dotted path.
pub(crate) fn usual(path: &str) -> Option<&'static str> {
    let named = match path.rsplit_once('.') {
        // An element has the hint of its list.
        Some((list, element)) if element.parse::<usize>().is_ok() => list,
        _ => path,
    };
    let ends = |key: &&str| {
        let before = named.strip_suffix(*key);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let entry = USUAL.iter().find(|(keys, _)| keys.iter().any(ends))?;
    Some(entry.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{file_schema, trial_schema, walk};
    use std::collections::BTreeSet;

    #[test]
    fn every_number_has_a_hint_and_every_hint_a_number() {
        let mut numbers = BTreeSet::new();
        for schema in [trial_schema(), &file_schema()] {
            walk(schema, &mut Vec::new(), &mut |path, part| {
                let kind = part.get("type").and_then(serde_json::Value::as_str);
                if let Some("number" | "integer") = kind {
                    numbers.insert(path.join(".").replace(".*", ".0"));
                }
            });
        }
        let without: Vec<&String> = numbers
            .iter()
            .filter(|path| usual(path).is_none())
            .collect();
        assert!(without.is_empty(), "no hint for {without:?}");
        for (keys, hint) in USUAL {
            let used = numbers.iter().any(|path| usual(path) == Some(*hint));
            assert!(used || *keys == ["targets"], "no number is called {keys:?}");
        }
    }

    #[test]
    fn the_end_of_a_path_decides() {
        assert_eq!(usual("sft.recipe.batch.rows"), usual("global-batch-size"));
        assert_ne!(
            usual("inputs.data/a.jsonl.rows"),
            usual("sft.recipe.batch.rows")
        );
        assert_eq!(usual("dpo.recipe.save-steps.3"), usual("save-steps"));
        assert_eq!(usual("dpo.recipe.alphabeta"), None);
    }
}
