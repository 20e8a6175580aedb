//! What online DPO would ask and who would judge the replies.

use crate::config::spec::{JudgeRecipe, OnlineDpoRecipe, UnitInterval};
use crate::data::Wanted;
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
        JudgeRecipe::Rules => return constraints(inputs, stage, recipe),
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
    for source in &recipe.prompts.data {
        if let Some(rows) = inputs.known_rows(source, Wanted::Prompts) {
            inputs.whole(&format, &rows, asker);
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

/// The rules ask what a story was to be.
fn constraints(inputs: &mut Inputs, stage: &Stage<'_>, recipe: &OnlineDpoRecipe) {
    let prompts = &recipe.prompts;
    let asked = prompts.per_round.map_or(usize::MAX, NonZeroUsize::get);
    let asked = asked.saturating_mul(recipe.rounds.get());
    for (index, source) in prompts.data.iter().enumerate() {
        let Some(rows) = inputs.known_rows(source, Wanted::Prompts) else {
            continue;
        };
        let sampled = source.count.is_some() || source.fraction.is_some();
        let some = sampled || asked < rows.len();
        let path = format!("{DATA}.{index}.path");
        inputs.constraints(&rows, some, stage.asker(&path));
    }
}
