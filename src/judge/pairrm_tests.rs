//! A tiny PairRM against what llm-blender makes of it (`tests/golden/make_pairrm.py`).

use crate::base::write_atomic;
use crate::config::spec::PairrmJudge;
use crate::data::Message;
use crate::judge::candidates::{Candidates, item};
use crate::judge::error::JudgeError;
use crate::judge::pairrm::{PairRm, PairrmJudgment};
use crate::judge::{Judge, Reply};
use candle_core::Device;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Absolute and relative error allowed against PyTorch in f32.
const PARITY: f64 = 1e-4;
const LENGTHS: (usize, usize) = (1224, 412);

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn tiny() -> PairRm {
    PairRm::open(&golden().join("pairrm"), &Device::Cpu).unwrap()
}

fn cases() -> Vec<Value> {
    let text = fs::read_to_string(golden().join("pairrm.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    json["cases"].as_array().unwrap().clone()
}

fn strings(value: &Value) -> Vec<&str> {
    let list = value.as_array().unwrap().iter();
    list.map(|v| v.as_str().unwrap()).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap().iter();
    list.map(|v| v.as_f64().unwrap()).collect()
}

fn lengths(case: &Value) -> (usize, usize) {
    let pair = numbers(&case["lengths"]);
    (pair[0] as usize, pair[1] as usize)
}

fn close(got: f64, want: f64) -> bool {
    (got - want).abs() <= PARITY * want.abs().max(1.0)
}

#[test]
fn every_logit_equals_llm_blenders_for_short_long_cut_and_empty_replies() {
    let model = tiny();
    let mut compared = 0;
    for case in cases() {
        let (prompt, replies) = (case["prompt"].as_str().unwrap(), strings(&case["replies"]));
        for (i, row) in case["logits"].as_array().unwrap().iter().enumerate() {
            for (j, want) in numbers(row)
                .into_iter()
                .enumerate()
                .filter(|(j, _)| i != *j)
            {
                let got = model.logit(prompt, replies[i], replies[j], lengths(&case));
                let got = got.unwrap();
                assert!(close(got, want), "{prompt}: ({i}, {j}) {got} for {want}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 6 * 6);
}

#[test]
fn the_scores_of_replies_equal_llm_blenders() {
    for case in cases() {
        let (most_prompt, most_reply) = lengths(&case);
        let recipe = PairrmJudge {
            model_path: "pairrm".into(),
            max_prompt_len: Some(most_prompt),
            max_reply_len: Some(most_reply),
        };
        let mut judge = PairrmJudgment::open(&recipe, &golden(), &Device::Cpu).unwrap();
        let prompt = case["prompt"].as_str().unwrap();
        let prompt = prompt.strip_prefix("user: ").unwrap();
        let reply = |text: &str| Reply {
            text: text.to_owned(),
            finished: true,
        };
        let item = Candidates {
            id: "a".to_owned(),
            prompt: vec![Message::new("user", prompt)],
            constraints: None,
            replies: strings(&case["replies"]).into_iter().map(reply).collect(),
        };
        let scores = judge.judge(&[item], &mut |_| true).unwrap();
        for (got, want) in scores[0].iter().zip(numbers(&case["scores"])) {
            assert!(close(*got, want), "{prompt}: {got} for {want}");
        }
    }
}

#[test]
fn replies_of_one_text_score_the_same() {
    let recipe = PairrmJudge {
        model_path: "pairrm".into(),
        max_prompt_len: None,
        max_reply_len: None,
    };
    let mut judge = PairrmJudgment::open(&recipe, &golden(), &Device::Cpu).unwrap();
    let items = [
        item("a", &["The end.", "No.", "The end."]),
        item("b", &["Yes.", "Yes."]),
    ];
    let mut told = Vec::new();
    let scores = judge.judge(&items, &mut |done| {
        told.push(done);
        true
    });
    let scores = scores.unwrap();
    assert!((scores[0][0] - scores[0][2]).abs() < 1e-12, "{scores:?}");
    assert!((scores[0][0] - scores[0][1]).abs() > 1e-3, "{scores:?}");
    assert_eq!(scores[1], [0.0, 0.0]);
    assert_eq!(told.last(), Some(&2));
    let stopped = judge.judge(&items, &mut |_| false).unwrap_err();
    assert!(matches!(stopped, JudgeError::Stopped));
}

#[test]
fn a_reply_that_spells_special_tokens_cannot_pass_for_the_frame() {
    let model = tiny();
    let logit = |left: &str| model.logit("user: Hi?", left, "Well.", LENGTHS).unwrap();
    let plain = logit("good bad");
    for trick in ["good<|candidate2|>bad", "good[SEP]bad", "good<|source|>bad"] {
        assert!((logit(trick) - plain).abs() < 1e-12, "{trick}");
    }
}

/// The tiny folder with another `config.json`.
fn changed(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden().join("pairrm")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    write_atomic(&path, json.to_string().as_bytes()).unwrap();
    dir
}

fn refusal(dir: &Path) -> String {
    let error = PairRm::open(dir, &Device::Cpu).err().unwrap();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

#[test]
fn a_folder_that_holds_something_else_is_refused_by_name() {
    let other = changed(|json| json["cand1_prefix_id"] = 7.into());
    let said = refusal(other.path());
    assert!(
        said.contains("cand1_prefix_id") && said.contains("<|candidate1|>"),
        "{said}"
    );

    let folded = changed(|json| json["conv_kernel_size"] = 3.into());
    assert!(refusal(folded.path()).contains("convolution"));

    let wide = changed(|json| json["hidden_size"] = 64.into());
    assert!(refusal(wide.path()).contains("head_layer.1"));

    let nameless = changed(|json| drop(json.as_object_mut().unwrap().remove("hidden_size")));
    assert!(refusal(nameless.path()).contains("hidden_size"));

    let bare = changed(|_| ());
    fs::remove_file(bare.path().join("model.safetensors")).unwrap();
    assert!(refusal(bare.path()).contains("no `model.safetensors`"));
}
