//! A conversation in the terminal.

use crate::cli::error::CommandError;
use crate::cli::global::DONE;
use crate::cli::talk::talk_failed;
use crate::cli::ui::{Tone, Ui};
use crate::config::spec::SamplingRecipe;
use crate::data::Message;
use crate::stage::{Ask, Finish, Session};
use serde_json::json;
use std::io::{BufRead as _, stdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a conversation goes.
pub(crate) struct Chat<'a> {
    /// The model, as it was called.
    pub(crate) name: &'a str,
    /// The first turn.
    pub(crate) system: Option<&'a str>,
    pub(crate) sampling: &'a SamplingRecipe,
    /// Texts that end a reply.
    pub(crate) until: &'a [String],
    pub(crate) seed: u64,
    /// Set by Ctrl-C.
    pub(crate) interrupt: &'a Arc<AtomicBool>,
}

/// Reads turns from the input, one a line, and writes the replies, until the input ends.
pub(crate) fn chat(ui: &Ui, session: &mut Session, chat: &Chat<'_>) -> Result<u8, CommandError> {
    if ui.interactive() {
        ui.say(&format!(
            "talking to {}; `/reset` begins anew, Ctrl-C ends a reply, Ctrl-D the chat",
            chat.name
        ));
    }
    let beginning: Vec<Message> = chat
        .system
        .iter()
        .map(|text| Message::new("system", *text))
        .collect();
    let mut turns = beginning.clone();
    let mut replies = 0;
    loop {
        if ui.interactive() {
            ui.ask("you");
        }
        let mut line = String::new();
        let read = stdin().lock().read_line(&mut line);
        if read.map_err(CommandError::user)? == 0 {
            return Ok(DONE);
        }
        let line = line.trim();
        match line {
            "" => continue,
            "/reset" => {
                turns.clone_from(&beginning);
                continue;
            }
            _ => turns.push(Message::new("user", line)),
        }
        // What was typed at the prompt was not meant for this reply.
        chat.interrupt.store(false, Ordering::SeqCst);
        match reply(ui, session, chat, &turns, replies) {
            Ok(text) => turns.push(Message::new("assistant", text)),
            // The conversation is too long, or its template refuses it; what was said before stands.
            Err(error) if ui.interactive() => {
                turns.pop();
                ui.error(&error.hint("`/reset` begins a new conversation"));
            }
            Err(error) => return Err(error),
        }
        replies += 1;
    }
}

/// One reply, shown as it comes. Each of a conversation draws other numbers.
fn reply(
    ui: &Ui,
    session: &mut Session,
    chat: &Chat<'_>,
    turns: &[Message],
    number: u64,
) -> Result<String, CommandError> {
    let prompts = [session.encode_chat(turns).map_err(talk_failed)?];
    let ask = Ask {
        prompts: &prompts,
        samples: 1,
        sampling: chat.sampling,
        until: chat.until,
        chat: true,
        seed: chat.seed.wrapping_add(number),
        top: None,
    };
    let written = session.write(&ask, &mut |piece| {
        if !ui.json {
            ui.stream(piece.text);
        }
        !chat.interrupt.load(Ordering::SeqCst)
    });
    let written = written.map_err(talk_failed)?.pop();
    let written = written.ok_or_else(|| CommandError::internal("no reply was written"))?;
    if ui.json {
        ui.json_row(&json!({
            "index": number, "text": written.text, "tokens": written.tokens, "finish": written.finish,
        }));
    } else {
        ui.out("");
        if written.finish != Finish::Stop && ui.interactive() {
            let why = match written.finish {
                Finish::Length => "cut off by `--max-new-tokens`",
                _ => "interrupted",
            };
            ui.say(&ui.tone_err(Tone::Dim, why));
        }
    }
    Ok(written.text.trim().to_owned())
}
