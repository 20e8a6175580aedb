//! What every stage that asks an endpoint needs: its key, and the file of raw answers, which outlives an attempt.

use crate::base::fs::{copy, create_dir};
use crate::base::{PathError, write_atomic};
use crate::config::spec::JudgeRuntime;
use crate::stage::attempt::Attempt;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use std::path::{Path, PathBuf};

impl Attempt<'_> {
    /// Where raw answers are kept while this attempt works; with those that an earlier attempt received.
    pub(super) fn answers_file(&self, name: &str) -> Result<PathBuf, StageError> {
        let answers = self.work().join(name);
        create_dir(&self.work())?;
        if let Some(earlier) = self.newest_work(name)
            && earlier != answers
        {
            // Whole or not at all: of half a copy a later attempt would take the rest as never asked.
            let kept = std::fs::read(&earlier).map_err(|e| PathError::new("read", &earlier, e))?;
            write_atomic(&answers, &kept)?;
        }
        Ok(answers)
    }

    /// Raw answers as an artifact, if there are any.
    pub(super) fn publish_answers(
        &self,
        made: &mut StageOutput,
        answers: &Path,
        name: &str,
    ) -> Result<(), StageError> {
        if answers.is_file() {
            create_dir(&self.dir.out())?;
            copy(answers, &self.dir.out().join(name))?;
            made.artifacts.push(name.to_owned());
        }
        Ok(())
    }

    /// The endpoint's key; none if the runtime names no variable.
    pub(super) fn endpoint_key(
        &self,
        runtime: &JudgeRuntime,
    ) -> Result<Option<String>, StageError> {
        let Some(name) = &runtime.key_env else {
            return Ok(None);
        };
        let key = (self.context.secret)(name);
        key.map(Some).ok_or_else(|| StageError::NoSecret {
            variable: name.clone(),
        })
    }
}
