//! Every key that `sweeps/README.md` lists of a task file, in tasks of one's own: what is asked, how an answer is cut
//! and scored, and that a sweep's table has the same numbers as `lions eval`.

use crate::project::Project;
use crate::tiny::{self, close};
use regex::Regex;
use serde_json::{Value, json};

const MODEL: &str = "models/stories260k";

/// Beginnings for the model; `topic` is the part.
const ROWS: [(&str, &str); 4] = [
    ("Tom ran to", "run"),
    ("Lily had a", "have"),
    ("One day a", "have"),
    ("The dog saw", "have"),
];

fn rows(answers: [&str; 4]) -> String {
    let row = |((question, topic), answer): (&(&str, &str), &str)| {
        format!("{}\n", json!({"q": question, "topic": topic, "a": answer}))
    };
    ROWS.iter().zip(answers).map(row).collect()
}

/// Solved rows: one of the first part, two of the second.
const SHOTS: &str = r#"{"q": "Ben saw a", "a": "cat", "topic": "run"}
{"q": "Sue ate a", "a": "plum", "topic": "have"}
{"q": "Max hid in", "a": "bed", "topic": "have"}
"#;

/// All keys of a task that lets the model write.
const WORDS: &str = r#"data = ["data/eval/rows.jsonl"]
description = "Go on, please.\n"
prompt = "{{ q }}"
delimiter = " ->"
target = "a"
request = { generate = { until = [".", "\n"], max-new-tokens = 12 } }
few-shot = { data = ["data/eval/shots.jsonl"], count = 1, draw = "first", delimiter = " ##\n" }
parts = { by = "topic", groups = { all = ["run", "have"] }, total = "by-parts" }
score = [
  { exact-match = { name = "whole", ignore-case = true, ignore = ["\\s", "[,!]"] } },
  { exact-match = { name = "last", extract = { pattern = "\\w+", which = "last", otherwise = "[none]" } } },
  { exact-match = { name = "first", extract = { pattern = "(x*)(\\w+)", which = "first", otherwise = "[none]" } } },
  { exact-match = { name = "number", extract = { pattern = "[0-9]+", which = "first", otherwise = "[none]" } } },
  { found = { name = "vowel", pattern = "^[aeiou]" } },
]
"#;

fn project() -> Project {
    let project = tiny::project();
    project.write("data/eval/rows.jsonl", rows(["-"; 4]));
    project.write("data/eval/shots.jsonl", SHOTS);
    project.write("tasks/words.toml", WORDS);
    project
}

/// What `lions eval` writes of one task: its metrics, and its samples by row and filter.
fn asked(project: &Project, task: &str, out: &str) -> (Value, Vec<Value>) {
    let file = format!("tasks/{task}.toml");
    let words = ["eval", MODEL, "--tasks", &file, "--out", out];
    let told = project.json(&words);
    (told["metrics"].clone(), samples_of(project, task, out))
}

/// The samples of one task that were written into `out`.
fn samples_of(project: &Project, task: &str, out: &str) -> Vec<Value> {
    // Each part has a file.
    let files = std::fs::read_dir(project.path(out)).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files
        .filter(|name| name.starts_with(&format!("samples_{task}_")))
        .collect();
    files.sort();
    let samples = files
        .iter()
        .map(|name| project.read(&format!("{out}/{name}")));
    let samples = samples.collect::<String>();
    let samples = samples
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    samples.collect()
}

fn context(samples: &[Value], question: &str) -> String {
    let of = |sample: &&Value| sample["doc"]["q"] == question;
    let sample = samples.iter().find(of).unwrap();
    let asked = &sample["arguments"]["gen_args_0"]["arg_0"];
    asked.as_str().unwrap().to_owned()
}

