//! Recipes of filters: how they are spelt, and what is refused.

use super::*;
use serde_json::json;

fn recipe(value: serde_json::Value) -> SelectRecipe {
    serde_json::from_value(value).unwrap()
}

fn with(method: serde_json::Value) -> SelectRecipe {
    recipe(json!({"keep": 5, "method": method}))
}

/// `field: message` of every problem.
fn problems(recipe: &SelectRecipe, target: SelectTarget) -> Vec<String> {
    let found = select_problems(recipe, target).into_iter();
    found
        .map(|p| format!("{}: {}", p.field, p.message))
        .collect()
}

/// One sound recipe for every method.
fn sound() -> Vec<SelectRecipe> {
    let model = json!({"model-path": "models/a"});
    let ask = |method| recipe(json!({"keep": 5, "precision": "f32", "method": method}));
    vec![
        with(json!("random")),
        with(json!("longest")),
        with(json!("shortest")),
        with(
            json!({"preference-strength": {"gap": {"column": "meta.rank_gap"}, "edges": [1, 2, 3], "weights": [1, 0]}}),
        ),
        with(json!({"chosen-quality": {"column": "meta.score", "at-least": 7}})),
        with(json!({"rejected-quality": {"column": "meta.score", "at-most": 3}})),
        ask(
            json!({"deita": {"complexity": model, "quality": model, "pooling": "last", "threshold": 0.9}}),
        ),
        ask(json!("ifd")),
        ask(json!({"perplexity": {"low": 0.1, "high": 0.9}})),
        ask(json!({"reward-gap": model})),
        ask(json!("implicit-reward-gap")),
        ask(json!({"margin-uncertainty": {"tail": "hard"}})),
        ask(json!({"less": {"data": [{"path": "data/pref/polite_test.jsonl"}], "dimension": 64}})),
        with(json!({"ids": {"ids-path": "data/ids.csv"}})),
    ]
}

#[test]
fn every_method_has_a_sound_recipe_that_is_written_as_it_is_read() {
    let mut names = std::collections::BTreeSet::new();
    for recipe in sound() {
        assert_eq!(problems(&recipe, SelectTarget::Pairs), [""; 0]);
        let written = serde_json::to_value(&recipe).unwrap();
        let method = &written["method"];
        let key = method.as_str().map(str::to_owned);
        let key = key.unwrap_or_else(|| method.as_object().unwrap().keys().next().unwrap().clone());
        assert_eq!(key, recipe.method.name());
        assert_eq!(self::recipe(written), recipe);
        names.insert(key);
    }
    assert_eq!(names.len(), 14);
}

#[test]
fn methods_of_pairs_are_refused_for_conversations() {
    for recipe in sound() {
        let refused = problems(&recipe, SelectTarget::Chat);
        assert_eq!(refused.is_empty(), recipe.method.applies_to_chat());
        if let [only] = &refused[..] {
            let name = recipe.method.name();
            let want =
                format!("method: `{name}` chooses among preference pairs, not conversations");
            assert_eq!(only, &want);
        }
    }
}

#[test]
fn precision_stands_where_a_model_is_asked_and_nowhere_else() {
    for mut recipe in sound() {
        let asks = recipe.method.needs_model();
        assert_eq!(recipe.precision.is_some(), asks, "{}", recipe.method.name());
        recipe.precision = if asks { None } else { Some(Precision::F32) };
        let found = problems(&recipe, SelectTarget::Pairs);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`precision`"), "{found:?}");
    }
}

#[test]
fn models_of_its_own_are_listed_by_their_place() {
    let places = |recipe: &SelectRecipe| {
        let paths = recipe.method.model_paths().into_iter();
        paths.map(|(place, _)| place).collect::<Vec<_>>()
    };
    let sound = sound();
    assert_eq!(
        places(&sound[6]),
        ["deita.complexity.model-path", "deita.quality.model-path"]
    );
    assert!(sound[6].method.needs_policy(), "it gives the embeddings");
    assert_eq!(places(&sound[9]), ["reward-gap.model-path"]);
    assert!(!sound[9].method.needs_policy());
    let own: Vec<&str> = sound
        .iter()
        .filter(|recipe| recipe.method.needs_base())
        .map(|recipe| recipe.method.name())
        .collect();
    assert_eq!(own, ["implicit-reward-gap"]);
}

#[test]
fn senseless_numbers_are_named_with_their_field() {
    let strength = |edges: serde_json::Value, weights: serde_json::Value| {
        with(
            json!({"preference-strength": {"gap": {"column": "a"}, "edges": edges, "weights": weights}}),
        )
    };
    let ask = |method| recipe(json!({"keep": 5, "precision": "bf16", "method": method}));
    let model = json!({"model-path": "m"});
    let cases = [
        (
            strength(json!([1, 1]), json!(null)),
            "method.preference-strength.edges: `edges` must be two or more finite numbers, each above the one before",
        ),
        (
            strength(json!([1, 2, 3]), json!([1])),
            "method.preference-strength.weights: `weights` has 1 entry for 2 bins",
        ),
        (
            strength(json!([1, 2, 3]), json!([0, 0])),
            "method.preference-strength.weights: `weights` must be 0 or more, and one of them above 0",
        ),
        (
            with(json!({"chosen-quality": {"column": "a"}})),
            "method.chosen-quality: `chosen-quality` needs `at-least` or `at-most`",
        ),
        (
            with(json!({"rejected-quality": {"column": "a", "at-least": 3, "at-most": 2}})),
            "method.rejected-quality.at-most: `at-most` = 2 is below `at-least` = 3",
        ),
        (
            with(json!({"rejected-quality": {"column": " ", "at-least": 3}})),
            "method.rejected-quality.column: `column` is empty",
        ),
        (
            ask(json!({"perplexity": {"low": 0.5, "high": 0.5}})),
            "method.perplexity.high: `high` must be above `low` = 0.5, not 0.5",
        ),
        (
            ask(json!({"less": {"data": [], "dimension": 4}})),
            "method.less.data: `data` names no target set",
        ),
        (
            ask(json!({"reward-gap": {"model-path": ""}})),
            "method.reward-gap.model-path: `model-path` is empty",
        ),
        (
            with(json!({"ids": {"ids-path": ""}})),
            "method.ids.ids-path: `ids-path` is empty",
        ),
    ];
    for (recipe, want) in cases {
        assert_eq!(problems(&recipe, SelectTarget::Pairs), [want]);
    }
    let refused = [
        (json!({"keep": 0, "method": "random"}), "a nonzero usize"),
        (
            json!({"keep": 1, "method": {"perplexity": {"low": -0.5, "high": 0.5}}}),
            "0 to 1",
        ),
        (
            json!({"keep": 1, "method": {"deita": {"complexity": model, "quality": model, "pooling": "mean", "threshold": 2}}}),
            "-1 to 1",
        ),
    ];
    for (value, rule) in refused {
        let error = serde_json::from_value::<SelectRecipe>(value).unwrap_err();
        assert!(error.to_string().contains(rule), "{error}");
    }
}

#[test]
fn absent_options_leave_no_trace_in_what_is_hashed() {
    let text = serde_json::to_string(&sound()[11]).unwrap();
    assert_eq!(
        text,
        r#"{"keep":5,"method":{"margin-uncertainty":{"tail":"hard"}},"precision":"f32"}"#
    );
}
