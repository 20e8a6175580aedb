//! Rows that are trained on and held out.

use crate::config::spec::{DataSource, Decontamination, TrialConfig};
use crate::data::{FileRows, Message, Wanted};
use crate::preflight::inputs::Inputs;
use crate::preflight::problem::Problem;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;

/// Data with where it stands in the sweep file.
pub(super) type Sources<'a> = Vec<(String, &'a [DataSource], Wanted)>;

/// The training data of a trial, and what its stage takes out of it.
fn trained(
    config: &TrialConfig,
) -> Vec<(
    &'static str,
    &[DataSource],
    Wanted,
    Option<&Decontamination>,
)> {
    let mut all = Vec::new();
    if let Some(sft) = &config.sft {
        let recipe = &sft.recipe;
        all.push((
            "sft",
            &*recipe.rows.data,
            Wanted::Chats,
            recipe.rows.decontaminate.as_ref(),
        ));
    }
    let offline = config.dpo.as_ref().map(|dpo| ("dpo", &dpo.recipe));
    let online = config.online_dpo.as_ref();
    let online = online.map(|online| ("online-dpo", &online.recipe.dpo));
    for (name, recipe) in offline.into_iter().chain(online) {
        all.push((
            name,
            &*recipe.rows.data,
            Wanted::Pairs,
            recipe.rows.decontaminate.as_ref(),
        ));
    }
    let runs = |name: &str| config.pipeline.iter().any(|stage| stage.name() == name);
    all.retain(|(name, ..)| runs(name));
    all
}

/// Warns of each held-out file of which rows are in the training data of a stage; both were read before.
pub(super) fn find_leaks(
    inputs: &mut Inputs,
    trial: usize,
    config: &TrialConfig,
    held_out: &Sources<'_>,
) {
    for (stage, data, wanted, cleaned) in trained(config) {
        let is_cleaned = |held: &DataSource| {
            let mut files = cleaned.iter().flat_map(|rules| &rules.data);
            files.any(|source| {
                source.path == held.path && (source.fold.is_none() || source.fold == held.fold)
            })
        };
        for train in data {
            for (path, sources, held_wanted) in held_out {
                for source in sources.iter().filter(|source| !is_cleaned(source)) {
                    let trained = inputs.known_rows(train, wanted);
                    let sides = trained.zip(inputs.known_rows(source, *held_wanted));
                    let Some((trained, held)) = sides else {
                        continue;
                    };
                    // Files are kept as long as the look, so that no other has their address.
                    let key = format!("{:p} {:p}", Rc::as_ptr(&trained), Rc::as_ptr(&held));
                    let shared = inputs.counted(key, || {
                        let known: HashSet<u64> = texts(&trained).collect();
                        texts(&held).filter(|text| known.contains(text)).count()
                    });
                    if shared > 0 {
                        inputs.add(leak(trial, path, stage, (train, source, shared)));
                    }
                }
            }
        }
    }
}

fn leak(
    trial: usize,
    path: &str,
    stage: &str,
    (train, held, shared): (&DataSource, &DataSource, usize),
) -> Problem {
    // Of a file that is trained on, too, only the side that is held out is to be left out.
    let side = held.fold.map_or_else(String::new, |fold| {
        let (of, part) = (fold.of, fold.part.name());
        format!(", fold = {{ of = {of}, part = \"{part}\" }}")
    });
    let (train, held) = (&*train.path, &*held.path);
    let rows = if shared == 1 { "row" } else { "rows" };
    let message = if train == held {
        format!(
            "`{held}` is held out here, and `{stage}` trains on it: {shared} {rows} are the same"
        )
    } else {
        format!(
            "{shared} {rows} of `{held}`, held out here, are in `{train}`, on which `{stage}` trains"
        )
    };
    let help = format!(
        "measure on other rows, or leave these out of training with `decontaminate = {{ data = \
         [{{ path = \"{held}\"{side} }}] }}`"
    );
    Problem::of_value(trial, path, message).help(help).warning()
}

/// A digest of the text of each row: a conversation, or a prompt with the preferred reply.
fn texts(rows: &FileRows) -> impl Iterator<Item = u64> {
    let chats = rows.chats.iter().map(|row| digest(row.messages.iter()));
    let pairs = rows.pairs.iter();
    chats.chain(pairs.map(|row| digest(row.prompt.iter().chain(&row.chosen))))
}

fn digest<'m>(turns: impl Iterator<Item = &'m Message>) -> u64 {
    let mut hasher = DefaultHasher::new();
    turns.for_each(|turn| (&turn.role, &turn.content).hash(&mut hasher));
    hasher.finish()
}
