//! `lions generate`.

use crate::cli::chat::{Chat, chat};
use crate::cli::checkpoint::CheckpointArgs;
use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::prompts::{Prompt, read_prompts};
use crate::cli::signals::flag_on_interrupt;
use crate::cli::talk::{TalkArgs, talk_failed};
use crate::cli::ui::{Tone, Ui};
use crate::config::spec::{NonNegative, SamplingRecipe, Share};
use crate::data::Message;
use crate::stage::{Ask, Finish, Session, Written};
use serde_json::{Value, json};
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Prompts of a file that are answered before their replies are shown.
const CHUNK: usize = 64;

/// Sample replies from a model: to a prompt, to a file of prompts, or in a chat
///
/// Without a prompt it is a chat: each line of the input is a turn, and `/reset` begins anew. Ctrl-C ends a reply; a
/// second one, or the end of the input, the chat. Prompts are user turns written by the model's chat template, unless
/// `--raw` has them continued as they are. The same prompt, options and seed give the same reply on a CPU.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The prompt [default: a chat]
    prompt: Option<String>,
    /// A file of prompts: lines of text (`.txt`), or JSON lines that are texts or have a `prompt` or `messages`
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,
    /// Continue prompts as they are, without the chat template
    #[arg(long)]
    raw: bool,
    /// A system turn before each conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Replies to each prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least(1_usize))]
    samples: usize,
    /// Most tokens of a reply
    #[arg(long, value_name = "N", default_value = "256", value_parser = at_least(NonZeroUsize::MIN))]
    max_new_tokens: NonZeroUsize,
    /// 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value = "0.7", value_parser = in_range::<NonNegative>)]
    temperature: NonNegative,
    /// Draw from the likeliest tokens that have this share of the probability together
    #[arg(long, value_name = "P", default_value = "1", value_parser = in_range::<Share>)]
    top_p: Share,
    /// Text that ends a reply; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = at_least(0_u64))]
    seed: u64,
    #[command(flatten)]
    talk: TalkArgs,
}

/// A number in the range of its type.
fn in_range<N: TryFrom<f64, Error: Display>>(text: &str) -> Result<N, String> {
    let number: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    N::try_from(number).map_err(|error| error.to_string())
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &GenerateArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let folder = args.checkpoint.folder(&project)?;
    let prompts = match (&args.prompt, &args.prompts) {
        (Some(text), _) => Some(vec![Prompt::Text(text.clone())]),
        (None, Some(path)) => Some(read_prompts(path)?),
        (None, None) => None,
    };
    if prompts.is_none() && (args.raw || args.samples > 1) {
        let error =
            CommandError::user("a chat has one reply to a turn, written by a chat template");
        return Err(error.hint("`--raw` and `--samples` want a prompt or `--prompts`"));
    }
    let mut session = args.talk.open(&folder)?;
    let interrupt = Arc::new(AtomicBool::new(false));
    flag_on_interrupt(&interrupt)?;
    let sampling = SamplingRecipe {
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens,
    };
    let Some(prompts) = prompts else {
        return chat(
            ui,
            &mut session,
            &Chat {
                name: args.checkpoint.name(),
                system: args.system.as_deref(),
                sampling: &sampling,
                until: &args.stop,
                seed: args.seed,
                interrupt: &interrupt,
            },
        );
    };
    let mut encoded = Vec::with_capacity(prompts.len());
    for prompt in &prompts {
        encoded.push(encode(&session, args, prompt)?);
    }
    let several = prompts.len() * args.samples > 1;
    for (chunk, tokens) in encoded.chunks(CHUNK).enumerate() {
        let ask = Ask {
            prompts: tokens,
            samples: args.samples,
            sampling: &sampling,
            until: &args.stop,
            chat: !args.raw,
            // Another chunk draws other numbers.
            seed: args.seed.wrapping_add(chunk as u64),
            top: None,
        };
        let streams = !several && !ui.json;
        let replies = session.write(&ask, &mut |piece| {
            if streams {
                ui.stream(piece.text);
            }
            !interrupt.load(Ordering::SeqCst)
        });
        for (at, reply) in replies.map_err(talk_failed)?.iter().enumerate() {
            let prompt = chunk * CHUNK + at / args.samples;
            let place = (prompt, at % args.samples);
            show(ui, &prompts[prompt], place, reply, streams);
        }
        if interrupt.load(Ordering::SeqCst) {
            return Ok(exit_code::INTERRUPTED);
        }
    }
    Ok(DONE)
}

fn encode(
    session: &Session,
    args: &GenerateArgs,
    prompt: &Prompt,
) -> Result<Vec<u32>, CommandError> {
    let turns = match prompt {
        Prompt::Text(text) if args.raw => return session.encode(text).map_err(talk_failed),
        Prompt::Turns(_) if args.raw => {
            let error = CommandError::user("a conversation cannot be continued as it is");
            return Err(error.hint("without `--raw` the chat template writes it"));
        }
        Prompt::Text(text) => vec![Message::new("user", text)],
        Prompt::Turns(turns) => turns.clone(),
    };
    let system = args.system.iter().map(|text| Message::new("system", text));
    let turns: Vec<Message> = system.chain(turns).collect();
    session.encode_chat(&turns).map_err(talk_failed)
}

fn show(ui: &Ui, prompt: &Prompt, (at, sample): (usize, usize), reply: &Written, streamed: bool) {
    if ui.json {
        return ui.json_row(&row(prompt, (at, sample), reply));
    }
    if streamed {
        ui.out("");
    } else {
        let head = format!("prompt {}, reply {}", at + 1, sample + 1);
        ui.out(&ui.tone(Tone::Dim, &head));
        ui.out(&reply.text);
        ui.out("");
    }
    if reply.finish == Finish::Length {
        ui.say(&format!(
            "cut off after {} tokens; `--max-new-tokens` allows more",
            reply.tokens
        ));
    }
}

fn row(prompt: &Prompt, (at, sample): (usize, usize), reply: &Written) -> Value {
    let prompt = match prompt {
        Prompt::Text(text) => json!(text),
        Prompt::Turns(turns) => json!(turns),
    };
    json!({
        "index": at, "sample": sample, "prompt": prompt, "text": reply.text, "tokens": reply.tokens,
        "finish": reply.finish,
    })
}
