//! AlpacaEval 2 (Li et al. 2023; Dubois et al. 2024): a judge's first token says which of two replies is better.

use crate::base::{Mt19937, fill};
use crate::eval::judged::error::JudgedError;
use crate::eval::judged::files::{AlpacaAnnotation, read_columns};
use crate::metrics::{Compared, Estimate, Gamed, LengthControl, fit_length_control, mean};
use std::collections::BTreeMap;
use std::path::Path;

/// The token for what stands first.
const FIRST: &str = "m";
/// The token for what stands second.
const SECOND: &str = "M";
/// The tokens that say which reply is better, without and with the blank that models of SentencePiece begin words with.
pub(super) const VERDICTS: [&str; 4] = [FIRST, SECOND, " m", " M"];
/// How a blank before a word is written in a token: as itself, or as SentencePiece's pieces have it.
const BLANKS: [char; 2] = [' ', '▁'];
/// The preference of a draw, 1 for the baseline and 2 for the model.
const DRAW: f64 = 1.5;

/// Whether the model's reply stands first, not the baseline's: drawn from the instruction, as `alpaca_eval` draws it
/// with its seed 0.
pub fn model_stands_first(instruction: &str) -> bool {
    let seed = format!("is_switched_outputs{instruction}0");
    Mt19937::of_python_text(&seed).unit() >= 0.5
}

/// A prompt file of AlpacaEval, with the marks of ChatML, as turns of (role, text). A file without marks is a user turn.
pub fn prompt_turns(file: &str) -> Vec<(String, String)> {
    let mut turns = Vec::new();
    let mut rest = file;
    while let Some((_, after)) = rest.split_once("<|im_start|>") {
        let (turn, after) = after.split_once("<|im_end|>").unwrap_or((after, ""));
        let (role, text) = turn.split_once('\n').unwrap_or((turn, ""));
        turns.push((role.trim().to_owned(), text.trim().to_owned()));
        rest = after;
    }
    if turns.is_empty() {
        turns.push(("user".to_owned(), file.trim().to_owned()));
    }
    turns
}

/// The turns that a judge is asked with; `{instruction}`, `{output_1}` and `{output_2}` are filled in, the replies in
/// the order that [`model_stands_first`] says.
pub fn messages(
    turns: &[(String, String)],
    instruction: &str,
    baseline: &str,
    model: &str,
) -> Vec<(String, String)> {
    let (first, second) = if model_stands_first(instruction) {
        (model, baseline)
    } else {
        (baseline, model)
    };
    let values = [
        ("instruction", instruction),
        ("output_1", first),
        ("output_2", second),
    ];
    let filled = turns
        .iter()
        .map(|(role, text)| (role.clone(), fill(text, &values)));
    filled.collect()
}

