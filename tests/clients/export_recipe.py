"""What TRL does with what `lions export-recipe` writes: it starts, and has the same loss at every step.

usage: python tests/clients/export_recipe.py LIONS

Wants `trl`, `transformers`, `datasets`, `peft` and `torch` (CPU is enough); needs no network. Makes a project with the
shipped model and a few rows, lets lions train in f32 with its schedules and every loss of TRL's DPO trainer that it has, exports each run with
its rows, and has TRL's own scripts train from that. A step has all rows, so that their order does not matter. Two runs go
through the command `trl` itself. Compares loss, gradient norm and learning rate of every step; ends with an error if one
differs.
"""
import importlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="",
                  OMP_NUM_THREADS="1", WANDB_DISABLED="true", TQDM_DISABLE="1", TRL_EXPERIMENTAL_SILENCE="1")
ROOT = Path(__file__).resolve().parents[2]
STEPS = 5
# Both compute in f32 and add in other orders, step upon step.
CLOSE = 1e-4

SFT = {
    "all tokens": {"loss-mask": "all-tokens"},
    "replies alone": {"loss-mask": "assistant-only"},
    "linear": {"schedule": {"decay": "linear", "warmup-ratio": 0.3, "min-ratio": 0.0}},
    "linear to a tenth": {"schedule": {"decay": "linear", "warmup-ratio": 0.0, "min-ratio": 0.1}},
    "cosine": {"schedule": {"decay": "cosine", "warmup-ratio": 0.3, "min-ratio": 0.0}},
    "cosine to a tenth": {"schedule": {"decay": "cosine", "warmup-ratio": 0.2, "min-ratio": 0.1}},
    "constant": {"schedule": {"decay": "constant", "warmup-ratio": 0.3, "min-ratio": 1.0}},
    "plateau": {"schedule": {"decay": "wsd", "warmup-ratio": 0.2, "min-ratio": 0.0, "decay-ratio": 0.4}},
    "plateau to a tenth": {"schedule": {"decay": "wsd", "warmup-ratio": 0.0, "min-ratio": 0.1, "decay-ratio": 0.4}},
    "plateau in epochs": {"schedule": {"decay": "wsd", "warmup-ratio": 0.2, "min-ratio": 0.0, "decay-ratio": 0.4},
                          "duration": {"epochs": STEPS}},
    "warm-up all along": {"schedule": {"decay": "constant", "warmup-ratio": 1.0, "min-ratio": 1.0}},
    "a part of the rows": {"max-examples": 4, "batch": {"rows": 4}, "dedup": True},
    "empty system turns": {"empty-system-turn": 0.5},
    "small micro-batches": {"batch": {"rows": 11}, "data": [{"path": "data/chats.jsonl"}, {"path": "data/more.jsonl"}]},
    "no clipping, no decay": {"optimizer": {"learning-rate": 1e-3, "max-grad-norm": 0.0, "weight-decay": 0.0}},
    "measured along": {"monitor": {"data": [{"path": "data/more.jsonl"}], "every-steps": 2}},
}
PLAIN = ["sigmoid", "hinge", "ipo", "nca-pair", "bco-pair", "sppo-hard", "apo-zero", "apo-down", "aot", "aot-unpaired"]
DPO = {
    **{name: {"loss": name} for name in PLAIN},
    **{f"{name}, smoothed": {"loss": {name: {"label-smoothing": 0.1}}}
       for name in ["robust", "exo-pair", "aot", "aot-unpaired"]},
    "discopop": {"loss": {"discopop": {"tau": 0.05}}},
    "token means": {"length-normalized": True},
    "with a likelihood": {"sft-weight": 0.5},
    "sorted over a large step": {"loss": "aot", "data": [{"path": "data/pairs.jsonl", "fraction": 2.0}], "global-batch-size": 16},
    "a reference that follows": {"reference-update": {"every-steps": 2, "mix": 1.0}},
    "a reference that follows half": {"reference-update": {"every-steps": 1, "mix": 0.5}},
}
# Adapters begin at random: the first step alone is the same.
FIRST_STEP = {"adapters": {"lora": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]}}}
# Rounding of bf16 is another: it has to start and to end.
STARTS = {"bf16": {"precision": "bf16"}}
PACKED = {"windows": {"batching": "concat", "batch": {"rows": 2}}, "best fit": {"batching": "best-fit", "batch": {"rows": 2}}}


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"ok  {what}", flush=True)


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value)


def sweep(name, pipeline, stage, arms):
    points = "".join(f"  {{ label = {toml(label)}, set = {toml({f'{stage}.recipe': recipe})} }},\n".replace(
        f"{{ {stage}.recipe", f'{{ "{stage}.recipe"') for label, recipe in arms.items())
    return f"""extends = ["base/mini.toml"]
[sweep]
name = "{name}"
question = "Does TRL do the same?"
seeds = [1]
[base]
pipeline = {toml(pipeline)}
[base.sft.recipe]
data = [{{ path = "data/chats.jsonl" }}]
max-seq-len = 256
batch = {{ rows = 8 }}
duration = {{ steps = {STEPS} }}
loss-mask = "all-tokens"
[base.dpo.recipe]
data = [{{ path = "data/pairs.jsonl" }}]
global-batch-size = 8
duration = {{ steps = {STEPS} }}
[base.eval.recipe.likelihood]
tales = false
instruct = {{ data = [{{ path = "data/more.jsonl" }}], max-seq-len = 256 }}
[[axis]]
name = "arm"
points = [
{points}]
"""


def rows(file, count, start=0):
    found = [json.loads(line) for line in (ROOT / file).read_text().splitlines()]
    return [row for row in found if len(json.dumps(row)) < 500][start:start + count]


