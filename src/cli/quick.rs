//! A sweep that is told on the command line: the file that the words mean.

use crate::base::write_atomic;
use crate::cli::error::CommandError;
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::sweep_file::{Changes, SweepFile, base_files, mistakes, plain_name};
use crate::cli::ui::Ui;
use crate::config::sweep::Sweep;
use crate::config::{
    Inputs, Overrides, Places, final_metric_keys, load_placed_sweep, parse_toml, toml_text,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

// A doc comment here would replace the help of the commands that take these.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct QuickSweep {
    /// Without a sweep file: an axis over a field of `--base`, for example
    /// `dpo.recipe.beta=0.01,0.1`; repeatable
    #[arg(
        long = "axis",
        value_name = "PATH=VALUE,…",
        conflicts_with = "sweep-files"
    )]
    axes: Vec<String>,
    /// With `--axis`: the seeds [default: 1,2,3]
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "axes", value_parser = at_least(0_u64))]
    seeds: Vec<u64>,
    /// With `--axis`: the sweep's name; its file is `sweeps/NAME.toml` [default: the axes' names]
    #[arg(long, value_name = "NAME", requires = "axes")]
    name: Option<String>,
    /// With `--axis`: the question that the sweep answers
    #[arg(long, value_name = "TEXT", requires = "axes")]
    question: Option<String>,
}

/// The id of the sweep files among a command's arguments, which `--axis` stands instead of.
pub(crate) const SWEEP_FILES: &str = "sweep-files";

/// An axis as typed: its path, its name, its values.
struct Axis {
    path: String,
    name: String,
    values: Vec<Value>,
}

/// What a base is read for before a sweep on it is written.
struct Base {
    /// As `extends` names it.
    named: String,
    tree: Value,
}

/// Endings of metrics that a figure is drawn of, the foremost first.
const TELLING: [&str; 5] = [
    "/rewards/accuracies",
    "/rewards/margins",
    "/loss",
    "/rule_score",
    "/acc",
];

/// Most axes that one figure shows: one on x and one in colours.
const DRAWN: usize = 2;

impl QuickSweep {
    pub(crate) fn is_asked(&self) -> bool {
        !self.axes.is_empty()
    }

    /// The sweep that the words mean, without writing anything.
    pub(crate) fn load(
        &self,
        ui: &Ui,
        project: &Project,
        changes: &Changes,
        inputs: Inputs,
    ) -> Result<(Sweep, Places), CommandError> {
        let (file, text) = self.text(ui, project, changes)?;
        loaded(ui, project, &file, text, &changes.sets, inputs)
    }

    /// Writes the file that the words mean, or finds it there as they mean it.
    pub(crate) fn write(
        &self,
        ui: &Ui,
        project: &Project,
        changes: &Changes,
    ) -> Result<SweepFile, CommandError> {
        let (file, text) = self.text(ui, project, changes)?;
        let shown = file.strip_prefix(&project.root).unwrap_or(&file);
        match std::fs::read_to_string(&file) {
            Ok(found) if found == text => {}
            Ok(_) => {
                let message = format!("`{}` is there and holds another sweep", shown.display());
                return Err(CommandError::user(message).hint("give this one another `--name`"));
            }
            Err(_) => {
                write_atomic(&file, text.as_bytes()).map_err(CommandError::user)?;
                ui.say(&format!("wrote {}", shown.display()));
            }
        }
        // As a person would type it.
        let cwd = std::env::current_dir().unwrap_or_default();
        let file = file.strip_prefix(&cwd).map_or(file.clone(), Path::to_owned);
        Ok(SweepFile {
            file,
            changes: Changes {
                base: None,
                sets: changes.sets.clone(),
            },
        })
    }

    /// The file and what it holds.
    fn text(
        &self,
        ui: &Ui,
        project: &Project,
        changes: &Changes,
    ) -> Result<(PathBuf, String), CommandError> {
        let base = read_base(project, changes.base.as_deref())?;
        let axes = self.read_axes()?;
        let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
        let name = self.name.clone().unwrap_or_else(|| names.join("-"));
        plain_name(&name)?;
        let file = project.root.join(format!("sweeps/{name}.toml"));
        let draft = self.draft(&base, &axes, &name);
        let optional = Inputs::Optional;
        let (sweep, _) = loaded(ui, project, &file, draft.clone(), &changes.sets, optional)?;
        Ok((file, draft + &report(&sweep, &axes)))
    }

