"""What each part does, in its own process."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback

import compare
import machine
import models
import outcome
import shapes
import sweeps
import work
from hog import Hog
from outcome import Ended

# Kills of an attempt in `resume`, each after so many further states.
KILLS = 3
SAVED_STEPS = 60
# Runs that share the card in `shared`.
SHARING = 3
# Stages that compute there.
ON_A_CARD = ("sft", "dpo", "ref-logps")


def driver():
    """What the system says of its card, without our program."""
    for command in (["nvidia-smi"], ["ldconfig", "-p"], ["df", "-h", "/tmp"], ["free", "-g"], ["uname", "-a"]):
        _, text = machine.said(command)
        kept = [x for x in text.splitlines() if command[0] != "ldconfig" or re.search("libcu|libstdc", x)]
        print("\n".join(kept), flush=True)
    manifest = json.loads((work.FOLDER / "manifest.json").read_text(encoding="utf-8"))
    wanted, here = manifest["glibc"], machine.glibc_here()
    if here < tuple(wanted):
        versions = [".".join(map(str, version)) for version in (wanted, here)]
        raise Ended(outcome.FAILED, f"the programs want glibc {versions[0]}, here is {versions[1]}")
    card = machine.described()
    if not card and not machine.has_card():
        raise Ended(outcome.NO_CARD, "nvidia-smi shows none")
    raise Ended(outcome.OK, "", **card)


def doctor():
    """What `lions doctor` finds, and whether the card computes right."""
    done = subprocess.run([work.lions(), "doctor", "--json"], cwd=work.FOLDER / "project",
                          stdout=subprocess.PIPE, check=False)
    found = json.loads(done.stdout)
    for one in found:
        print(f"{one['health']:8} {one['what']:8} {one['text']}", flush=True)
    of = {what: [one for one in found if one["what"] == what] for what in ("gpu", "cublas", "check")}
    texts = {what: "; ".join(one["text"] for one in some) for what, some in of.items()}
    if re.match(r"none: (no NVIDIA driver|the driver shows no card)", texts["gpu"]):
        raise Ended(outcome.NO_CARD, texts["gpu"])
    good = of["check"] and all(one["health"] == "ok" for some in of.values() for one in some)
    raise Ended(outcome.OK if good else outcome.FAILED,
                "" if good else texts["check"] or texts["cublas"] or texts["gpu"], **texts)


def test_program(names, form, wrapper=()):
    """Tests of the program of `tests/gpu` on the card: exit status and what they said."""
    variables = dict(os.environ, LIONS_TEST_CARD=form, RUST_BACKTRACE="0")
    # The program looks where the loader looks.
    machine.add_libraries(variables, machine.cublas_folders())
    command = [*wrapper, str(work.WORK / "gpu-tests"), *names, "--nocapture", "--test-threads=1"]
    return machine.streamed(command, cwd=work.FOLDER, env=variables)


def why(text):
    """What a test that panicked said: the lines behind the place."""
    found = re.search(r"panicked at [^\n]*\n(.+)", text)
    return found.group(1).strip()[:300] if found else outcome.last_line(text)


def test(name, form):
    """One test on the card, which must have been used."""
    code, text = test_program([name, "--exact"], form)
    on = re.findall(r"\bon ([^,\n]+), kernels as (text|machine code)", text)
    if "no card: " in text:
        raise Ended(outcome.NO_CARD, why(text))
    if code != 0:
        how = f"signal {-code}: " if code < 0 else ""
        raise Ended(outcome.FAILED, how + why(text))
    if not on:
        raise Ended(outcome.FAILED, "it ran on no card, or there is no such test")
    measured = [json.loads(line) for line in text.splitlines() if line.startswith('{"') and '"speed"' in line]
    values = {"card": on[0][0], "kernels": on[0][1]}
    raise Ended(outcome.OK, "", **values, **({"speeds": measured} if measured else {}))


def steps(family):
    """Steps of a family on the card and on the processor: every metric of every step, and the weights."""
    golden, shipped = work.FOLDER / "tests/golden/families" / family, work.FOLDER / "project/models/stories260k"

    def make(name):
        return work.project(f"{family}-{name}/steps", sweeps.steps(),
                            lambda target: models.family(golden, shipped, target))

    raise Ended(outcome.OK, "", **both(make))


def both(make):
    """A sweep on the card, then on the processor; what of it agrees."""
    card, processor = make("card"), make("processor")
    work.run(card, work.CARD)
    work.run(processor, "cpu")
    got = work.runs(card)
    elsewhere = [name for name, run in got.items() if run["stage"] in ON_A_CARD and run["device"].startswith("cpu")]
    if elsewhere:
        raise Ended(outcome.FAILED, f"run {elsewhere[0]} was not on the card")
    in_bf16 = short(card)
    found = compare.all_runs(got, work.runs(processor),
                             lambda run: compare.BF16 if run in in_bf16 else compare.F32)
    seconds = seconds_of(card)
    return found | {"card_seconds": seconds}


def short(path):
    """Runs that compute in bf16, and those behind them."""
    found = set()
    runs = {folder.name: folder for folder in (path / "results/runs").iterdir()}
    recipes = {name: (folder / "stage.json").read_text(encoding="utf-8") for name, folder in runs.items()}
    while True:
        more = {name for name, text in recipes.items() if name not in found
                and ('"bf16"' in text or any(other in text for other in found))}
        if not more:
            return found
        found |= more


def seconds_of(path):
    """How long the attempts of a project ran in all, s."""
    times = []
    for folder in (path / "results/runs").iterdir():
        done = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        times.append(done["result"]["usage"]["wall_secs"])
    return round(sum(times), 2)


def sweep():
    """A sweep through `lions run` to its table: equal to the processor's."""
    paths = {}

    def make(name):
        paths[name] = work.project(f"{name}/sweep", sweeps.sweep())
        return paths[name]

    found = both(make)
    card, processor = (work.compared_table(paths[name], "sweep") for name in ("card", "processor"))
    n = same_table(card, processor)
    text = subprocess.run([work.lions(), "compare", "sweep"], cwd=paths["card"], check=False,
                          stdout=subprocess.PIPE).stdout.decode(errors="replace")
    print(text, flush=True)
    raise Ended(outcome.OK, "", **found, cells=n)


