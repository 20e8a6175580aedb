//! Opens the judge of a `judge` stage and lets it score.

use crate::base::fs::{copy, create_dir};
use crate::judge::{Candidates, JudgePlace, open_judge};
use crate::plan::JudgeStageRecipe;
use crate::stage::error::StageError;
use crate::stage::job::{Job, Made};
use crate::train::TrainError;

/// Name of the file, and artifact, with every raw answer of an endpoint.
const ANSWERS_ARTIFACT: &str = "answers.jsonl";

/// Scores of every item's replies. Answers that an earlier attempt received are not asked for again.
pub(super) fn judge_all(
    job: &mut Job<'_>,
    made: &mut Made,
    recipe: &JudgeStageRecipe,
    items: &[Candidates],
) -> Result<Vec<Vec<f64>>, StageError> {
    let answers = job.work().join(ANSWERS_ARTIFACT);
    create_dir(&job.work())?;
    if let Some(earlier) = job.newest_work(ANSWERS_ARTIFACT)
        && earlier != answers
    {
        copy(&earlier, &answers)?;
    }
    let runtime = job.file.judge_runtime.clone().unwrap_or_default();
    let key = match &runtime.key_env {
        Some(name) => Some(
            (job.context.secret)(name).ok_or_else(|| StageError::NoSecret {
                variable: name.clone(),
            })?,
        ),
        None => None,
    };
    let root = job.context.root.clone();
    let device = job.device.clone();
    let place = JudgePlace {
        root: &root,
        device: &device,
        answers: &answers,
        key: key.as_deref(),
    };
    let mut judge = open_judge(&recipe.judge, &runtime, place)?;
    let mut failed: Option<TrainError> = None;
    let scores = judge.judge(items, &mut |done| {
        if failed.is_none() {
            failed = job.report(done).err();
        }
        failed.is_none()
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    let scores = scores?;
    drop(judge);
    if answers.is_file() {
        create_dir(&job.attempt.out())?;
        copy(&answers, &job.attempt.out().join(ANSWERS_ARTIFACT))?;
        made.artifacts.push(ANSWERS_ARTIFACT.to_owned());
    }
    Ok(scores)
}