#[test]
fn answers_are_cut_and_scored_by_the_keys_of_the_file_in_a_sweep_as_by_the_command() {
    let project = project();
    let (_, samples) = asked(&project, "words", "unsolved");
    // Solved rows are of the row's own part.
    assert_eq!(
        context(&samples, "Tom ran to"),
        "Go on, please.\nBen saw a ->cat ##\nTom ran to"
    );
    assert_eq!(
        context(&samples, "Lily had a"),
        "Go on, please.\nSue ate a ->plum ##\nLily had a"
    );
    let reply = |question: &str| {
        let of = |sample: &&Value| sample["doc"]["q"] == question;
        let reply = samples.iter().find(of).unwrap()["resps"][0][0].clone();
        reply.as_str().unwrap().to_owned()
    };
    let replies = ROWS.map(|(question, _)| reply(question));
    assert!(
        replies.iter().all(|text| !text.contains(['.', '\n'])),
        "{replies:?}"
    );
    let word = Regex::new(r"\w+").unwrap();
    let words = |text: &str| -> Vec<String> {
        word.find_iter(text)
            .map(|found| found.as_str().to_owned())
            .collect()
    };
    let bare = |text: &str| -> String {
        let kept = text
            .chars()
            .filter(|c| !c.is_whitespace() && !",!".contains(*c));
        kept.collect::<String>().to_lowercase()
    };
    // Each row is right for another scorer, or for several.
    let solved = [
        format!("{}, !", replies[0].to_uppercase()),
        words(&replies[1]).last().unwrap().clone(),
        words(&replies[2])[0].clone(),
        "[none]".to_owned(),
    ];
    project.write(
        "data/eval/rows.jsonl",
        rows(solved.each_ref().map(String::as_str)),
    );
    let (metrics, samples) = asked(&project, "words", "solved");
    let right = |filter: &str, at: usize| -> bool {
        let (reply, target) = (&replies[at], &solved[at]);
        let found = words(reply);
        let none = "[none]".to_owned();
        match filter {
            "whole" => bare(reply) == bare(target),
            "last" => found.last().unwrap_or(&none) == target,
            "first" => found.first().unwrap_or(&none) == target,
            "number" => !reply.contains(|c: char| c.is_ascii_digit()) && *target == none,
            _ => reply.starts_with(['a', 'e', 'i', 'o', 'u']),
        }
    };
    for (filter, key) in [
        ("whole", "exact_match"),
        ("last", "exact_match"),
        ("first", "exact_match"),
        ("number", "exact_match"),
        ("vowel", "found"),
    ] {
        let scores: Vec<f64> = (0..4)
            .map(|at| f64::from(u8::from(right(filter, at))))
            .collect();
        for (at, score) in scores.iter().enumerate() {
            let of =
                |sample: &&Value| sample["doc"]["q"] == ROWS[at].0 && sample["filter"] == filter;
            let got = &samples.iter().find(of).unwrap()[key];
            assert_eq!(
                got.as_f64(),
                Some(*score),
                "{filter}, row {at}: {replies:?}"
            );
        }
        let have = scores[1..].iter().sum::<f64>() / 3.0;
        for (part, want) in [
            ("/run", scores[0]),
            ("/have", have),
            ("/all", f64::midpoint(scores[0], have)),
            ("", f64::midpoint(scores[0], have)),
        ] {
            let name = format!("words{part}/{filter}/{key}");
            close(
                metrics[&name]["value"].as_f64().unwrap(),
                want,
                1e-12,
                &name,
            );
        }
    }
    for filter in ["whole", "last", "first", "number"] {
        let name = format!("words/{filter}/exact_match");
        assert!(metrics[&name]["value"].as_f64().unwrap() > 0.0, "{name}");
    }

    // A sweep asks the same; what stands in it goes before the file.
    let task = |more: &str| {
        format!("\"eval.recipe.tasks.words\" = {{ file = \"tasks/words.toml\"{more} }}")
    };
    let arms = [
        ("as the file", task("")),
        (
            "rows count the same",
            task(", parts = { total = \"by-rows\" }"),
        ),
        ("two rows", task(", max-rows = 1")),
    ];
    let shown = [
        "words/whole/exact_match",
        "words/last/exact_match",
        "words/number/exact_match",
        "words/vowel/found",
    ];
    let results = tiny::run_arms(&project, "words", &arms, &shown, "[base]\npipeline = []\n");
    for key in shown {
        let want = metrics[key]["value"].as_f64().unwrap();
        close(results.value("as the file", key), want, 1e-12, key);
    }
    let by_rows = (0..4).filter(|at| right("number", *at)).count() as f64 / 4.0;
    close(
        results.value("rows count the same", shown[2]),
        by_rows,
        1e-12,
        "by rows",
    );
    // Of each part the first.
    let first = [right("last", 0), right("last", 1)].map(|right| f64::from(u8::from(right)));
    close(
        results.value("two rows", shown[1]),
        f64::midpoint(first[0], first[1]),
        1e-12,
        "the first rows",
    );
}

