"""Runs `lions eval` and lm-evaluation-harness in turn (A B A B) on the same tasks, rows and model, whole processes.

    pip install lm_eval[hf]==0.4.13 torch==2.15.0 transformers==5.24.0
    cargo build --release
    python benches/compare/evaluate.py                          # the shipped model
    python benches/compare/evaluate.py --model DIR --rows 16    # any folder

Rows are those of `tests/golden/eval/rows`, of which each is asked several times under another number, so that no prompt is
equal to another. Each side is asked for all tasks by one process, on the CPU, in `--precision`; the harness with each of
`--batch-size` (a number or `auto`) and of `--dtype`, of which its fastest counts in each round. Time is what a process has used
of the processor (user and system), from its start to its end, and by the clock. As Python takes seconds to load torch, a second
ratio leaves the start away: what a run of one row a task takes is subtracted on both sides. Printed are medians, of ratios over
rounds. Scores are compared, too: the work is the same. `--tasks gsm8k` generates (`--max-new-tokens` on both sides).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/eval/rows"
SUBJECTS = ["anatomy", "abstract_algebra", "world_religions"]
# Task: shots, the harness's file, its splits, the project's files, the field that a number is put before, metric.
TASKS = {
    "arc_challenge": (25, "arc/arc_challenge.yaml", {"train": "arc_train", "validation": "arc_train", "test": "arc_test"},
                      {"test": "arc_challenge/test", "train": "arc_challenge/train"}, "question", "acc_norm"),
    "hellaswag": (10, "hellaswag/hellaswag.yaml", {"train": "hellaswag_train", "validation": "hellaswag_validation"},
                  {"validation": "hellaswag/validation", "train": "hellaswag/train"}, "ctx_a", "acc_norm"),
    "truthfulqa_mc2": (0, "truthfulqa/truthfulqa_mc2.yaml", {"validation": "truthfulqa_validation"},
                       {"validation": "truthfulqa/validation"}, "question", "acc"),
    "winogrande": (5, "winogrande/default.yaml", {"train": "winogrande_train", "validation": "winogrande_validation"},
                   {"validation": "winogrande/validation", "train": "winogrande/train"}, "sentence", "acc"),
    "mmlu": (5, None, {}, {}, "question", "acc"),
    "gsm8k": (5, "gsm8k/gsm8k.yaml", {"train": "gsm8k_train", "test": "gsm8k_test"},
              {"test": "gsm8k/test", "train": "gsm8k/train"}, "question", "exact_match"),
}
# The filter of its metric that is compared.
FILTERS = {"gsm8k": "flexible-extract"}


def rows(name):
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]


def numbered(all_rows, count, field):
    """`count` rows, no two of one text."""
    many = []
    for at in range(count):
        row = dict(all_rows[at % len(all_rows)])
        row[field] = f"({at}) {row[field]}"
        many.append(row)
    return many


def write(path, some):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in some))


def lay_out(work, count):
    """Rows where `lions eval` and the harness look for them, and the harness's tasks."""
    harness = Path(subprocess.run([PYTHON, "-c", "import lm_eval; print(lm_eval.__file__)"], check=True, text=True,
                                  capture_output=True).stdout.strip()).parent / "tasks"
    (work / "sweeps").mkdir()

    def task(name, file, splits, shots):
        own = {"include": str(harness / file), "task": f"own_{name}", "dataset_path": "json", "dataset_name": None,
               "dataset_kwargs": {"data_files": {split: str(path) for split, path in splits.items()}}, "tag": None,
               "num_fewshot": shots}
        (work / f"own_{name}.yaml").write_text(json.dumps(own))

    for name, (shots, file, splits, places, field, _) in TASKS.items():
        if name == "mmlu":
            asked, solved = [], []
            for subject in SUBJECTS:
                own = numbered(rows(f"mmlu_{subject}_test"), count // len(SUBJECTS) + 1, field)
                dev = rows(f"mmlu_{subject}_dev")
                write(work / f"mmlu/{subject}_test.jsonl", own)
                write(work / f"mmlu/{subject}_dev.jsonl", dev)
                task(f"mmlu_{subject}", f"mmlu/default/mmlu_{subject}.yaml",
                     {split: work / f"mmlu/{subject}_{split}.jsonl" for split in ("test", "dev")}, shots)
                asked += own
                solved += dev
            write(work / "data/eval/mmlu/test.jsonl", asked)
            write(work / "data/eval/mmlu/dev.jsonl", solved)
            group = {"group": "own_mmlu", "task": [f"own_mmlu_{subject}" for subject in SUBJECTS],
                     "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}], "metadata": {"version": 2}}
            (work / "own_mmlu.yaml").write_text(json.dumps(group))
            continue
        evaluated = next(iter(places))
        for split, place in places.items():
            source = rows(splits[split])
            write(work / f"data/eval/{place}.jsonl", numbered(source, count, field) if split == evaluated else source)
        task(name, file, {split: work / f"data/eval/{places.get(split, places.get('train'))}.jsonl" for split in splits}, shots)


def cpu_seconds(command, cwd, threads, log):
    """What a process uses of the processor, and how long it takes by the clock."""
    env = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads),
           "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
           "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(cwd / "hf")}
    begun = time.monotonic()
    with open(log, "w") as out:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}\n{Path(log).read_text()[-3000:]}")
    return used.ru_utime + used.ru_stime, time.monotonic() - begun


