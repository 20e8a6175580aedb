//! A local reward model as judge.

use crate::arch::DecoderConfig;
use crate::config::spec::RewardModelJudge;
use crate::data::{Message, TextFormat};
use crate::judge::candidates::Candidates;
use crate::judge::error::{JudgeError, finite};
use crate::judge::traits::Judge;
use crate::model::{ModelError, ModelOpener, SequenceScorer, score_sequences};
use std::path::Path;

/// Positions of one forward pass; a longer reply is a pass of its own.
const PASS_POSITIONS: usize = 4096;

/// Scores each reply by the scalar head of a decoder, read at the end of the conversation.
///
/// The conversation, prompt and reply, is written by the reward model's own chat template and
/// tokenised whole, as transformers' `apply_chat_template` does. A reply that was cut off is closed by the template like
/// any other: a reward model has no way to say that a text is unfinished.
pub struct RewardJudge {
    model: Box<dyn SequenceScorer>,
    format: TextFormat,
    max_seq_len: usize,
}

impl RewardJudge {
    /// Opens the model of the recipe, whose folder is relative to `root`.
    ///
    /// # Errors
    /// As [`ModelOpener::scorer`] and [`TextFormat::open`].
    pub fn open(
        recipe: &RewardModelJudge,
        root: &Path,
        opener: &dyn ModelOpener,
    ) -> Result<Self, JudgeError> {
        let dir = root.join(&recipe.model_path);
        let config = DecoderConfig::from_file(&dir).map_err(ModelError::from)?;
        let max_seq_len = recipe.max_seq_len.unwrap_or(config.max_positions);
        Ok(Self {
            model: opener.scorer(&dir, &config, recipe.precision)?,
            format: TextFormat::open(&dir, None)?,
            max_seq_len: max_seq_len.min(config.max_positions).max(2),
        })
    }

    /// Tokens of the conversation; of one that is too long the last, after its beginning-of-text
    /// token.
    fn tokens(&self, prompt: &[Message], reply: &str) -> Result<Vec<u32>, JudgeError> {
        let mut messages = prompt.to_vec();
        messages.push(Message::new("assistant", reply));
        let text = self.format.render(&messages, false)?;
        let mut tokens = self.format.encode_text(&text)?;
        let extra = tokens.len().saturating_sub(self.max_seq_len);
        if extra > 0 {
            let kept = usize::from(tokens.first().copied() == self.format.bos_token());
            tokens.drain(kept..kept + extra);
        }
        Ok(tokens)
    }
}

impl Judge for RewardJudge {
    fn judge(
        &mut self,
        items: &[Candidates],
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f64>>, JudgeError> {
        let mut all = Vec::with_capacity(items.len());
        for (done, item) in items.iter().enumerate() {
            if !progress(done) {
                return Err(JudgeError::Stopped);
            }
            let replies = item.replies.iter();
            let sequences = replies.map(|reply| self.tokens(&item.prompt, &reply.text));
            let sequences = sequences.collect::<Result<Vec<_>, _>>()?;
            let scores = score_sequences(&mut *self.model, &sequences, PASS_POSITIONS)?;
            let scores = scores.into_iter().map(|score| finite(&item.id, score));
            all.push(scores.collect::<Result<Vec<_>, _>>()?);
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
    use crate::model::{Companions, FrozenParams, HostOpener, save_checkpoint};
    use candle_core::{DType, Device, Tensor};
    use std::collections::BTreeMap;

    /// The shipped decoder as reward model in folder `rm`: a head of alternating signs.
    fn reward_model(dir: &Path) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
        let config = DecoderConfig::from_file(&source).unwrap();
        let params = FrozenParams::load(&source, &config, &Device::Cpu, DType::F32).unwrap();
        let params = params.iter().map(|(n, t)| (n.to_owned(), t.clone()));
        let mut tensors: BTreeMap<String, Tensor> = params.collect();
        let signs = (0..config.hidden_size).map(|i| if i % 2 == 0 { 1.0f32 } else { -1.0 });
        let head = Tensor::from_iter(signs, &Device::Cpu).unwrap();
        tensors.insert("score.weight".to_owned(), head.unsqueeze(0).unwrap());
        let params = FrozenParams::from_tensors(tensors);
        let companions = Companions::read(&source).unwrap();
        save_checkpoint(&dir.join("rm"), &companions, &params).unwrap();
    }

    fn open(dir: &Path, max_seq_len: Option<usize>) -> RewardJudge {
        let recipe = RewardModelJudge {
            model_path: "rm".into(),
            precision: Precision::F32,
            max_seq_len,
        };
        RewardJudge::open(&recipe, dir, &HostOpener(Device::Cpu)).unwrap()
    }

    #[test]
    fn a_reply_scores_as_the_head_reads_the_conversation_that_the_template_writes() {
        let dir = tempfile::tempdir().unwrap();
        reward_model(dir.path());
        let mut judge = open(dir.path(), None);
        let items = [
            item("a", &["He ran home.", "", "The dog"]),
            item("b", &["Yes."]),
        ];
        let mut told = Vec::new();
        let scores = judge.judge(&items, &mut |done| {
            told.push(done);
            true
        });
        let scores = scores.unwrap();
        assert_eq!(told, [0, 1, 2]);
        for (item, scores) in items.iter().zip(&scores) {
            for (reply, score) in item.replies.iter().zip(scores) {
                let text = format!(
                    "<s>User: Question {}?\nAssistant: {}</s>",
                    item.id, reply.text
                );
                let mut tokens = judge.format.encode_text(&text).unwrap();
                assert_eq!(tokens.last(), Some(&judge.format.end_token()));
                let alone = judge.model.score(&[tokens.clone()]).unwrap()[0];
                assert!((score - alone).abs() < 1e-5, "{score} for {alone}");
                tokens.pop();
                let unended = judge.model.score(&[tokens]).unwrap()[0];
                assert!((score - unended).abs() > 1e-3, "the end token is not read");
            }
        }
        let stopped = judge.judge(&items, &mut |_| false).unwrap_err();
        assert!(matches!(stopped, JudgeError::Stopped));
    }

    #[test]
    fn a_conversation_that_is_too_long_keeps_its_first_token_and_its_end() {
        let dir = tempfile::tempdir().unwrap();
        reward_model(dir.path());
        let (whole, cut) = (open(dir.path(), None), open(dir.path(), Some(9)));
        let item = item("a", &[]);
        let all = whole
            .tokens(&item.prompt, "He ran home with the dog.")
            .unwrap();
        let kept = cut
            .tokens(&item.prompt, "He ran home with the dog.")
            .unwrap();
        assert!(all.len() > 9);
        assert_eq!(kept.len(), 9);
        assert_eq!(kept[0], all[0]);
        assert_eq!(kept[1..], all[all.len() - 8..]);
    }

    #[test]
    fn a_folder_without_a_scalar_head_is_refused() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let recipe = RewardModelJudge {
            model_path: "models/stories260k".into(),
            precision: Precision::F32,
            max_seq_len: None,
        };
        let error = RewardJudge::open(&recipe, root, &HostOpener(Device::Cpu))
            .err()
            .unwrap();
        assert!(error.to_string().contains("stories260k"), "{error}");
    }
}
