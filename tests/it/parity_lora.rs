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