def newest_results(folder):
    files = sorted(folder.rglob("results*.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(files[-1].read_text())["results"]


class Side:
    """One program, asked for all tasks at a time."""

    def __init__(self, name, command):
        self.name, self.command, self.runs = name, command, 0

    def run(self, work, count, threads):
        self.runs += 1
        out = work / f"{self.name}-{self.runs}"
        return cpu_seconds(self.command(count, out), work, threads, work / f"{self.name}.log"), out


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--lions", default=str(ROOT / "target/release/lions"))
    words.add_argument("--python", default=sys.executable, help="one that has lm_eval")
    words.add_argument("--model", default=str(ROOT / "models/stories260k"))
    words.add_argument("--rows", type=int, default=200, help="of each task")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--batch-size", nargs="+", default=["1", "8"], help="of the harness: numbers or `auto`")
    words.add_argument("--dtype", nargs="+", default=["float32"], help="of the harness")
    words.add_argument("--precision", default="f32", help="of lions")
    words.add_argument("--max-new-tokens", type=int, default=64)
    words.add_argument("--tasks", nargs="+", default=[task for task in TASKS if task != "gsm8k"])
    args = words.parse_args()
    global PYTHON
    PYTHON = args.python
    model = str(Path(args.model).resolve())

    def lions(count, out):
        command = [Path(args.lions).resolve(), "eval", model, "--tasks", ",".join(args.tasks), "--out", out, "--device", "cpu",
                   "--precision", args.precision, "--max-new-tokens", args.max_new_tokens, "--root", "."]
        return [*map(str, command), *(["--max-rows", str(count)] if count else [])]

    def harness(batch, dtype):
        def command(count, out):
            words = [PYTHON, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype={dtype}", "--device", "cpu",
                     "--tasks", ",".join(f"own_{task}" for task in args.tasks), "--batch_size", str(batch),
                     "--include_path", ".", "--output_path", str(out)]
            if "gsm8k" in args.tasks:
                words += ["--gen_kwargs", f"max_gen_toks={args.max_new_tokens}"]
            return [*words, *(["--limit", str(count)] if count else [])]
        return command

    ask = "from importlib.metadata import version as v; print(*(p + ' ' + v(p) for p in ('lm_eval', 'torch', 'transformers')), sep=', ')"
    theirs = subprocess.run([PYTHON, "-c", ask], check=True, text=True, capture_output=True).stdout.strip()
    ours = subprocess.run([args.lions, "--version"], check=True, text=True, capture_output=True).stdout.strip()
    cpu = next((line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
               platform.processor())
    print(f"{ours}; {theirs}, Python {platform.python_version()}; {cpu}, {args.threads} thread(s); "
          f"{Path(model).name}, {args.rows} rows a task, {args.rounds} rounds; CPU seconds")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        lay_out(work, args.rows)
        ways = [(batch, dtype) for batch in args.batch_size for dtype in args.dtype]
        sides = {f"{batch}, {dtype}": Side(f"harness-{batch}-{dtype}", harness(batch, dtype)) for batch, dtype in ways}
        own = Side("lions", lions)
        # The second of two, as the first one reads what the others find in memory.
        for _ in range(2):
            start = {side.name: side.run(work, 1, args.threads)[0] for side in [own, *sides.values()]}
        rounds = []
        for _ in range(args.rounds):
            mine, mine_out = own.run(work, None, args.threads)
            others = {batch: side.run(work, None, args.threads) for batch, side in sides.items()}
            batch = min(others, key=lambda one: others[one][0][0])
            rounds.append((mine[0], others[batch][0][0], start[sides[batch].name][0]))
            told = [("lions", mine), *((f"harness ({way})", took) for way, (took, _) in others.items())]
            print(", ".join(f"{name} {cpu:.2f} (clock {wall:.2f})" for name, (cpu, wall) in told), flush=True)
        ours, theirs = newest_results(mine_out), newest_results(others[batch][1])
    for task in args.tasks:
        key = f"{TASKS[task][5]},{FILTERS.get(task, 'none')}"
        print(f"{task}: {key} {ours[task][key]:.6f} by lions, {theirs[f'own_{task}'][key]:.6f} by the harness")
    median = statistics.median
    print("| lions | harness | ratio | lions, start alone | harness, start alone | ratio without the start |\n| ---: | ---: | ---: | ---: | ---: | ---: |")
    print(f"| {median(r[0] for r in rounds):.2f} | {median(r[1] for r in rounds):.2f} | {median(r[1] / r[0] for r in rounds):.1f} "
          f"| {start[own.name][0]:.2f} | {rounds[-1][2]:.2f} | {median((r[1] - r[2]) / (r[0] - start[own.name][0]) for r in rounds):.1f} |")


if __name__ == "__main__":
    main()
