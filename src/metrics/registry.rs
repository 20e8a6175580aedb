//! Which metrics there are: the families with the keys that they give.

use crate::metrics::families::{
    CHOSEN, DOCUMENT, EQUALLY_LONG, EVALUATED_REWARDS, FOLLOWED, FOUGHT, FOUND, HELD_OUT_LOSS,
    HELD_OUT_PAIR, INSTRUCTION, JUDGED, MATCHED, PAIR, PREFERRED, RATED, SAMPLED, SFT_STEP, SPREAD,
    STEP, STORY, TRAINING,
};
use crate::metrics::spec::{Better, Metric, MetricSpec, spec};

/// Metrics that come together.
#[derive(Debug)]
pub struct Family {
    /// What they are of.
    pub name: &'static str,
    /// What their keys begin with, as a page says it: `<set>/`.
    pub place: &'static str,
    specs: fn() -> Vec<&'static MetricSpec>,
}

/// An evaluated set of documents.
pub static LIKELIHOOD: Family = Family {
    name: "likelihood evaluation",
    place: "<set>/",
    specs: || of(DOCUMENT),
};

/// An evaluated set of pairs.
pub static PREFERENCE: Family = Family {
    name: "preference evaluation",
    place: "<set>/",
    specs: evaluated_pairs,
};

/// An evaluated set of story prompts.
pub static STORIES: Family = Family {
    name: "story evaluation",
    place: "<set>/",
    specs: || of(STORY),
};

/// An evaluated MT-Bench.
pub static MT_BENCH: Family = Family {
    name: "MT-Bench",
    place: "<set>/",
    specs: || of(RATED),
};

/// An evaluated Arena-Hard-Auto.
pub static ARENA_HARD: Family = Family {
    name: "Arena-Hard-Auto",
    place: "<set>/",
    specs: || of(FOUGHT),
};

/// An evaluated AlpacaEval.
pub static ALPACA_EVAL: Family = Family {
    name: "AlpacaEval",
    place: "<set>/",
    specs: || of(PREFERRED),
};

/// What an AlpacaEval with its published tables has beside.
pub static LENGTH_CONTROLLED: Family = Family {
    name: "AlpacaEval with the published tables",
    place: "<set>/",
    specs: || of(EQUALLY_LONG),
};

/// An evaluation task; which of these it has, its scorers say.
pub static TASKS: Family = Family {
    name: "evaluation task",
    place: "<task>/",
    specs: || {
        let answers = [of(MATCHED), of(FOUND), of(FOLLOWED), of(INSTRUCTION)].concat();
        [of(CHOSEN), of(SPREAD), answers].concat()
    },
};

/// The training of an evaluated checkpoint.
pub static TRAINING_COST: Family = Family {
    name: "training of an evaluated checkpoint",
    place: "",
    specs: || of(TRAINING),
};

/// A step of supervised fine-tuning.
pub static SFT_STEPS: Family = Family {
    name: "step of supervised fine-tuning",
    place: "",
    specs: || [of(STEP), of(SFT_STEP)].concat(),
};

/// A step of preference learning.
pub static DPO_STEPS: Family = Family {
    name: "step of preference learning",
    place: "",
    specs: || [of(STEP), of(PAIR)].concat(),
};

/// Documents held out along training.
pub static SFT_MONITOR: Family = Family {
    name: "monitor of supervised fine-tuning",
    place: "eval_<file>/",
    specs: || of(HELD_OUT_LOSS),
};

/// Pairs held out along training.
pub static DPO_MONITOR: Family = Family {
    name: "monitor of preference learning",
    place: "eval_<file>/",
    specs: || [of(HELD_OUT_LOSS), of(PAIR)].concat(),
};

/// The samples of a round of online learning.
pub static SAMPLING: Family = Family {
    name: "sampling for online learning",
    place: "",
    specs: || of(SAMPLED),
};

/// The judgement of a round of online learning.
pub static JUDGING: Family = Family {
    name: "judging for online learning",
    place: "",
    specs: || of(JUDGED),
};

