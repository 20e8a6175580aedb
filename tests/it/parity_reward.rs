//! Reward models equal transformers' classes for sequence classification.

use crate::parity_support::{PARITY, check, golden, ids, numbers, relative, root};
use candle_core::{DType, Device};
use lions::arch::DecoderConfig;
use lions::model::{RewardModel, score_sequences};

#[test]
fn reward_models_score_as_transformers_does() {
    let golden = golden("reward.json");
    let sequences: Vec<Vec<u32>> = golden["sequences"]
        .as_array()
        .unwrap()
        .iter()
        .map(ids)
        .collect();
    let families = golden["scores"].as_object().unwrap();
    assert_eq!(families.len(), 4);
    for (name, want) in families {
        let dir = root("tests/golden/reward").join(name);
        let config = DecoderConfig::from_file(&dir).unwrap();
        let mut model = RewardModel::load(&dir, &config, &Device::Cpu, DType::F32).unwrap();
        for limit in [1, 64] {
            let got = score_sequences(&mut model, &sequences, limit).unwrap();
            let errors = got.iter().zip(numbers(want)).enumerate();
            let errors = errors.map(|(i, (got, want))| (format!("{i}"), relative(*got, want)));
            check(
                &format!("{name}: scores, passes of {limit}"),
                errors,
                PARITY,
            );
        }
    }
}
