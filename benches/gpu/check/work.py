"""Small projects in which a part lets `lions` run a sweep, and what came of it."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import machine
import outcome

FOLDER = Path(os.environ.get("CHECK_FOLDER", "."))
WORK = Path(os.environ.get("CHECK_WORK", "."))

# By which `lions` says that there is none; what it says of one that it cannot use is a failure.
NONE = re.compile(r"no NVIDIA driver: |there is no cuda:0: the driver shows no card")
# Where the first card is; tests name what stands for one.
CARD = os.environ.get("CHECK_DEVICE", "cuda:0")

TABLE = """
[[report.table]]
name = "main"
title = "What is compared"
metrics = {metrics}
"""


def lions():
    return str(WORK / "lions")


def project(name, sweep, model=None):
    """A folder with the carried data and models and a sweep of that name; `model(folder)` makes `models/made`."""
    path = WORK / name.replace("/", "-")
    shutil.copytree(FOLDER / "project", path)
    if model:
        model(path / "models/made")
    (path / f"sweeps/{name.split('/')[-1]}.toml").write_text(sweep, encoding="utf-8")
    return path


def words(path, device, *more):
    sweep = next((path / "sweeps").glob("*.toml"))
    jobs = [] if device.startswith("cuda") else ["--jobs", "4"]
    return [lions(), "run", str(sweep), "--device", device, "--no-report", *jobs, *more]


def run(path, device, *more):
    """The sweep of a project, to its end; what was said."""
    code, text = machine.streamed(words(path, device, *more), cwd=path)
    ended(code, text)
    return text


def ended(code, text):
    """Raises unless a run ended well."""
    if code == 0:
        return
    if NONE.search(text):
        raise outcome.Ended(outcome.NO_CARD, NONE.search(text).group(0).strip(": "))
    errors = [line for line in text.splitlines() if "error" in line.lower() or "failed" in line]
    raise outcome.Ended(outcome.FAILED, f"exit status {code}: {(errors or [outcome.last_line(text)])[0][:250]}")


def runs(path):
    """Of each run, by its name: stage, final metrics, metrics of each step, its trained weights' file."""
    found = {}
    for folder in sorted((path / "results/runs").iterdir()):
        done = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        attempt = folder / f"attempts/{done['attempt']:03}"
        place = json.loads((attempt / "provenance.json").read_text(encoding="utf-8"))["device"]
        weights = folder / "artifacts/model/model.safetensors"
        found[folder.name] = {
            "device": place,
            "stage": json.loads((folder / "stage.json").read_text(encoding="utf-8"))["task"]["stage"],
            "metrics": {k: m["value"] for k, m in done["result"]["metrics"].items()},
            "steps": steps(folder),
            "weights": weights if weights.exists() else None,
        }
    return found


def events(file):
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the last line of a process that was killed
            continue


def steps(folder):
    """Every metric of every step, the last word on each counts."""
    found = {}
    for file in sorted(folder.glob("attempts/*/events.jsonl")):
        for event in events(file):
            if event.get("kind") == "step":
                found |= {f"{k} at {event['step']}": v for k, v in event["metrics"].items()}
    return found


def compared_table(path, name):
    """The rows of a sweep's tables: labels, metrics and values."""
    done = subprocess.run([lions(), "compare", name, "--json"], cwd=path, stdout=subprocess.PIPE,
                          check=False)
    if done.returncode != 0:
        raise outcome.Ended(outcome.FAILED, f"`lions compare` ends with {done.returncode}")
    return json.loads(done.stdout)


class Disturbed:
    """`lions run --json` at work, whose attempts are killed."""

    def __init__(self, path, device):
        self.path, self.text = path, []
        self.child = subprocess.Popen(words(path, device, "--json"), cwd=path,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def events(self):
        """What it tells, as it tells it."""
        for raw in self.child.stdout:
            line = raw.decode(errors="replace").rstrip()
            print(line, flush=True)
            self.text.append(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
        self.code = self.child.wait()

    def attempt(self, started):
        """The folder of an attempt that has started."""
        return self.path / f"results/runs/{started['run'][:12]}/attempts/{started['attempt']:03}"


def wait_for_state(attempt, count, seconds=30.0):
    """Until so many states were saved; false if the attempt ended, or took too long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        kinds = [event.get("kind") for event in events(attempt / "events.jsonl")]
        if kinds.count("checkpointed") >= count:
            return True
        if {"finished", "failed"} & set(kinds):
            return False
        time.sleep(0.002)
    return False


def process_of(attempt):
    """The process of an attempt: the one whose words name its project, its run and its number."""
    root, run, number = attempt.parents[4], attempt.parents[1].name, str(int(attempt.name))
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            said = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        of = dict(zip(said, said[1:]))
        if Path(of.get("--root", "/")).resolve() != root.resolve():
            continue
        if (of.get("--run", "")[:12], of.get("--attempt")) == (run, number):
            return int(folder.name)
    return None
