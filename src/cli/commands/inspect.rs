//! `lions inspect`.

use crate::base::SeedTree;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::planned::make;
use crate::cli::project::Project;
use crate::cli::sweep_file::SweepFile;
use crate::cli::text::counted;
use crate::cli::ui::{Tone, Ui};
use crate::config::Inputs;
use crate::config::spec::{DpoConfig, PipelineStage, SelectOf, SftConfig};
use crate::config::sweep::{Sweep, Trial};
use crate::data::{
    InspectedToken, Narrowed, PairPlan, SftPlan, TextFormat, TokenizedPair, inspect_row,
    training_chats, training_pairs,
};
use crate::plan::{KnownLengths, PlannedRun, SELECTION_ARTIFACT, StageKind};
use crate::report::ColumnFit::{Cut, Whole};
use crate::rundir::{RunDir, Verify, verified_outcome};
use crate::stage::kept_rows;
use serde_json::json;

/// Show a training row as the model sees it
///
/// The text of every token with its loss mask, position and segment, for any step and row of any
/// trial. Tokens that count in the loss are coloured and stand between ‹ and ›; ┃ begins a segment.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    sweep: SweepFile,
    /// Trial, by its number in `lions plan --json`
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = at_least(0_usize))]
    trial: usize,
    /// Which stage's data; the last training stage of the trial if absent
    #[arg(long, value_enum)]
    stage: Option<DataStage>,
    /// Optimiser step, from 1
    #[arg(long, default_value_t = 1, value_parser = at_least(1_u64))]
    step: u64,
    /// Row of the step (a window or document; a pair for DPO), from 0
    #[arg(long, default_value_t = 0, value_parser = at_least(0_usize))]
    row: usize,
    /// List every token in a table
    #[arg(long)]
    tokens: bool,
}

/// A stage that trains on rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DataStage {
    Sft,
    Dpo,
}

impl DataStage {
    fn of(stage: PipelineStage) -> Option<Self> {
        match stage {
            PipelineStage::Sft => Some(Self::Sft),
            PipelineStage::Dpo => Some(Self::Dpo),
            PipelineStage::OnlineDpo => None, // its data are made by its own runs
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
        }
    }
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &InspectArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), Some(&args.sweep.file))?;
    let sweep = args.sweep.load(ui, &project, Inputs::Required)?;
    let trial = pick(&sweep, args.trial)?;
    let model = project.root.join(&trial.config.model.path);
    let template = trial
        .config
        .model
        .chat_template
        .as_ref()
        .map(|path| project.root.join(path));
    let stage = stage_of(trial, args.stage)?;
    let format = TextFormat::open(&model, template.as_deref()).map_err(CommandError::user)?;
    match (stage, &trial.config.sft, &trial.config.dpo) {
        (DataStage::Sft, Some(sft), _) => {
            let kept = kept(&project, &sweep, trial, SelectOf::Sft)?;
            inspect_sft(ui, &project, trial, sft, &format, kept.as_deref(), args)?;
        }
        (DataStage::Dpo, _, Some(dpo)) => {
            let kept = kept(&project, &sweep, trial, SelectOf::Dpo)?;
            inspect_dpo(ui, &project, trial, dpo, &format, kept.as_deref(), args)?;
        }
        _ => return Err(no_stage(trial, args.stage)),
    }
    Ok(DONE)
}

/// Places of the rows that the trial's filter kept of a stage's data; none if it filters other data.
fn kept(
    project: &Project,
    sweep: &Sweep,
    trial: &Trial,
    of: SelectOf,
) -> Result<Option<Vec<usize>>, CommandError> {
    let filters = trial.config.select.as_ref().is_some_and(|s| s.of == of);
    let plan = if filters {
        make(project, sweep, &KnownLengths::default())?
    } else {
        return Ok(None);
    };
    let of_trial = plan.trials.iter().find(|t| t.index == trial.index);
    let is_filter = |run: &&PlannedRun| {
        run.kind == StageKind::Select && of_trial.is_some_and(|t| t.runs.contains(&run.id))
    };
    // A stage that the pipeline does not name is not filtered.
    let Some(run) = plan.runs.iter().find(is_filter) else {
        return Ok(None);
    };
    let dir = RunDir::new(&project.root, &run.id);
    if !matches!(verified_outcome(&dir, Verify::Sizes), Ok(Some(_))) {
        let message = format!(
            "the rows of trial {} ({}) are chosen by run {}, which is not done",
            trial.index,
            trial.label(),
            run.id.short()
        );
        return Err(CommandError::user(message).hint("`lions run` of the sweep does it"));
    }
    let rows = kept_rows(&dir.artifacts().join(SELECTION_ARTIFACT));
    rows.map(Some).map_err(CommandError::user)
}

