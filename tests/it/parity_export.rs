//! Checkpoints that we write open again, here and in transformers.

use crate::parity_engine::{Model, Packed};
use crate::parity_support::{flat, golden, ids, root, signs};
use candle_core::{DType, Device, Tensor};
use lions::base::write_atomic;
use lions::model::{Companions, save_checkpoint};
use std::path::{Path, PathBuf};

/// The shipped model and every family, by the name of the folder.
fn models() -> Vec<(String, PathBuf)> {
    let families = golden("families.json");
    let families = families["families"].as_object().unwrap();
    let folder = root("tests/golden/families");
    let mut all = vec![("stories260k".to_owned(), root("models/stories260k"))];
    all.extend(
        families
            .keys()
            .map(|name| (name.clone(), folder.join(name))),
    );
    all
}

/// Opens a model and moves its weights, so that a copy of the source file would be noticed.
fn moved(dir: &Path, dtype: DType) -> Model {
    let model = Model::open(dir, dtype);
    for (p, var) in model.vars.values().enumerate() {
        let values = flat(var.as_tensor());
        let moved: Vec<f32> = values
            .iter()
            .zip(signs(p as u64, values.len()))
            .map(|(w, s)| (w + 0.01 * s) as f32)
            .collect();
        let moved = Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap();
        var.set(&moved.to_dtype(dtype).unwrap()).unwrap();
    }
    model
}

fn document() -> Vec<u32> {
    ids(&golden("families.json")["documents"][0])
}

/// Logits of all positions of [`document`], (T, V).
fn logits(model: &Model) -> Tensor {
    let tokens = document();
    let mask = vec![true; tokens.len()];
    let decoder = model.decoder();
    let hidden = Packed::new(&[(tokens, mask)]).hidden(&decoder);
    decoder.logits(&hidden).unwrap()
}

#[test]
fn a_saved_checkpoint_opens_again_with_the_same_logits() {
    for (name, source) in models() {
        for dtype in [DType::F32, DType::BF16] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("checkpoint");
            let model = moved(&source, dtype);
            save_checkpoint(
                &dir,
                &Companions::read(&source).unwrap(),
                &model.params.detached(),
            )
            .unwrap();
            let again = Model::open(&dir, dtype);
            assert_eq!(flat(&logits(&model)), flat(&logits(&again)), "{name}");
        }
    }
}

#[test]
#[ignore = "writes target/exports for tests/golden/check_export.py"]
fn write_checkpoints() {
    let exports = root("target/exports");
    if exports.exists() {
        std::fs::remove_dir_all(&exports).unwrap();
    }
    std::fs::create_dir_all(&exports).unwrap();
    let wide = models()
        .into_iter()
        .map(|(n, source)| (n, source, DType::F32));
    let short = models()
        .into_iter()
        .map(|(n, source)| (format!("{n}-bf16"), source, DType::BF16));
    for (name, source, dtype) in wide.chain(short) {
        let dir = exports.join(name);
        let model = moved(&source, dtype);
        save_checkpoint(
            &dir,
            &Companions::read(&source).unwrap(),
            &model.params.detached(),
        )
        .unwrap();
        let rows: Vec<Vec<f32>> = logits(&model).to_vec2().unwrap();
        let expected = serde_json::json!({"tokens": document(), "logits": rows});
        let path = dir.join("lions_logits.json");
        write_atomic(&path, expected.to_string().as_bytes()).unwrap();
    }
}