    fn read_axes(&self) -> Result<Vec<Axis>, CommandError> {
        let mut axes = Vec::new();
        for word in &self.axes {
            let Some((path, values)) = word
                .split_once('=')
                .filter(|(_, values)| !values.is_empty())
            else {
                let error = CommandError::user(format!("`--axis {word}` has no values"));
                return Err(error.hint("for example `--axis dpo.recipe.beta=0.01,0.1`"));
            };
            let last = path.rsplit('.').next().unwrap_or(path);
            let last_of = |word: &String| {
                let path = word.split('=').next().unwrap_or_default();
                path.rsplit('.').next() == Some(last)
            };
            let alone = self.axes.iter().filter(|word| last_of(word)).count() == 1;
            axes.push(Axis {
                path: path.to_owned(),
                name: if alone {
                    last.to_owned()
                } else {
                    path.to_owned()
                },
                values: read_values(values),
            });
        }
        Ok(axes)
    }

    /// All but what is reported.
    fn draft(&self, base: &Base, axes: &[Axis], name: &str) -> String {
        let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
        let names = names.join(" and ");
        let question = self.question.clone().unwrap_or_else(|| match axes.len() {
            1 => format!("What does {names} do?"),
            _ => format!("What do {names} do?"),
        });
        let seeds = match self.seeds.as_slice() {
            [] => vec![1, 2, 3],
            seeds => seeds.to_vec(),
        };
        let mut text = format!(
            "# Written from the words of a command line; change it as you like.\n\
             extends = [{}]\n\n[sweep]\nname = {}\nquestion = {}\nseeds = {}\n",
            toml_text(&base.named),
            toml_text(name),
            toml_text(&question),
            toml_text(&seeds),
        );
        text += &stages(base, axes);
        for axis in axes {
            text += &format!(
                "\n[[axis]]\nname = {}\npath = {}\n",
                toml_text(&axis.name),
                toml_text(&axis.path)
            );
            text += &format!("values = {}\n", toml_text(&axis.values));
            if axis
                .values
                .iter()
                .any(|value| value.is_array() || value.is_object())
            {
                let labels: Vec<String> = axis.values.iter().map(toml_text).collect();
                text += &format!("labels = {}\n", toml_text(&labels));
            }
        }
        text
    }
}

/// Values as TOML lists them, or words.
fn read_values(text: &str) -> Vec<Value> {
    let listed = parse_toml::<Value>(&format!("v = [{text}]"));
    let listed = listed.ok().and_then(|tree| tree["v"].as_array().cloned());
    listed.unwrap_or_else(|| {
        let read = |word: &str| {
            let tree = parse_toml::<Value>(&format!("v = {word}")).ok();
            tree.map_or_else(|| json!(word.trim()), |tree| tree["v"].clone())
        };
        text.split(',').map(read).collect()
    })
}

/// The pipeline with the stages that are varied, and pairs to measure them on, where the base lacks them.
fn stages(base: &Base, axes: &[Axis]) -> String {
    let has = |path: &str| {
        base.tree
            .pointer(path)
            .is_some_and(|found| *found != json!({}))
    };
    let mut text = String::new();
    let pipeline = base
        .tree
        .pointer("/base/pipeline")
        .and_then(Value::as_array);
    let mut named: Vec<&str> = pipeline
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let before = named.len();
    let varied = |stage: &str| {
        axes.iter()
            .any(|axis| axis.path.split('.').next() == Some(stage))
    };
    let sets_it = axes.iter().any(|axis| axis.path == "pipeline");
    for stage in ["sft", "dpo", "online-dpo"] {
        if varied(stage) && !named.contains(&stage) && !sets_it {
            named.push(stage);
        }
    }
    if named.len() > before {
        text += &format!("\n[base]\npipeline = {}\n", toml_text(&named));
    }
    let learns = named.iter().any(|stage| *stage != "sft");
    if learns
        && !has("/base/eval/recipe/preference")
        && has("/presets/held-out-pairs")
        && has("/presets/pair-limits")
    {
        text += "\n[base.eval.recipe.preference.held-out-pairs]\ndata = { preset = \"held-out-pairs\" }\n\
                 limits = { preset = \"pair-limits\" }\n";
    }
    if learns && has("/presets/without-held-out") {
        text += &without_held_out(base, &named);
    }
    text
}

/// What keeps the held-out pairs from the stages that would train on them.
fn without_held_out(base: &Base, stages: &[&str]) -> String {
    let trained = ["sft", "dpo"].into_iter().filter(|stage| {
        let own = format!("/base/{stage}/recipe/decontaminate");
        stages.contains(stage) && base.tree.pointer(&own).is_none()
    });
    let line = |stage| {
        format!("\n[base.{stage}.recipe]\ndecontaminate = {{ preset = \"without-held-out\" }}\n")
    };
    trained.map(line).collect()
}

