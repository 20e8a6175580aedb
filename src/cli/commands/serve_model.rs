//! `lions serve-model`.

use crate::base::{Device, Shutdown};
use crate::cli::cards::access;
use crate::cli::checkpoint::CheckpointArgs;
use crate::cli::commands::export::Format;
use crate::cli::commands::generate::failed;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::signals;
use crate::cli::ui::Ui;
use crate::model::tune_allocator;
use crate::serving::ModelServer;
use crate::stage::{OpenModel, Session};
use serde_json::json;
use std::path::{Path, PathBuf};

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
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,
    /// Name under which clients ask for it [default: the last part of the checkpoint's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Seed of the first request that names none; each further one has the next
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A chat template in place of the model's own
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Number format
    #[arg(long, value_enum, default_value = "f32", value_name = "FORMAT")]
    precision: Format,
    /// `cpu` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ServeModelArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let folder = args.checkpoint.folder(&project)?;
    let device: Device = args.device.parse().map_err(CommandError::user)?;
    let called = args.checkpoint.name();
    let last = Path::new(called).file_name();
    let last = last.map_or(called.into(), |last| last.to_string_lossy());
    let name = args.name.clone().unwrap_or_else(|| last.into_owned());
    // Before the model is read: a port that is taken is told at once.
    let server = ModelServer::bind(args.port)
        .map_err(|error| CommandError::user(error).hint("`--port 0` takes a port that is free"))?;
    tune_allocator();
    let mut session = Session::open(&OpenModel {
        model: &folder,
        chat_template: args.chat_template.as_deref(),
        precision: args.precision.into(),
        device,
        access: &access(),
    })
    .map_err(failed)?;
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
        ui.say(line)
    });
    Ok(DONE)
}