def same_table(card, processor):
    """How many numbers two tables share; raises where they differ."""
    count = 0
    for ours, theirs in zip(card, processor, strict=True):
        for row, other in zip(ours["rows"], theirs["rows"], strict=True):
            for cell, wanted in zip(row["results"], other["results"], strict=True):
                got, want = cell["estimate"]["value"], wanted["estimate"]["value"]
                count += 1
                if compare.apart(got, want) > compare.F32:
                    raise Ended(outcome.FAILED, f"{cell['metric']}: {got}, on the processor {want}")
    if count == 0:
        raise Ended(outcome.FAILED, "the table has no numbers")
    return count


def results_of(path):
    """Metrics, steps and the bytes of weights of all runs of a project."""
    return {name: (run["metrics"], run["steps"], run["weights"] and run["weights"].read_bytes())
            for name, run in work.runs(path).items()}


def same(got, want, what):
    if set(got) != set(want):
        raise Ended(outcome.FAILED, f"{what}: other runs")
    for name, (metrics, steps_of, weights) in got.items():
        other = want[name]
        keys = [k for k in metrics if not compare.OF_THE_MACHINE.search(k) and metrics[k] != other[0].get(k)]
        keys += [k for k in steps_of if not compare.OF_THE_MACHINE.search(k) and steps_of[k] != other[1].get(k)]
        if keys:
            raise Ended(outcome.FAILED, f"{what}: {keys[0]} of run {name} differs")
        if weights != other[2]:
            raise Ended(outcome.FAILED, f"{what}: the weights of run {name} differ")
    size = sum(len(weights or b"") for _, _, weights in got.values())
    return {"runs": len(got), "bytes": size}


def twice():
    """The same sweep twice on the card: the same bytes."""
    found = []
    for name in ("first", "second"):
        path = work.project(f"{name}/sweep", sweeps.sweep())
        work.run(path, work.CARD)
        found.append(results_of(path))
    raise Ended(outcome.OK, "", **same(*found, "the second time"))


