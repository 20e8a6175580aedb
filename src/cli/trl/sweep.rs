//! The files of a sweep that recipes of TRL come to.

use crate::cli::trl::read::FromTrl;
use crate::cli::trl::sets::Named;
use crate::config::toml_text;
use serde_json::{Map, Value, json};

/// A data file of a stage, as the sweep names it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    /// Where it comes from, if it is not there.
    pub(crate) from: Option<String>,
    pub(crate) share: f64,
}

impl File {
    /// Where the rows of a set of the Hub go.
    pub(crate) fn of(named: &Named) -> Self {
        if let Some(file) = &named.file {
            return Self {
                path: file.clone(),
                from: None,
                share: named.share,
            };
        }
        let stem = named.set.rsplit('/').next().unwrap_or(&named.set);
        Self {
            path: format!("data/{stem}/{}.parquet", named.split),
            from: Some(format!("data set {}, split {}", named.set, named.split)),
            share: named.share,
        }
    }

    fn source(&self) -> String {
        let path = toml_text(&self.path);
        if (self.share - 1.0).abs() < f64::EPSILON {
            format!("{{ path = {path} }}")
        } else {
            format!("{{ path = {path}, fraction = {} }}", toml_text(&self.share))
        }
    }
}

fn sources(files: &[File]) -> String {
    let files: Vec<String> = files.iter().map(File::source).collect();
    format!("[{}]", files.join(", "))
}

/// A stage with the files that it trains and is tested on.
pub(crate) struct Stage {
    pub(crate) recipe: FromTrl,
    pub(crate) train: Vec<File>,
    pub(crate) test: Vec<File>,
}

/// What the files are made of.
pub(crate) struct Translated<'a> {
    pub(crate) name: &'a str,
    pub(crate) question: &'a str,
    pub(crate) model: &'a str,
    /// Where the model comes from, if it is not there.
    pub(crate) model_from: Option<String>,
    /// In the order of the pipeline.
    pub(crate) stages: Vec<Stage>,
}

impl Translated<'_> {
    /// Every recipe value, and what is measured.
    pub(crate) fn base(&self) -> String {
        let pipeline: Vec<&str> = self.stages.iter().map(|stage| stage.recipe.stage).collect();
        let mut text = format!(
            "# Translated from recipes of TRL; `lions init` told what became of each of their keys.\n\
             # Keys that they leave out have TRL's defaults.\n\n\
             [base]\npipeline = {}\n\n[base.model]\npath = {}\n",
            toml_text(&pipeline),
            toml_text(self.model),
        );
        for stage in &self.stages {
            let heading = format!("base.{}.recipe", stage.recipe.stage);
            let first = format!("data = {}\n", sources(&stage.train));
            text += &table(&heading, &first, &stage.recipe.recipe);
        }
        text += &self.measured();
        text += &self.inputs();
        text
    }

    fn measured(&self) -> String {
        let precision = self.stages.last().map_or(json!("f32"), |stage| {
            stage.recipe.recipe["precision"].clone()
        });
        let mut text = format!(
            "\n[base.eval.recipe]\nprecision = {}\n",
            toml_text(&precision)
        );
        for stage in self.stages.iter().filter(|stage| !stage.test.is_empty()) {
            let recipe = &stage.recipe.recipe;
            text += &match stage.recipe.stage {
                "dpo" => format!(
                    "\n[base.eval.recipe.preference.held-out-pairs]\ndata = {}\nlimits = {}\n",
                    sources(&stage.test),
                    toml_text(&recipe["limits"]),
                ),
                _ => format!(
                    "\n[base.eval.recipe.likelihood.held-out]\ndata = {}\nmax-seq-len = {}\n",
                    sources(&stage.test),
                    toml_text(&recipe["max-seq-len"]),
                ),
            };
        }
        text
    }

    /// Where what is not there comes from, for messages.
    fn inputs(&self) -> String {
        let mut text = String::new();
        let files = self
            .stages
            .iter()
            .flat_map(|stage| stage.train.iter().chain(&stage.test));
        let files = files.map(|file| (file.path.as_str(), file.from.clone()));
        let mut told: Vec<&str> = Vec::new();
        for (path, from) in std::iter::once((self.model, self.model_from.clone())).chain(files) {
            if let Some(from) = from.filter(|_| !told.contains(&path)) {
                text += &format!(
                    "\n[inputs.{}]\nfrom = {}\n",
                    toml_text(path),
                    toml_text(&from)
                );
                told.push(path);
            }
        }
        text
    }

    /// A sweep over β, or over the learning rate, around the value of the recipe.
    pub(crate) fn sweep(&self, base: &str) -> String {
        let last = self.stages.last();
        let is_dpo = last.is_some_and(|stage| stage.recipe.stage == "dpo");
        let recipe = last
            .map(|stage| Value::Object(stage.recipe.recipe.clone()))
            .unwrap_or_default();
        let (path, axis, own) = if is_dpo {
            ("dpo.recipe.beta", "beta", &recipe["beta"])
        } else {
            (
                "sft.recipe.optimizer.learning-rate",
                "learning-rate",
                &recipe["optimizer"]["learning-rate"],
            )
        };
        let own = own.as_f64().unwrap_or(0.1);
        let near = |factor: f64| {
            let value: f64 = format!("{:.1e}", own * factor).parse().unwrap_or(own);
            toml_text(&value)
        };
        let question = toml_text(self.question);
        let mut text = format!(
            "extends = [{}]\n\n[sweep]\nname = {}\nquestion = {question}\nseeds = [1, 2, 3]\n\n\
             [[axis]]\npath = \"{path}\"\nvalues = [{}, {}, {}]\n",
            toml_text(base),
            toml_text(self.name),
            near(0.2),
            toml_text(&own),
            near(5.0),
        );
        let tested = |stage: &str| {
            self.stages
                .iter()
                .any(|s| s.recipe.stage == stage && !s.test.is_empty())
        };
        let mut metrics = Vec::new();
        if tested("dpo") {
            metrics.extend([
                "held-out-pairs/rewards/accuracies",
                "held-out-pairs/rewards/margins",
            ]);
        }
        if tested("sft") {
            metrics.push("held-out/loss");
        }
        if let Some(first) = metrics.first() {
            text += &format!(
                "\n[[report.table]]\nname = \"{axis}\"\ntitle = {question}\nmetrics = {}\nbaseline = {{ {axis} = {} }}\n\n\
                 [[report.figure]]\nname = \"{axis}\"\ntitle = {question}\nkind = \"lines\"\nmetric = \"{first}\"\n\
                 x = \"{axis}\"\nlog-x = true\n",
                toml_text(&metrics),
                toml_text(&own),
            );
        }
        text
    }
}

/// A table of a recipe: plain values first, then the optimiser and the schedule as tables of their own.
fn table(heading: &str, first: &str, recipe: &Map<String, Value>) -> String {
    let is_table = |key: &str| ["optimizer", "schedule"].contains(&key);
    let line = |(key, value): (&String, &Value)| format!("{key} = {}\n", toml_text(value));
    let plain: String = recipe
        .iter()
        .filter(|(key, _)| !is_table(key))
        .map(line)
        .collect();
    let mut text = format!("\n[{heading}]\n{first}{plain}");
    for (key, value) in recipe.iter().filter(|(key, _)| is_table(key)) {
        let lines: String = value.as_object().into_iter().flatten().map(line).collect();
        text += &format!("\n[{heading}.{key}]\n{lines}");
    }
    text
}
