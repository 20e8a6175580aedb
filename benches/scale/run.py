#!/usr/bin/env python3
"""What ten thousand runs cost the queue and those who ask after them.

    python3 benches/scale/run.py LIONS [--runs 10000] [--keep DIR] [--hyperqueue PYTHON]

Registers a sweep of so many runs (half trainings, half evaluations), writes results for all of them into the
database and into stage files, since carrying them out takes an hour, and measures commands by the CPU seconds that
the process spent: what else the machine does, does not count. Then lets 100
trivial runs be carried out: one step of training on one row, or an evaluation of one row, each a process, its result
synced to the disk and committed to the database. With a Python that has `hyperqueue` (PyPI), 100 processes of the same
program that only say their version are given to HyperQueue, which keeps them in memory.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parents[2]
SWEEP = """extends = ["base/mini.toml"]
[sweep]
name = "{name}"
question = "What does the queue cost?"
seeds = {seeds}
[base]
pipeline = ["sft"]
[base.sft.recipe]
duration = {{ steps = 1 }}
batch = {{ tokens = 64 }}
max-seq-len = 64
data = [{{ path = "data/sft/instruct_train.jsonl", count = 1 }}]
data-seed = 1
schedule = {{ decay = "constant", warmup-ratio = 0.0 }}
[[axis]]
path = "sft.recipe.optimizer.learning-rate"
name = "lr"
values = {values}
[base.eval.recipe.likelihood]
tales = false
[base.eval.recipe.likelihood.instruct]
data = [{{ path = "data/sft/instruct_test.jsonl", count = 1 }}]
max-seq-len = 64
[[report.table]]
name = "main"
title = "Learning rates"
metrics = ["instruct/loss"]
"""


def project(folder: pathlib.Path) -> None:
    """A project with the shipped model, data and bases."""
    (folder / "sweeps").mkdir(parents=True)
    for name in ("data", "models"):
        (folder / name).symlink_to(HERE / name)
    shutil.copytree(HERE / "sweeps/base", folder / "sweeps/base")


def write_sweep(folder: pathlib.Path, name: str, rates: int, seeds: int) -> str:
    values = [round(1e-5 * (at + 1), 9) for at in range(rates)]
    text = SWEEP.format(name=name, seeds=list(range(1, seeds + 1)), values=values)
    (folder / f"sweeps/{name}.toml").write_text(text)
    return f"sweeps/{name}.toml"


def spent(command: list[str], folder: pathlib.Path) -> tuple[float, float, int]:
    """CPU seconds and wall seconds of a command, and its exit code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wall = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode not in (0, 130):
        raise SystemExit(f"{command}: {ended.stderr.decode()[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, ended.returncode


def pretend_done(folder: pathlib.Path) -> None:
    """Results for every run, as if all had been carried out."""
    store = sqlite3.connect(folder / "results/lions.db")
    runs = store.execute("SELECT id, run_id, kind FROM run").fetchall()
    store.execute("UPDATE run SET state = 'succeeded', attempts = 1, finished = created")
    rows = [
        (row, key, 2.0 + row % 97 / 100, 0.01, 50)
        for row, _, kind in runs
        for key in (["instruct/loss", "instruct/perplexity"] if kind == "eval" else ["loss"])
    ]
    store.executemany("INSERT OR REPLACE INTO metric VALUES (?, ?, ?, ?, ?)", rows)
    ends = [(row, "succeeded", "bench", "cpu", 1000, 2000, 2000, 1.0, 1.0) for row, _, _ in runs]
    sql = """INSERT OR REPLACE INTO attempt (run, number, state, owner, device, started, expires, ended,
        wall_secs, cpu_secs) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?)"""
    store.executemany(sql, ends)
    store.commit()
    for _, run, kind in runs:
        # A stage file of any run of the kind, under this name: reports read the seed and the recipe.
        place = folder / "results/runs" / run[:12]
        place.mkdir(parents=True, exist_ok=True)
        task = {"stage": kind, "recipe": {}}
        stage = {"format": 1, "run": run, "task": task, "seed": 1, "inputs": {}}
        (place / "stage.json").write_text(json.dumps(stage))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("lions")
    words.add_argument("--runs", type=int, default=10_000)
    words.add_argument("--keep", type=pathlib.Path)
    words.add_argument("--hyperqueue", metavar="PYTHON")
    args = words.parse_args()
    lions = os.path.abspath(args.lions)
    folder = args.keep or pathlib.Path(tempfile.mkdtemp(prefix="lions-scale-"))
    project(folder)
    big = write_sweep(folder, "big", max(args.runs // 100, 1), 50)
    print("| what | CPU s | wall s |\n| --- | ---: | ---: |")

    def tell(what: str, command: list[str]) -> None:
        cpu, wall, _ = spent([lions, *command], folder)
        print(f"| {what} | {cpu:.2f} | {wall:.2f} |", flush=True)

    tell("check", ["check", big])
    tell("plan", ["plan", big])
    # The same work and the registration; what is over that of `plan` is the queue's.
    tell("run --until 1s", ["run", big, "--until", "1s", "--no-report", "--quiet"])
    tell("status, nothing done", ["status", "big"])
    pretend_done(folder)
    for command in ("status", "status big", "status big --json", "compare big", "report big"):
        tell(command, command.split())
    small = write_sweep(folder, "small", 10, 5)
    cpu, wall, _ = spent([lions, "run", small, "--no-report", "--quiet"], folder)
    print(f"\n100 trivial runs: {100 / wall:.1f} a second, {cpu * 10:.0f} CPU ms each")
    if args.hyperqueue:
        peer = [args.hyperqueue, HERE / "benches/scale/peer.py", "100", lions, "--version"]
        rate = subprocess.run(peer, check=True, capture_output=True, text=True).stdout.strip()
        print(f"100 processes of the same program on HyperQueue, in memory: {rate} a second")
    if not args.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