def shared():
    """Runs that share the card: beside each other, and the bytes of runs that had it alone."""
    alone = work.project("alone/sweep", sweeps.sweep())
    work.run(alone, work.CARD)
    path = work.project("shared/sweep", sweeps.sweep())
    text = work.run(path, work.CARD, "--runs-per-gpu", str(SHARING), "--json")
    most = at_once(text)
    if most < 2:
        raise Ended(outcome.FAILED, "runs were one after the other")
    seconds = {name: seconds_of(where) for name, where in (("alone", alone), ("sharing", path))}
    raise Ended(outcome.OK, "", at_once=most, seconds=seconds,
                **same(results_of(path), results_of(alone), "sharing the card"))


def host_state():
    """A training whose optimiser's state lies on the host, for want of memory: the bytes of one that had the card alone."""
    total = card_memory()
    # As many runs as leave each about a gigabyte beside what the driver takes.
    runs = max(2, total >> 31)
    share = total // runs - (768 << 20)
    shipped = work.FOLDER / "project/models/stories260k"

    def make(target):
        # 16 bytes of each weight are more than there is; those that stay are little more than 8.
        models.large(shipped, target, share // 16)

    memory = {}
    for name, more in (("alone", ()), ("sharing", ("--runs-per-gpu", str(runs)))):
        path = work.project(f"{name}/memory", sweeps.large(sweeps.SMALL_PASSES), make)
        work.run(path, work.CARD, *more)
        memory[name] = (path, most_of_the_card(path))
    (alone, resident), (path, streamed) = memory["alone"], memory["sharing"]
    if not streamed < min(resident, share + (64 << 20)):
        raise Ended(outcome.FAILED, f"{streamed} bytes of the card were taken, of a share of {share}; alone {resident}")
    raise Ended(outcome.OK, "", on_card={"alone": resident, "sharing": streamed},
                seconds={"alone": seconds_of(alone), "sharing": seconds_of(path)},
                **same(results_of(path), results_of(alone), "with the state on the host"))


def card_memory():
    """Bytes of the card, as the driver says them."""
    with Hog(holds=False) as hog:
        return hog.memory()[1]


def most_of_the_card(path):
    """Most memory of the card that a training of a project had, bytes."""
    found = []
    for folder in (path / "results/runs").iterdir():
        done = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        if (folder / "artifacts/model/model.safetensors").exists():
            found.append(done["result"]["usage"]["device_memory_bytes"])
    return max(found)


def at_once(text):
    """Most runs that were at work at a time, by what `lions run --json` told."""
    count = most = 0
    for line in text.splitlines():
        if line.startswith("{"):
            kind = json.loads(line).get("kind")
            count += (kind == "run-started") - (kind == "run-finished")
            most = max(most, count)
    return most


def resume():
    """Attempts that are killed: the bytes of a run that was left alone."""
    calm = work.project("calm/resume", sweeps.saved("resume", SAVED_STEPS))
    work.run(calm, work.CARD)
    path = work.project("killed/resume", sweeps.saved("resume", SAVED_STEPS))
    driver_of = work.Disturbed(path, work.CARD)
    kills = 0
    for event in driver_of.events():
        if event.get("kind") == "run-started" and event.get("stage") == "sft" and kills < KILLS:
            attempt = driver_of.attempt(event)
            if work.wait_for_state(attempt, 2):
                process = work.process_of(attempt)
                if process:
                    os.kill(process, signal.SIGKILL)
                    kills += 1
    work.ended(driver_of.code, "\n".join(driver_of.text))
    if kills == 0:
        raise Ended(outcome.FAILED, "no attempt was killed: it ended too soon")
    raise Ended(outcome.OK, "", kills=kills, **same(results_of(path), results_of(calm), "after kills"))


def memory():
    """A run for which the card's memory does not suffice fails as one of that class."""
    shipped = work.FOLDER / "project/models/stories260k"
    with Hog() as hog:
        # 16 bytes of each weight: twice as much as there is.
        path = work.project("memory", sweeps.large(),
                            lambda target: models.large(shipped, target, hog.leave // 8))
        code, text = machine.streamed(work.words(path, work.CARD, "--json"), cwd=path)
    if work.NONE.search(text):
        work.ended(code, text)
    failed = [json.loads(line) for line in text.splitlines() if '"run-failed"' in line]
    classes = sorted({event["class"] for event in failed})
    good = classes == ["out-of-memory"]
    said = outcome.first_line(str(failed[0].get("message", "")) if failed else outcome.last_line(text))
    raise Ended(outcome.OK if good else outcome.FAILED, "" if good else f"{classes}: {said}",
                left=hog.left, said=said)


def step(shape):
    """`lions bench` of a training step on the card, where the program has it."""
    text = subprocess.run([work.lions(), "bench", "--help"], stdout=subprocess.PIPE, check=False).stdout
    if b"--device" not in text:
        raise Ended(outcome.NOT_BUILT, "`lions bench` has no --device")
    folder = shapes.folder(shape, work.WORK / f"shape-{shape}")
    command = [work.lions(), "bench", "train", "--shape", str(folder), "--device", work.CARD,
               "--precision", "bf16", "--batch-tokens", str(shapes.TOKENS), "--max-seq-len",
               str(shapes.LENGTH), "--steps", "8", "--warmup", "2", "--json"]
    code, text = machine.streamed(command, cwd=work.FOLDER / "project")
    work.ended(code, text)
    report = json.loads(text[text.index("{"):])
    raise Ended(outcome.OK, "", n=report["steps"], tokens_s=report["tokens_per_wall_sec"]["median"],
                ms=report["wall_secs"]["median"] * 1e3, report=report)


def peer(shape):
    """The same step by PyTorch and transformers, where they are."""
    if not machine.has_card():
        raise Ended(outcome.NO_CARD, "for the peer")
    try:
        import peer as module
    except ImportError as error:
        raise Ended(outcome.NOT_HERE, str(error)) from error
    raise Ended(outcome.OK, "", **module.measure(shape))


def sanitizer(tool):
    """compute-sanitizer over the tests of `gpu.h` and of two kernels, where it can watch this card."""
    if not shutil.which("compute-sanitizer"):
        raise Ended(outcome.NOT_HERE if machine.has_card() else outcome.NO_CARD, "no compute-sanitizer")
    wrapper = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "9")
    names = ["conformance_tests", "norms_on_the_device", "a_mean_on_the_device", "gated_units"]
    code, text = test_program(names, "machine-code", wrapper)
    if "no card: " in text:
        raise Ended(outcome.NO_CARD, why(text))
    if re.search(r"Device not supported|LibraryNotLoaded|Unable to find injection", text):
        raise Ended(outcome.NOT_HERE, "it cannot watch this card")
    errors = re.findall(r"=========\s*((?:Invalid|Race|Error|Program hit)[^\n]*)", text)
    if code != 0 or errors:
        raise Ended(outcome.FAILED, (errors or [f"exit status {code}: {why(text)}"])[0])
    raise Ended(outcome.OK, "", tests=len(re.findall(r"^test .* ok$", text, re.M)))


def body(name):
    """What to call for a part."""
    section, rest = name.split("/", 1)
    plain = {"card/driver": driver, "card/doctor": doctor, "runs/sweep": sweep, "runs/twice": twice,
             "runs/shared": shared, "runs/host-state": host_state, "runs/resume": resume, "runs/memory": memory}
    if name in plain:
        return plain[name]
    first, _, last = rest.partition("/")
    if section == "kernels":
        return lambda: test(last, first)
    if section == "steps":
        return lambda: steps(rest)
    if section == "sanitizer":
        return lambda: sanitizer(rest)
    if section == "speed" and last:
        return lambda: {"step": step, "peer": peer}[first](last)
    return lambda: test(f"gpu::speed_tests::{rest}", "machine-code")


def main(options):
    began = time.monotonic()
    try:
        body(options.name)()
        verdict = (outcome.FAILED, "it came to no result", {})
    except Ended as end:
        verdict = (end.outcome, end.why, end.values)
    except Exception as error:  # noqa: BLE001  # whatever it is, the next part runs
        traceback.print_exc()
        verdict = (outcome.FAILED, f"{type(error).__name__}: {error}"[:300], {})
    print(f"{verdict[0]} after {time.monotonic() - began:.1f} s", flush=True)
    print(outcome.line(*verdict), flush=True)
    sys.stdout.flush()
    return 0
