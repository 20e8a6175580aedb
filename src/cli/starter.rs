//! A first sweep for a model and data of one's own, as text.

use crate::arch::{DecoderConfig, parameter_count};
use crate::cli::held_out::Size;
use crate::config::toml_text;

/// Recipe values that go by the size of the model.
pub(crate) struct Sized {
    /// Models of at least so many parameters.
    from: u64,
    sft_rate: &'static str,
    dpo_rate: &'static str,
    beta: &'static str,
    precision: &'static str,
    /// Where the values come from.
    source: &'static str,
}

/// From large to small; the last takes every model.
const SIZES: [Sized; 3] = [
    Sized {
        from: 1_900_000_000,
        sft_rate: "2e-5",
        dpo_rate: "5e-7",
        beta: "0.05",
        precision: "bf16",
        source: "the released recipe of LIONs for Gemma-2b and Llama-3-8b",
    },
    Sized {
        from: 30_000_000,
        sft_rate: "3e-4",
        dpo_rate: "1e-6",
        beta: "0.5",
        precision: "bf16",
        source: "alignment-handbook's recipes for SmolLM2-1.7B (recipes/smollm2)",
    },
    Sized {
        from: 0,
        sft_rate: "2e-3",
        dpo_rate: "5e-4",
        beta: "0.1",
        precision: "f32",
        source: "sweeps/base/mini.toml of lions, for models of a few hundred thousand parameters",
    },
];

/// Longest sequence of a first sweep: that of the paper's preference learning.
const LONGEST: usize = 2048;

/// A training set with what is held out of it, as the sweep names the files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    pub(crate) train: String,
    pub(crate) size: Size,
    pub(crate) test: String,
}

/// What a first sweep is made of.
pub(crate) struct Starter<'a> {
    pub(crate) name: &'a str,
    pub(crate) question: &'a str,
    pub(crate) model: &'a str,
    pub(crate) config: &'a DecoderConfig,
    pub(crate) sft: Option<Set>,
    pub(crate) pairs: Option<Set>,
}

