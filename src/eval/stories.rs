//! Sampled stories under the rule judge.

use crate::data::{ChatRow, Message};
use crate::eval::cluster::turns_cluster;
use crate::eval::record::{RowRecord, SampleRecord, SetResult};
use crate::eval::stats::mean_metrics;
use crate::judge::{StoryConstraints, judge_story};
use crate::metrics::families::{STORY, StoryVerdict};
use crate::metrics::values;

/// A story prompt: the turns before the reply, and what they ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct StoryPrompt {
    /// Id of the row.
    pub id: String,
    /// The turns.
    pub messages: Vec<Message>,
    /// What is asked for.
    pub constraints: StoryConstraints,
}

/// A row that is no story prompt.
#[derive(Debug, thiserror::Error)]
#[error("row `{id}` ({origin}): {reason}")]
pub struct StoryError {
    /// Id of the row.
    pub id: String,
    /// File and line.
    pub origin: String,
    /// What is wrong.
    pub reason: String,
}

/// Reads a row's prompt (everything before its last reply) and its `constraints`.
///
/// # Errors
/// There is no user turn, or `constraints` is missing or of another form.
pub fn story_prompt(row: &ChatRow) -> Result<StoryPrompt, StoryError> {
    let wrong = |reason: &str| StoryError {
        id: row.id.clone(),
        origin: row.origin.to_string(),
        reason: reason.to_owned(),
    };
    let end = row.messages.iter().rposition(|m| m.role == "assistant");
    let messages = row.messages[..end.unwrap_or(row.messages.len())].to_vec();
    if messages.is_empty() {
        return Err(wrong("there is no turn before the reply"));
    }
    let constraints = constraints_of(&row.extra).map_err(wrong)?.ok_or_else(|| {
        wrong("a story prompt needs `constraints`, an object with `name` and `dialogue`")
    })?;
    Ok(StoryPrompt {
        id: row.id.clone(),
        messages,
        constraints,
    })
}

/// The `constraints` of a row's further keys, if there are any.
///
/// # Errors
/// They are of another form; the text says how.
pub fn constraints_of(extra: &serde_json::Value) -> Result<Option<StoryConstraints>, &'static str> {
    let Some(constraints) = extra.get("constraints") else {
        return Ok(None);
    };
    let name = match constraints.get("name") {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(name)) => Some(name.clone()),
        Some(_) => return Err("`constraints.name` is not a string"),
    };
    let dialogue = match constraints.get("dialogue") {
        None | Some(serde_json::Value::Null) => false,
        Some(value) => value
            .as_bool()
            .ok_or("`constraints.dialogue` is not true or false")?,
    };
    Ok(Some(StoryConstraints { name, dialogue }))
}

/// One sampled story.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// Index of its prompt.
    pub prompt: usize,
    /// Which sample of the prompt.
    pub sample: usize,
    /// The text.
    pub text: String,
    /// Tokens drawn.
    pub tokens: usize,
    /// Whether it ended by itself.
    pub finished: bool,
}

