//! The scorer: every instruction of a prompt, strictly and loosely.

use super::checks::{Tools, check};
use super::language::LanguageDetector;
use super::punkt::Punkt;
use super::words::WordTokenizer;
use crate::config::spec::IfevalRecipe;
use crate::data::{RowScope, RowTexts, strip};
use crate::eval::task::document::Document;
use crate::eval::task::score::scorer::{Answer, RowScore, RowScorer};
use crate::metrics::families::{FOLLOWED, Followed, INSTRUCTION};
use crate::metrics::values;
use serde_json::{Map, Value};
use std::path::Path;

const INSTRUCTIONS: &str = "instructions";
const ARGUMENTS: &str = "arguments";

/// Whether the instructions of a prompt are followed.
#[derive(Debug)]
pub(in crate::eval::task::score) struct Instructions {
    texts: RowTexts,
    tools: Tools,
}

/// The kind of an instruction and its arguments.
type Instruction = (String, Map<String, Value>);

impl Instructions {
    /// Opens what the checks need.
    ///
    /// # Errors
    /// An expression is none, or a file cannot be read.
    pub(in crate::eval::task::score) fn new(
        root: &Path,
        recipe: &IfevalRecipe,
    ) -> Result<Self, String> {
        let mut texts = RowTexts::new();
        texts.add_value(INSTRUCTIONS, &recipe.instructions)?;
        texts.add_value(ARGUMENTS, &recipe.arguments)?;
        let punkt = recipe.punkt.as_ref();
        let tools = Tools {
            language: LanguageDetector::new()?,
            punkt: punkt.map(|files| Punkt::open(root, files)).transpose()?,
            words: WordTokenizer::new()?,
        };
        Ok(Self { texts, tools })
    }

    /// The instructions of a row with their arguments.
    fn of_row(&self, document: &Document) -> Result<Vec<Instruction>, String> {
        let scope = RowScope::new(&document.row.columns, []);
        let kinds = self.texts.value(INSTRUCTIONS, &scope)?;
        let arguments = self.texts.value(ARGUMENTS, &scope)?;
        let (Some(kinds), Some(arguments)) = (kinds.as_array(), arguments.as_array()) else {
            return Err("`instructions` and `arguments` must be lists".to_owned());
        };
        if kinds.is_empty() || kinds.len() != arguments.len() {
            let (kinds, arguments) = (kinds.len(), arguments.len());
            return Err(format!(
                "{kinds} instructions have {arguments} lists of arguments"
            ));
        }
        let one = |(kind, arguments): (&Value, &Value)| {
            let kind = kind.as_str().ok_or("an instruction is no text")?;
            let arguments = arguments.as_object().cloned().unwrap_or_default();
            Ok((kind.to_owned(), arguments))
        };
        kinds.iter().zip(arguments).map(one).collect()
    }

    fn followed(&self, document: &Document, answer: &str) -> Result<Followed, String> {
        let loose = loose_forms(answer);
        let mut followed = Followed::default();
        for (kind, arguments) in self.of_row(document)? {
            let held = |text: &str| -> Result<bool, String> {
                if strip(text).is_empty() {
                    return Ok(false);
                }
                check(&self.tools, &kind, &arguments, text).map_err(|why| format!("{kind}: {why}"))
            };
            followed.strict.push(held(answer)?);
            let mut any = false;
            for form in &loose {
                any = any || held(form)?;
            }
            followed.loose.push(any);
        }
        Ok(followed)
    }
}

/// The answer as it is, without its first line, its last, and both; each with its asterisks and without.
fn loose_forms(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.split('\n').collect();
    let part = |from: usize, to: usize| {
        let part = lines.get(from..to.max(from)).unwrap_or_default();
        strip(&part.join("\n")).to_owned()
    };
    let end = lines.len();
    let forms = [
        answer.to_owned(),
        part(1, end),
        part(0, end - 1),
        part(1, end - 1),
    ];
    let bare = forms.iter().map(|form| form.replace('*', ""));
    forms.iter().cloned().chain(bare).collect()
}

impl RowScorer for Instructions {
    fn look(&self, document: &Document) -> Result<(), String> {
        // A reply of a word asks for every argument, but for those that are of no use without more.
        self.followed(document, "word").map(|_| ())
    }

