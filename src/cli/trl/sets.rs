//! Which sets a file trains and evaluates on.

use crate::cli::trl::reader::{Became, Reader};
use serde_json::Value;

/// A set of rows by the names of the Hub.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) set: String,
    pub(crate) split: String,
    /// Files of one's own, if the set is none of the Hub's.
    pub(crate) file: Option<String>,
    /// Share of the rows.
    pub(crate) share: f64,
}

impl Reader<'_> {
    /// The sets to train and to evaluate on, in each form that such files name them in.
    pub(super) fn sets(&mut self) -> (Vec<Named>, Vec<Named>) {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        let named = |set: &str, split: &str, share: f64| Named {
            set: set.to_owned(),
            split: split.to_owned(),
            file: None,
            share,
        };
        if let Some(mixer) = self.keys.get("dataset_mixer").and_then(Value::as_object) {
            let splits = self.keys.get("dataset_splits").and_then(Value::as_array);
            let splits: Vec<&str> = splits
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (set, share) in mixer {
                let share = share.as_f64().unwrap_or(1.0);
                for split in if splits.is_empty() {
                    vec!["train"]
                } else {
                    splits.clone()
                } {
                    if split.contains("test") || split.contains("eval") {
                        test.push(named(set, split, 1.0));
                    } else {
                        train.push(named(set, split, share));
                    }
                }
            }
            self.tell("dataset_mixer", Became::Taken, "data");
            self.tell(
                "dataset_splits",
                Became::Taken,
                "data, and the held-out sets",
            );
        }
        let mixture = self
            .keys
            .get("dataset_mixture")
            .and_then(|mixture| mixture["datasets"].as_array());
        let listed = self.keys.get("datasets").and_then(Value::as_array);
        for set in mixture.or(listed).into_iter().flatten() {
            let id = set["id"]
                .as_str()
                .or(set["path"].as_str())
                .unwrap_or_default();
            let mut one = named(
                id,
                set["split"].as_str().unwrap_or("train"),
                set["weight"].as_f64().unwrap_or(1.0),
            );
            one.file = set["data_files"].as_str().map(str::to_owned);
            train.push(one);
        }
        self.tell(
            "dataset_mixture",
            Became::Taken,
            "data; columns are those that lions knows",
        );
        self.tell("datasets", Became::Taken, "data");
        if let Some(set) = self.keys.get("dataset_name").and_then(Value::as_str) {
            let split =
                |key: &str, usual| self.keys.get(key).and_then(Value::as_str).unwrap_or(usual);
            train.push(named(set, split("dataset_train_split", "train"), 1.0));
            test.push(named(set, split("dataset_test_split", "test"), 1.0));
            self.tell("dataset_name", Became::Taken, "data");
            self.tell("dataset_train_split", Became::Taken, "data");
            self.tell("dataset_test_split", Became::Taken, "the held-out set");
        }
        (train, test)
    }
}
