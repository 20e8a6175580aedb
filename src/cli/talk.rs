//! Opens a model to be talked to.

use crate::base::Device;
use crate::cli::cards::access;
use crate::cli::commands::export::Format;
use crate::cli::error::{CommandError, ErrorKind};
use crate::model::tune_allocator;
use crate::rundir::FailureClass;
use crate::stage::{OpenModel, Session, StageError};
use std::path::{Path, PathBuf};

/// How a model is opened.
#[derive(Debug, clap::Args)]
pub(crate) struct TalkArgs {
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

impl TalkArgs {
    /// Opens the model of a folder.
    ///
    /// # Errors
    /// There is no such device, or the model or its template cannot be used.
    pub(crate) fn open(&self, folder: &Path) -> Result<Session, CommandError> {
        let device: Device = self.device.parse().map_err(CommandError::user)?;
        let device = device.alone().map_err(CommandError::user)?;
        tune_allocator();
        let open = OpenModel {
            model: folder,
            chat_template: self.chat_template.as_deref(),
            precision: self.precision.into(),
            device,
            access: &access(),
        };
        Session::open(&open).map_err(talk_failed)
    }
}

/// A failure of the engine as one of the command.
pub(crate) fn talk_failed(error: StageError) -> CommandError {
    let without_template = matches!(error, StageError::NoChat(_));
    let kind = match error.class() {
        FailureClass::Internal => ErrorKind::Internal,
        _ => ErrorKind::User,
    };
    let error = CommandError::of(kind, error);
    if without_template {
        return error
            .hint("`--raw` continues texts as they are; `--chat-template` names a template");
    }
    error
}
