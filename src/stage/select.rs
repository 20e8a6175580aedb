//! The `select` stage: which rows of the training data are kept.

use crate::base::{SeedTree, counted};
use crate::config::select::SelectMethod;
use crate::config::spec::{PairLimits, Precision};
use crate::data::{
    PairRow, TextFormat, TokenizedPair, candidate_chats, candidate_pairs, select_seed,
};
use crate::model::SequenceReader;
use crate::plan::{InputRole, SELECTION_ARTIFACT, SelectRows, SelectStageRecipe};
use crate::select::{RowsRef, SelectContext, SelectModels, Selection, align_pairs, select_rows};
use crate::stage::attempt::{Attempt, SelectedRow};
use crate::stage::dpo::count_pairs;
use crate::stage::engine::Model;
use crate::stage::error::StageError;
use crate::stage::output::{StageOutput, count_rows};
use crate::train::{Learner, Scorer};

/// Name of the artifact with the score of every row.
const SCORES_ARTIFACT: &str = "scores.jsonl";

/// The models that a method asks.
#[derive(Default)]
struct Models {
    policy: Option<Box<dyn Model>>,
    learner: Option<Box<dyn Learner>>,
    base: Option<Box<dyn Model>>,
    embedder: Option<Box<dyn SequenceReader>>,
}

impl Models {
    fn lent(&mut self) -> SelectModels<'_> {
        SelectModels {
            policy: self.policy.as_mut().map(|m| &mut **m as &mut dyn Scorer),
            learner: self.learner.as_mut().map(|m| &mut **m as _),
            embedder: self.embedder.as_mut().map(|m| &mut **m as _),
            base: self.base.as_mut().map(|m| &mut **m as &mut dyn Scorer),
        }
    }
}

/// Scores the rows and writes which are kept.
pub(super) fn run(
    job: &mut Attempt<'_>,
    recipe: &SelectStageRecipe,
) -> Result<StageOutput, StageError> {
    let mut made = StageOutput::default();
    let source = job.model_dir()?;
    let (format, _) = job.open_format(&source)?;
    let mut models = open_models(job, recipe)?;
    let root = job.context.root.clone();
    let data_seed = recipe.data_seed.unwrap_or(0);
    match &recipe.rows {
        SelectRows::Chat { rows, max_seq_len } => {
            let (rows, report) = candidate_chats(&root, rows, data_seed)?;
            count_rows(&mut made, &report);
            let tokens = format.encode_chats(&rows)?;
            let rows = RowsRef::Chat {
                rows: &rows,
                tokens: &tokens,
                max_seq_len: *max_seq_len,
            };
            let places: Vec<usize> = (0..tokens.len()).collect();
            let selection = choose(job, recipe, &rows, &format, &mut models)?;
            write(job, &mut made, &rows, &places, &selection)?;
        }
        SelectRows::Pairs { rows, limits } => {
            let (rows, report) = candidate_pairs(&root, rows, data_seed)?;
            count_rows(&mut made, &report);
            let fitting = fitting(&mut made, &format, rows, limits)?;
            let rows = RowsRef::Pairs {
                rows: &fitting.rows,
                tokens: &fitting.tokens,
                limits,
            };
            let places = fitting.places;
            let selection = choose(job, recipe, &rows, &format, &mut models)?;
            write(job, &mut made, &rows, &places, &selection)?;
        }
    }
    Ok(made)
}

fn open_models(job: &Attempt<'_>, recipe: &SelectStageRecipe) -> Result<Models, StageError> {
    let method = &recipe.select.method;
    let precision = recipe.select.precision.unwrap_or(Precision::F32);
    let mut models = Models::default();
    if method.needs_policy() {
        let dir = job.model_dir()?;
        let (_, config) = job.open_format(&dir)?;
        if method.needs_gradients() {
            models.learner = Some(job.open_learner(&dir, &config, precision)?);
        } else if let SelectMethod::Deita(_) = method {
            models.embedder = Some(job.opener()?.reader(&dir, &config, precision)?);
        } else {
            models.policy = Some(job.open_model(&dir, &config, precision)?);
        }
    }
    if method.needs_base() {
        let dir = job.input(InputRole::Base, "base")?;
        let (_, config) = job.open_format(&dir)?;
        models.base = Some(job.open_model(&dir, &config, precision)?);
    }
    Ok(models)
}

/// Pairs within limits.
struct Fitting {
    rows: Vec<PairRow>,
    tokens: Vec<TokenizedPair>,
    /// Of each, among all rows.
    places: Vec<usize>,
}

/// The pairs within the limits, with their tokens and their places among all.
fn fitting(
    made: &mut StageOutput,
    format: &TextFormat,
    rows: Vec<PairRow>,
    limits: &PairLimits,
) -> Result<Fitting, StageError> {
    let (tokens, report) = format.encode_pairs(&rows, limits)?;
    count_pairs(made, &report);
    let (rows, places) = align_pairs(rows, &tokens);
    Ok(Fitting {
        rows,
        tokens,
        places,
    })
}

fn choose(
    job: &mut Attempt<'_>,
    recipe: &SelectStageRecipe,
    rows: &RowsRef<'_>,
    format: &TextFormat,
    models: &mut Models,
) -> Result<Selection, StageError> {
    job.telemetry.begin("rows", rows.len() as u64)?;
    let (root, opener) = (job.context.root.clone(), job.opener()?);
    let context = SelectContext {
        root: &root,
        format,
        opener: &*opener,
        max_positions: job.micro_batch_tokens(),
    };
    // The seed of the permutation whose prefix is `max-examples`: `random` keeps just that prefix.
    let seed: SeedTree = select_seed(job.file.seed);
    // Some methods see every row several times; the bar counts rows.
    let mut told = |done, total: usize| job.report(rows.len() * done / total.max(1));
    let (recipe, models) = (&recipe.select, models.lent());
    let chosen = select_rows(recipe, rows, &context, models, &seed, &mut told);
    Ok(chosen?)
}

/// Writes the kept rows in the order in which they were chosen, and the score of every row.
fn write(
    job: &Attempt<'_>,
    made: &mut StageOutput,
    rows: &RowsRef<'_>,
    places: &[usize],
    selection: &Selection,
) -> Result<(), StageError> {
    let line = |at: usize| SelectedRow {
        index: places[at],
        id: rows.id(at).to_owned(),
        score: selection
            .scores
            .get(at)
            .copied()
            .flatten()
            .filter(|s| s.is_finite()),
        why: selection.unscored.get(&at).cloned(),
    };
    let kept: Vec<SelectedRow> = selection.kept.iter().map(|&at| line(at)).collect();
    let all: Vec<SelectedRow> = (0..rows.len()).map(line).collect();
    made.count("rows_to_choose_from", rows.len());
    made.count("rows_kept", kept.len());
    for (reason, count) in &selection.notes {
        made.notes.push(format!(
            "{} could not be chosen: {reason}",
            counted(*count, "row")
        ));
    }
    job.write_lines(made, SELECTION_ARTIFACT, &kept)?;
    job.write_lines(made, SCORES_ARTIFACT, &all)
}
