#!/usr/bin/env python3
"""Kills attempts and drivers (`kill -9`) at random moments, and looks whether anything was lost, done twice or changed.

    python3 tests/kills.py LIONS [--attempts 100] [--local 500] [--slurm 500] [--seed 1]

Three parts, each with so many kills:

attempts  training attempts (SFT, log-probabilities of the reference, DPO) on this machine;
local     `lions run` over many runs of milliseconds, every third time with its attempts;
slurm     the same on the scripted Slurm of `tests/slurm/fake`, every third time while `sbatch` is asked: before it has taken
          the jobs, or after that and before its answer is recorded.

Each part first carries out its sweep undisturbed. Then it begins the sweep, kills and begins again until it comes to its end, as
often as the kills need. At every end each run must have exactly one attempt with a result, every file of its artifacts the
bytes, and every number in the database the bits, of the undisturbed sweep; the database must be whole (`store verify`).
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parents[1]
# Longer than any sweep takes here, s.
LONG = 600
SWEEP = """extends = ["base/mini.toml"]
[sweep]
name = "killed"
question = "Is anything lost?"
seeds = [1]
[base]
pipeline = [{pipeline}]
[base.sft.recipe]
max-seq-len = 64
batch = {{ tokens = 64 }}
duration = {{ steps = {sft} }}
schedule = {{ decay = "constant", warmup-ratio = 0.0 }}
[base.sft.runtime]
checkpoint-every-steps = 1
[base.dpo.recipe]
global-batch-size = 4
duration = {{ steps = {dpo} }}
[base.dpo.runtime]
checkpoint-every-steps = 1
[base.eval.recipe]
likelihood.tales = {{ data = [{{ path = "data/sft/stories_test.jsonl", count = 1 }}], max-seq-len = 64 }}
[[axis]]
path = "{axis}"
name = "value"
values = {values}
[[report.table]]
name = "main"
title = "Main"
metrics = ["tales/loss"]
"""
LONG_RUNS = SWEEP.format(
    pipeline='"sft", "dpo"', sft=60, dpo=40, axis="dpo.recipe.beta", values=[0.1, 0.5]
)


def short_runs(count: int) -> str:
    rates = [round(1e-4 * (at + 1), 9) for at in range(count)]
    axis = "sft.recipe.optimizer.learning-rate"
    return SWEEP.format(pipeline='"sft"', sft=1, dpo=1, axis=axis, values=rates)


class Project:
    """A project with the shipped model and the first rows of the shipped data, so that runs take little."""

    def __init__(self, lions: str, sweep: str):
        self.lions = lions
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="lions-kills-"))
        (self.root / "sweeps").mkdir()
        shutil.copytree(HERE / "sweeps/base", self.root / "sweeps/base")
        shutil.copytree(HERE / "models/stories260k", self.root / "models/stories260k")
        for kind in ("sft", "pref"):
            (self.root / "data" / kind).mkdir(parents=True)
            for file in (HERE / "data" / kind).glob("*.jsonl"):
                head = file.read_text().splitlines(keepends=True)[:24]
                (self.root / "data" / kind / file.name).write_text("".join(head))
        (self.root / "sweeps/killed.toml").write_text(sweep)
        self.words: list[str] = []
        self.vars: dict[str, str] = {}

    def start(self, *more: str) -> subprocess.Popen:
        words = [self.lions, "run", "sweeps/killed.toml", "--no-report", "--quiet", *self.words, *more]
        return subprocess.Popen(
            words,
            cwd=self.root,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **self.vars},
            stdout=subprocess.DEVNULL,
            stderr=open(self.root / "driver.log", "ab"),
        )

    def begin_anew(self) -> None:
        # What a killed driver left may still be writing.
        for _ in range(50):
            shutil.rmtree(self.root / "results", ignore_errors=True)
            if not (self.root / "results").exists():
                return
            time.sleep(0.1)

    def store(self) -> contextlib.closing:
        return contextlib.closing(sqlite3.connect(self.root / "results/lions.db"))

    def made(self) -> dict[str, str]:
        """Digest of every artifact file, and every number of the database that no clock has told."""
        made = {}
        for path in sorted((self.root / "results/runs").glob("*/artifacts/**/*")):
            if path.is_file():
                name = str(path.relative_to(self.root / "results/runs"))
                made[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        with self.store() as store:
            sql = """SELECT run.run_id, metric.key, metric.value, metric.stderr, metric.n
                FROM metric JOIN run ON run.id = metric.run"""
            for run, key, *numbers in store.execute(sql):
                if not any(word in key for word in ("secs", "second", "memory")):
                    made[f"{run[:12]} {key}"] = repr(numbers)
            for run, name, value in store.execute(
                "SELECT run.run_id, count.name, count.value FROM count JOIN run ON run.id = count.run"
            ):
                made[f"{run[:12]} count {name}"] = repr(value)
        return made

    def faults(self, wanted: dict[str, str]) -> list[str]:
        """What is wrong with a sweep that has come to its end."""
        found = []
        made = self.made()
        for name in sorted(wanted.keys() | made.keys()):
            if wanted.get(name) != made.get(name):
                found.append(f"{name}: {made.get(name)} and not {wanted.get(name)}")
        for folder in sorted((self.root / "results/runs").iterdir()):
            results = len(list(folder.glob("attempts/*/result.json")))
            if results != 1:
                found.append(f"run {folder.name} has {results} attempts with a result")
        with self.store() as store:
            for run, state in store.execute("SELECT run_id, state FROM run WHERE state <> 'succeeded'"):
                found.append(f"run {run[:12]} is {state}")
            sql = "SELECT run, count(*) FROM attempt WHERE state = 'succeeded' GROUP BY run HAVING count(*) <> 1"
            found += [f"run {run} succeeded {count} times" for run, count in store.execute(sql)]
            live = store.execute("SELECT count(*) FROM attempt WHERE state = 'live'").fetchone()[0]
            if live:
                found.append(f"{live} attempts are live")
            whole = store.execute("PRAGMA integrity_check").fetchone()[0]
            if whole != "ok":
                found.append(f"the database: {whole}")
        verify = [self.lions, "store", "verify"]
        verified = subprocess.run(verify, cwd=self.root, capture_output=True, text=True)
        if verified.returncode != 0:
            found.append(f"store verify: {verified.stdout}{verified.stderr}")
        return found

    def attempts(self) -> int:
        return len(list((self.root / "results/runs").glob("*/attempts/*")))


def children(parent: int) -> list[int]:
    """Processes that a process has started, of `/proc`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # Behind the name, which may hold anything: state, parent.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def is_training(pid: int) -> bool:
    with contextlib.suppress(OSError):
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"exec" in words
    return False


def kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def undisturbed(project: Project) -> tuple[dict[str, str], float]:
    begin = time.monotonic()
    driver = project.start()
    if driver.wait(LONG) != 0:
        raise SystemExit(f"the undisturbed sweep failed: {(project.root / 'driver.log').read_text()[-2000:]}")
    took = time.monotonic() - begin
    found = project.faults(project.made())
    if found:
        raise SystemExit(f"the undisturbed sweep: {found}")
    return project.made(), took


class Round:
    """Sweeps that are disturbed, one after the other, until there were so many kills."""

    def __init__(self, what: str, project: Project, count: int):
        self.what, self.project, self.count = what, project, count
        self.kills = self.sweeps = self.extra = self.retries = 0
        self.wanted, self.took = undisturbed(project)
        self.first = project.attempts()
        project.begin_anew()

    def ended(self) -> None:
        """The sweep has come to its end."""
        found = self.project.faults(self.wanted)
        if found:
            print(f"{self.what}: {len(found)} faults after {self.kills} kills, in {self.project.root}")
            print("\n".join(found[:20]))
            raise SystemExit(1)
        self.sweeps += 1
        print(f"{self.what}: {self.kills} of {self.count} kills, {self.sweeps} sweeps as they should be", file=sys.stderr)
        self.extra += self.project.attempts() - self.first
        self.project.begin_anew()

    def finish(self, driver: subprocess.Popen) -> None:
        """Lets a sweep come to its end. A run that was killed again and again without getting on is tried again."""
        code = driver.wait(LONG)
        while code != 0:
            if code != 100 or self.retries > self.count:
                log = (self.project.root / "driver.log").read_text()[-2000:]
                raise SystemExit(f"{self.what}: the driver ended with {code}: {log}")
            self.retries += 1
            code = self.project.start("--retry").wait(LONG)
        self.ended()

    def tell(self) -> None:
        print(
            f"{self.what}: {self.kills} kills in {self.sweeps} sweeps of {self.first} runs: nothing lost, nothing done twice, "
            f"{len(self.wanted)} files and numbers equal each time ({self.extra} attempts begun again, "
            f"{self.retries} times `--retry`)",
            flush=True,
        )


