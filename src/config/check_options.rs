//! Rules of the options that both training stages share.

use crate::config::check::Checker;
use crate::config::spec::{
    Decay, Decontamination, Duration, LoraRecipe, Reference, ReferenceRecipe, ScheduleRecipe,
    TrainableEmbeddings,
};

impl Checker<'_> {
    /// The files of an evaluation are looked for whole.
    pub(crate) fn decontaminate(&mut self, given: Option<&Decontamination>, path: &str) {
        let Some(given) = given else { return };
        self.data(&given.data, &format!("{path}.data"));
        for (index, source) in given.data.iter().enumerate() {
            for (name, there) in [
                ("fraction", source.fraction.is_some()),
                ("count", source.count.is_some()),
            ] {
                if there {
                    let at = format!("{path}.data.{index}.{name}");
                    let message =
                        format!("`{path}` looks for whole files, `{name}` has no place here");
                    self.fail(&at, message, format!("remove `{name}`"));
                }
            }
        }
    }

    pub(crate) fn lora(&mut self, lora: Option<&LoraRecipe>, path: &str) {
        let Some(lora) = lora else { return };
        self.count(lora.rank.get(), &format!("{path}.rank"));
        let targets = format!("{path}.targets");
        self.must(
            !lora.targets.is_empty(),
            &targets,
            "an empty list",
            "at least one matrix",
        );
        for (index, target) in lora.targets.iter().enumerate() {
            if lora.targets[..index].contains(target) {
                let message = format!("`{}` is named twice", target.name());
                self.fail(&targets, message, "remove one of the two");
            }
        }
    }

    /// With adapters the embedding does not learn at all.
    pub(crate) fn lora_alone(&mut self, lora: bool, rows: Option<TrainableEmbeddings>, path: &str) {
        if lora && rows.is_some() {
            let message = "with `lora` no row of the embedding is trained";
            self.fail(path, message, "remove one of them");
        }
    }

    /// Ascending, without repeats, and within the run where its steps are known.
    pub(crate) fn save_steps(&mut self, steps: &[u64], duration: Duration, path: &str) {
        let mut last = 0;
        for (index, &step) in steps.iter().enumerate() {
            let at = format!("{path}.{index}");
            if step == 0 {
                self.fail(&at, "`save-steps` counts from 1, not 0", "write 1 or more");
            } else if step <= last {
                let message = format!("`save-steps` must ascend, but {step} follows {last}");
                self.fail(&at, message, "write each step once, the first first");
            }
            if let Duration::Steps(whole) = duration
                && step > whole
            {
                let message = format!("`save-steps` names step {step}, but the run has {whole}");
                self.fail(&at, message, format!("write {whole} or less"));
            }
            last = step.max(last);
        }
    }

    pub(crate) fn decay_ratio(&mut self, schedule: &ScheduleRecipe, path: &str) {
        let at = format!("{path}.decay-ratio");
        match (schedule.decay, schedule.decay_ratio) {
            (Decay::WarmupStableDecay, None) => {
                let message = "`warmup-stable-decay` needs `decay-ratio`";
                let help = "add the share of all steps that the decay takes, for example 0.2";
                self.fail(&format!("{path}.decay"), message, help);
            }
            (Decay::WarmupStableDecay, Some(ratio)) => {
                if ratio.get() + schedule.warmup_ratio.get() > 1.0 {
                    let message = "`warmup-ratio` and `decay-ratio` make more than 1";
                    self.fail(&at, message, "lower one of them");
                }
            }
            (_, Some(_)) => {
                let message = "`decay-ratio` belongs to `warmup-stable-decay` alone";
                self.fail(&at, message, "remove it");
            }
            (_, None) => {}
        }
    }

    pub(crate) fn reference_update(&mut self, reference: &ReferenceRecipe, path: &str) {
        let Some(update) = reference.reference_update else {
            return;
        };
        if reference.reference_free {
            let message = "there is no reference to update with `reference-free`";
            self.fail(path, message, "remove one of them");
        }
        if update.mix.get() < 1.0 && reference.model == Reference::Base {
            let message =
                "a `mix` below 1 starts from the checkpoint that is trained, not from `base`";
            let help = "write `reference = \"init\"`, or `mix = 1`";
            self.fail(&format!("{path}.mix"), message, help);
        }
    }
}
