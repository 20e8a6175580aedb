//! Adapters that PEFT wrote give PEFT's log-probabilities and gradients.

use crate::parity_engine::Packed;
use crate::parity_support::{
    PARITY, check, distance, distance_to_fingerprint, flat, golden, ids, mean_nll, numbers,
    relative, root,
};
use crate::project::Project;
use candle_core::{DType, Device};
use lions::arch::DecoderConfig;
use lions::model::{Decoder, FrozenParams, Lora};
use lions::train::Gradients;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn merged_adapters_of_peft_are_a_model_that_says_the_same() {
    let project = Project::new();
    let adapter = root("tests/golden/lora").display().to_string();
    let merge = |model: &str, out: &str| {
        let [model, out] = [model, out].map(|dir| project.path(dir).display().to_string());
        project.lions(&["merge", &adapter, "--model", &model, "--out", &out])
    };
    let said = merge("models/stories260k", "models/merged");
    assert_eq!(said.code, 0, "{said:?}");
    let golden = golden("lora.json");
    let merged = project.path("models/merged");
    let config = DecoderConfig::from_file(&merged).unwrap();
    let params = FrozenParams::load(&merged, &config, &Device::Cpu, DType::F32).unwrap();
    let tokens = ids(&golden["tokens"]);
    let all = Packed::new(&[(tokens.clone(), vec![true; tokens.len()])]);
    let got = flat(&all.token_logps(&Decoder::frozen(&config, &params).unwrap()));
    let error = distance(&got, &numbers(&golden["logps"])[1..]);
    check(
        "merged adapters",
        [("token logps".to_owned(), error)],
        PARITY,
    );
    assert!(merged.join("tokenizer.json").is_file());

    let again = merge("models/stories260k", "models/merged");
    assert_eq!(again.code, 1, "a folder that is there stays: {again:?}");
    let nowhere = merge("models/none", "models/other");
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("--model"), "{}", nowhere.err);
}

/// Ranks and scalings of their own, some layers, expressions: see `MERGED` in `make_lora.py`.
#[test]
fn adapters_of_every_configuration_are_merged_as_peft_merges_them() {
    let project = Project::new();
    let golden = golden("lora_merged.json");
    let base = project.path("models/stories260k");
    let config = DecoderConfig::from_file(&base).unwrap();
    let load = |dir: &Path| FrozenParams::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
    let before = load(&base);
    let tokens = ids(&golden["tokens"]);
    let all = Packed::new(&[(tokens.clone(), vec![true; tokens.len()])]);
    for (name, want) in golden["adapters"].as_object().unwrap() {
        let folder = root("tests/golden/lora_merged").join(name);
        let [adapter, out] = [folder, project.path(name)].map(|dir| dir.display().to_string());
        let words = [
            "merge",
            &adapter,
            "--model",
            "models/stories260k",
            "--out",
            &out,
        ];
        let said = project.lions(&words);
        assert_eq!(said.code, 0, "{name}: {said:?}");
        let merged = load(&project.path(name));
        let got = flat(&all.token_logps(&Decoder::frozen(&config, &merged).unwrap()));
        let error = distance(&got, &numbers(&want["logps"])[1..]);
        check(name, [("token logps".to_owned(), error)], PARITY);
        let changes = want["changes"].as_object().unwrap();
        let errors = merged.iter().filter_map(|(weight, now)| {
            let change = (now - before.get(weight).unwrap()).unwrap();
            let Some(want) = changes.get(weight) else {
                assert!(
                    flat(&change).iter().all(|x| *x == 0.0),
                    "{name}: {weight} has changed"
                );
                return None;
            };
            Some((weight.to_owned(), distance_to_fingerprint(&change, want)))
        });
        let errors: Vec<_> = errors.collect();
        assert_eq!(errors.len(), changes.len(), "{name}");
        check(&format!("{name}: changes"), errors, PARITY);
    }
}

