//! A language model of a folder as judge, whose verdict is read from the probabilities of its next token.

use crate::arch::DecoderConfig;
use crate::config::spec::{JudgeMode, LocalModelJudge};
use crate::data::{Message, TextFormat};
use crate::judge::candidates::Candidates;
use crate::judge::error::{JudgeError, finite};
use crate::judge::places::{places, share_of_wins};
use crate::judge::traits::Judge;
use crate::model::{ModelError, ModelOpener, SequenceReader, in_passes};
use std::path::Path;

/// Positions of one forward pass; a longer question is a pass of its own.
const PASS_POSITIONS: usize = 4096;

/// The question of `score`, where the recipe has none.
const SCORE_TEMPLATE: &str = "\
Rate the reply that ends this conversation. Ask whether it is correct, whether it does what was asked for, and whether \
it is clear. Length is no merit in itself. Answer with the rating alone, a digit from 1 (useless) to 9 (could not be \
better).

[conversation]
{prompt}
[end of conversation]

[reply]
{reply}
[end of reply]";

/// The question of `pairwise`, where the recipe has none.
const PAIRWISE_TEMPLATE: &str = "\
Which of two replies ends this conversation better? Ask whether they are correct, whether they do what was asked for, \
and whether they are clear. Neither their order nor their length is a merit in itself. Answer with one letter, A or B.

[conversation]
{prompt}
[end of conversation]

[reply A]
{a}
[end of reply A]

[reply B]
{b}
[end of reply B]";

/// Scores a reply by the expected digit `Σ k p(k)` of 1 to 9 behind the question (`score`; as the scorers of Deita, Liu et
/// al. 2024, and G-Eval, Liu et al. 2023), or by the probability of `A` against `B` over both orders of every two replies
/// (`pairwise`).
///
/// A digit or letter counts with and without a blank before it. There is always a verdict, nothing is drawn, and each
/// question is one pass.
pub struct LocalModelJudgment {
    recipe: LocalModelJudge,
    model: Box<dyn SequenceReader>,
    format: TextFormat,
    max_positions: usize,
    /// What an answer is worth, and the tokens that read as it.
    answers: Vec<(f64, Vec<u32>)>,
}

impl LocalModelJudgment {
    /// Opens the model of the recipe, whose folder is relative to `root`.
    ///
    /// # Errors
    /// As [`ModelOpener::reader`] and [`TextFormat::open`]; the tokenizer has no token for an answer.
    pub fn open(
        recipe: &LocalModelJudge,
        root: &Path,
        opener: &dyn ModelOpener,
    ) -> Result<Self, JudgeError> {
        let dir = root.join(&recipe.model_path);
        let config = DecoderConfig::from_file(&dir).map_err(ModelError::from)?;
        let format = TextFormat::open(&dir, None)?;
        let answers = answers(recipe.mode, &format);
        if let Some((text, _)) = answers.iter().find(|(_, (_, ids))| ids.is_empty()) {
            return Err(JudgeError::Folder {
                dir,
                wanted: "judge",
                problem: format!("its tokenizer has no token `{text}` to answer with"),
            });
        }
        Ok(Self {
            recipe: recipe.clone(),
            model: opener.reader(&dir, &config, recipe.precision)?,
            format,
            max_positions: config.max_positions,
            answers: answers.into_iter().map(|(_, answer)| answer).collect(),
        })
    }

    /// Tokens of a question, up to where the answer begins.
    fn tokens(&self, id: &str, question: String) -> Result<Vec<u32>, JudgeError> {
        let mut messages = Vec::with_capacity(2);
        if let Some(system) = &self.recipe.system {
            messages.push(Message::new("system", system.clone()));
        }
        messages.push(Message::new("user", question));
        let tokens = self.format.encode_prompt(&messages)?;
        if tokens.len() > self.max_positions {
            let (len, most) = (tokens.len(), self.max_positions);
            let problem = format!(
                "the question has {len} tokens and the judge {most} positions; sample shorter replies (`max-new-tokens`), or take a shorter `template`"
            );
            return Err(JudgeError::item(id, problem));
        }
        Ok(tokens)
    }

    /// The expected worth of the answers by the logits of their tokens.
    fn verdict(&self, logits: &[f64]) -> f64 {
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut all, mut at) = (0.0, 0.0, 0);
        for (worth, ids) in &self.answers {
            let own = &logits[at..at + ids.len()];
            let weight: f64 = own.iter().map(|l| (l - most).exp()).sum();
            sum += worth * weight;
            all += weight;
            at += ids.len();
        }
        sum / all
    }
}

