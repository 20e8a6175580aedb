//! Claims about the rows that a stage uses, on the shipped data.

use super::*;
use crate::config::spec::{DataSource, Decontamination, PairLimits, Truncation};
use crate::data::load_pairs;
use std::collections::BTreeSet;

const PAIRS: &str = "data/pref/polite_train.jsonl";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn format() -> TextFormat {
    TextFormat::open(&root().join("models/stories260k"), None).unwrap()
}

const NOTHING: &[Message] = &[];

const LIMITS: PairLimits = PairLimits {
    max_seq_len: 128,
    max_prompt_len: 96,
    truncation: Truncation::KeepEnd,
};

fn recipe(source: DataSource, share: Option<f64>) -> RowsRecipe {
    RowsRecipe {
        dedup: true,
        decontaminate: Some(Decontamination {
            data: vec![all("data/pref/polite_test.jsonl")],
            ngram: NonZeroUsize::new(12),
            min_words: NonZeroUsize::new(6),
        }),
        empty_system_turn: share.map(|share| Share::try_from(share).unwrap()),
        ..RowsRecipe::of(vec![source])
    }
}

fn all(path: &str) -> DataSource {
    DataSource {
        path: path.into(),
        fraction: None,
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    }
}

#[test]
fn every_training_pair_has_the_tokens_for_which_the_reference_was_asked() {
    let half = DataSource {
        fraction: Some(0.5.try_into().unwrap()),
        ..all(PAIRS)
    };
    let mut recipe = recipe(half, Some(0.5));
    recipe.max_examples = Some(60.try_into().unwrap());
    let keys = |rows: &[PairRow]| {
        let (pairs, _) = format().encode_pairs(rows, &LIMITS).unwrap();
        pairs
            .into_iter()
            .map(|pair| pair.key)
            .collect::<BTreeSet<_>>()
    };
    let source = recipe.clone();
    let (asked, _) = all_pairs(root(), &source, 7, &format()).unwrap();
    let (trained, report) =
        training_pairs(root(), &recipe, 7, &format(), Narrowed::default()).unwrap();
    assert_eq!(trained.len(), 60);
    let added = report.system_turns.unwrap();
    assert!((15..45).contains(&added), "{added} of 60");
    assert!(keys(&trained).is_subset(&keys(&asked)));
    let (other, _) = training_pairs(root(), &recipe, 8, &format(), Narrowed::default()).unwrap();
    assert!(
        !keys(&other).is_subset(&keys(&asked)),
        "another seed, other draws"
    );
}

// Whole parts repeat, the rest is a sample without replacement: 1.25 of n rows.
#[test]
fn a_fraction_of_pairs_repeats_and_samples() {
    let count = |fraction| {
        let source = DataSource {
            fraction,
            ..all(PAIRS)
        };
        let (rows, _) = load_pairs(root(), &[source], &SeedTree::root(3)).unwrap();
        let ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        let distinct: BTreeSet<String> = ids.iter().cloned().collect();
        (ids, distinct.len())
    };
    let (whole, n) = count(None);
    let (ids, distinct) = count(Some(1.25.try_into().unwrap()));
    assert_eq!(ids.len(), n + (0.25 * n as f64).round() as usize);
    assert_eq!((distinct, &ids[..n]), (n, &whole[..]));
    let extra: BTreeSet<&String> = ids[n..].iter().collect();
    assert_eq!(extra.len(), ids.len() - n);
}

#[test]
fn a_draw_depends_on_seed_and_content_alone() {
    let talk = |text: &str| vec![Message::new("user", text), Message::new("assistant", "Ho")];
    let drawn = |texts: &[String], seed| {
        let mut talks: Vec<_> = texts.iter().map(|text| talk(text)).collect();
        let turns = talks.iter_mut().map(|talk| (talk, NOTHING));
        let added = add_system_turns(turns, 0.8.try_into().unwrap(), seed, &format()).unwrap();
        let with = |talk: &&Vec<Message>| talk[0] == Message::new("system", "");
        assert_eq!(talks.iter().filter(with).count(), added);
        let picked: BTreeSet<String> = talks
            .iter()
            .filter(with)
            .map(|talk| talk[1].content.clone())
            .collect();
        picked
    };
    let texts: Vec<String> = (0..1000).map(|i| format!("text {i}")).collect();
    let picked = drawn(&texts, 1);
    // Binomial(1000, 0.8): 800, standard deviation 12.6.
    assert!((750..850).contains(&picked.len()), "{}", picked.len());
    let turned: Vec<String> = texts.iter().rev().skip(100).cloned().collect();
    let again = drawn(&turned, 1);
    assert!(again.iter().all(|text| picked.contains(text)));
    assert!(
        turned
            .iter()
            .all(|text| again.contains(text) == picked.contains(text))
    );
    assert_ne!(drawn(&texts, 2), picked);
}

#[test]
fn a_conversation_with_a_system_turn_keeps_it() {
    let mut talk = vec![
        Message::new("system", "Be brief."),
        Message::new("user", "Hi"),
        Message::new("assistant", "Ho"),
    ];
    let before = talk.clone();
    let turns = std::iter::once((&mut talk, NOTHING));
    assert_eq!(
        add_system_turns(turns, 1.0.try_into().unwrap(), 1, &format()).unwrap(),
        0
    );
    assert_eq!(talk, before);
}

#[test]
fn a_template_without_system_turns_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |template: &str| {
        let path = dir.path().join("t.jinja");
        crate::base::write_atomic(&path, template.as_bytes()).unwrap();
        TextFormat::open(&root().join("models/stories260k"), Some(&path)).unwrap()
    };
    let refused = |template: &str| {
        let none = std::iter::empty::<(&mut Vec<Message>, &[Message])>();
        let error =
            add_system_turns(none, 0.5.try_into().unwrap(), 1, &open(template)).unwrap_err();
        error.to_string()
    };
    let body = "{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }}</s>\
                {% endgeneration %}{% else %}{{ m.content }}\n{% endif %}";
    let ignores = format!(
        "{{% for m in messages %}}{{% if m.role != 'system' %}}{body}{{% endif %}}{{% endfor %}}"
    );
    assert!(
        refused(&ignores).ends_with(
            "`empty-system-turn` cannot be had: it writes nothing for an empty system turn"
        ),
        "{}",
        refused(&ignores)
    );
    let raises = format!(
        "{{% for m in messages %}}{{% if m.role == 'system' %}}{{{{ raise_exception('no system') \
         }}}}{{% endif %}}{body}{{% endfor %}}"
    );
    assert!(
        refused(&raises)
            .ends_with("`empty-system-turn` cannot be had: the template refuses it: no system"),
        "{}",
        refused(&raises)
    );
}