/// The preference by the log-probabilities of the judge's first token, nats: 1 for the baseline, 2 for the model;
/// `None` if no token of a verdict is among them.
///
/// `alpaca_eval` knows the bare tokens alone, since a reply of the judges that it names begins with one. Behind templates that
/// end with a word (`Assistant:`), and in vocabularies whose words carry the blank before them, a reply begins with ` m`.
/// So the pair counts whose likelier token is the likeliest of all four: where that is a bare one, the numbers are the
/// tool's, whatever the other pair has.
pub fn preference<'a>(
    instruction: &str,
    tokens: impl IntoIterator<Item = (&'a str, f64)>,
) -> Option<f64> {
    let (mut bare, mut behind_blank) = ([f64::NEG_INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for (token, logp) in tokens {
        let (pair, word) = match token.strip_prefix(BLANKS) {
            Some(word) => (&mut behind_blank, word),
            None => (&mut bare, token),
        };
        // Of a token that stands there twice, the last one.
        match word {
            FIRST => pair[0] = logp,
            SECOND => pair[1] = logp,
            _ => {}
        }
    }
    let likelier = |pair: [f64; 2]| pair[0].max(pair[1]);
    let [first, second] = if likelier(behind_blank) > likelier(bare) {
        behind_blank
    } else {
        bare
    };
    let best = first.max(second);
    if !best.is_finite() {
        return None;
    }
    let both = best + ((first - best).exp() + (second - best).exp()).ln();
    let of_second = 2.0 - (first - both).exp();
    Some(if model_stands_first(instruction) {
        3.0 - of_second
    } else {
        of_second
    })
}

/// Win rates without regard to length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WinRate {
    /// The mean preference, 0 to 1, with its standard error over instructions.
    pub rate: Estimate,
    /// Preferences above a half.
    pub wins: usize,
    /// Below a half.
    pub losses: usize,
    /// Exactly a half.
    pub draws: usize,
}

impl WinRate {
    /// The share of wins, draws half.
    pub fn discrete(&self) -> f64 {
        (self.wins as f64 + self.draws as f64 / 2.0) / self.rate.n as f64
    }
}

/// A stored preference as a share for the model, 0 to 1: 1.5 and 0 are draws; `None` for what is no preference.
pub(super) fn share(preference: Option<f64>) -> Option<f64> {
    let preference = preference?;
    let preference = if preference == 0.0 { DRAW } else { preference };
    (1.0..=2.0)
        .contains(&preference)
        .then_some(preference - 1.0)
}

/// The win rate by stored preferences (1 to 2); those that are none are left out. `None` if nothing is left.
pub fn win_rate(preferences: impl IntoIterator<Item = Option<f64>>) -> Option<WinRate> {
    let shares: Vec<f64> = preferences.into_iter().filter_map(share).collect();
    let count = |is: fn(&f64) -> bool| shares.iter().filter(|s| is(s)).count();
    Some(WinRate {
        rate: mean(&shares)?,
        wins: count(|s| *s > 0.5),
        losses: count(|s| *s < 0.5),
        draws: count(|s| (*s - 0.5).abs() < f64::EPSILON / 4.0),
    })
}

/// What the length-controlled win rate needs beside the annotations: the tables that AlpacaEval publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The difficulty of each instruction.
    pub difficulty: BTreeMap<String, f64>,
    /// The rows of the gamed models.
    pub gamed: Vec<Gamed>,
}

impl Published {
    /// Reads `df_gamed.csv`, whose rows name instructions by their place in the benchmark: `instructions` are all of them.
    ///
    /// # Errors
    /// The file cannot be read or is of another form, or names an instruction that is not there.
    pub fn read(path: &Path, instructions: &[String]) -> Result<Self, JudgedError> {
        let names = [
            "index",
            "preference",
            "std_delta_len",
            "instruction_difficulty",
        ];
        let mut difficulty = BTreeMap::new();
        let mut gamed = Vec::new();
        for (at, [index, preference, std_delta_len, of]) in
            read_columns(path, names)?.into_iter().enumerate()
        {
            let place = index as usize;
            let instruction = instructions
                .get(place)
                .filter(|_| index >= 0.0 && index.fract() == 0.0);
            let instruction = instruction.ok_or_else(|| JudgedError::Form {
                path: path.to_owned(),
                line: at + 2,
                problem: format!(
                    "there is no instruction {index} among {}",
                    instructions.len()
                ),
            })?;
            difficulty.entry(instruction.clone()).or_insert(of);
            gamed.push(Gamed {
                std_delta_len,
                difficulty: of,
                preference,
            });
        }
        Ok(Self { difficulty, gamed })
    }
}

/// A length-controlled win rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthControlled {
    /// The win rate, 0 to 1, with its standard error over instructions.
    pub rate: Estimate,
    /// The fitted model.
    pub model: LengthControl,
    /// Annotated instructions whose difficulty is not known; they are left out.
    pub unknown: usize,
}