/// All of them.
pub static FAMILIES: [&Family; 15] = [
    &LIKELIHOOD,
    &PREFERENCE,
    &STORIES,
    &MT_BENCH,
    &ARENA_HARD,
    &ALPACA_EVAL,
    &LENGTH_CONTROLLED,
    &TASKS,
    &TRAINING_COST,
    &SFT_STEPS,
    &DPO_STEPS,
    &SFT_MONITOR,
    &DPO_MONITOR,
    &SAMPLING,
    &JUDGING,
];

fn of<T: ?Sized + 'static>(metrics: &'static [Metric<T>]) -> Vec<&'static MetricSpec> {
    metrics.iter().map(|metric| &metric.spec).collect()
}

/// Metrics of evaluated pairs, whose rewards are log-ratios.
fn evaluated_pairs() -> Vec<&'static MetricSpec> {
    let own = |spec: &'static MetricSpec| {
        let mut others = EVALUATED_REWARDS.iter();
        others
            .find(|other| other.suffix == spec.suffix)
            .unwrap_or(spec)
    };
    [of(PAIR), of(HELD_OUT_PAIR)]
        .concat()
        .into_iter()
        .map(own)
        .collect()
}

impl Family {
    /// Its metrics.
    pub fn specs(&self) -> Vec<&'static MetricSpec> {
        (self.specs)()
    }

    /// Its whole keys: of the set, monitor or other place of this name, or bare for an empty one.
    pub fn keys(&self, place: &str) -> impl Iterator<Item = String> {
        let specs = self.specs().into_iter();
        specs.map(move |spec| match place {
            "" => spec.suffix.to_owned(),
            place => format!("{place}/{}", spec.suffix),
        })
    }
}

static UNKNOWN: MetricSpec = spec(
    "",
    "value",
    "",
    Better::Neither,
    4,
    "A metric that has no description yet.",
);

/// What is known of `key`: the longest suffix that fits at a `/`, of the family whose place the rest is: a
/// loss or a reward is not the same in training and in an evaluation.
pub fn metric_spec(key: &str) -> &'static MetricSpec {
    let families = FAMILIES.iter();
    let specs =
        families.flat_map(|family| family.specs().into_iter().map(|spec| (family.place, spec)));
    let fitting = specs.filter_map(|(place, spec)| {
        let fits = place == place_of(prefix_of(key, spec.suffix)?);
        Some(((spec.suffix.len(), fits), spec))
    });
    fitting
        .max_by_key(|(rank, _)| *rank)
        .map_or(&UNKNOWN, |(_, spec)| spec)
}

/// The place of a family that keys with this prefix have.
fn place_of(prefix: &str) -> &'static str {
    match prefix {
        "" => "",
        monitor if monitor.starts_with("eval_") => "eval_<file>/",
        _ => "<set>/",
    }
}

/// The evaluated set that a key begins with: `stories` of `stories/loss`, empty for `loss`.
pub fn metric_set(key: &str) -> &str {
    let suffix = metric_spec(key).suffix;
    prefix_of(key, suffix).unwrap_or_default()
}

/// The part of `key` before `/suffix`; empty if `key` is the suffix; `None` if it ends otherwise.
fn prefix_of<'a>(key: &'a str, suffix: &str) -> Option<&'a str> {
    if suffix.is_empty() {
        return None;
    }
    let head = key.strip_suffix(suffix)?;
    if head.is_empty() {
        Some(head)
    } else {
        head.strip_suffix('/')
    }
}

impl MetricSpec {
    /// `loss (nats per token)`; the key itself if nothing is known of it.
    pub fn label(&self, key: &str) -> String {
        let name = if self.suffix.is_empty() {
            key
        } else {
            self.name
        };
        if self.unit.is_empty() {
            name.to_owned()
        } else {
            format!("{name} ({})", self.unit)
        }
    }

    /// As [`MetricSpec::label`], led by the evaluated set: `stories: loss (nats per token)`; what was held out along
    /// training by its file: `held-out polite_test: loss`.
    pub fn full_label(&self, key: &str) -> String {
        match shown_set(key).as_str() {
            "" => self.label(key),
            set => format!("{set}: {}", self.label(key)),
        }
    }

    /// As it is called in sentences and column heads: `loss on stories`.
    pub fn name_of(&self, key: &str) -> String {
        let known = if self.suffix.is_empty() {
            key
        } else {
            self.name
        };
        match shown_set(key).as_str() {
            "" => known.to_owned(),
            set => format!("{known} on {set}"),
        }
    }
}

