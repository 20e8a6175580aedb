//! A model of a folder that is asked in place of a judge's endpoint: conversations in, what an endpoint would say out.

use crate::arch::Pass;
use crate::base::fs::{create_dir, read_to_string};
use crate::base::{Digest, SeedTree, digest_bytes, is_as_written, with_check, write_atomic};
use crate::config::spec::{ModelDir, Precision, SamplingRecipe};
use crate::data::{DataError, Message, TextFormat};
use crate::generate::Drawn;
use crate::judge::ChatReply;
use crate::stage::attempt::Attempt;
use crate::stage::engine::Asked;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::stage::sample::Draw;
use crate::stage::written::logp_of;
use serde::{Deserialize, Serialize};

/// Conversations whose replies are put on disk together: what a crash can cost. As many as prompts of the `sample` stage.
const CHUNK: usize = 64;

/// A judge's model. It is opened when it is first asked.
pub(super) struct LocalJudge {
    format: TextFormat,
    asked: Asked,
}

/// Conversations that are asked together.
pub(super) struct Questions<'a> {
    /// Turns of (role, text) of each.
    pub(super) conversations: &'a [&'a [(String, String)]],
    /// Temperature and budget.
    pub(super) sampling: &'a SamplingRecipe,
    /// Texts of tokens whose log-probabilities are told where a reply begins.
    pub(super) tokens: &'a [&'a str],
    /// What is drawn depends on it and on a conversation's place.
    pub(super) seed: &'a SeedTree,
    /// Names of the files that keep replies begin with it.
    pub(super) file: &'a str,
    /// Units of progress that were done before.
    pub(super) before: usize,
}

/// Replies that were put on disk together; the file carries a digest of itself.
#[derive(Serialize, Deserialize)]
struct Chunk {
    /// Of the prompts' tokens: other prompts are answered anew.
    prompts: Digest,
    /// `None` where the model has no room for a reply.
    replies: Vec<Option<ChatReply>>,
}

impl LocalJudge {
    /// The model of a folder that the run's recipe names.
    pub(super) fn find(
        job: &Attempt<'_>,
        path: &ModelDir,
        precision: Precision,
    ) -> Result<Self, StageError> {
        let dir = job.context.root.join(path);
        let (format, config) = Attempt::open_format_of(&dir, None)?;
        Ok(Self {
            format,
            asked: Asked::new(dir, config, precision),
        })
    }

    /// What judgments name it by: its content, as the same run may find it in another folder.
    pub(super) fn name(job: &Attempt<'_>, path: &ModelDir) -> String {
        let digest = job.file.data.get(&**path);
        digest.map_or_else(
            || path.to_string(),
            |digest| format!("local-{}", digest.short()),
        )
    }

    /// The reply to each conversation; of one that leaves no room for a reply an empty one. Also how many those are.
    pub(super) fn replies(
        &mut self,
        job: &mut Attempt<'_>,
        made: &mut StageOutput,
        questions: &Questions<'_>,
    ) -> Result<(Vec<ChatReply>, usize), StageError> {
        let mut replies = Vec::with_capacity(questions.conversations.len());
        let (mut pass, mut positions, mut without_room) = (Pass::default(), 0, 0);
        for (chunk, own) in questions.conversations.chunks(CHUNK).enumerate() {
            let prompts = own.iter().map(|turns| self.encode(turns));
            let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
            let digest = digest_bytes(serde_json::to_string(&prompts)?.as_bytes());
            let file = format!("{}-{chunk:06}.json", questions.file);
            let kept = job.newest_work(&file).and_then(|path| {
                let text = read_to_string(&path).ok()?;
                let kept: Chunk = serde_json::from_str(&text).ok()?;
                let same = is_as_written(&text) == Some(true) && kept.prompts == digest;
                same.then_some(kept.replies)
            });
            let answered = if let Some(kept) = kept {
                kept
            } else {
                let drawn = self.draw(job, questions, &prompts, chunk)?;
                let chunk = Chunk {
                    prompts: digest,
                    replies: drawn,
                };
                create_dir(&job.work())?;
                let text = with_check(&serde_json::to_string(&chunk)?);
                write_atomic(&job.work().join(&file), text.as_bytes())?;
                chunk.replies
            };
            for reply in answered {
                without_room += usize::from(reply.is_none());
                let reply = reply.unwrap_or_default();
                let (read, written) = (reply.prompt_tokens, reply.completion_tokens);
                positions += (read + written) as usize;
                // An end token is drawn, too, where the budget allows; it is not known any more, and next to nothing.
                pass.add_samples(read as f64, [written as f64]);
                replies.push(reply);
            }
            job.report(questions.before + replies.len())?;
        }
        made.spend(&self.asked.config, positions, &pass);
        Ok((replies, without_room))
    }