/// The texts of the answers, what each is worth and the tokens that read as it.
fn answers(mode: JudgeMode, format: &TextFormat) -> Vec<(String, (f64, Vec<u32>))> {
    let mut found: Vec<(String, (f64, Vec<u32>))> = match mode {
        JudgeMode::Score => (1..=9)
            .map(|k: u8| (k.to_string(), (f64::from(k), Vec::new())))
            .collect(),
        JudgeMode::Pairwise => [("A", 1.0), ("B", 0.0)]
            .map(|(text, worth)| (text.to_owned(), (worth, Vec::new())))
            .to_vec(),
    };
    for id in 0..format.vocab_size() as u32 {
        let read = format.token_text(id);
        let read = read.strip_prefix(' ').unwrap_or(&read);
        if let Some((_, (_, ids))) = found.iter_mut().find(|(text, _)| text == read) {
            ids.push(id);
        }
    }
    found
}

impl Judge for LocalModelJudgment {
    fn judge(
        &mut self,
        items: &[Candidates],
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f64>>, JudgeError> {
        let template = self.recipe.template.clone();
        let template = template.as_deref().unwrap_or(match self.recipe.mode {
            JudgeMode::Score => SCORE_TEMPLATE,
            JudgeMode::Pairwise => PAIRWISE_TEMPLATE,
        });
        let ids: Vec<u32> = self
            .answers
            .iter()
            .flat_map(|(_, ids)| ids.clone())
            .collect();
        let mut all = Vec::with_capacity(items.len());
        for (done, item) in items.iter().enumerate() {
            if !progress(done) {
                return Err(JudgeError::Stopped);
            }
            let prompt = item.prompt_text();
            let places = places(self.recipe.mode, item);
            let asked = places.iter().map(|place| {
                let question = place.question(template, &prompt, item);
                self.tokens(&item.id, question)
            });
            let asked = asked.collect::<Result<Vec<_>, _>>()?;
            let mut logits = Vec::with_capacity(asked.len());
            for pass in in_passes(&asked, PASS_POSITIONS) {
                logits.extend(self.model.next_logits(pass, &ids)?);
            }
            let mut scores = vec![0.0; item.replies.len()];
            for (place, logits) in places.iter().zip(&logits) {
                place.add(&mut scores, finite(&item.id, self.verdict(logits))?);
            }
            if self.recipe.mode == JudgeMode::Pairwise {
                share_of_wins(item, &mut scores);
            }
            all.push(scores);
        }
        progress(items.len());
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Precision;
    use crate::judge::candidates::item;
    use crate::model::HostOpener;
    use candle_core::Device;

    fn open(mode: JudgeMode, template: &str) -> LocalModelJudgment {
        let recipe = LocalModelJudge {
            model_path: "models/stories260k".into(),
            precision: Precision::F32,
            mode,
            template: Some(template.to_owned()),
            system: None,
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        LocalModelJudgment::open(&recipe, root, &HostOpener(Device::Cpu)).unwrap()
    }

    #[test]
    fn a_rating_is_the_expected_digit_and_a_comparison_the_probability_of_both_orders() {
        let mut judge = open(JudgeMode::Score, "{prompt} {reply}");
        // Each digit is one token or two (with a blank), so that equal logits weigh by those.
        let tokens: usize = judge.answers.iter().map(|(_, ids)| ids.len()).sum();
        let weighted: f64 = judge
            .answers
            .iter()
            .map(|(k, ids)| k * ids.len() as f64)
            .sum();
        let even = judge.verdict(&vec![3.0; tokens]);
        assert!((even - weighted / tokens as f64).abs() < 1e-12);
        let items = [
            item("a", &["He ran home.", "No.", "No."]),
            item("b", &["Yes."]),
        ];
        let scores = judge.judge(&items, &mut |_| true).unwrap();
        assert!(scores.concat().iter().all(|s| *s >= 1.0 && *s <= 9.0));
        assert!((scores[0][1] - scores[0][2]).abs() < 1e-12);
        assert!((scores[0][0] - scores[0][1]).abs() > 1e-9, "{scores:?}");

        let mut judge = open(JudgeMode::Pairwise, "{prompt} {a} or {b}");
        let scores = judge.judge(&items, &mut |_| true).unwrap();
        // Every comparison gives one point in all: shares of two thirds of the pairs and ties sum to n / 2.
        assert!(
            (scores[0].iter().sum::<f64>() - 1.5).abs() < 1e-12,
            "{scores:?}"
        );
        assert!((scores[0][1] - scores[0][2]).abs() < 1e-12);
        let stopped = judge.judge(&items, &mut |_| false).unwrap_err();
        assert!(matches!(stopped, JudgeError::Stopped));
    }

    #[test]
    fn a_question_beyond_the_judges_positions_names_its_row() {
        let mut judge = open(JudgeMode::Score, "{prompt} {reply}");
        let long = "He ran home. ".repeat(200);
        let error = judge
            .judge(&[item("far", &[&long])], &mut |_| true)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("far") && text.contains("512 positions"),
            "{text}"
        );
    }
}