#[test]
fn questions_are_put_together_as_the_keys_of_the_file_say() {
    let project = project();
    let chat = |how: &str, name: &str| {
        let text = WORDS.replace("parts =", &format!("chat = {{ {how} }}\nparts ="));
        project.write(format!("tasks/{name}.toml"), text);
        context(&asked(&project, name, name).1, "Tom ran to")
    };
    assert_eq!(
        chat("shots = \"turns\"", "turns"),
        "<s>Go on, please.\n\nUser: Ben saw a\nAssistant: cat</s>User: Tom ran to\nAssistant:"
    );
    assert_eq!(
        chat("shots = \"one-turn\", system = \"Be brief.\"", "one-turn"),
        "<s>Be brief. ##\nGo on, please.\n\nUser: Ben saw a ->cat ##\nTom ran to\nAssistant:"
    );

    // Rows that may hold the evaluated one: two others stand before each, by a seed.
    let over = |seed: u64, bos: &str| {
        let name = format!("over-{seed}-{bos}");
        let text = format!(
            "data = [\"data/eval/shots.jsonl\"]\nprompt = \"{{{{ q }}}}\"\ndelimiter = \" \"\ntarget = \"a\"\nbos = \"{bos}\"\n\
             request = {{ generate = {{ max-new-tokens = 4 }} }}\nscore = [{{ exact-match = {{}} }}]\n\
             few-shot = {{ data = [\"data/eval/shots.jsonl\"], count = 2, draw = \"sample\", overlapping = true, seed = {seed}, delimiter = \"|\" }}\n"
        );
        project.write(format!("tasks/{name}.toml"), text);
        let (_, samples) = asked(&project, &name, &name);
        assert_eq!(samples.len(), 3);
        for sample in &samples {
            let (question, answer) = (
                sample["doc"]["q"].as_str().unwrap(),
                sample["doc"]["a"].as_str().unwrap(),
            );
            let parts: Vec<String> = context(&samples, question)
                .split('|')
                .map(str::to_owned)
                .collect();
            assert_eq!((parts.len(), parts[2].as_str()), (3, question));
            assert!(
                parts[..2]
                    .iter()
                    .all(|shot| !shot.ends_with(answer) && shot.contains(' ')),
                "{parts:?}"
            );
            assert_ne!(parts[0], parts[1]);
        }
        samples
    };
    let first = over(5, "tokenizer");
    assert_eq!(
        first,
        over(5, "always"),
        "this tokenizer begins texts by itself"
    );
    let without = over(5, "never");
    assert_ne!(
        first, without,
        "without its first token the model says something else"
    );
    let contexts = |samples: &[Value]| -> Vec<Value> {
        samples
            .iter()
            .map(|sample| sample["arguments"].clone())
            .collect()
    };
    assert_eq!(
        contexts(&first),
        contexts(&without),
        "the texts are the same"
    );
    let drawn = (6..12).map(|seed| contexts(&over(seed, "tokenizer")));
    assert!(drawn.into_iter().any(|other| other != contexts(&first)));

    // What follows every choice is scored, and the choice stands in the question.
    project.write(
        "tasks/cont.toml",
        "data = [\"data/eval/rows.jsonl\"]\nprompt = \"{{ choice }} was\"\ntarget = \"1\"\ndelimiter = \" \"\n\
         request = { choices = { of = \"['It', 'The big red dog and the cat']\", each = \"So {{ choice }}\", continuation = \"in {{ topic }}\" } }\n\
         score = [\"acc\", \"acc-norm\", \"acc-bytes\"]\n",
    );
    let (metrics, samples) = asked(&project, "cont", "cont");
    assert_eq!(
        samples[0]["arguments"],
        json!({
            "gen_args_0": { "arg_0": "So It was", "arg_1": " in run" },
            "gen_args_1": { "arg_0": "So The big red dog and the cat was", "arg_1": " in run" },
        })
    );
    let likely = |sample: &Value, at: usize| -> f64 {
        let said = sample["resps"][at][0][0].as_str().unwrap();
        said.parse().unwrap()
    };
    let right = samples
        .iter()
        .filter(|sample| likely(sample, 1) > likely(sample, 0));
    let share = right.count() as f64 / 4.0;
    close(
        metrics["cont/acc"]["value"].as_f64().unwrap(),
        share,
        1e-12,
        "acc",
    );
    // By the characters of the choices as they are asked.
    let per = |sample: &&Value| likely(sample, 1) / 30.0 > likely(sample, 0) / 5.0;
    let share = samples.iter().filter(per).count() as f64 / 4.0;
    for key in ["cont/acc_norm", "cont/acc_bytes"] {
        close(metrics[key]["value"].as_f64().unwrap(), share, 1e-12, key);
    }
}

