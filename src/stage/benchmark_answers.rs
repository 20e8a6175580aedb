//! What the model answers to a chat benchmark, turn by turn.

use crate::arch::Pass;
use crate::base::fs::{create_dir, read_to_string};
use crate::base::{SeedTree, counted, is_as_written, with_check, write_atomic};
use crate::config::spec::{NonNegative, SamplingRecipe, Share};
use crate::data::{Message, TextFormat};
use crate::eval::judged::Said;
use crate::generate::Generator;
use crate::stage::attempt::Attempt;
use crate::stage::benchmark::LoadedBench;
use crate::stage::engine::Asked;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::stage::sample::Draw;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The model's replies, (question, turn), turn after turn.
pub(super) fn answer(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    model: &mut Asked,
    format: &TextFormat,
    (set, loaded): (&str, &LoadedBench<'_>),
    before: usize,
) -> Result<Vec<Vec<Said>>, StageError> {
    let bench = &loaded.bench;
    let questions: Vec<Vec<&str>> = (0..bench.len()).map(|at| bench.user_turns(at)).collect();
    let turns = questions.iter().map(Vec::len).max().unwrap_or(0);
    let mut replies: Vec<Vec<Said>> = vec![Vec::new(); bench.len()];
    let mut done = before;
    for turn in 0..turns {
        let asked: Vec<usize> = (0..bench.len())
            .filter(|at| questions[*at].len() > turn)
            .collect();
        let file = format!("{set}-turn-{}.json", turn + 1);
        let mut prompts = Vec::with_capacity(asked.len());
        for at in &asked {
            let messages = conversation(&questions[*at][..=turn], &replies[*at]);
            prompts.push((*at, format.encode_prompt(&messages)?));
        }
        let kept = job.newest_work(&file);
        let kept = kept.and_then(|path| Turn::read(&read_to_string(&path).ok()?));
        let turn = if let Some(kept) = kept.filter(|kept| kept.replies.len() == asked.len()) {
            kept
        } else {
            let generator = model.model(job)?;
            let replies = draw(job, generator, format, (loaded, turn, &prompts), done)?;
            let drawn = Turn { replies };
            keep(job, &file, &drawn)?;
            drawn
        };
        account(made, model, (set, &prompts), &turn.replies);
        for (at, said) in asked.iter().zip(turn.replies) {
            replies[*at].push(said.into());
        }
        done += asked.len();
        job.report(done)?;
    }
    Ok(replies)
}

/// The turns before a reply: what the user said, and the model's own replies to all but the last.
fn conversation(user: &[&str], replies: &[Said]) -> Vec<Message> {
    let mut messages = Vec::with_capacity(2 * user.len());
    for (at, text) in user.iter().enumerate() {
        messages.push(Message::new("user", (*text).to_owned()));
        if at + 1 < user.len() {
            let reply = replies.get(at).map_or("", |said| said.text.as_str());
            messages.push(Message::new("assistant", reply.to_owned()));
        }
    }
    messages
}

/// A reply as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Drawn {
    text: String,
    tokens: usize,
    finished: bool,
}

impl From<Drawn> for Said {
    fn from(drawn: Drawn) -> Self {
        Self {
            text: drawn.text,
            tokens: drawn.tokens,
        }
    }
}

/// The replies to a turn; the file carries a digest of itself.
#[derive(Serialize, Deserialize)]
struct Turn {
    replies: Vec<Drawn>,
}

impl Turn {
    fn read(text: &str) -> Option<Self> {
        let turn = serde_json::from_str(text).ok()?;
        (is_as_written(text) == Some(true)).then_some(turn)
    }
}

fn keep(job: &Attempt<'_>, file: &str, turn: &Turn) -> Result<(), StageError> {
    create_dir(&job.work())?;
    let text = with_check(&serde_json::to_string(turn)?);
    Ok(write_atomic(&job.work().join(file), text.as_bytes())?)
}

/// Samples the replies to a turn. Questions of one temperature are drawn together. A conversation that leaves no room for
/// a reply gets an empty one, as a model that fails has it elsewhere.
fn draw(
    job: &mut Attempt<'_>,
    generator: &mut dyn Generator,
    format: &TextFormat,
    (loaded, turn, prompts): (&LoadedBench<'_>, usize, &[(usize, Vec<u32>)]),
    before: usize,
) -> Result<Vec<Drawn>, StageError> {
    let LoadedBench { eval, bench } = loaded;
    let own = eval.temperature.map(f64::from);
    let mut by_temperature: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let limit = generator.max_positions();
    for (place, (at, tokens)) in prompts.iter().enumerate() {
        if tokens.len() < limit {
            let temperature = own.unwrap_or_else(|| bench.temperature(*at));
            by_temperature
                .entry(temperature.to_bits())
                .or_default()
                .push(place);
        }
    }
    let empty = Drawn {
        text: String::new(),
        tokens: 0,
        finished: false,
    };
    let mut drawn = vec![empty; prompts.len()];
    let seed = SeedTree::root(eval.seed)
        .child("eval/judged")
        .index(turn as u64);
    let mut done = before;
    for (index, (bits, places)) in by_temperature.iter().enumerate() {
        let sampling = SamplingRecipe {
            temperature: f64::from_bits(*bits)
                .try_into()
                .unwrap_or(NonNegative::ZERO),
            top_p: Share::WHOLE,
            max_new_tokens: eval.max_new_tokens,
        };
        let tokens: Vec<Vec<u32>> = places
            .iter()
            .map(|place| prompts[*place].1.clone())
            .collect();
        let group = Draw {
            prompts: &tokens,
            samples: 1,
            sampling: &sampling,
            seed: &seed.index(index as u64),
            before: done,
        };
        for completion in job.draw(generator, format, &group)? {
            drawn[places[completion.prompt]] = Drawn {
                text: format.decode(&completion.tokens)?.trim().to_owned(),
                tokens: completion.tokens.len(),
                finished: completion.finished,
            };
        }
        done += places.len();
    }
    Ok(drawn)
}

/// Adds what the replies to a turn have cost, and says what became of them.
fn account(
    made: &mut StageOutput,
    model: &Asked,
    (set, prompts): (&str, &[(usize, Vec<u32>)]),
    drawn: &[Drawn],
) {
    let mut pass = Pass::default();
    let mut positions = 0;
    let (mut cut, mut without_room) = (0, 0);
    for ((_, prompt), reply) in prompts.iter().zip(drawn) {
        // The end token is drawn, too.
        let tokens = reply.tokens + usize::from(reply.finished);
        if tokens == 0 {
            without_room += 1;
            continue;
        }
        cut += usize::from(!reply.finished);
        positions += prompt.len() + reply.tokens;
        pass.add_samples(prompt.len() as f64, [tokens as f64]);
    }
    made.spend(&model.config, positions, &pass);
    made.count("replies_cut", cut);
    made.count("replies_without_room", without_room);
    if without_room > 0 {
        made.notes.push(format!(
            "`{set}`: {} without a reply, being longer than the model allows",
            counted(without_room, "conversation")
        ));
    }
}
