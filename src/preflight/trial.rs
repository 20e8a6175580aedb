//! Everything that one trial would use.

use crate::config::spec::{SelectConfig, SelectOf};
use crate::config::sweep::Trial;
use crate::preflight::inputs::Inputs;
use crate::preflight::judges::look_at_judge;
use crate::preflight::leaks::{Sources, find_leaks};
use crate::preflight::selection::look_at_selection;
use crate::preflight::stages::Stage;

/// Everything about one trial; the optimiser steps of its last training, where they are known.
pub(super) fn look_at_trial(inputs: &mut Inputs, trial: &Trial) -> Option<u64> {
    let config = &trial.config;
    let format = inputs.format(&config.model, trial.index);
    let format = format.as_deref();
    let select = config.select.as_ref();
    let stage = |of: Option<SelectOf>| Stage {
        trial: trial.index,
        seed: trial.seed,
        model: &config.model.path,
        format,
        keep: select.filter(|select| Some(select.of) == of).map(keep),
    };
    let mut held_out = Sources::new();
    let mut steps = None;
    for name in config.pipeline.iter().map(|stage| stage.name()) {
        match (name, &config.sft, &config.dpo, &config.online_dpo) {
            ("sft", Some(sft), _, _) => {
                steps = stage(Some(SelectOf::Sft)).sft(inputs, &sft.recipe, &mut held_out);
            }
            ("dpo", _, Some(dpo), _) => {
                let stage = stage(Some(SelectOf::Dpo));
                steps = stage.dpo(inputs, &dpo.recipe, "dpo.recipe", &mut held_out);
            }
            ("online-dpo", _, _, Some(online)) => {
                let stage = stage(None);
                look_at_judge(inputs, &stage, &online.recipe);
                let path = "online-dpo.recipe.dpo";
                steps = stage.dpo(inputs, &online.recipe.dpo, path, &mut held_out);
            }
            _ => {}
        }
    }
    if let Some(select) = select {
        look_at_selection(inputs, &stage(None), config, select);
    }
    stage(None).evaluation(inputs, config, &mut held_out);
    find_leaks(inputs, trial.index, config, &held_out);
    steps
}

fn keep(select: &SelectConfig) -> usize {
    select.recipe.keep.get()
}