/// The length-controlled win rate of one model. Difficulties are looked up by instruction, so that rows may be missing.
///
/// # Errors
/// Too few instructions are left to fit a model.
pub fn length_controlled(
    annotations: &[AlpacaAnnotation],
    published: &Published,
) -> Result<LengthControlled, JudgedError> {
    let length = |text: &str| text.chars().count() as f64;
    let known = annotations.iter().filter_map(|row| {
        Some(Compared {
            length_lead: length(&row.output_1) - length(&row.output_2),
            difficulty: *published.difficulty.get(&row.instruction)?,
            preference: share(row.preference),
        })
    });
    let rows: Vec<Compared> = known.collect();
    let unknown = annotations.len() - rows.len();
    let fit = fit_length_control(&rows, &published.gamed);
    let fitted =
        fit.and_then(|model| Some((model, model.win_rate(rows.iter().map(|r| r.difficulty))?)));
    let (model, rate) = fitted.ok_or_else(|| {
        let n = rows.len();
        let text = format!("{n} instructions of known difficulty, or all of one lead in length, are too few for a length-controlled win rate");
        JudgedError::Score(text)
    })?;
    Ok(LengthControlled {
        rate,
        model,
        unknown,
    })
}

/// Mean length of the model's replies, characters.
pub fn mean_length(annotations: &[AlpacaAnnotation]) -> Option<Estimate> {
    let lengths = annotations
        .iter()
        .map(|row| row.output_2.chars().count() as f64);
    mean(&lengths.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Python 3.11: `random.Random("is_switched_outputs" + text + "0").choices([False, True])`.
    #[test]
    fn the_order_is_drawn_as_python_draws_it() {
        let golden = crate::eval::judged::testing::golden("own.json");
        let cases = golden["switched"].as_array().unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let text = case["instruction"].as_str().unwrap();
            assert_eq!(
                Some(model_stands_first(text)),
                case["switched"].as_bool(),
                "{text}"
            );
        }
    }

    #[test]
    fn the_preference_is_the_second_tokens_share_of_both() {
        let instruction = "What is 2+2?";
        assert!(!model_stands_first(instruction));
        let tokens = [("m", -2.0), ("M", -1.0), ("The", -0.1)];
        let second = 1.0 / (1.0 + (-1.0f64).exp());
        let got = preference(instruction, tokens).unwrap();
        assert!((got - (1.0 + second)).abs() < 1e-12, "{got}");
        assert_eq!(preference(instruction, [("M", -30.0)]), Some(2.0));
        assert_eq!(preference(instruction, [("m", -30.0)]), Some(1.0));
        assert_eq!(preference(instruction, [("The", -0.1)]), None);
        let golden = crate::eval::judged::testing::golden("own.json");
        let switched = golden["switched"].as_array().unwrap().iter();
        let switched = switched.map(|case| case["instruction"].as_str().unwrap());
        let instruction = switched
            .into_iter()
            .find(|text| model_stands_first(text))
            .unwrap();
        let got = preference(instruction, tokens).unwrap();
        assert!((got - (2.0 - second)).abs() < 1e-12, "{got}");
        assert_eq!(preference(instruction, [("m", -30.0)]), Some(2.0));
    }

    // The first token of a model of SentencePiece carries the blank before it; what it says of the bare ones is noise.
    #[test]
    fn a_verdict_behind_a_blank_is_read_where_it_is_likelier_than_a_bare_one() {
        let instruction = "What is 2+2?";
        let second = 1.0 / (1.0 + (-1.0f64).exp());
        for blank in [" ", "▁"] {
            let spaced = [format!("{blank}m"), format!("{blank}M")];
            let told = |bare: f64, behind: f64| {
                preference(
                    instruction,
                    [
                        ("M", bare),
                        (spaced[0].as_str(), behind - 1.0),
                        (spaced[1].as_str(), behind),
                    ],
                )
            };
            let got = told(-9.0, -0.5).unwrap();
            assert!((got - (1.0 + second)).abs() < 1e-12, "{got}");
            // As the tool: the blank is not a verdict beside a likelier bare one.
            assert_eq!(told(-0.5, -0.6), Some(2.0));
        }
        assert_eq!(preference(instruction, [("  m", -0.1)]), None);
    }

    #[test]
    fn a_prompt_file_is_split_at_its_marks() {
        let file = "<|im_start|>system\nBe fair.\n<|im_end|>\n<|im_start|>user\n{instruction}\n{\n\"{output_1}\" {output_2}}\n<|im_end|>";
        let turns = prompt_turns(file);
        assert_eq!(turns[0], ("system".to_owned(), "Be fair.".to_owned()));
        let asked = messages(&turns, "What is 2+2?", "three", "four {output_1}");
        assert_eq!(asked[1].1, "What is 2+2?\n{\n\"three\" four {output_1}}");
        assert_eq!(
            prompt_turns("Plain {instruction}\n"),
            [("user".to_owned(), "Plain {instruction}".to_owned())]
        );
    }

    // By hand: shares 1, 0.5, 0.5, 0.25; mean 0.5625.
    #[test]
    fn zero_is_a_draw_and_what_is_no_preference_is_left_out() {
        let rate =
            win_rate([Some(2.0), Some(1.5), Some(0.0), Some(1.25), None, Some(3.0)]).unwrap();
        assert!((rate.rate.value - 0.5625).abs() < 1e-12);
        assert_eq!(
            (rate.rate.n, rate.wins, rate.losses, rate.draws),
            (4, 1, 1, 2)
        );
        assert!((rate.discrete() - 0.5).abs() < 1e-12);
        assert_eq!(win_rate([None]), None);
    }

    fn published() -> (Published, Vec<AlpacaAnnotation>, serde_json::Value) {
        let golden = crate::eval::judged::testing::golden("own.json")["length_controlled"].clone();
        let number = |v: &serde_json::Value| v.as_f64().unwrap();
        let mut published = Published {
            difficulty: BTreeMap::new(),
            gamed: Vec::new(),
        };
        for row in golden["gamed"].as_array().unwrap() {
            published.gamed.push(Gamed {
                std_delta_len: number(&row["std_delta_len"]),
                difficulty: number(&row["difficulty"]),
                preference: number(&row["preference"]),
            });
        }
        let mut annotations = Vec::new();
        for (at, row) in golden["rows"].as_array().unwrap().iter().enumerate() {
            let instruction = format!("instruction {at}");
            let text = |key: &str| "é".repeat(row[key].as_u64().unwrap() as usize);
            published
                .difficulty
                .insert(instruction.clone(), number(&row["difficulty"]));
            annotations.push(AlpacaAnnotation {
                instruction,
                output_1: text("len_1"),
                generator_1: "b".to_owned(),
                dataset: String::new(),
                output_2: text("len_2"),
                generator_2: "m".to_owned(),
                annotator: "a".to_owned(),
                preference: row["preference"].as_f64(),
                raw_completion: serde_json::Value::Null,
                glm_preference: None,
            });
        }
        (published, annotations, golden)
    }

    // tests/golden/judged/own.json: alpaca_eval's own fit with scikit-learn's liblinear at a tolerance of 1e-12.
    #[test]
    fn the_length_controlled_win_rate_is_that_of_the_tool() {
        let (published, annotations, golden) = published();
        let got = length_controlled(&annotations, &published).unwrap();
        let want = &golden["result"];
        let close = |got: f64, key: &str| {
            let want = want[key].as_f64().unwrap();
            assert!((got - want).abs() < 1e-6, "{key}: {got} {want}");
        };
        close(got.model.strength, "C");
        close(got.model.length, "w_length");
        close(got.model.difficulty, "w_difficulty");
        close(got.model.model, "w_model");
        close(100.0 * got.rate.value, "length_controlled_winrate");
        close(100.0 * got.rate.stderr.unwrap(), "lc_standard_error");
        assert_eq!((got.rate.n, got.unknown), (annotations.len(), 0));
    }

    #[test]
    fn instructions_of_unknown_difficulty_are_left_out_and_counted() {
        let (mut published, annotations, _) = published();
        published.difficulty.remove("instruction 3");
        let got = length_controlled(&annotations, &published).unwrap();
        assert_eq!((got.rate.n, got.unknown), (annotations.len() - 1, 1));
        assert!(length_controlled(&annotations[..1], &published).is_err());
        assert!(length_controlled(&[], &published).is_err());
    }
}