    fn score(&self, document: &Document, answer: &Answer) -> Result<RowScore, String> {
        let followed = self.followed(document, answer.text()?)?;
        let each = followed.strict.iter().zip(&followed.loose);
        let items = each.map(|(strict, loose)| values(INSTRUCTION, &(*strict, *loose)).collect());
        Ok(RowScore {
            items: items.collect(),
            values: values(FOLLOWED, &followed).collect(),
            extracted: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::PunktFiles;
    use crate::data::{Origin, TaskRow};
    use crate::eval::task::document::Target;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn golden(file: &str) -> Value {
        let path = root().join("tests/golden/eval").join(file);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// A small table of abbreviations and words of our own, which knows what the golden texts need.
    fn punkt_files() -> PunktFiles {
        let file = |name: &str| format!("tests/golden/eval/punkt/{name}").into();
        PunktFiles {
            abbreviations: file("abbrev_types.txt"),
            collocations: file("collocations.tab"),
            starters: file("sent_starters.txt"),
            orthography: file("ortho_context.tab"),
        }
    }

    fn scorer() -> Instructions {
        let recipe = IfevalRecipe {
            instructions: "instruction_id_list".to_owned(),
            arguments: "kwargs".to_owned(),
            punkt: Some(punkt_files()),
        };
        Instructions::new(root(), &recipe).unwrap()
    }

    fn document(kinds: &Value, arguments: &Value) -> Document {
        let columns = json!({ "instruction_id_list": kinds, "kwargs": arguments });
        Document {
            part: None,
            place: 0,
            row: TaskRow {
                columns: columns.as_object().unwrap().clone(),
                origin: Origin {
                    path: "rows".to_owned(),
                    row: 1,
                },
            },
            questions: Vec::new(),
            prompt: String::new(),
            choices: Vec::new(),
            follows: false,
            target: Target::None,
        }
    }

    // 110 usual and 777 odd answers over all 25 kinds, as the harness judged them.
    #[test]
    fn every_kind_is_checked_as_by_the_harness() {
        for (file, count) in [("ifeval.json", 110), ("ifeval_odd.json", 777)] {
            let golden = golden(file);
            let rows = golden["rows"].as_array().unwrap();
            let kinds: BTreeSet<&str> = rows
                .iter()
                .map(|row| row["kind"].as_str().unwrap())
                .collect();
            verdicts_agree(rows);
            assert_eq!((rows.len(), kinds.len()), (count, 25), "{file}");
        }
    }

    fn verdicts_agree(rows: &[Value]) {
        let scorer = scorer();
        let mut wrong = Vec::new();
        for row in rows {
            let document = document(&json!([row["kind"]]), &json!([row["kwargs"]]));
            let got = scorer
                .followed(&document, row["response"].as_str().unwrap())
                .unwrap();
            if (json!(got.strict[0]), json!(got.loose[0]))
                != (row["strict"].clone(), row["loose"].clone())
            {
                wrong.push(format!("{row}: {got:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn prompts_with_several_instructions_are_scored_as_by_the_harness() {
        let (golden, scorer) = (golden("ifeval.json"), scorer());
        for case in golden["documents"].as_array().unwrap() {
            let document = document(&case["instruction_id_list"], &case["kwargs"]);
            let answer = Answer::Text {
                text: case["response"].as_str().unwrap().to_owned(),
                tokens: 1,
                finished: true,
            };
            let got = scorer.score(&document, &answer).unwrap();
            for (key, want) in case["result"].as_object().unwrap() {
                let as_number = |v: &Value| f64::from(v.as_bool().unwrap());
                if let Some(want) = want.as_array() {
                    let got: Vec<f64> = got.items.iter().map(|item| item[key.as_str()]).collect();
                    assert_eq!(
                        got,
                        want.iter().map(as_number).collect::<Vec<_>>(),
                        "{case}"
                    );
                } else {
                    assert!(
                        (got.values[key.as_str()] - as_number(want)).abs() < 1e-12,
                        "{case}"
                    );
                }
            }
        }
    }

    #[test]
    fn sentences_and_words_are_those_of_nltk() {
        let scorer = scorer();
        let punkt = scorer.tools.punkt.as_ref().unwrap();
        let mut wrong = Vec::new();
        let goldens = ["ifeval.json", "ifeval_odd.json"].map(golden);
        let parts = goldens.iter().map(|golden| golden["parts"].as_array());
        for part in parts.flat_map(Option::unwrap) {
            let text = part["text"].as_str().unwrap();
            let sentences = json!(punkt.sentences(text).unwrap());
            let words = json!(scorer.tools.words.words(punkt, text).unwrap());
            if sentences != part["sentences"] || words != part["word_tokens"] {
                wrong.push(format!("{part}\n  {sentences}\n  {words}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let scorer = scorer();
        let why = |kind: &str| {
            let document = document(&json!([kind]), &json!([{ "relation": null }]));
            scorer.followed(&document, "x").unwrap_err()
        };
        assert!(why("keywords:frequency").contains("`keyword`"));
        assert!(why("length_constraints:number_words").contains("num_words"));
        assert!(why("no:kind").contains("no:kind"));
    }
}