impl Starter<'_> {
    fn sized(&self) -> &'static Sized {
        let parameters = parameter_count(self.config);
        let fits = |sized: &&Sized| parameters >= sized.from;
        SIZES.iter().find(fits).unwrap_or(&SIZES[SIZES.len() - 1])
    }

    fn max_seq_len(&self) -> usize {
        self.config.max_positions.min(LONGEST)
    }

    /// About how many full windows a set fills: four bytes of text are about a token.
    fn windows(&self, set: &Set) -> usize {
        set.size.bytes / 4 / self.max_seq_len().max(1)
    }

    fn limits(&self) -> String {
        let longest = self.max_seq_len();
        let prompt = longest / 2;
        format!(
            "{{ max-seq-len = {longest}, max-prompt-len = {prompt}, truncation = \"keep-end\" }}"
        )
    }

    /// The base: the values that go by the model and the data, over [`DEFAULT_BASE`].
    pub(crate) fn base(&self) -> String {
        let sized = self.sized();
        let stages = [(&self.sft, "\"sft\""), (&self.pairs, "\"dpo\"")];
        let pipeline: Vec<_> = stages
            .iter()
            .filter_map(|(set, word)| set.as_ref().map(|_| *word))
            .collect();
        let mut text = format!(
            "# {model}: {millions:.1} million parameters. Rates, β and precision are a beginning, from\n\
             # {source}.\n\
             # Whatever else a recipe needs is in default.toml, and may stand here.\n\
             # `lions schema sft.recipe.batching` says what a field may be.\n\n\
             extends = [\"default.toml\"]\n\n\
             [base]\npipeline = [{pipeline}]\n\n[base.model]\npath = {path}\n",
            model = self.model,
            millions = parameter_count(self.config) as f64 / 1e6,
            source = sized.source,
            pipeline = pipeline.join(", "),
            path = toml_text(self.model),
        );
        if let Some(set) = &self.sft {
            text += &self.sft_part(set, sized);
        }
        if let Some(set) = &self.pairs {
            text += &self.dpo_part(set, sized);
        }
        text += &format!(
            "\n# --- what is measured\n\n[base.eval.recipe]\nprecision = {}\n",
            toml_text(sized.precision)
        );
        text + &self.measured()
    }

    /// The held-out sets.
    fn measured(&self) -> String {
        let mut text = String::new();
        if let Some(set) = &self.pairs {
            text += &format!(
                "\n[base.eval.recipe.preference.held-out-pairs]\ndata = [{{ path = {} }}]\nlimits = {}\n",
                toml_text(&set.test),
                self.limits()
            );
        }
        if let Some(set) = &self.sft {
            text += &format!(
                "\n[base.eval.recipe.likelihood.held-out]\ndata = [{{ path = {} }}]\nmax-seq-len = {}\n",
                toml_text(&set.test),
                self.max_seq_len()
            );
        }
        text
    }

    fn sft_part(&self, set: &Set, sized: &Sized) -> String {
        format!(
            "\n[base.sft.recipe]\ndata = [{{ path = {data} }}]\nmax-seq-len = {longest}\n\
             batch = {{ rows = {rows} }}\nprecision = {precision}\noptimizer.learning-rate = {rate}\n",
            data = toml_text(&set.train),
            longest = self.max_seq_len(),
            rows = batch_rows(self.windows(set)),
            precision = toml_text(sized.precision),
            rate = sized.sft_rate,
        )
    }

    fn dpo_part(&self, set: &Set, sized: &Sized) -> String {
        format!(
            "\n[base.dpo.recipe]\ndata = [{{ path = {data} }}]\nlimits = {limits}\nbeta = {beta}\n\
             global-batch-size = {rows}\nprecision = {precision}\noptimizer.learning-rate = {rate}\n",
            data = toml_text(&set.train),
            limits = self.limits(),
            beta = sized.beta,
            rows = batch_rows(set.size.rows),
            precision = toml_text(sized.precision),
            rate = sized.dpo_rate,
        )
    }

    /// The sweep over the base file of this name: what is varied, measured and reported.
    pub(crate) fn sweep(&self, base: &str) -> String {
        let mut text = format!(
            "extends = [{}]\n\n[sweep]\nname = {}\nquestion = {}\nseeds = [1, 2, 3]\n",
            toml_text(base),
            toml_text(self.name),
            toml_text(self.question)
        );
        let sized = self.sized();
        let (path, axis, own) = match self.pairs {
            Some(_) => ("dpo.recipe.beta", "beta", sized.beta),
            None => (
                "sft.recipe.optimizer.learning-rate",
                "learning-rate",
                sized.sft_rate,
            ),
        };
        let (below, above) = around(own);
        text += &format!("\n[[axis]]\npath = \"{path}\"\nvalues = [{below}, {own}, {above}]\n");
        let mut metrics = Vec::new();
        if self.pairs.is_some() {
            metrics.extend([
                "held-out-pairs/rewards/accuracies",
                "held-out-pairs/rewards/margins",
            ]);
        }
        if self.sft.is_some() {
            metrics.push("held-out/loss");
        }
        let listed: Vec<_> = metrics.iter().map(toml_text).collect();
        text += &format!(
            "\n[[report.table]]\nname = \"{axis}\"\ntitle = {question}\nmetrics = [{listed}]\n\
             baseline = {{ {axis} = {own} }}\n\n[[report.figure]]\nname = \"{axis}\"\ntitle = {question}\n\
             kind = \"lines\"\nmetric = {first}\nx = \"{axis}\"\nlog-x = true\n",
            question = toml_text(self.question),
            listed = listed.join(", "),
            first = listed[0],
        );
        text
    }
}

/// The base under the one that is written: what does not go by the size of the model.
pub(crate) const DEFAULT_BASE: &str = include_str!("../../sweeps/base/default.toml");

/// Rows of an optimiser step: at most the 128 of the released recipe, and few enough for 20 steps an
/// epoch.
fn batch_rows(rows: usize) -> usize {
    let wanted = (rows / 20).clamp(1, 128);
    // A power of two divides into micro-batches.
    1 << wanted.ilog2()
}

/// A fifth and five times of a value, in its own spelling's precision.
fn around(value: &str) -> (String, String) {
    let value: f64 = value.parse().unwrap_or(1.0);
    let shown = |v: f64| {
        if v < 0.001 {
            format!("{v:e}")
        } else {
            format!("{v}")
        }
    };
    let rounded = |v: f64| format!("{v:.1e}").parse().unwrap_or(v);
    (shown(rounded(value / 5.0)), shown(rounded(value * 5.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_many_enough_and_batches_powers_of_two() {
        let batches = [0, 10, 79, 80, 933, 61_000].map(batch_rows);
        assert_eq!(batches, [1, 1, 2, 4, 32, 128]);
    }

    #[test]
    fn neighbours_of_a_value_are_short_numbers() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(around("0.1"), pair("0.02", "0.5"));
        assert_eq!(around("5e-7"), pair("1e-7", "2.5e-6"));
        assert_eq!(around("2e-3"), pair("4e-4", "0.01"));
    }
}