pub(crate) fn pick(sweep: &Sweep, index: usize) -> Result<&Trial, CommandError> {
    sweep.trials.get(index).ok_or_else(|| {
        let have = sweep.trials.len();
        CommandError::user(format!(
            "sweep `{}` has no trial {index}, it has {}",
            sweep.name,
            counted(have, "trial")
        ))
        .hint(format!(
            "`--trial` goes from 0 to {}",
            have.saturating_sub(1)
        ))
    })
}

/// The stage that was asked for, which the trial must run, or its last training stage with rows.
fn stage_of(trial: &Trial, asked: Option<DataStage>) -> Result<DataStage, CommandError> {
    let stages = trial.config.pipeline.iter().rev();
    let mut trained = stages.filter_map(|stage| DataStage::of(*stage));
    let found = trained.find(|stage| asked.is_none_or(|asked| asked == *stage));
    found.ok_or_else(|| no_stage(trial, asked))
}

fn no_stage(trial: &Trial, asked: Option<DataStage>) -> CommandError {
    let (index, label) = (trial.index, trial.label());
    let what = match asked {
        Some(stage) => format!("does not run `{}`", stage.name()),
        None => "trains on no rows of files".to_owned(),
    };
    let failure = CommandError::user(format!("trial {index} ({label}) {what}"));
    let stages = trial.config.pipeline.iter();
    let names: Vec<&str> = stages.map(|stage| stage.name()).collect();
    failure.hint(match names.as_slice() {
        [] => "it evaluates the model as it is".to_owned(),
        names => format!("it runs {}; `--trial` picks another", names.join(", ")),
    })
}

fn out_of_range(what: &str, asked: u64, have: u64) -> CommandError {
    let are = if have == 1 { "is" } else { "are" };
    let first = usize::from(what == "step");
    CommandError::user(format!("there is no {what} {asked}")).hint(format!(
        "there {are} {}, counted from {first}",
        counted(have, what)
    ))
}

fn inspect_sft(
    ui: &Ui,
    project: &Project,
    trial: &Trial,
    sft: &SftConfig,
    format: &TextFormat,
    kept: Option<&[usize]>,
    args: &InspectArgs,
) -> Result<(), CommandError> {
    let recipe = &sft.recipe;
    let seed = SeedTree::root(recipe.training.seed.unwrap_or(trial.seed));
    let data_seed = recipe
        .rows
        .data_seed
        .or(recipe.training.seed)
        .unwrap_or(trial.seed);
    let (rows, _) = training_chats(&project.root, &recipe.rows, data_seed, format, kept)
        .map_err(CommandError::user)?;
    let examples = format.encode_chats(&rows).map_err(CommandError::user)?;
    let plan = SftPlan::new(
        examples,
        &recipe.layout,
        recipe.training.duration,
        &seed,
        format.pad_token(),
    )
    .map_err(CommandError::user)?;
    let step = args.step.checked_sub(1).and_then(|index| plan.step(index));
    let step = step.ok_or_else(|| out_of_range("step", args.step, plan.steps()))?;
    let row = step.rows.get(args.row);
    let row = row.ok_or_else(|| out_of_range("row", args.row as u64, step.rows.len() as u64))?;
    let tokens = inspect_row(row, format);
    let title = format!(
        "trial {} ({}), sft step {} of {}, row {} of {}",
        trial.index,
        trial.label(),
        args.step,
        plan.steps(),
        args.row,
        step.rows.len()
    );
    show(ui, &title, &tokens, args.tokens)
}