def kill_attempts(lions: str, count: int, moments: random.Random) -> None:
    project = Project(lions, LONG_RUNS)
    project.words = ["--jobs", "2"]
    at = Round("attempts", project, count)
    driver = project.start()
    while at.kills < count:
        time.sleep(moments.uniform(0, at.took / 6))
        if driver.poll() is not None:
            at.finish(driver)
            driver = project.start()
            continue
        working = [pid for pid in children(driver.pid) if is_training(pid)]
        if working and kill(moments.choice(working)):
            at.kills += 1
    at.finish(driver)
    at.tell()
    shutil.rmtree(project.root, ignore_errors=True)


def kill_drivers(at: Round, moments: random.Random, disturb) -> None:
    """`disturb` starts a driver, of which it may have arranged that it is killed; of the last, which is none, not."""
    project = at.project
    longest = max(at.took, 0.5)
    while at.kills < at.count:
        driver = disturb(at.kills)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(moments.uniform(0, longest))
        if driver.returncode is None:
            # Every third time its attempts, too, wherever they are its own.
            own = children(driver.pid) if at.kills % 3 == 0 else []
            kill(driver.pid)
            driver.wait()
            for pid in own:
                kill(pid)
            at.kills += 1
        elif driver.returncode == -signal.SIGKILL:
            at.kills += 1  # as was arranged
        else:
            at.finish(driver)
    at.finish(disturb(None))
    at.tell()


def kill_local(lions: str, count: int, moments: random.Random) -> None:
    project = Project(lions, short_runs(15))
    project.words = ["--jobs", "2"]
    kill_drivers(Round("local", project, count), moments, lambda _: project.start())
    shutil.rmtree(project.root, ignore_errors=True)


def kill_slurm(lions: str, count: int, moments: random.Random) -> None:
    project = Project(lions, short_runs(6))
    slurm = pathlib.Path(tempfile.mkdtemp(prefix="lions-kills-slurm-"))
    project.words = ["--backend", "slurm"]
    project.vars = {"PATH": f"{HERE}/tests/slurm/fake:{os.environ['PATH']}", "FAKE_SLURM": str(slurm)}
    (project.root / "lions.toml").write_text("[backend.slurm]\npoll-seconds = 1\njobs = 4\n")

    def disturb(kills: int | None) -> subprocess.Popen:
        (slurm / "die").unlink(missing_ok=True)
        if kills is not None and kills % 3 == 1:
            (slurm / "die").write_text(moments.choice(["before", "after"]))
        return project.start()

    at = Round("slurm", project, count)
    kill_drivers(at, moments, disturb)
    shutil.rmtree(project.root, ignore_errors=True)
    shutil.rmtree(slurm, ignore_errors=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("lions")
    words.add_argument("--attempts", type=int, default=100)
    words.add_argument("--local", type=int, default=500)
    words.add_argument("--slurm", type=int, default=500)
    words.add_argument("--seed", type=int, default=1)
    args = words.parse_args()
    lions = os.path.abspath(args.lions)
    parts = ((kill_attempts, args.attempts), (kill_local, args.local), (kill_slurm, args.slurm))
    for part, count in parts:
        if count:
            part(lions, count, random.Random(f"{args.seed} {part.__name__}"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
