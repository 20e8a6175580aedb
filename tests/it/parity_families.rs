//! Every decoder family, as configuration of the one decoder, equals transformers.

use crate::parity_engine::{Model, Packed};
use crate::parity_support::{
    PARITY, check, distance, distance_to_fingerprint, flat, golden, ids, mean_nll, numbers,
    relative, root,
};
use candle_core::DType;
use lions::train::clip_by_global_norm;

fn family(name: &str) {
    let golden = golden("families.json");
    let wanted = &golden["families"][name];
    let documents: Vec<_> = golden["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (ids(d), vec![true; ids(d).len()]))
        .collect();
    let batch = Packed::new(&documents);
    let model = Model::open(&root("tests/golden/families").join(name), DType::F32);
    let decoder = model.decoder();
    let hidden = batch.hidden(&decoder);

    let logits = decoder.logits(&hidden).unwrap();
    let mut errors = vec![(
        "all".to_owned(),
        distance_to_fingerprint(&logits, &wanted["logits"]),
    )];
    for (s, want) in wanted["logits_last"].as_array().unwrap().iter().enumerate() {
        let got = logits.get(batch.cu_seqlens[s + 1] as usize - 1).unwrap();
        errors.push((
            format!("last of document {s}"),
            distance(&flat(&got), &numbers(want)),
        ));
    }
    check(&format!("{name}: logits"), errors, PARITY);

    let logps = decoder
        .token_logps(&hidden, &batch.rows, &batch.targets)
        .unwrap();
    let loss = mean_nll(&logps, batch.targets.len());
    let error = relative(flat(&loss)[0], wanted["loss"].as_f64().unwrap());
    check(
        &format!("{name}: loss"),
        [("mean nll".to_owned(), error)],
        PARITY,
    );

    let gradients = model.gradients(&loss);
    let expected = wanted["gradients"].as_object().unwrap();
    assert_eq!(
        gradients.iter().count(),
        expected.len(),
        "{name}: parameters"
    );
    check(
        &format!("{name}: gradients"),
        gradients.iter().map(|(parameter, grad)| {
            (
                parameter.clone(),
                distance_to_fingerprint(grad, &expected[parameter]),
            )
        }),
        PARITY,
    );
    let norm = clip_by_global_norm(&gradients, 0.0).unwrap().norm;
    let error = relative(norm, wanted["grad_norm"].as_f64().unwrap());
    check(
        &format!("{name}: gradient norm"),
        [("global".to_owned(), error)],
        PARITY,
    );
}

macro_rules! families {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                family($name);
            }
        )*

        #[test]
        fn every_golden_family_is_tested() {
            let golden = golden("families.json");
            let mut names: Vec<&str> =
                golden["families"].as_object().unwrap().keys().map(String::as_str).collect();
            let mut tested = vec![$($name),*];
            names.sort_unstable();
            tested.sort_unstable();
            assert_eq!(names, tested);
        }
    };
}

families! {
    llama_with_grouped_heads_and_its_own_head_equals_transformers: "llama-gqa",
    llama_3_rope_scaling_equals_transformers: "llama3-rope",
    llama_with_biases_equals_transformers: "llama-bias",
    smollm_equals_transformers: "smollm",
    mistral_with_a_sliding_window_equals_transformers: "mistral",
    gemma_equals_transformers: "gemma",
    gemma_2_with_caps_and_alternating_windows_equals_transformers: "gemma2",
    qwen_2_equals_transformers: "qwen2",
    qwen_3_equals_transformers: "qwen3",
}