/// What is more than low-rank products of matrices, in the words of PEFT's files.
#[test]
fn adapters_that_are_more_than_low_rank_products_are_refused_by_the_key() {
    let project = Project::new();
    let source = root("tests/golden/lora");
    let weights = std::fs::read(source.join("adapter_model.safetensors")).unwrap();
    let text = std::fs::read_to_string(source.join("adapter_config.json")).unwrap();
    for (key, value) in [
        ("use_dora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("lora_bias", json!(true)),
        ("bias", json!("lora_only")),
        ("init_lora_weights", json!("pissa")),
        ("alpha_pattern", json!({"^model.*q_proj": 3})),
        ("a_key_of_tomorrow", json!({"on": true})),
    ] {
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config[key] = value;
        project.write("adapter/adapter_config.json", config.to_string());
        project.write("adapter/adapter_model.safetensors", &weights);
        let words = [
            "merge",
            "adapter",
            "--model",
            "models/stories260k",
            "--out",
            "merged",
        ];
        let said = project.lions(&words);
        assert_eq!(said.code, 1, "{key}: {said:?}");
        let at = format!("error: `{key}` in `adapter/adapter_config.json`");
        assert!(said.err.starts_with(&at), "{said:?}");
        assert!(said.err.contains("`merge_and_unload` of PEFT"), "{said:?}");
        assert!(!project.path("merged").exists(), "{key}");
    }
}

#[test]
fn merge_writes_the_number_format_that_is_asked_for() {
    let project = Project::new();
    let adapter = root("tests/golden/lora").display().to_string();
    let merge = |out: &str, more: &[&str]| {
        let words = [
            "merge",
            &adapter,
            "--model",
            "models/stories260k",
            "--out",
            out,
        ];
        project.lions(&[&words[..], more].concat())
    };
    let tensors = |out: &str| {
        let file = project.path(out).join("model.safetensors");
        candle_core::safetensors::load(file, &Device::Cpu).unwrap()
    };
    for (out, more) in [("plain", &[][..]), ("narrow", &["--precision", "bf16"][..])] {
        let said = merge(out, more);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let (plain, narrow) = (tensors("plain"), tensors("narrow"));
    let plain: BTreeMap<_, _> = plain.into_iter().collect();
    for (name, wide) in &plain {
        assert_eq!(wide.dtype(), DType::F32, "the base's own");
        let rounded = wide.to_dtype(DType::BF16).unwrap();
        assert_eq!(narrow[name].dtype(), DType::BF16);
        assert_eq!(flat(&narrow[name]), flat(&rounded), "{name}");
    }
    let config = project.read("narrow/config.json");
    assert!(config.contains("\"bfloat16\""), "{config}");
    let said = merge("half", &["--precision", "f16"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.err.contains("f32") && said.err.contains("bf16"),
        "{said:?}"
    );
}

#[test]
fn adapters_of_peft_give_its_log_probabilities_and_every_gradient() {
    let golden = golden("lora.json");
    let source = root("models/stories260k");
    let config = DecoderConfig::from_file(&source).unwrap();
    let base = FrozenParams::load(&source, &config, &Device::Cpu, DType::F32).unwrap();
    let lora = Lora::load(base, &root("tests/golden/lora")).unwrap();
    let decoder = Decoder::adapted(&config, &lora).unwrap();

    let tokens = ids(&golden["tokens"]);
    let all = Packed::new(&[(tokens.clone(), vec![true; tokens.len()])]);
    let got = flat(&all.token_logps(&decoder));
    let error = distance(&got, &numbers(&golden["logps"])[1..]);
    check("adapters", [("token logps".to_owned(), error)], PARITY);

    let mask = ids(&golden["loss_mask"]).iter().map(|m| *m == 1).collect();
    let batch = Packed::new(&[(tokens, mask)]);
    let loss = mean_nll(&batch.token_logps(&decoder), batch.targets.len());
    let error = relative(flat(&loss)[0], golden["loss"].as_f64().unwrap());
    check("adapters", [("loss".to_owned(), error)], PARITY);

    let mut gradients = Gradients::default();
    gradients
        .accumulate(lora.vars(), &mut loss.backward().unwrap())
        .unwrap();
    assert_eq!(
        gradients.iter().count(),
        golden["gradients"].as_object().unwrap().len()
    );
    check(
        "adapters: gradients",
        gradients.iter().map(|(name, grad)| {
            (
                name.clone(),
                distance_to_fingerprint(grad, &golden["gradients"][name]),
            )
        }),
        PARITY,
    );
}
