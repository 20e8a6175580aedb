//! What the configuration of a point becomes for one of its seeds.

use crate::config::spec::{
    DataSource, Decontamination, RowsRecipe, SelectMethod, TrainingRecipe, TrialConfig,
};

impl TrialConfig {
    /// The same for a trial of this seed: every split has the part that is held out.
    #[must_use]
    pub(crate) fn for_seed(&self, seed: u64) -> Self {
        let mut config = self.clone();
        for source in config.sources_mut() {
            if let Some(fold) = &mut source.fold {
                fold.index.get_or_insert(seed % fold.of);
            }
        }
        config
    }

    /// Every data entry.
    fn sources_mut(&mut self) -> impl Iterator<Item = &mut DataSource> {
        let mut lists: Vec<&mut Vec<DataSource>> = Vec::new();
        if let Some(sft) = &mut self.sft {
            of_training(&mut sft.recipe.rows, &mut sft.recipe.training, &mut lists);
        }
        if let Some(dpo) = &mut self.dpo {
            of_training(&mut dpo.recipe.rows, &mut dpo.recipe.training, &mut lists);
        }
        if let Some(online) = &mut self.online_dpo {
            lists.push(&mut online.recipe.prompts.data);
            let dpo = &mut online.recipe.dpo;
            of_training(&mut dpo.rows, &mut dpo.training, &mut lists);
        }
        let method = self.select.as_mut().map(|select| &mut select.recipe.method);
        if let Some(SelectMethod::Less(less)) = method {
            lists.push(&mut less.data);
        }
        let eval = &mut self.eval.recipe;
        lists.extend(eval.likelihood.values_mut().map(|set| &mut set.data));
        lists.extend(eval.preference.values_mut().map(|set| &mut set.data));
        lists.extend(eval.stories.values_mut().map(|set| &mut set.data));
        lists.into_iter().flatten()
    }
}

fn of_training<'a>(
    rows: &'a mut RowsRecipe,
    training: &'a mut TrainingRecipe,
    lists: &mut Vec<&'a mut Vec<DataSource>>,
) {
    lists.push(&mut rows.data);
    let texts = |rules: &'a mut Decontamination| &mut rules.data;
    lists.extend(rows.decontaminate.as_mut().map(texts));
    lists.extend(training.monitor.as_mut().map(|monitor| &mut monitor.data));
}