/// A table of what is measured and, of few axes, a figure.
fn report(sweep: &Sweep, axes: &[Axis]) -> String {
    let keys: Vec<Vec<String>> = sweep
        .trials
        .iter()
        .map(|trial| final_metric_keys(&trial.config))
        .collect();
    let of_all = |key: &&String| keys.iter().all(|of_trial| of_trial.contains(key));
    let shared: Vec<&String> = keys.first().into_iter().flatten().filter(of_all).collect();
    let mut telling: Vec<&String> = Vec::new();
    for ending in TELLING {
        telling.extend(shared.iter().filter(|key| key.ends_with(ending)));
    }
    let Some(first) = telling.first() else {
        return String::new(); // `lions compare` has a table of whatever there is
    };
    let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
    let title = toml_text(&sweep.question);
    let mut text = format!(
        "\n[[report.table]]\nname = {}\ntitle = {title}\nmetrics = {}\n",
        toml_text(&names.join("-")),
        toml_text(&telling),
    );
    if axes.len() > DRAWN {
        return text;
    }
    let numbers = |axis: &Axis| {
        axis.values
            .iter()
            .map(Value::as_f64)
            .collect::<Option<Vec<f64>>>()
    };
    // Numbers go on x, where one of the axes has them.
    let on_x = axes
        .iter()
        .position(|axis| numbers(axis).is_some())
        .unwrap_or(0);
    let x = numbers(&axes[on_x]);
    text += &format!(
        "\n[[report.figure]]\nname = {}\ntitle = {title}\nkind = \"{}\"\nmetric = {}\nx = {}\n",
        toml_text(&names.join("-")),
        if x.is_some() { "lines" } else { "bars" },
        toml_text(first),
        toml_text(&axes[on_x].name),
    );
    if let Some(series) = axes.iter().enumerate().find(|(at, _)| *at != on_x) {
        text += &format!("series = {}\n", toml_text(&series.1.name));
    }
    let spread = x.filter(|x| {
        let (low, high) = x.iter().fold((f64::MAX, 0.0_f64), |(low, high), x| {
            (low.min(*x), high.max(*x))
        });
        low > 0.0 && high >= 8.0 * low
    });
    if spread.is_some() {
        text += "log-x = true\n";
    }
    text
}

/// The base file: as typed, or in `sweeps/`; without a word the only one that there is.
fn read_base(project: &Project, typed: Option<&Path>) -> Result<Base, CommandError> {
    let bases = base_files(project);
    let path = match (typed, bases.as_slice()) {
        (Some(typed), _) => {
            let below = project.root.join("sweeps");
            let places = [
                typed.to_owned(),
                below.join(typed),
                below.join("base").join(typed),
            ];
            places
                .into_iter()
                .find(|path| path.is_file())
                .ok_or_else(|| {
                    let error =
                        CommandError::user(format!("there is no base file `{}`", typed.display()));
                    error.hint(match bases.as_slice() {
                        [] => "`lions init` writes one for a model and data of yours".to_owned(),
                        bases => format!("base files here: {}", bases.join(", ")),
                    })
                })?
        }
        (None, [one]) => project.root.join(one),
        (None, []) => {
            let error = CommandError::user("there is no base file in `sweeps/base`");
            return Err(error.hint("`lions init` writes one for a model and data of yours"));
        }
        (None, bases) => {
            let error = CommandError::user("`--axis` needs to know on which base");
            return Err(error.hint(format!("`--base` takes one of {}", bases.join(", "))));
        }
    };
    let failed = |error: std::io::Error| {
        CommandError::user(format!("cannot read `{}`: {error}", path.display()))
    };
    let full = path.canonicalize().map_err(failed)?;
    let text = std::fs::read_to_string(&full).map_err(failed)?;
    // What is wrong with it is told, at its place, when the sweep is loaded.
    let tree = parse_toml(&text).unwrap_or(Value::Null);
    let sweeps = project.root.join("sweeps");
    let sweeps = sweeps.canonicalize().unwrap_or(sweeps);
    let named = full.strip_prefix(&sweeps).unwrap_or(&full);
    let named = named.to_str().ok_or_else(|| {
        CommandError::user(format!("the path `{}` is not UTF-8", named.display()))
    })?;
    Ok(Base {
        named: named.to_owned(),
        tree,
    })
}

fn loaded(
    ui: &Ui,
    project: &Project,
    file: &Path,
    text: String,
    sets: &[String],
    inputs: Inputs,
) -> Result<(Sweep, Places), CommandError> {
    let overrides = Overrides {
        base: None,
        sets: sets.to_vec(),
        text: Some(text),
    };
    load_placed_sweep(&overrides, file, &project.root, inputs).map_err(|error| mistakes(ui, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_or_words() {
        assert_eq!(read_values("0.01,0.1"), [json!(0.01), json!(0.1)]);
        assert_eq!(
            read_values("padded,concat"),
            [json!("padded"), json!("concat")]
        );
        assert_eq!(read_values("[1, 2],[3, 4]"), [json!([1, 2]), json!([3, 4])]);
        assert_eq!(read_values("1e-4,bf16"), [json!(1e-4), json!("bf16")]);
    }
}
