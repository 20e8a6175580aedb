//! What online DPO would ask and who would judge the replies.

use crate::config::spec::{DataSource, JudgeRecipe, OnlineDpoRecipe, UnitInterval};
use crate::data::{FileRows, Wanted};
use crate::preflight::folders::{Folder, Role};
use crate::preflight::inputs::Inputs;
use crate::preflight::problem::Asker;
use crate::preflight::stages::Stage;
use std::num::NonZeroUsize;

const DATA: &str = "online-dpo.recipe.prompts.data";

/// The prompts, the judge's own model, and whether it can read them.
pub(super) fn look_at_judge(inputs: &mut Inputs, stage: &Stage<'_>, recipe: &OnlineDpoRecipe) {
    stage.prompts(inputs, &recipe.prompts, "online-dpo.recipe.prompts");
    originals(inputs, stage, recipe);
    let (folder, role) = match &recipe.judge {
        JudgeRecipe::RewardModel(model) => (&model.model_path, Role::Reward),
        JudgeRecipe::Pairrm(model) => (&model.model_path, Role::Pairrm),
        JudgeRecipe::LocalModel(model) => (&model.model_path, Role::Chat),
        JudgeRecipe::Rules | JudgeRecipe::SomeRules(_) => {
            return constraints(inputs, stage, recipe);
        }
        JudgeRecipe::Openai(_) => return,
    };
    let path = format!("online-dpo.recipe.judge.{}.model-path", recipe.judge.name());
    let asker = Asker {
        path: &path,
        ..stage.asker(DATA)
    };
    let Some(format) = inputs.folder(Folder::new(folder, role), asker) else {
        return;
    };
    if role == Role::Chat {
        // It reads questions, whose turns are this program's.
        return;
    }
    for source in &recipe.prompts.data {
        if let Some(rows) = inputs.known_rows(source, Wanted::Prompts) {
            let uses_all = asks_every(recipe, source, &rows);
            inputs.whole(&format, &rows, Asker { uses_all, ..asker });
        }
    }
}

/// Offline replies can take the place of samples only where prompts come from pairs.
fn originals(inputs: &mut Inputs, stage: &Stage<'_>, recipe: &OnlineDpoRecipe) {
    let shares = [
        ("p-ori-pair", recipe.p_ori_pair),
        ("p-ori-chosen", recipe.p_ori_chosen),
    ];
    for (name, share) in shares {
        if share.map_or(0.0, UnitInterval::get) <= 0.0 {
            continue;
        }
        for source in &recipe.prompts.data {
            let rows = inputs.known_rows(source, Wanted::Prompts);
            if rows.is_some_and(|rows| !rows.chats.is_empty()) {
                let path = &source.path;
                let message = format!("`{name}` takes offline pairs, and `{path}` has none");
                let problem = stage.problem(format!("online-dpo.recipe.{name}"), message);
                inputs.add(problem.help("take prompts of preference data, or leave it out"));
            }
        }
    }
}

/// Whether the prompt of every row of a file is asked.
fn asks_every(recipe: &OnlineDpoRecipe, source: &DataSource, rows: &FileRows) -> bool {
    let prompts = recipe.prompts.per_round;
    let asked = prompts.map_or(usize::MAX, NonZeroUsize::get);
    let asked = asked.saturating_mul(recipe.rounds.get());
    source.count.is_none() && source.fraction.is_none() && asked >= rows.len()
}

/// The rules ask what a story was to be.
fn constraints(inputs: &mut Inputs, stage: &Stage<'_>, recipe: &OnlineDpoRecipe) {
    for (index, source) in recipe.prompts.data.iter().enumerate() {
        let Some(rows) = inputs.known_rows(source, Wanted::Prompts) else {
            continue;
        };
        let some = !asks_every(recipe, source, &rows);
        let path = format!("{DATA}.{index}.path");
        inputs.constraints(&rows, some, stage.asker(&path));
    }
}