#[test]
fn the_command_asks_through_a_template_and_one_row_is_no_rows() {
    let project = project();
    project.write(
        "marks.jinja",
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}[assistant]",
    );
    let asked = |out: &str, more: &[&str]| {
        let words = ["eval", MODEL, "--tasks", "tasks/words.toml", "--out", out];
        let said = project.lions(&[&words, more].concat());
        assert_eq!(said.code, 0, "{said:?}");
        let samples = samples_of(&project, "words", out);
        (context(&samples, "Tom ran to"), said.out)
    };
    let (text, said) = asked(
        "one",
        &[
            "--chat",
            "one-turn",
            "--system",
            "Be brief.",
            "--max-rows",
            "1",
        ],
    );
    assert_eq!(
        text,
        "<s>Be brief. ##\nGo on, please.\n\nUser: Ben saw a ->cat ##\nTom ran to\nAssistant:"
    );
    // The first of each of two parts.
    let ends = |start: &str| {
        let line = said.lines().find(|line| line.starts_with(start)).unwrap();
        line.rsplit("  ").next().unwrap().to_owned()
    };
    assert_eq!(ends("words/run/whole/"), "(1 row)");
    assert_eq!(ends("words/whole/"), "(2 rows)");
    assert_eq!(
        asked("turns", &["--chat", "turns"]).0,
        "<s>Go on, please.\n\nUser: Ben saw a\nAssistant: cat</s>User: Tom ran to\nAssistant:"
    );
    assert_eq!(
        asked(
            "marks",
            &[
                "--chat",
                "turns",
                "--chat-template",
                "marks.jinja",
                "--shots",
                "0"
            ]
        )
        .0,
        "[system] Go on, please.\n[user] Tom ran to[assistant]"
    );
    // Without a template it stands before everything.
    let (text, _) = asked("before", &["--system", "Be brief. "]);
    assert_eq!(
        text,
        "Be brief. Go on, please.\nBen saw a ->cat ##\nTom ran to"
    );
}

/// Two rows, both about sentences and words in capitals: what comes of no more than 24 tokens.
const FOLLOW: &str = r#"{"prompt": "Tell me about a cat.", "instruction_id_list": ["length_constraints:number_sentences", "change_case:capital_word_frequency"], "kwargs": [{"num_sentences": 100, "relation": "less than"}, {"capital_frequency": 50, "capital_relation": "at least"}]}
{"prompt": "Tell me about a dog.", "instruction_id_list": ["change_case:capital_word_frequency"], "kwargs": [{"capital_frequency": 50, "capital_relation": "less than"}]}
"#;

#[test]
fn sentences_are_told_by_files_of_nltk_without_which_such_rows_are_refused() {
    let project = tiny::project();
    project.write("data/eval/ifeval/train.jsonl", FOLLOW);
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let task = |file: &str| {
        format!(
            "[base]\npipeline = []\n[base.eval.recipe.tasks.ifeval]\nfile = \"{file}\"\n\
             request = {{ generate = {{ until = [], max-new-tokens = 24 }} }}\n"
        )
    };
    let metrics = [
        "ifeval/inst_level_strict_acc",
        "ifeval/prompt_level_strict_acc",
    ];
    let arms = [("all", "seed = 1".to_owned())];
    let sweep = |file: &str| {
        let text = tiny::sweep(
            "follow",
            &arms,
            &format!("{}{}", task(file), tiny::table(&metrics)),
        );
        text.replace("{ seed = 1 }", "{ \"eval.recipe.precision\" = \"f32\" }")
    };
    // The shipped task names four files that are fetched; without them it says so.
    project.write("sweeps/follow.toml", sweep("ifeval"));
    let said = project.lions(&["check", "sweeps/follow.toml"]);
    let gone = "there is no file `data/eval/punkt_tab/english/abbrev_types.txt`";
    assert!(said.code == 1 && said.err.contains(gone), "{said:?}");
    // A task of one's own that names none is refused before anything is asked.
    let text = std::fs::read_to_string(shipped.join("data/tasks/ifeval.toml")).unwrap();
    let (without, _) = text.split_once("[score.ifeval.punkt]").unwrap();
    project.write("tasks/plain.toml", without);
    project.write("sweeps/follow.toml", sweep("tasks/plain.toml"));
    for command in ["check", "run"] {
        let said = project.lions(&[command, "sweeps/follow.toml"]);
        let why = "row data/eval/ifeval/train.jsonl:1: score: length_constraints:number_sentences: it is about English \
                   sentences or words, and the task has no `punkt` files";
        assert!(said.code == 1 && said.err.contains(why), "{said:?}");
    }
    let said = project.lions(&[
        "eval",
        MODEL,
        "--tasks",
        "tasks/plain.toml",
        "--out",
        "none",
    ]);
    assert!(
        said.code == 1 && said.err.contains("no `punkt` files"),
        "{said:?}"
    );

    let nltk = shipped.join("tests/golden/eval/punkt");
    crate::project::copy_tree(&nltk, &project.path("data/eval/punkt_tab/english"));
    project.write("sweeps/follow.toml", sweep("ifeval"));
    let results = tiny::run(&project, "follow");
    // So few tokens are fewer than 100 sentences and 50 words in capitals.
    close(
        results.value("all", metrics[0]),
        2.0 / 3.0,
        1e-12,
        "by instruction",
    );
    close(results.value("all", metrics[1]), 0.5, 1e-12, "by prompt");
}