/// Judges stories, which come prompt by prompt. A row is a prompt: the mean over its samples, so
/// that samples of one prompt do not pass for independent ones.
pub fn story_metrics(set: &str, prompts: &[StoryPrompt], stories: &[Story]) -> SetResult {
    let mut result = SetResult::default();
    for (index, prompt) in prompts.iter().enumerate() {
        let mut verdicts: Vec<StoryVerdict> = Vec::new();
        for story in stories.iter().filter(|s| s.prompt == index) {
            let verdict = judge_story(&story.text, story.finished, &prompt.constraints);
            let own = values(STORY, &verdict).map(|(key, value)| (key.to_owned(), value));
            result.samples.push(SampleRecord {
                set: set.to_owned(),
                row: prompt.id.clone(),
                sample: story.sample,
                prompt: prompt
                    .messages
                    .last()
                    .map(|m| m.content.clone())
                    .unwrap_or_default(),
                text: story.text.clone(),
                tokens: story.tokens,
                finished: story.finished,
                metrics: own.collect(),
            });
            verdicts.push(verdict);
        }
        let means = mean_metrics(STORY, &verdicts).into_iter();
        result.rows.push(RowRecord {
            set: set.to_owned(),
            row: prompt.id.clone(),
            cluster: turns_cluster(&prompt.messages),
            metrics: means.map(|(key, mean)| (key, mean.value)).collect(),
        });
    }
    result.put_means(set);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use crate::base::SeedTree;
    use crate::config::spec::{DataSource, SamplingRecipe};
    use crate::data::{TextFormat, load_chat};
    use crate::generate::{SampleJob, sample};
    use crate::judge::{Candidates, Judge as _, Reply, RuleJudge, best_and_worst, replies_differ};
    use crate::model::{Decoder, FrozenParams};
    use candle_core::{DType, Device};
    use std::path::Path;

    fn prompt(id: &str, name: Option<&str>) -> StoryPrompt {
        StoryPrompt {
            id: id.to_owned(),
            messages: vec![Message::new("user", "Tell me a story.")],
            constraints: StoryConstraints {
                name: name.map(str::to_owned),
                dialogue: false,
            },
        }
    }

    fn story(prompt: usize, sample: usize, text: &str, finished: bool) -> Story {
        Story {
            prompt,
            sample,
            text: text.to_owned(),
            tokens: 3,
            finished,
        }
    }

    // Prompt a names Fin: "Fin. Fin." ended holds 4 of 5 (too short), "Fin" unended 2 of 5; mean
    // 0.6. Prompt b names nobody: "A dog." ended holds 3 of 4.
    #[test]
    fn rows_are_prompts_and_the_name_counts_only_where_it_was_given() {
        let prompts = [prompt("a", Some("Fin")), prompt("b", None)];
        let stories = [
            story(0, 0, "Fin. Fin.", true),
            story(0, 1, "Fin", false),
            story(1, 0, "A dog.", true),
        ];
        let got = story_metrics("s", &prompts, &stories);
        assert!((got.rows[0].metrics["rule_score"] - 0.6).abs() < 1e-12);
        assert!((got.rows[1].metrics["rule_score"] - 0.75).abs() < 1e-12);
        assert!((got.metrics["s/rule_score"].value - 0.675).abs() < 1e-12);
        assert_eq!(got.metrics["s/rule_score"].n, 2);
        assert_eq!(got.metrics["s/rules/name"].n, 1);
        assert!((got.metrics["s/rules/name"].value - 0.5).abs() < 1e-12);
        assert_eq!(got.samples.len(), 3);
    }

    /// Prompts of the shipped story task, and four stories of the shipped model for each.
    fn sampled(count: usize) -> (Vec<StoryPrompt>, Vec<Story>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let model = root.join("models/stories260k");
        let config = DecoderConfig::from_file(&model).unwrap();
        let params = FrozenParams::load(&model, &config, &Device::Cpu, DType::F32).unwrap();
        let mut decoder = Decoder::frozen(&config, &params).unwrap();
        let format = TextFormat::open(&model, None).unwrap();
        let source = DataSource {
            path: "data/sft/stories_test.jsonl".into(),
            fraction: None,
            count: None,
            columns: std::collections::BTreeMap::new(),
            fold: None,
        };
        let (rows, _) = load_chat(root, &[source], &SeedTree::root(0)).unwrap();
        let prompts = rows[..count].iter().map(|row| story_prompt(row).unwrap());
        let prompts: Vec<StoryPrompt> = prompts.collect();
        let tokens: Vec<Vec<u32>> = prompts
            .iter()
            .map(|prompt| format.encode_prompt(&prompt.messages).unwrap())
            .collect();
        let job = SampleJob {
            prompts: &tokens,
            samples: 4,
            recipe: &SamplingRecipe {
                temperature: 0.8.try_into().unwrap(),
                top_p: 1.0.try_into().unwrap(),
                max_new_tokens: 160.try_into().unwrap(),
            },
            stop: &[format.end_token()],
            until: None,
            seed: &SeedTree::root(7),
            batch: 16,
        };
        let stories = sample(&mut decoder, &job, &mut |_| true).unwrap();
        let stories = stories.into_iter().map(|completion| Story {
            prompt: completion.prompt,
            sample: completion.sample,
            text: format.decode(&completion.tokens).unwrap().trim().to_owned(),
            tokens: completion.tokens.len(),
            finished: completion.finished,
        });
        (prompts, stories.collect())
    }

    #[test]
    fn the_rule_judge_orders_stories_of_the_shipped_model_as_their_rule_scores_do() {
        let (prompts, stories) = sampled(4);
        let reply = |story: &Story| Reply {
            text: story.text.clone(),
            finished: story.finished,
        };
        let items = prompts
            .iter()
            .enumerate()
            .map(|(index, prompt)| Candidates {
                id: prompt.id.clone(),
                prompt: prompt.messages.clone(),
                constraints: Some(prompt.constraints.clone()),
                replies: stories
                    .iter()
                    .filter(|s| s.prompt == index)
                    .map(reply)
                    .collect(),
            });
        let items: Vec<Candidates> = items.collect();
        let differ =
            |item: &Candidates| replies_differ(item.replies.iter().map(|r| r.text.as_str()));
        assert!(items.len() == 4 && items.iter().all(differ));
        let scores = RuleJudge::default().judge(&items, &mut |_| true).unwrap();

        let measured = story_metrics("s", &prompts, &stories);
        let rule_scores: Vec<f64> = measured
            .samples
            .iter()
            .map(|sample| sample.metrics["rule_score"])
            .collect();
        assert_eq!(scores.concat(), rule_scores);
        let pairs: Vec<_> = scores.iter().filter_map(|s| best_and_worst(s)).collect();
        assert!(!pairs.is_empty(), "every prompt is a tie: {scores:?}");
        for (scores, pair) in scores.iter().zip(scores.iter().map(|s| best_and_worst(s))) {
            let Some((best, worst)) = pair else { continue };
            assert!(scores[best] > scores[worst], "{scores:?}");
        }
    }
}