/// The evaluated set of a key as it is shown; that of a monitor without the mark before its file.
fn shown_set(key: &str) -> String {
    let set = metric_set(key);
    let file = set.strip_prefix("eval_");
    file.map_or_else(|| set.to_owned(), |file| format!("held-out {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_longest_suffix_at_a_slash_decides() {
        assert_eq!(metric_spec("stories/loss").better, Better::Lower);
        assert_eq!(
            metric_spec("polite/logps/chosen_shift").suffix,
            "logps/chosen_shift"
        );
        assert_eq!(
            metric_spec("eval_polite_test/prob_margin").unit,
            "probability"
        );
        // `floss` does not end in `/loss`, so nothing is known of it.
        assert_eq!(metric_spec("floss").suffix, "");
        assert_eq!(metric_spec("loss").suffix, "loss");
    }

    #[test]
    fn the_set_is_what_stands_before_the_known_suffix() {
        assert_eq!(metric_set("polite/rewards/accuracies"), "polite");
        assert_eq!(metric_set("loss"), "");
        assert_eq!(metric_set("mystery/number"), "");
        assert_eq!(
            metric_spec("polite/rewards/accuracies").full_label("polite/rewards/accuracies"),
            "polite: preference accuracy (share of pairs)"
        );
        let held_out = "eval_polite_test/prob_margin";
        assert_eq!(
            metric_spec(held_out).name_of(held_out),
            "probability margin on held-out polite_test"
        );
    }

    #[test]
    fn training_and_evaluation_have_their_own_units() {
        let unit = |key| metric_spec(key).unit;
        assert_eq!(
            (unit("tales/loss"), unit("eval_pairs/loss")),
            ("nats per token", "")
        );
        assert_eq!(
            (unit("polite/rewards/margins"), unit("rewards/margins")),
            ("nats", "nats × β")
        );
        assert_eq!(
            metric_spec("polite/rewards/margins").better,
            Better::Neither
        );
    }

    #[test]
    fn a_suffix_means_the_same_in_every_family_of_a_place_and_is_described() {
        let mut known: BTreeMap<(&str, &str), &MetricSpec> = BTreeMap::new();
        for family in FAMILIES {
            let specs = family.specs();
            let own: BTreeSet<_> = specs.iter().map(|spec| spec.suffix).collect();
            assert_eq!(own.len(), specs.len(), "{}: a key twice", family.name);
            for spec in specs {
                assert!(spec.description.ends_with('.') && !spec.name.is_empty());
                let first = known.entry((family.place, spec.suffix)).or_insert(spec);
                assert_eq!(*first, spec, "{}: {}", family.name, spec.suffix);
            }
        }
    }

    #[test]
    fn docs_metrics_md_lists_every_metric() {
        let mut page = PAGE_HEAD.to_owned();
        for family in FAMILIES {
            page += &format!("\n## {}\n\n", capital(family.name));
            page += "| key | unit | better | what it is |\n| --- | --- | --- | --- |\n";
            for spec in family.specs() {
                let better = match spec.better {
                    Better::Higher => "higher",
                    Better::Lower => "lower",
                    Better::Neither => "",
                };
                let (place, suffix) = (family.place, spec.suffix);
                let (unit, what) = (spec.unit, spec.description);
                page += &format!("| `{place}{suffix}` | {unit} | {better} | {what} |\n");
            }
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        if stored != page {
            crate::base::write_atomic(&path, page.as_bytes()).unwrap();
            panic!("docs/metrics.md was not up to date; it is now: look at it and commit it");
        }
    }

    const PAGE_HEAD: &str = "# Metrics\n\n\
        Every metric that a run stores; written by a test from `src/metrics/families`. `<set>` and `<task>` are the name of an\n\
        evaluated set or task in the sweep file (a task's may be followed by a part's or a filter's name), `<file>` the name\n\
        of a monitored file without its ending. Tables and figures of final results\n\
        take keys of evaluations and of the training of an evaluated checkpoint; figures of `kind = \"training\"` take\n\
        keys of steps and monitors.\n";

    fn capital(name: &str) -> String {
        let (first, rest) = name.split_at(1);
        first.to_uppercase() + rest
    }
}