    /// Tokens of a conversation. A template that refuses system turns has the text before the user's.
    fn encode(&self, turns: &[(String, String)]) -> Result<Vec<u32>, DataError> {
        let messages = turns
            .iter()
            .map(|(role, text)| Message::new(role, text.clone()));
        let messages: Vec<Message> = messages.collect();
        let refused = match self.format.encode_prompt(&messages) {
            Err(refused @ DataError::Template { .. }) => refused,
            encoded => return encoded,
        };
        let [(role, system), (user, first), rest @ ..] = turns else {
            return Err(refused);
        };
        if role != "system" || user != "user" {
            return Err(refused);
        }
        let mut joined = vec![(user.clone(), format!("{system}\n\n{first}"))];
        joined.extend_from_slice(rest);
        self.encode(&joined)
    }

    /// Replies to the conversations of a chunk, which has a seed of its own, so that it does not matter which attempt
    /// draws it.
    fn draw(
        &mut self,
        job: &mut Attempt<'_>,
        questions: &Questions<'_>,
        prompts: &[Vec<u32>],
        chunk: usize,
    ) -> Result<Vec<Option<ChatReply>>, StageError> {
        let mut replies: Vec<Option<ChatReply>> = vec![None; prompts.len()];
        let limit = self.asked.config.max_positions;
        let fits = (0..prompts.len()).filter(|at| prompts[*at].len() < limit);
        let fits: Vec<usize> = fits.collect();
        if fits.is_empty() {
            return Ok(replies);
        }
        let watched = self.tokens_of(questions.tokens);
        let group: Vec<Vec<u32>> = fits.iter().map(|at| prompts[*at].clone()).collect();
        let mut first: Vec<Option<Vec<(String, f64)>>> = vec![None; fits.len()];
        let draw = Draw {
            prompts: &group,
            samples: 1,
            sampling: questions.sampling,
            seed: &questions.seed.index(chunk as u64),
            before: questions.before + chunk * CHUNK,
        };
        let model = self.asked.model(job)?;
        let mut note = |drawn: &Drawn<'_>| {
            let told = |(text, ids): &(&str, Vec<u32>)| {
                let logps = ids.iter().map(|id| logp_of(drawn.logits, *id));
                // Of several tokens of one text the likeliest.
                let likeliest = logps.max_by(f64::total_cmp)?;
                Some(((*text).to_owned(), likeliest))
            };
            first[drawn.prompt].get_or_insert_with(|| watched.iter().filter_map(told).collect());
        };
        // Who asks for no token's probability needs no logits.
        let watch = (!watched.is_empty()).then_some(&mut note as &mut dyn FnMut(&Drawn<'_>));
        let completions = job.draw_watched(model, &self.format, &draw, watch)?;
        for completion in completions {
            let at = fits[completion.prompt];
            replies[at] = Some(ChatReply {
                text: self.format.decode(&completion.tokens)?,
                first_token: first[completion.prompt].take().unwrap_or_default(),
                prompt_tokens: prompts[at].len() as u64,
                completion_tokens: completion.tokens.len() as u64,
            });
        }
        Ok(replies)
    }

    /// The tokens that read as each of `texts`.
    fn tokens_of<'t>(&self, texts: &[&'t str]) -> Vec<(&'t str, Vec<u32>)> {
        let mut found: Vec<_> = texts.iter().map(|text| (*text, Vec::new())).collect();
        if !texts.is_empty() {
            for id in 0..self.format.vocab_size() as u32 {
                let read = self.format.token_text(id);
                let own = found.iter_mut().filter(|(text, _)| *text == read);
                own.for_each(|(_, ids)| ids.push(id));
            }
        }
        found
    }
}
