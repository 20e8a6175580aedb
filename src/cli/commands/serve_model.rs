//! `lions serve-model`.

use crate::base::Shutdown;
use crate::cli::checkpoint::CheckpointArgs;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::{at_least, port};
use crate::cli::project::Project;
use crate::cli::signals;
use crate::cli::talk::TalkArgs;
use crate::cli::ui::Ui;
use crate::serving::ModelServer;
use serde_json::json;
use std::path::Path;

/// Serve a model to programs on this machine, as OpenAI's interface has it
///
/// `/v1/models`, `/v1/completions` (with `echo` and `logprobs`, as lm-evaluation-harness asks for them) and
/// `/v1/chat/completions`, streamed or not. It listens on 127.0.0.1 alone, needs no key, and answers one request after
/// another until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeModelArgs {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Port to listen on; 0 takes one that is free
    #[arg(long, value_name = "PORT", default_value_t = 8000, value_parser = port)]
    port: u16,
    /// Name under which clients ask for it [default: the last part of the checkpoint's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Seed of the first request that names none; each further one has the next
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = at_least(0_u64))]
    seed: u64,
    #[command(flatten)]
    talk: TalkArgs,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ServeModelArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let folder = args.checkpoint.folder(&project)?;
    let called = args.checkpoint.name();
    let last = Path::new(called).file_name();
    let last = last.map_or(called.into(), |last| last.to_string_lossy());
    let name = args.name.clone().unwrap_or_else(|| last.into_owned());
    // Before the model is read: a port that is taken is told at once.
    let server = ModelServer::bind(args.port)
        .map_err(|error| CommandError::user(error).hint("`--port 0` takes a port that is free"))?;
    let mut session = args.talk.open(&folder)?;
    let shutdown = Shutdown::new();
    signals::stop_on_signals(&shutdown)?;
    let url = format!("http://{}/v1", server.address());
    if ui.json {
        ui.json_row(&json!({
            "url": url, "model": name, "max_positions": session.max_positions(),
        }));
    } else {
        ui.stream(&format!("{name} is served at {url}; Ctrl-C ends it\n"));
    }
    server.serve(&mut session, &name, args.seed, &shutdown, &mut |line| {
        ui.say(line);
    });
    Ok(DONE)
}