fn inspect_dpo(
    ui: &Ui,
    project: &Project,
    trial: &Trial,
    dpo: &DpoConfig,
    format: &TextFormat,
    kept: Option<&[usize]>,
    args: &InspectArgs,
) -> Result<(), CommandError> {
    let recipe = &dpo.recipe;
    let seed = SeedTree::root(recipe.training.seed.unwrap_or(trial.seed));
    let data_seed = recipe
        .rows
        .data_seed
        .or(recipe.training.seed)
        .unwrap_or(trial.seed);
    let (rows, _) = training_pairs(
        &project.root,
        &recipe.rows,
        data_seed,
        format,
        Narrowed {
            kept,
            made: Vec::new(),
        },
    )
    .map_err(CommandError::user)?;
    let (pairs, _) = format
        .encode_pairs(&rows, &recipe.pairs.limits)
        .map_err(CommandError::user)?;
    let batch = recipe.pairs.global_batch_size.get();
    let plan = PairPlan::new(pairs.len(), batch, recipe.training.duration, &seed)
        .map_err(CommandError::user)?;
    let step = args.step.checked_sub(1).and_then(|index| plan.step(index));
    let step = step.ok_or_else(|| out_of_range("step", args.step, plan.steps()))?;
    let pair = step.get(args.row).and_then(|&index| pairs.get(index));
    let pair = pair.ok_or_else(|| out_of_range("pair", args.row as u64, step.len() as u64))?;
    let title = format!(
        "trial {} ({}), dpo step {} of {}, pair {} of {}: `{}`",
        trial.index,
        trial.label(),
        args.step,
        plan.steps(),
        args.row,
        step.len(),
        pair.id
    );
    show(ui, &title, &pair_tokens(pair, format), args.tokens)
}

/// The two sequences that DPO computes for a pair, one after the other.
fn pair_tokens(pair: &TokenizedPair, format: &TextFormat) -> Vec<InspectedToken> {
    let mut tokens = Vec::new();
    for (segment, (half, completion)) in [("chosen", &pair.chosen), ("rejected", &pair.rejected)]
        .iter()
        .enumerate()
    {
        let ids = pair.prompt.iter().chain(completion.iter());
        tokens.extend(ids.enumerate().map(|(position, &id)| InspectedToken {
            id,
            text: format.token_text(id),
            target: position >= pair.prompt.len(),
            position,
            segment,
            document: (*half).to_owned(),
            padding: false,
        }));
    }
    tokens
}

fn show(ui: &Ui, title: &str, tokens: &[InspectedToken], table: bool) -> Result<(), CommandError> {
    if ui.json {
        return ui.print_json(&json!({ "title": title, "tokens": tokens }));
    }
    let count =
        |keep: fn(&InspectedToken) -> bool| tokens.iter().filter(|token| keep(token)).count();
    let segments = tokens
        .iter()
        .map(|token| token.segment + 1)
        .max()
        .unwrap_or(0);
    ui.text(&ui.tone(Tone::Strong, title));
    ui.text(&format!(
        "{}, {}, {}, {} padding",
        counted(tokens.len(), "position"),
        counted(segments, "segment"),
        counted(count(|token| token.target), "target"),
        count(|token| token.padding),
    ));
    ui.out("");
    if table {
        let columns = [
            ("position", Whole),
            ("segment", Whole),
            ("document", Cut),
            ("token", Cut),
            ("id", Whole),
            ("target", Whole),
        ];
        ui.headed_table(columns, tokens.iter().map(|token| table_row(ui, token)));
    } else {
        ui.out(&flowing(ui, tokens));
    }
    Ok(())
}

fn table_row(ui: &Ui, token: &InspectedToken) -> Vec<String> {
    let target = if token.padding {
        "padding"
    } else if token.target {
        "target"
    } else {
        ""
    };
    let tone = if token.target { Tone::Good } else { Tone::Dim };
    vec![
        token.position.to_string(),
        token.segment.to_string(),
        token.document.clone(),
        ui.tone(tone, &format!("{:?}", token.text)),
        token.id.to_string(),
        target.to_owned(),
    ]
}

/// The text as it flows, targets between ‹ and ›, a bar where a segment begins.
fn flowing(ui: &Ui, tokens: &[InspectedToken]) -> String {
    let mut text = String::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|i| tokens.get(i));
        let same = before.filter(|b| b.segment == token.segment);
        if same.is_none() {
            let bar = format!(
                "{}┃ {} ",
                if index == 0 { "" } else { "\n" },
                token.document
            );
            text.push_str(&ui.tone(Tone::Accent, &bar));
        }
        if token.target && !same.is_some_and(|b| b.target) {
            text.push('‹');
        }
        let tone = if token.target { Tone::Good } else { Tone::Dim };
        let shown = if token.padding {
            "·".to_owned()
        } else {
            token.text.replace('▁', " ")
        };
        text.push_str(&ui.tone(tone, &shown));
        let next_counts = tokens
            .get(index + 1)
            .is_some_and(|n| n.segment == token.segment && n.target);
        if token.target && !next_counts {
            text.push('›');
        }
    }
    text
}
