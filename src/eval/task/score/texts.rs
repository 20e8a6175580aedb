//! Scores of generated answers by patterns: `exact_match` and `found`.

use super::scorer::{Answer, RowScore, RowScorer};
use crate::config::spec::{ExactMatch, FoundPattern, WhichMatch};
use crate::data::{Flags, Pattern, strip};
use crate::eval::task::document::{Document, Target};
use crate::metrics::families::{FOUND, MATCHED};
use crate::metrics::values;

/// Whether a part of the answer is the target.
pub(super) struct Matched {
    recipe: ExactMatch,
    extract: Option<Pattern>,
    ignore: Vec<Pattern>,
}

impl Matched {
    /// Compiles the patterns.
    pub(super) fn new(recipe: &ExactMatch) -> Result<Self, String> {
        let pattern = |source: &str| Pattern::new(source, Flags::default());
        let extract = recipe.extract.as_ref();
        Ok(Self {
            extract: extract.map(|rule| pattern(&rule.pattern)).transpose()?,
            ignore: recipe
                .ignore
                .iter()
                .map(|source| pattern(source))
                .collect::<Result<_, _>>()?,
            recipe: recipe.clone(),
        })
    }

    /// The part of an answer that is compared.
    fn part_of(&self, answer: &str) -> Result<String, String> {
        let (Some(rule), Some(pattern)) = (&self.recipe.extract, &self.extract) else {
            return Ok(answer.to_owned());
        };
        let mut found = pattern.find_all(answer)?;
        let groups = match rule.which {
            WhichMatch::First if !found.is_empty() => Some(found.swap_remove(0)),
            WhichMatch::First => None,
            WhichMatch::Last => found.pop(),
        };
        // Of several groups the first that holds something; one alone may be empty.
        let several = pattern.group_count() > 1;
        let part = groups.and_then(|groups| {
            let mut groups = groups.into_iter();
            groups.find(|group| !several || !group.is_empty())
        });
        Ok(part.map_or_else(|| rule.otherwise.clone(), |part| strip(&part).to_owned()))
    }

    /// A text as it is compared.
    fn plain(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for pattern in &self.ignore {
            text = pattern.replace(&text, "")?;
        }
        Ok(if self.recipe.ignore_case {
            text.to_lowercase()
        } else {
            text
        })
    }
}

impl RowScorer for Matched {
    fn name(&self) -> Option<&str> {
        self.recipe.name.as_deref()
    }

    fn score(&self, document: &Document, answer: &Answer) -> Result<RowScore, String> {
        let Target::Text(target) = &document.target else {
            return Err("`target` is not a text".to_owned());
        };
        let part = self.part_of(answer.text()?)?;
        let same = self.plain(&part)? == self.plain(target)?;
        Ok(RowScore {
            values: values(MATCHED, &same).collect(),
            extracted: Some(part),
            ..RowScore::default()
        })
    }
}

/// Whether a pattern is in the answer.
pub(super) struct Found {
    name: Option<String>,
    pattern: Pattern,
}

impl Found {
    /// Compiles the pattern.
    pub(super) fn new(recipe: &FoundPattern) -> Result<Self, String> {
        Ok(Self {
            name: recipe.name.clone(),
            pattern: Pattern::new(&recipe.pattern, Flags::default())?,
        })
    }
}

impl RowScorer for Found {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn score(&self, _: &Document, answer: &Answer) -> Result<RowScore, String> {
        let found = self.pattern.is_in(answer.text()?)?;
        Ok(RowScore {
            values: values(FOUND, &found).collect(),
            ..RowScore::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_toml;
    use crate::config::spec::{ScorerRecipe, TaskRecipe};
    use crate::data::{Origin, TaskRow};
    use serde_json::{Map, Value};

    fn document(target: &str) -> Document {
        Document {
            part: None,
            place: 0,
            row: TaskRow {
                columns: Map::new(),
                origin: Origin {
                    path: "rows".to_owned(),
                    row: 1,
                },
            },
            questions: Vec::new(),
            prompt: String::new(),
            choices: Vec::new(),
            follows: false,
            target: Target::Text(target.to_owned()),
        }
    }

    fn answer(text: &str) -> Answer {
        Answer::Text {
            text: text.to_owned(),
            tokens: 1,
            finished: true,
        }
    }

    // Both filters of the shipped task on replies that the harness scored.
    #[test]
    fn the_filters_of_gsm8k_are_those_of_the_harness() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let golden = ["scoring.json", "scoring_odd.json"].map(|file| -> Value {
            serde_json::from_str(&read(&format!("tests/golden/eval/{file}"))).unwrap()
        });
        let task: TaskRecipe = parse_toml(&read("data/tasks/gsm8k.toml")).unwrap();
        let scorers: Vec<Matched> = task
            .score
            .iter()
            .map(|recipe| match recipe {
                ScorerRecipe::ExactMatch(recipe) => Matched::new(recipe).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        let cases = golden.iter().map(|golden| &golden["gsm8k"]);
        let cases: Vec<&Value> = cases.flat_map(|all| all.as_array().unwrap()).collect();
        assert!(cases.len() >= 500, "{}", cases.len());
        for case in cases {
            let document = document(case["gold"].as_str().unwrap());
            let answer = answer(case["reply"].as_str().unwrap());
            for (scorer, key) in scorers.iter().zip(["strict", "flexible"]) {
                let got = scorer.score(&document, &answer).unwrap();
                assert_eq!(got.extracted.unwrap(), case[key], "{key}: {case}");
                let want = case[format!("{key}_match")].as_f64().unwrap();
                assert!((got.values["exact_match"] - want).abs() < 1e-12, "{case}");
            }
        }
    }

    #[test]
    fn a_pattern_is_found_anywhere() {
        let recipe = FoundPattern {
            name: None,
            pattern: r"\bcat\b".to_owned(),
        };
        let found = Found::new(&recipe).unwrap();
        let score = |text: &str| found.score(&document(""), &answer(text)).unwrap().values["found"];
        assert!((score("The cat.") - 1.0).abs() < 1e-12);
        assert!(score("The cats.").abs() < 1e-12);
    }
}