def make_project(folder):
    shutil.copytree(ROOT / "models/stories260k", folder / "models/stories260k")
    shutil.copytree(ROOT / "sweeps/base", folder / "sweeps/base")
    (folder / "data").mkdir()
    def write(name, found):
        (folder / "data" / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    write("chats.jsonl", rows("data/sft/instruct_train.jsonl", 8))
    write("more.jsonl", rows("data/sft/instruct_train.jsonl", 3, 8))
    write("pairs.jsonl", rows("data/pref/polite_train.jsonl", 8))


def lions(program, folder, *words):
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lions {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def trained(folder, sweep, stage):
    """Runs of a stage by the label of their arm."""
    store = sqlite3.connect(folder / "results/lions.db")
    sql = """SELECT trial.assignments ->> 'arm', run.run_id FROM trial JOIN sweep ON sweep.id = trial.sweep
        JOIN trial_run ON trial_run.trial = trial.id JOIN run ON run.id = trial_run.run
        WHERE sweep.name = ? AND run.kind = ?"""
    return {arm: run[:12] for arm, run in store.execute(sql, (sweep, stage))}


def ours(folder, run):
    store = sqlite3.connect(folder / "results/lions.db")
    sql = "SELECT step, value FROM training WHERE run = ? AND metric = ? ORDER BY step"
    return {key: dict(store.execute(sql, (run, key))) for key in ("loss", "grad_norm", "learning_rate")}


def theirs(folder, run):
    states = sorted((folder / "trl" / run).glob("checkpoint-*/trainer_state.json"))
    history = [entry for entry in json.loads(states[-1].read_text())["log_history"] if "loss" in entry]
    return {key: {entry["step"]: entry[key] for entry in history} for key in ("loss", "grad_norm", "learning_rate")}


def worst(a, b):
    """The largest difference, relative where numbers are above 1."""
    return max(abs(a[step] - b[step]) / max(1.0, abs(b[step])) for step in b)


def train_with_trl(folder, stage, file, by_command):
    # transformers wants to be told that bf16 is meant to be computed without a card.
    words = ["--config", str(file), "--use_cpu", "true"]
    if by_command:
        program = Path(sys.executable).with_name("trl")
        done = subprocess.run([program, stage, *words], cwd=folder, capture_output=True, text=True)
        check(done.returncode == 0, f"`trl {stage} --config` starts and ends\n{done.stderr[-2000:] if done.returncode else ''}")
        return
    script = importlib.import_module(f"trl.scripts.{stage}")
    parsed = script.make_parser().parse_args_and_config(words, fail_with_unknown_args=True)
    here = os.getcwd()
    os.chdir(folder)
    try:
        script.main(*parsed)
    finally:
        os.chdir(here)


def compare(program, folder, sweep, stage, arms, keys, by_command=(), only_first=False):
    found = trained(folder, sweep, stage)
    check(set(found) == set(arms), f"every arm of `{sweep}` has its run of {stage}")
    for arm, run in found.items():
        recipe = json.loads(lions(program, folder, "export-recipe", run, "--json"))
        if recipe["model_from"]:
            out = folder / recipe["model_from"].split()[-1]
            if not out.exists():
                lions(program, folder, *recipe["model_from"].split()[1:])
        file = folder / f"{run}.yaml"
        lions(program, folder, "export-recipe", run, "--rows", f"{run}.jsonl", "--out", str(file))
        train_with_trl(folder, stage, file, arm in by_command)
        a, b = theirs(folder, run), ours(folder, run)
        if only_first:
            a, b = ({key: {1: of[key][1]} for key in of} for of in (a, b))
        check(not keys or len(a["loss"]) == len(b["loss"]) > 0, f"{stage}, {arm}: {len(a['loss'])} steps")
        for key in keys:
            far = worst(a[key], b[key])
            check(far < CLOSE, f"{stage}, {arm}: {key} of every step is the same (within {far:.1e})")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    import accelerate, datasets, peft, torch, transformers, trl

    print("; ".join(f"{m.__name__} {m.__version__}" for m in (trl, transformers, torch, datasets, peft, accelerate)))
    program = str(Path(sys.argv[1]).resolve())
    every = ("loss", "grad_norm", "learning_rate")
    with tempfile.TemporaryDirectory() as work:
        os.environ["HF_HOME"] = os.environ["HF_DATASETS_CACHE"] = f"{work}/cache"
        folder = Path(work) / "project"
        make_project(folder)
        for name, pipeline, stage, arms in [
            ("chats", ["sft"], "sft", SFT), ("pairs", ["sft", "dpo"], "dpo", DPO),
            ("adapters", ["sft"], "sft", FIRST_STEP), ("adapters-dpo", ["sft", "dpo"], "dpo", FIRST_STEP),
            ("short", ["sft"], "sft", STARTS), ("short-dpo", ["sft", "dpo"], "dpo", STARTS),
            ("packed", ["sft"], "sft", PACKED),
        ]:
            (folder / f"sweeps/{name}.toml").write_text(sweep(name, pipeline, stage, arms))
            lions(program, folder, "run", f"sweeps/{name}.toml", "--quiet")
        compare(program, folder, "chats", "sft", SFT, every, by_command=("all tokens",))
        compare(program, folder, "pairs", "dpo", DPO, every, by_command=("sigmoid",))
        compare(program, folder, "adapters", "sft", FIRST_STEP, ("loss",), only_first=True)
        compare(program, folder, "adapters-dpo", "dpo", FIRST_STEP, ("loss",), only_first=True)
        for name, stage, arms in [("short", "sft", STARTS), ("short-dpo", "dpo", STARTS), ("packed", "sft", PACKED)]:
            compare(program, folder, name, stage, arms, ())
            check(True, f"{stage}, {', '.join(arms)}: TRL starts and ends")


main()
