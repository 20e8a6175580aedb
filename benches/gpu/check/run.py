"""Runs all parts, each in a process of its own under a limit of its own.

Where it is called stands `manifest.json` with what `pack` brought. Results go to `results.jsonl` as soon as a part has
ended, what parts say to a file a section at once, the table to `table.txt`: eight files at most.
"""

import contextlib
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import machine
import outcome
import parts
import table

HERE = Path(__file__).resolve().parent
# Of what one part says, bytes are kept.
KEPT = 256 << 10
# Less is not worth starting a part in.
LEAST = 4.0


class Log:
    """What the parts of a section say, a line each, as it comes."""

    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()

    def write(self, part, text):
        with self.lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(f"[{part}] {text}\n")


class Runner:
    def __init__(self, out, command, variables, ends, has_card):
        """`command(name)` starts a part; `ends` is the moment when all must have ended."""
        self.out, self.command, self.variables = Path(out), command, variables
        self.ends, self.has_card = ends, has_card
        self.lock, self.logs, self.results, self.live = threading.Lock(), {}, [], set()

    def run(self, stages):
        for width, some in stages:
            with ThreadPoolExecutor(max_workers=width) as pool:
                list(pool.map(self.part, some))
        return self.results

    def part(self, part):
        limit = min(part.seconds, self.ends - time.monotonic())
        began = time.monotonic()
        if limit < LEAST and limit < part.seconds:
            found = {"outcome": outcome.NO_TIME, "why": "", "values": {}}
        else:
            found = self.started(part, limit)
        if found["outcome"] == outcome.NO_CARD and self.has_card:
            found.update(outcome=outcome.FAILED, why=f"the system shows a card, but: {found['why']}")
        self.write({"part": part.name, "outcome": found["outcome"],
                    "seconds": round(time.monotonic() - began, 2), "why": found.get("why") or "",
                    "values": found.get("values") or {}})

    def started(self, part, limit):
        log = self.log(part.section)
        try:
            # A session of its own, so that all that it started ends with it.
            child = subprocess.Popen(self.command(part.name), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     env=self.variables, start_new_session=True)
        except OSError as error:
            return {"outcome": outcome.CRASHED, "why": str(error)}
        with self.lock:
            self.live.add(child)
        heard = Heard(child.stdout, part.name, log)
        try:
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            kill_group(child)
            child.wait()
            # One that left the session may hold the pipe open.
            heard.thread.join(2.0)
            with self.lock:
                self.live.discard(child)
        if code is None:
            return {"outcome": outcome.TIMED_OUT, "why": f"after {limit:.0f} s: {heard.last}"}
        if heard.verdict is None:
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            return {"outcome": outcome.CRASHED, "why": f"{how}: {heard.last}"}
        return heard.verdict

    def log(self, section):
        with self.lock:
            if section not in self.logs:
                self.logs[section] = Log(self.out / f"{section}.log")
            return self.logs[section]

    def write(self, result):
        with self.lock:
            self.results.append(result)
            append(self.out / "results.jsonl", result)

    def stop(self):
        """Ends what runs, and starts nothing more."""
        self.ends = 0
        with self.lock:
            for child in self.live:
                kill_group(child)


class Heard:
    """Reads what a part says: its verdict and its last line, the beginning of all into the log."""

    def __init__(self, pipe, part, log):
        self.verdict, self.last = None, ""
        self.pipe, self.part, self.log, self.kept = pipe, part, log, 0
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        with self.pipe:
            for raw in iter(lambda: self.pipe.readline(1 << 16), b""):
                self.take(raw.decode(errors="replace").rstrip())

    def take(self, text):
        told = outcome.told(text)
        if told:
            self.verdict = told
        elif text.strip():
            self.last = text.strip()[:300]
        self.kept += len(text) + 1
        if self.kept <= KEPT or told:
            self.log.write(self.part, text)


def kill_group(child):
    # No such group: all have ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def append(path, value):
    """One line, on the disk before anything else happens."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def wanted(stages, only):
    """The stages with the parts of some patterns alone."""
    if not only:
        return stages
    patterns = [p.strip() for p in only.split(",")]
    keep = [(width, [part for part in some if any(fnmatch.fnmatch(part.name, p) for p in patterns)])
            for width, some in stages]
    return [(width, some) for width, some in keep if some]


def prepared(folder, work, manifest):
    """Programs in their places; the variables by which parts find all."""
    variables = machine.environment()
    for name in ("lions", "gpu-tests"):
        target = work / name
        if (folder / f"{name}.xz").exists():
            machine.unpack(folder / f"{name}.xz", target)
        else:
            target.symlink_to(manifest["programs"][name])
    variables.update(CHECK_FOLDER=str(folder), CHECK_WORK=str(work))
    return variables


def main(options):
    began = time.monotonic()
    folder = HERE.parent
    if not (folder / "manifest.json").exists():
        print(f"check: no manifest.json in {folder}: run the copy that `pack` made", file=sys.stderr)
        return 2
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    out = options.out or Path(os.environ.get("OUT") or "/tmp/lions-check")
    out.mkdir(parents=True, exist_ok=True)
    stages = wanted(parts.stages(manifest["tests"], manifest["families"]), options.only)
    if not stages:
        print(f"check: no part is called {options.only}", file=sys.stderr)
        return 2
    work = Path(tempfile.mkdtemp(prefix="lions-check-"))
    try:
        variables = prepared(folder, work, manifest)
        about = {"part": "about", "commit": manifest["commit"], "card": machine.described(),
                 "has_card": machine.has_card(), "only": options.only,
                 "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                 "glibc": ".".join(map(str, machine.glibc_here())), "processors": os.cpu_count()}
        append(out / "results.jsonl", about)
        command = [sys.executable, "-B", str(HERE), "part"]
        runner = Runner(out, lambda name: [*command, name], variables, began + options.seconds,
                        about["has_card"])
        signal.signal(signal.SIGTERM, lambda *_: runner.stop())
        signal.signal(signal.SIGINT, lambda *_: runner.stop())
        results = runner.run(stages)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    text = table.short(about, results, time.monotonic() - began)
    (out / "table.txt").write_text(text, encoding="utf-8")
    print(text, end="")
    return 1 if any(r["outcome"] in outcome.BAD for r in results) else 0
