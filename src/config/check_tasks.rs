//! Rules across the fields of evaluation tasks.

use crate::config::check::Checker;
use crate::config::file::{is_plain, made_plain};
use crate::config::keys::task_keys;
use crate::config::spec::{DataFile, PunktFiles, ScorerRecipe, TaskRecipe, TaskRequest};
use std::collections::BTreeSet;

impl Checker<'_> {
    /// Everything about the task `name`.
    pub(super) fn task(&mut self, name: &str, task: &TaskRecipe) {
        if task.file.is_some() {
            return; // it could not be read, which is told
        }
        let path = format!("eval.recipe.tasks.{name}");
        let at = |key: &str| format!("{path}.{key}");
        self.task_files(&task.data, &at("data"));
        if let Some(few_shot) = &task.few_shot
            && few_shot.count > 0
        {
            self.task_files(&few_shot.data, &at("few-shot.data"));
        }
        if task.score.is_empty() {
            self.fail(
                &at("score"),
                "nothing is scored",
                "for example `score = [\"acc\"]`",
            );
        }
        if task.system.is_some() && task.chat.is_some() {
            let message = "this is for tasks in plain text, and `chat` asks through a template";
            self.fail(&at("system"), message, "name the system turn `chat.system`");
        }
        for (index, scorer) in task.score.iter().enumerate() {
            self.scorer(task, scorer, &at(&format!("score.{index}")));
        }
        for (group, parts) in task.parts.iter().flat_map(|parts| &parts.groups) {
            for part in std::iter::once(group).chain(parts) {
                self.plain_part(part, &at(&format!("parts.groups.{group}")));
            }
        }
        let keys = task_keys(name, task);
        let distinct: BTreeSet<&String> = keys.iter().collect();
        if distinct.len() < keys.len() {
            let mut seen = BTreeSet::new();
            let twice = keys.iter().find(|key| !seen.insert(*key));
            let twice = twice.map_or("", String::as_str);
            let message = format!("two metrics of the task are called `{twice}`");
            let help = "give each scorer a `name` of its own, and each group and part";
            self.fail(&at("score"), message, help);
        }
    }

    fn task_files(&mut self, files: &[DataFile], path: &str) {
        if files.is_empty() {
            let help = "for example `data = [\"data/….jsonl\"]`";
            self.fail(path, format!("`{path}` names no data"), help);
        }
        for (index, file) in files.iter().enumerate() {
            self.data_path(file, &format!("{path}.{index}"));
        }
    }

    fn plain_part(&mut self, name: &str, path: &str) {
        if !is_plain(name, "-_.") {
            let message = format!(
                "`{name}` has other characters than letters, digits, `-`, `_` and `.`, and metric keys hold it"
            );
            self.fail(path, message, format!("for example `{}`", made_plain(name)));
        }
    }

    /// Whether a scorer suits what is asked.
    fn scorer(&mut self, task: &TaskRecipe, scorer: &ScorerRecipe, path: &str) {
        let of_choices = matches!(
            scorer,
            ScorerRecipe::Acc | ScorerRecipe::AccNorm | ScorerRecipe::AccBytes | ScorerRecipe::Mc2
        );
        let asks_choices = matches!(task.request, TaskRequest::Choices(_));
        if of_choices != asks_choices {
            let (what, asked) = if of_choices {
                ("choices", "`request.generate` asks for a text")
            } else {
                ("a text", "`request.choices` asks for likelihoods")
            };
            let help = "take `acc`, `acc-norm`, `acc-bytes` or `mc2` for choices, another scorer for texts";
            self.fail(path, format!("this scores {what}, and {asked}"), help);
        }
        let needs_target = of_choices || matches!(scorer, ScorerRecipe::ExactMatch(_));
        if needs_target && task.target.is_none() {
            let help = "add `target`, for example `target = \"answer\"`";
            self.fail(
                path,
                "this compares with what is right, and `target` is missing",
                help,
            );
        }
        let name = match scorer {
            ScorerRecipe::ExactMatch(recipe) => recipe.name.as_deref(),
            ScorerRecipe::Found(recipe) => recipe.name.as_deref(),
            ScorerRecipe::Ifeval(recipe) => {
                if let Some(files) = &recipe.punkt {
                    self.punkt(files, &format!("{path}.ifeval.punkt"));
                }
                None
            }
            _ => None,
        };
        if let Some(name) = name {
            self.plain_part(name, path);
        }
    }

    fn punkt(&mut self, files: &PunktFiles, path: &str) {
        for (key, file) in [
            ("abbreviations", &files.abbreviations),
            ("collocations", &files.collocations),
            ("starters", &files.starters),
            ("orthography", &files.orthography),
        ] {
            self.plain_file(file, &format!("{path}.{key}"));
        }
    }
}
