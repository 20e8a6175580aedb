"""Odd rows of evaluation tasks, asked by `lions eval` and by lm-evaluation-harness itself: tasks of our own in both grammars.

usage: python tests/clients/odd_tasks.py LIONS MODEL_FOLDER...

Wants `lm_eval[hf]` 0.4.13, `torch` and `transformers`; needs no network. Rows hold letters of several scripts, white space at
either end of questions and choices, choices of different counts, of one text twice, longer than the model's positions allow
for a question, and shots that do not fit. Compared are requests, log-likelihoods, `is_greedy`, answers, filters, scores and
totals. Then one of each kind that the harness fails on is asked alone: `lions eval` has to refuse it. Ends with an error if
anything differs.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
CLOSE = 1e-4
LONG = "One day a little girl named Lily went to the park with her mom and saw a big dog. "
CHOICES = [
    {"q": "Où est l'été ?", "c": ["à la plage", "en hiver 🏖️"], "a": 0},
    {"q": "これは何ですか", "c": ["猫", "犬です。", "é", "ﬁ"], "a": 1},
    {"q": "ends in blanks   ", "c": ["yes", "no", "maybe"], "a": 2},
    {"q": "ends in lines\n\n", "c": ["yes", " two blanks", "three"], "a": 1},
    {"q": "ends in\u00a0", "c": ["a", "b\u00a0", "c"], "a": 0},
    {"q": "twice", "c": ["the same", "the same", "other"], "a": 1},
    {"q": "one", "c": ["only"], "a": 0},
    {"q": "empty", "c": ["", "full"], "a": 1},
    {"q": "tabs\t", "c": ["\ttab", "line\nbreak", "end\n"], "a": 0},
    {"q": LONG * 40, "c": ["She ran.", "He ran to the big red house and was very happy."], "a": 0},
    {"q": "long choices", "c": [LONG * 3, LONG * 5 + "The end."], "a": 1},
    {"q": "\u2028 odd\u3000", "c": ["\u3000wide", "narrow\u200b"], "a": 0},
    {"q": "{{ braces }} {% raw %}", "c": ["{{ x }}", "<s>", "</s> after"], "a": 0},
    {"q": "Once upon a time, there was a little girl named", "c": ["Lily", "Lily.", "Tim", "Zq"], "a": 0},
    {"q": "many", "c": [f"choice {i}" for i in range(12)], "a": 11},
]
TEXTS = [
    {"q": "Once upon a time", "t": "#### 1,000."},
    {"q": "Il était une fois", "t": "x #### 2 #### $3"},
    {"q": LONG * 40, "t": "#### -4"},
    {"q": "ends in blanks   ", "t": "no mark"},
    {"q": "She said \"", "t": "#### 5.0"},
]
SHOTS = [{"q": f"shot {i} " + "tall " * i, "c": [f"right {i}", "wrong"], "a": i % 2, "t": f"because #### {i}"} for i in range(30)]
# One of a kind; the harness raises on each.
REFUSED = {"a continuation longer than the model holds": {"q": "short", "c": [LONG * 60, "b"], "a": 0},
           "nothing asked": {"q": "nothing", "c": ["", "b"], "a": 0}}


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"ok  {what}")


def toml(value):
    return json.dumps(value, ensure_ascii=False)


def tasks():
    """Name: what the harness is told, and what `lions eval` is."""
    choices = dict(output_type="multiple_choice", doc_to_text="{{q}}", doc_to_target="{{a}}", doc_to_choice="{{c}}",
                   metric_list=[dict(metric=m, aggregation="mean", higher_is_better=True) for m in ("acc", "acc_norm")])
    ours = 'prompt = "{{ q }}"\nrequest = { choices = { of = "c" } }\ntarget = "a"\nscore = ["acc", "acc-norm"]\n'
    yield "odd_plain", choices | dict(num_fewshot=0), ours, "choices"
    bare = ours.replace('score', 'delimiter = ""\nscore')
    yield "odd_bare", choices | dict(num_fewshot=0, target_delimiter=""), bare, "filled"
    described = choices | dict(num_fewshot=3, description="About {{q[:3]}}:\n\n", fewshot_delimiter="\n---\n")
    few = '\n[few-shot]\ndata = ["data/shots.jsonl"]\ncount = {}\ndraw = "{}"\n'
    yield "odd_shots", described, 'description = "About {{ q[:3] }}:\\n\\n"\n' + ours + few.format(3, "sample") + 'delimiter = "\\n---\\n"\n', "choices"
    many = choices | dict(num_fewshot=30)
    yield "odd_many", many, ours + few.format(30, "sample"), "choices"
    first = choices | dict(num_fewshot=4, fewshot_config=dict(sampler="first_n"))
    yield "odd_first", first, ours + few.format(4, "first"), "choices"
    match = dict(metric="exact_match", aggregation="mean", higher_is_better=True, ignore_case=True, regexes_to_ignore=[",", "\\$", "(?s).*#### ", "\\.$"])
    filters = [dict(name=name, filter=[dict(function="regex", regex_pattern=pattern, group_select=at), dict(function="take_first")])
               for name, pattern, at in (("first", "([a-z]+) ", 0), ("last", "([a-z])([.,])?", -1))]
    texts = dict(output_type="generate_until", doc_to_text="{{q}}", doc_to_target="{{t}}", metric_list=[match], num_fewshot=2,
                 filter_list=filters, generation_kwargs=dict(until=["\n\n", "girl named", "zz"], do_sample=False, temperature=0.0, max_gen_toks=40))
    scores = ""
    for name, pattern, which in (("first", "([a-z]+) ", "first"), ("last", "([a-z])([.,])?", "last")):
        scores += (f"\n[[score]]\n[score.exact-match]\nname = \"{name}\"\nextract = {{ pattern = '{pattern}', which = \"{which}\", otherwise = \"[invalid]\" }}\n"
                   "ignore = [',', '\\$', '(?s).*#### ', '\\.$']\nignore-case = true\n")
    generate = '\n[request.generate]\nuntil = ["\\n\\n", "girl named", "zz"]\nmax-new-tokens = 40\n'
    yield "odd_texts", texts, 'prompt = "{{ q }}"\ntarget = "t"\n' + generate + few.format(2, "sample") + scores, "texts"


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    # All files have all columns, as `datasets` wants it.
    rows = ({"c": ["none"], "a": 0, "t": "none"} | row for row in rows)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def lions(program, model, work, names, out):
    words = [program, "eval", model, "--tasks", ",".join(f"tasks/{name}.toml" for name in names), "--out", out, "--root", str(work)]
    return subprocess.run(words, cwd=work, capture_output=True, text=True)


def newest(folder, stem):
    return max(folder.glob(f"{stem}_2*.json*"))


def same(model, ours, theirs, name):
    worst = 0.0
    check(len(ours) == len(theirs) > 0, f"{model} {name}: {len(ours)} lines")
    for row in ours:
        other = next(o for o in theirs if (o["doc_id"], o["filter"]) == (row["doc_id"], row["filter"]))
        place = f"{model} {name} {row['doc_id']} {row['filter']}"
        asked = [row["arguments"][f"gen_args_{at}"] for at in range(len(row["arguments"]))]
        for at, (mine, his) in enumerate(zip(asked, other["arguments"], strict=True)):
            if mine["arg_0"] != his[0] or (isinstance(his[1], str) and mine["arg_1"] != his[1]):
                sys.exit(f"FAILED: {place}: another question {at}: {mine} {his}")
            if isinstance(his[1], str):
                (logp, greedy), (want, want_greedy) = row["resps"][at][0], other["resps"][at][0]
                worst = max(worst, abs(float(logp) - want))
                if greedy != str(want_greedy):
                    sys.exit(f"FAILED: {place}: is_greedy {greedy} of choice {at}")
            elif row["resps"][0][0] != other["resps"][0][0] or row["filtered_resps"][0] != other["filtered_resps"][0]:
                sys.exit(f"FAILED: {place}: {row['resps']} {row['filtered_resps']} and {other['resps']} {other['filtered_resps']}")
        if row["target"] != str(other["target"]):
            sys.exit(f"FAILED: {place}: target {row['target']!r} and {other['target']!r}")
        for metric in other["metrics"]:
            if float(row[metric]) != float(other[metric]):
                sys.exit(f"FAILED: {place}: {metric} {row[metric]} and {other[metric]}")
    check(worst < CLOSE, f"{model} {name}: requests, answers and scores are the harness's, log-likelihoods {worst:.1e} apart")


def main():
    program, *models = sys.argv[1:]
    program = str(Path(program).resolve())
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "sweeps").mkdir()
        (work / "tasks").mkdir()
        # With nothing between question and choice a token may straddle the border, and nothing is left of a choice.
        plain = lambda text: text.isascii() and text.strip() and "{{" not in text
        filled = [row for row in CHOICES if all(map(plain, [row["q"], *row["c"]]))]
        for name, rows in (("choices", CHOICES), ("filled", filled), ("texts", TEXTS), ("shots", SHOTS)):
            write_rows(work / f"data/{name}.jsonl", rows)
        names = []
        for name, told, recipe, rows in tasks():
            names.append(name)
            files = {"test": str(work / f"data/{rows}.jsonl"), "train": str(work / "data/shots.jsonl")}
            task = told | dict(task=name, dataset_path="json", dataset_kwargs=dict(data_files=files), test_split="test")
            if told["num_fewshot"]:
                task["fewshot_split"] = "train"
            (work / f"{name}.yaml").write_text(json.dumps(task))
            (work / f"tasks/{name}.toml").write_text(f'data = ["data/{rows}.jsonl"]\n{recipe}')
        for model in models:
            folder = str(Path(model).resolve())
            lm = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1)
            short = Path(folder).name
            # Of some questions nothing is left behind the border in this vocabulary: the harness asserts, and so do we refuse.
            whole = lambda rows, between: [row for row in rows if all(lm._encode_pair(row["q"], between + c)[1] for c in row["c"])]
            write_rows(work / "data/choices.jsonl", whole(CHOICES, " "))
            write_rows(work / "data/filled.jsonl", whole(filled, ""))
            said = lions(program, folder, work, names, f"out-{short}")
            check(said.returncode == 0, f"{short}: lions eval {said.stderr[-2000:]}")
            found = lm_eval.simple_evaluate(model=lm, tasks=names, task_manager=TaskManager(include_path=str(work)), log_samples=True,
                                            random_seed=0, numpy_random_seed=1234, torch_random_seed=1234, fewshot_random_seed=1234)
            totals = json.loads(newest(work / f"out-{short}", "results").read_text())["results"]
            for name in names:
                text = newest(work / f"out-{short}", f"samples_{name}").read_text(encoding="utf-8")
                same(short, [json.loads(line) for line in text.split("\n") if line], found["samples"][name], name)
                for key, value in found["results"][name].items():
                    if "," in key and abs(float(totals[name][key]) - float(value)) > 1e-12:
                        sys.exit(f"FAILED: {short} {name}: {key} {totals[name][key]} and {value}")
            for what, row in REFUSED.items():
                write_rows(work / "data/filled.jsonl", [row])
                try:
                    lm_eval.simple_evaluate(model=lm, tasks=["odd_bare"], task_manager=TaskManager(include_path=str(work)))
                    failed = False
                except (AssertionError, IndexError, RuntimeError, ValueError):
                    failed = True
                said = lions(program, folder, work, ["odd_bare"], f"refused-{short}")
                check(failed == (said.returncode != 0), f"{short}: {what}: the harness fails: {failed}; lions: {said.stderr.strip()[-160:]!r}")


if __name__ == "__main__":
    main()
