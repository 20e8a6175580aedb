"""Builds what has to be carried to a machine with a card into one folder."""

import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import machine
import sources

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# What a loan of a machine lets travel, with room for the rest of the tree.
MOST = 40 << 20
# Rows of each data file: more than any part reads.
ROWS = 64
DATA = ("data/sft/instruct_train.jsonl", "data/sft/instruct_test.jsonl", "data/sft/stories_train.jsonl",
        "data/sft/stories_test.jsonl", "data/pref/polite_train.jsonl", "data/pref/polite_test.jsonl")


def carry(folder):
    """All but the programs: this folder, a small project, golden numbers."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "manifest.json").exists():
            raise SystemExit(f"check: {folder} has other things in it")
        shutil.rmtree(folder)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE, folder / "check", ignore=ignore)
    for name in ("models/stories260k", "sweeps/base"):
        shutil.copytree(ROOT / name, folder / "project" / name, ignore=ignore)
    for name in DATA:
        target = folder / "project" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(ROOT / name, encoding="utf-8") as lines:
            target.write_text("".join(line for line, _ in zip(lines, range(ROWS))), encoding="utf-8")
    golden = folder / "tests/golden"
    shutil.copytree(ROOT / "tests/golden/families", golden / "families")
    shutil.copy(ROOT / "tests/golden/families.json", golden)


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def cargo(*words):
    """Paths of the programs that a build makes."""
    command = ["cargo", *words, "--release", "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"check: `{' '.join(command)}` ends with {done.returncode}")
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    return [Path(one["executable"]) for one in said if one.get("executable")]


def stripped(program, target):
    """A copy without symbols, where there is something to strip it."""
    shutil.copy(program, target)
    if shutil.which("strip"):
        subprocess.run(["strip", str(target)], check=True)


def compressed(target):
    packed = target.with_name(target.name + ".xz")
    with open(target, "rb") as source, lzma.open(packed, "wb", preset=6) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    return packed


def card_tests(program):
    """Tests that fail where no card is shown: which are those that the sources say, or `sources.py` is wrong."""
    variables = dict(os.environ, LIONS_TEST_CARD="machine-code", CUDA_VISIBLE_DEVICES="", RUST_BACKTRACE="0")
    done = subprocess.run([str(program)], cwd=ROOT, env=variables, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode(errors="replace")
    if "no card: " not in text:
        raise SystemExit(f"check: {program} looks for no card; is it built with the feature `gpu`?")
    failed = {line.split()[1] for line in text.splitlines() if line.startswith("test ") and "FAILED" in line}
    named = sources.card_tests(ROOT)
    if failed != set(named):
        raise SystemExit(f"check: sources.py and the tests differ on {sorted(failed ^ set(named))}")
    return named


def main(options):
    folder = options.folder
    carry(folder)
    lions = options.lions or cargo("build", "--bin", "lions")[0]
    target = os.environ.get("CARGO_TARGET_DIR") or str(ROOT / "target")
    manifest = str(ROOT / "tests/gpu/Cargo.toml")
    tests = cargo("test", "--no-run", "--features", "gpu", "--manifest-path", manifest,
                  "--target-dir", f"{target}/gpu")[-1]
    named = card_tests(tests)
    wanted, digests = [], {}
    for name, program in (("lions", lions), ("gpu-tests", tests)):
        plain = folder / name
        stripped(program, plain)
        wanted.append(machine.glibc_wanted(plain))
        packed = compressed(plain)
        plain.unlink()
        digests[packed.name] = subprocess.run(["sha256sum", str(packed)], stdout=subprocess.PIPE,
                                              check=True).stdout.decode().split()[0]
    about = {
        "commit": git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else ""),
        "glibc": list(max(wanted)),
        "digests": digests,
        "tests": named,
        "families": sources.families(ROOT),
    }
    (folder / "manifest.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB, commit {about['commit'][:12]}, "
          f"wants glibc {'.'.join(map(str, about['glibc']))} and libstdc++; {len(named)} tests of kernels")
    if size > MOST:
        print(f"check: that is more than {MOST >> 20} MiB", file=sys.stderr)
        return 1
    return 0
