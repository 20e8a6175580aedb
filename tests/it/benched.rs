//! What programs ask of `lions bench`: what a step computes, steps at a pace, batchings, instruction sets.

use crate::project::{Project, Said};
use serde_json::Value;
use std::io::Write as _;
use std::process::Stdio;

const SHORT: [&str; 6] = [
    "--warmup",
    "0",
    "--max-seq-len",
    "128",
    "--batch-tokens",
    "512",
];

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn numbers(value: &Value) -> Vec<u64> {
    let items = value.as_array().unwrap().iter();
    items.map(|item| item.as_u64().unwrap()).collect()
}

#[test]
fn what_each_step_computes_is_written_as_each_batching_has_it() {
    let project = Project::new();
    for batching in ["padded", "concat", "best-fit"] {
        let more = [
            "--steps",
            "3",
            "--batching",
            batching,
            "--work",
            "work.jsonl",
        ];
        let report = project.json(&[&["bench", "train"], &SHORT[..], &more].concat());
        let steps = lines(&project.read("work.jsonl"));
        assert_eq!(steps.len(), 3, "{batching}");
        let (mut real, mut positions) = (0, 0);
        for step in &steps {
            let (edges, own) = (numbers(&step["cu_seqlens"]), numbers(&step["positions"]));
            let last = *edges.last().unwrap();
            assert!(
                last <= 512 && own.len() as u64 == last,
                "{batching}: {edges:?}"
            );
            assert_eq!(numbers(&step["tokens"]).len() as u64, last, "{batching}");
            // Positions begin anew in every document, and none crosses the edge of a window.
            for edge in edges.windows(2) {
                let of_segment = &own[edge[0] as usize..edge[1] as usize];
                assert!(
                    of_segment.iter().copied().eq(0..edge[1] - edge[0]),
                    "{batching}"
                );
                assert!(edge[1] - edge[0] <= 128, "{batching}: {edges:?}");
            }
            let is_full = edges.contains(&128) && last == 512;
            assert!(is_full || batching == "best-fit", "{batching}: {edges:?}");
            positions += last;
            real += step["real_tokens"].as_u64().unwrap();
        }
        assert_eq!(report["real_tokens"], real, "{batching}");
        let padding = report["padding_share"].as_f64().unwrap();
        let wanted = 1.0 - real as f64 / positions as f64;
        assert!(
            (padding - wanted).abs() < 1e-9,
            "{batching}: {padding}, not {wanted}"
        );
        assert_eq!(padding > 0.0, batching == "padded", "{batching}: {padding}");
    }
    let pairs = [
        "bench",
        "dpo",
        "--steps",
        "1",
        "--warmup",
        "0",
        "--pairs",
        "2",
        "--work",
        "pairs.jsonl",
    ];
    project.json(&pairs);
    let step = &lines(&project.read("pairs.jsonl"))[0];
    assert_eq!(step["pairs"].as_array().unwrap().len(), 2, "{step}");
    let samples = "bench generate --prompts 2 --samples 3 --max-new-tokens 4 --work drawn.jsonl";
    project.json(&samples.split(' ').collect::<Vec<_>>());
    let step = &lines(&project.read("drawn.jsonl"))[0];
    assert_eq!(step["prompts"].as_array().unwrap().len(), 2, "{step}");
}

#[test]
fn steps_wait_for_their_word_and_the_end_of_input_ends_them() {
    let project = Project::new();
    let words = [
        &["bench", "train"],
        &SHORT[..],
        &["--steps", "9", "--paced"],
    ]
    .concat();
    let mut command = project.command(&words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\n\n").unwrap();
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    let told = lines(&said.out);
    assert_eq!(told.len(), 4, "{said:?}");
    assert_eq!(told[0]["ready"], true);
    for (at, step) in told[1..3].iter().enumerate() {
        assert_eq!(step["step"], at + 1, "{step}");
        assert!(step["seconds"]["wall"].as_f64().unwrap() > 0.0, "{step}");
    }
    assert_eq!(
        (&told[3]["bench"], &told[3]["steps"]),
        (&"train".into(), &2.into())
    );
}

/// The losses of two steps on an instruction set; nothing if the processor lacks it, which is said.
fn losses(project: &Project, isa: &str) -> Option<[f64; 2]> {
    let more = [
        "--steps",
        "2",
        "--precision",
        "bf16",
        "--isa",
        isa,
        "--json",
    ];
    let said = project.lions(&[&["bench", "train"], &SHORT[..], &more].concat());
    if said.code != 0 {
        let why = format!("`{isa}` is no instruction set of this processor; it has ");
        assert!(said.code == 1 && said.err.contains(&why), "{said:?}");
        return None;
    }
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["isa"], isa);
    Some(["first_loss", "last_loss"].map(|key| report[key].as_f64().unwrap()))
}

#[test]
fn sets_that_multiply_pairs_give_the_bits_of_plain_vectors() {
    let project = Project::new();
    let plain = losses(&project, "avx2");
    for isa in ["avx512", "avx512bf16", "amx"] {
        if let Some(got) = losses(&project, isa) {
            let bits = |losses: [f64; 2]| losses.map(f64::to_bits);
            assert_eq!(Some(bits(got)), plain.map(bits), "{isa}");
        }
    }
}
