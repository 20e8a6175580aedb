"""Runs `lions bench` and its peers step by step in turn (A B A B) on the same work, prints table rows.

    cargo build --release
    python benches/compare/run.py --what sft15m            # and sft15m-best, sft-shipped, dpo,
    python benches/compare/run.py --what dpo --threads 2   # dpo-flat, generate, packing
    python benches/compare/run.py --what sft-model --model DIR   # and dpo-model: any model folder
    python benches/compare/run.py --what bf16 --lions-args '--isa avx2'   # and bf16-shipped: no peer

Every contestant is one process that waits for its turn, so all see the same minutes of the machine.
With one thread speeds are in CPU seconds, with more in wall seconds. A ratio is taken in each round
between steps of the same work; the row shows the median over rounds and the quartiles. The first
losses say that the work is the same (not for random weights and samples).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Contestant:
    """A process that does a step for each line it is sent."""

    def __init__(self, name, command, threads):
        env = {**os.environ, "RAYON_NUM_THREADS": str(threads), "CANDLE_NUM_THREADS": str(threads)}
        self.name, self.command, self.steps = name, command, []
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answer("ready")

    def answer(self, key):
        """The next JSON line with `key`; libraries may talk in between."""
        for line in self.process.stdout:
            try:
                said = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(said, dict) and key in said:
                return said
        raise SystemExit(f"{self.name} ended early: {' '.join(map(str, self.command))}")

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.steps.append(self.answer("step"))

    def finish(self):
        self.process.stdin.close()
        self.report = self.answer("bench")
        self.process.wait()
        return self.report


class Lions(Contestant):
    ours = True

    def __init__(self, options, name, arguments, rounds, threads, work=None):
        command = [options.lions, "bench", *arguments, "--paced", "--threads", threads,
                   "--steps", rounds, "--warmup", options.warmup]
        command += ["--work", work] if work else []
        super().__init__(name, list(map(str, command)), threads)


class Peer(Contestant):
    ours = False

    def __init__(self, options, name, arguments, rounds, threads, work=None):
        command = [sys.executable, HERE / arguments[0], *arguments[1:], "--paced", "--threads",
                   threads, "--steps", rounds, "--warmup", options.warmup]
        command += ["--work", work] if work else []
        super().__init__(name, list(map(str, command)), threads)


def plans(model="models/stories260k"):
    """By name: contestants (name, class, arguments, which work file), rows (label, unit, over, under,
    limit). `model` is what the plans `*-model` are of."""
    sft, dpo, gen = "sft_step.py", "dpo_step.py", "generate.py"
    shipped = ["train", "--model", "models/stories260k"]
    padded = [*shipped, "--batching", "padded"]
    return {
        "sft15m": (
            [("lions f32", Lions, ["train", "--shape", "15m"], "w"),
             ("torch f32", Peer, [sft, "--shape", "15m"], "w")],
            [("SFT step, 15M shape, f32", "real_tokens", ["lions f32"], ["torch f32"], 1.3)]),
        "sft15m-best": (
            [("lions f32", Lions, ["train", "--shape", "15m"], "w"),
             ("torch f32", Peer, [sft, "--shape", "15m"], "w"),
             ("lions bf16", Lions, ["train", "--shape", "15m", "--precision", "bf16"], None),
             ("torch bf16", Peer, [sft, "--shape", "15m", "--precision", "bf16"], "w")],
            [("SFT step, 15M shape, best precision of each", "real_tokens",
              ["lions f32", "lions bf16"], ["torch f32", "torch bf16"], 1.2)]),
        "sft-shipped": (
            [("lions", Lions, shipped, "w"), ("torch", Peer, [sft], "w")],
            [("SFT step, shipped model, packed rows", "real_tokens", ["lions"], ["torch"], 3.0)]),
        "sft-model": (
            [("lions bf16", Lions, ["train", "--model", model, "--precision", "bf16"], "w"),
             ("torch bf16", Peer, [sft, "--model", model, "--precision", "bf16"], "w"),
             ("lions f32", Lions, ["train", "--model", model], None),
             ("torch f32", Peer, [sft, "--model", model], "w")],
            [("SFT step, bf16", "real_tokens", ["lions bf16"], ["torch bf16"], None),
             ("SFT step, f32", "real_tokens", ["lions f32"], ["torch f32"], None),
             ("SFT step, best precision of each", "real_tokens",
              ["lions bf16", "lions f32"], ["torch bf16", "torch f32"], 1.2)]),
        "dpo-model": (
            [("lions bf16", Lions, ["dpo", "--model", model, "--precision", "bf16"], "w"),
             ("trl bf16", Peer, [dpo, "--layout", "trl", "--model", model, "--precision", "bf16"], "w"),
             ("flat bf16", Peer, [dpo, "--layout", "flat", "--model", model, "--precision", "bf16"],
              "w")],
            [("DPO step, bf16, against TRL", "pairs", ["lions bf16"], ["trl bf16"], 1.2),
             ("DPO step, bf16, against padding-free torch", "pairs", ["lions bf16"], ["flat bf16"],
              None)]),
        "bf16": (
            [("lions bf16", Lions, ["train", "--shape", "15m", "--precision", "bf16"], None),
             ("lions f32", Lions, ["train", "--shape", "15m"], None)],
            [("bf16 over f32, 15M shape", "real_tokens", ["lions bf16"], ["lions f32"], 1.0)]),
        "bf16-shipped": (
            [("lions bf16", Lions, [*shipped, "--precision", "bf16"], None),
             ("lions f32", Lions, shipped, None)],
            [("bf16 over f32, shipped model", "real_tokens", ["lions bf16"], ["lions f32"], 1.0)]),
        "dpo": (
            [("lions", Lions, ["dpo"], "w"), ("trl", Peer, [dpo, "--layout", "trl"], "w")],
            [("DPO step, real pairs, against TRL", "pairs", ["lions"], ["trl"], 2.5)]),
        "dpo-flat": (
            [("lions", Lions, ["dpo"], "w"), ("flat", Peer, [dpo, "--layout", "flat"], "w")],
            [("DPO step, real pairs, against padding-free torch", "pairs", ["lions"], ["flat"],
              None)]),
        "generate": (
            [("lions", Lions, ["generate"], "w"), ("transformers", Peer, [gen], "w")],
            [("Sampling, 64 prompts x 5", "real_tokens", ["lions"], ["transformers"], 3.0)]),
        "packing": (
            [("lions packed", Lions, shipped, "p"), ("lions padded", Lions, padded, "w"),
             ("torch packed", Peer, [sft], "p"), ("torch padded", Peer, [sft], "w")],
            [("Packed over padded, lions", "real_tokens", ["lions packed"], ["lions padded"], 1.0),
             ("Packed over padded, torch", "real_tokens", ["torch packed"], ["torch padded"], None),
             ("lions packed over torch padded", "real_tokens", ["lions packed"], ["torch padded"],
              None)]),
    }


def rate(step, unit, clock):
    return (1 if unit == "pairs" else step[unit]) / step["seconds"][clock]


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def best(contestants, names, unit, clock, warmup):
    """Of these contestants the one with the best median rate."""
    def median(c):
        return statistics.median(rate(s, unit, clock) for s in c.steps[warmup:])
    return max((contestants[name] for name in names), key=median)


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def row(contestants, spec, options, clock):
    label, unit, over, under, limit = spec
    a = best(contestants, over, unit, clock, options.warmup)
    b = best(contestants, under, unit, clock, options.warmup)
    rates = [[rate(s, unit, clock) for s in c.steps[options.warmup:]] for c in (a, b)]
    ratios = [x / y for x, y in zip(*rates)]
    low, high = quartiles(ratios)
    per = "CPU s" if clock == "cpu" else "s"
    what = "steps" if unit == "pairs" else "tokens"
    plural = "thread" if options.threads == 1 else "threads"
    print(f"| {label}, {options.threads} {plural}: {what}/{per} | {a.name} "
          f"{shown(statistics.median(rates[0]))} | {b.name} {shown(statistics.median(rates[1]))} | "
          f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) | {limit or ''} |")
    return a, b


def memory_row(label, a, b):
    def peak(c):
        return c.report.get("peak_memory_bytes") or c.report["peak_rss"]

    def before(c):
        return c.report.get("memory_before_bytes") or c.report["rss_before"]

    mib = 2 ** 20
    print(f"| {label}: peak memory, MiB | {peak(a) / mib:,.0f} | {peak(b) / mib:,.0f} | "
          f"{peak(b) / peak(a):.2f} | 2 |")
    print(f"| {label}: of it since before the first step, MiB | {(peak(a) - before(a)) / mib:,.0f} | "
          f"{(peak(b) - before(b)) / mib:,.0f} | "
          f"{(peak(b) - before(b)) / max(1, peak(a) - before(a)):.2f} | |")


def run(name, options):
    who, rows = plans(str(options.model))[name]
    rounds = options.rounds or (3 if name == "generate" else 11)
    with tempfile.TemporaryDirectory() as folder:
        contestants = {}
        for label, kind, arguments, work in who:
            extra = options.lions_args if kind is Lions else options.peer_args
            work = work and str(Path(folder) / work)
            contestants[label] = kind(options, label, arguments + extra, rounds, options.threads,
                                      work)
        for _ in range(options.warmup + rounds):
            for contestant in contestants.values():
                contestant.step()
                # Workers that spin for more work give up before the next contestant's turn.
                time.sleep(0.05 if options.threads > 1 else 0)
        for contestant in contestants.values():
            contestant.finish()
    clock = options.clock or ("cpu" if options.threads == 1 else "wall")
    print("| what | ours | peer | ratio (quartiles) | limit |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for spec in rows:
        a, b = row(contestants, spec, options, clock)
        if a.ours and not b.ours:
            memory_row(spec[0], a, b)
    for contestant in contestants.values():
        losses = [contestant.steps[0].get("loss"), contestant.steps[-1].get("loss")]
        versions = contestant.report.get("versions", "")
        print(f"{contestant.name}: losses {losses}; {versions}", file=sys.stderr)
        if options.full:
            print(json.dumps(contestant.report), file=sys.stderr)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--what", required=True, choices=sorted(plans()))
    args.add_argument("--model", type=Path, default=ROOT / "models" / "stories260k", metavar="DIR",
                      help="of the plans sft-model and dpo-model")
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--rounds", type=int, help="measured rounds [default: 11, sampling 3]")
    args.add_argument("--warmup", type=int, default=2, help="rounds before them")
    args.add_argument("--clock", choices=["cpu", "wall"], help="[default: cpu with one thread]")
    args.add_argument("--lions", default=ROOT / "target" / "release" / "lions")
    args.add_argument("--lions-args", type=str.split, default=[], metavar="'...'")
    args.add_argument("--peer-args", type=str.split, default=[], metavar="'...'")
    args.add_argument("--full", action="store_true", help="print the contestants' own reports too")
    options = args.parse_args()
    run(options.what, options)


if __name__ == "__main__":
    main()
