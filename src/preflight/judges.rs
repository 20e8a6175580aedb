//! What online DPO would ask and who would judge the replies.

use crate::base::counted;
use crate::config::spec::{DataSource, JudgeRecipe, OnlineDpoRecipe, Share, UnitInterval};
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
    enough_pairs(inputs, stage, recipe);
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

/// Says so if a round trains on more pairs than it can have: one of each of its prompts, and the offline ones.
fn enough_pairs(inputs: &mut Inputs, stage: &Stage<'_>, recipe: &OnlineDpoRecipe) {
    let rows = &recipe.dpo.rows;
    let Some(wanted) = rows.max_examples.map(NonZeroUsize::get) else {
        return;
    };
    let found = stage.sources(inputs, &recipe.prompts.data, (DATA, Wanted::Prompts));
    let offline = stage.candidates(inputs, rows, ("online-dpo.recipe.dpo", Wanted::Pairs));
    let (Some(found), Some(offline)) = (found.used, offline.used) else {
        return;
    };
    // Where a round takes more than there are, some come a second time.
    let asked = recipe.prompts.per_round.map(NonZeroUsize::get);
    let prompts = asked.map_or(found, |asked| asked.min(2 * found));
    let share = recipe.dpo.pairs.online_fraction.map_or(1.0, Share::get);
    let most = (share * prompts as f64).round() as usize + offline;
    if wanted > most {
        let message = format!(
            "`max-examples` is {wanted}, but a round has at most {}: of {} and {offline} offline",
            counted(most, "pair"),
            counted(prompts, "prompt")
        );
        let problem = stage.problem("online-dpo.recipe.dpo.max-examples", message);
        inputs.add(problem.help(format!("write {most} or less, or leave it out to use all")));
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
