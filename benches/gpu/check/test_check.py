"""That the check itself is right, without a card: parts that end in every way, the table, the page."""

import contextlib
import io
import json
import math
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import compare  # noqa: E402
import machine  # noqa: E402
import models  # noqa: E402
import outcome  # noqa: E402
import parts  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import sources  # noqa: E402
import table  # noqa: E402

ROOT = HERE.parents[2]

# What some parts do, as programs.
ENDS = {
    "steps/right": f"print('at work'); print({outcome.line(outcome.OK, '', {'n': 3})!r})",
    "steps/wrong": f"print({outcome.line(outcome.FAILED, 'loss 2, not 1')!r})",
    "steps/crashes": "import os; print('about to', flush=True); os.abort()",
    "steps/says-nothing": "print('the last word')",
    # A child that has left the session holds the pipe open behind it.
    "steps/hangs": "import subprocess, time\n"
                   "subprocess.Popen(['sleep', '5'], start_new_session=True)\n"
                   "print('waiting', flush=True); time.sleep(60)",
    "steps/floods": "import os\nos.write(1, b'\\xff\\xfe' * 400_000)\n"
                    f"print(); print({outcome.line(outcome.OK)!r})",
    "steps/no-card": f"print({outcome.line(outcome.NO_CARD, 'none here')!r})",
}


def ended(ends=ENDS, has_card=False, seconds=120.0):
    """The results of such parts by name, and what is in the logs."""
    with tempfile.TemporaryDirectory() as out:
        runner = run.Runner(out, lambda name: [sys.executable, "-c", ends[name]], None,
                            time.monotonic() + seconds, has_card)
        results = runner.run([(4, [parts.Part(name, 3 if "hangs" in name else 60) for name in ends])])
        stored = [json.loads(x) for x in (Path(out) / "results.jsonl").read_text().splitlines()]
        assert stored == results
        logs = {path.name: path.read_text() for path in Path(out).glob("*.log")}
    return {r["part"]: r for r in results}, logs


class Parts(unittest.TestCase):
    def test_a_part_that_crashes_or_hangs_costs_itself(self):
        results, logs = ended()
        how = {name.split("/")[1]: r["outcome"] for name, r in results.items()}
        self.assertEqual(how, {"right": "ok", "wrong": "failed", "crashes": "crashed",
                               "says-nothing": "crashed", "hangs": "timed out", "floods": "ok",
                               "no-card": "no card"})
        self.assertEqual(results["steps/right"]["values"], {"n": 3})
        self.assertEqual(results["steps/crashes"]["why"], "signal 6: about to")
        self.assertEqual(results["steps/says-nothing"]["why"], "exit status 0: the last word")
        self.assertTrue(results["steps/hangs"]["why"].startswith("after 3 s: "))
        # Neither the part nor what it left behind was waited for.
        self.assertLess(results["steps/hangs"]["seconds"], 50)
        self.assertEqual(set(logs), {"steps.log"})
        self.assertIn("[steps/right] at work\n", logs["steps.log"])
        self.assertLess(len(logs["steps.log"]), 4 * run.KEPT)

    def test_no_card_is_a_failure_where_the_system_shows_one(self):
        ends = {"steps/no-card": ENDS["steps/no-card"]}
        results, _ = ended(ends, has_card=True)
        self.assertEqual(results["steps/no-card"]["outcome"], outcome.FAILED)
        self.assertIn("none here", results["steps/no-card"]["why"])

    def test_what_has_no_time_left_is_not_started(self):
        results, _ = ended({"steps/right": ENDS["steps/right"]}, seconds=0.0)
        self.assertEqual(results["steps/right"]["outcome"], outcome.NO_TIME)

    def test_files_that_come_back_are_eight_at_most(self):
        self.assertLessEqual(len(parts.SECTIONS) + 2, 8)
        names = parts.names(["gpu::a::b", parts.SPEED + "c"], ["gemma"])
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual({name.split("/")[0] for name in names}, set(parts.SECTIONS))


class Whole(unittest.TestCase):
    """`run` from a folder such as `pack` makes, with programs that find no card."""

    def test_on_a_machine_without_a_card_every_part_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            shutil.copytree(HERE, folder / "check")
            for name in ("project/sweeps", "project/models/stories260k"):
                (folder / name).mkdir(parents=True)
            (folder / "tests").symlink_to(ROOT / "tests")
            lions, tests = folder / "lions.sh", folder / "tests.sh"
            doctor = '[{"what": "gpu", "health": "ok", "text": "none: the driver shows no card; runs use the CPU"}]'
            write(lions, f"case $1 in doctor) echo '{doctor}' ;; bench) echo usage ;;\n"
                         "*) echo 'error: no NVIDIA driver: libcuda.so.1 was not found'; exit 1 ;; esac")
            write(tests, "echo \"thread 'x' panicked at src/y.rs:1:2:\"; echo 'no card: no NVIDIA driver'; exit 101")
            manifest = {"commit": "c0ffee", "glibc": [2, 0], "families": ["gemma"],
                        "tests": ["gpu::a::tests::b", parts.SPEED + "copies_are_timed"],
                        "programs": {"lions": str(lions), "gpu-tests": str(tests)}}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            code, said = called(folder, "run", "--out", folder / "out")
            lines = [json.loads(x) for x in (folder / "out/results.jsonl").read_text().splitlines()]
            files = {path.name for path in (folder / "out").iterdir()}
        if lines[0]["has_card"]:
            self.skipTest("this machine has a card")
        self.assertEqual(code, 0, said)
        found = {r["part"]: r["outcome"] for r in lines[1:]}
        self.assertEqual(set(found), set(parts.names(manifest["tests"], ["gemma"])))
        steps = {f"speed/step/{shape}" for shape in parts.SHAPES}
        self.assertEqual({found.pop(name) for name in steps}, {outcome.NOT_BUILT})
        self.assertEqual(set(found.values()), {outcome.NO_CARD}, said)
        self.assertLessEqual(len(files), 8, files)
        self.assertTrue(said.rstrip().endswith("nothing failed"), said)
        self.assertIn("no card; commit c0ffee", said)

    def test_a_failure_is_told_by_the_exit_status(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            shutil.copytree(HERE, folder / "check")
            manifest = {"commit": "c0ffee", "glibc": [99, 0], "families": [], "tests": ["gpu::a::tests::b"],
                        "programs": {"lions": "/bin/false", "gpu-tests": "/bin/false"}}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            code, said = called(folder, "run", "--only", "card/*,kernels/text/*", "--out", folder / "out")
            nothing, _ = called(folder, "run", "--only", "nothing")
        self.assertEqual((code, nothing), (1, 2), said)
        self.assertIn("FAILED card/driver: the programs want glibc 99.0, here is", said)
        self.assertIn("FAILED kernels/text/gpu::a::tests::b", said)


def write(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def called(folder, *words):
    done = subprocess.run([sys.executable, "-B", folder / "check", *map(str, words)], cwd=folder, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    return done.returncode, done.stdout.decode()


def about(at, commit="a" * 40, has_card=True):
    card = {"name": "NVIDIA H200", "driver_version": "580.1", "memory.total": "143771 MiB", "compute_cap": "9.0"}
    return {"part": "about", "commit": commit, "card": card if has_card else {}, "has_card": has_card, "at": at}


def result(part, how=outcome.OK, why="", **values):
    return {"part": part, "outcome": how, "seconds": 1.0, "why": why, "values": values}


def speed(name, **rates):
    return {"speed": name, "n": 15, "ms": 1.0, **rates}


class Table(unittest.TestCase):
    def test_it_says_how_parts_ended_and_how_fast_the_card_is(self):
        speeds = [speed("product bf16, 8192", tflop_s=800.0), speed("copy on the card", gb_s=4000.0),
                  speed("norm", gb_s=1000.0), speed("attention", tflop_s=200.0)]
        results = [result("kernels/text/gpu::a::tests::b"), result("kernels/text/gpu::a::tests::c", outcome.FAILED, "2 bits"),
                   result("speed/x", speeds=speeds),
                   result("steps/gemma", runs=10, n=500, largest={"0.0001": 2e-6}),
                   result("speed/step/2b", tokens_s=30_000.0, ms=273.0)]
        text = table.short(about("2026-01-02T03:04:05"), results, 12.0)
        for words in ("NVIDIA H200", "1 ok, 1 failed", "FAILED kernels/text/gpu::a::tests::c: 2 bits",
                      "1,000 GB/s, 25 % of the copy", "200.0 TFLOP/s, 25 % of the product",
                      "steps/gemma: 10 runs, 500 numbers, at most 2.0e-06 (of 0.0001)", "30,000 tokens/s"):
            self.assertIn(words, text)
        self.assertTrue(text.endswith("FAILED\n"))

    def test_it_fits_however_much_there_is(self):
        many = [result(f"runs/{i}", outcome.FAILED, "x" * 1000) for i in range(300)]
        text = table.short(about("2026-01-02"), many, 1.0)
        self.assertLess(len(text), 12_000)
        self.assertIn("rows left out", text)
        self.assertTrue(text.endswith("FAILED\n"))


class Report(unittest.TestCase):
    """A small repository: one file with a test that uses a card and one that does not, one family."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        for name in ("src/gpu/ops", "tests/golden/families/gemma", "reports"):
            (self.root / name).mkdir(parents=True)
        (self.root / "src/gpu/ops/norm.rs").write_text(SOURCE)
        self.page = self.root / "reports/gpu.md"
        self.page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nbehind\n")
        self.parts = parts.names(sources.card_tests(self.root), ["gemma"])

    def tearDown(self):
        self.folder.cleanup()

    def take(self, *lines):
        with tempfile.TemporaryDirectory() as folder:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (Path(folder) / "results.jsonl").write_text(text)
            taken = report.write(self.root, [Path(folder)])
        return taken, self.page.read_text()

    def test_without_results_everything_has_never_run(self):
        report.write(self.root, [])
        text = self.page.read_text()
        self.assertTrue(text.startswith("before\n") and text.endswith("\nbehind\n"))
        self.assertIn("Nothing of the program as it is now has run on a card", text)
        self.assertNotIn("old", text)
        self.assertEqual(text.count("| never |"), len({report.lines_of(p)[0] for p in self.parts}))
        self.assertFalse((self.root / "reports/gpu.jsonl").exists())

    def test_what_has_never_run_is_what_has_no_result(self):
        for done in (0, 1, 5, len(self.parts) - 1):
            _, text = self.take(about(f"2026-01-0{done % 9 + 1}"), *(result(p) for p in self.parts[:done + 1]))
            listed = text.split("**Never ran on a card:**")
            names = {report.lines_of(p)[1] for p in self.parts[done + 1:]}
            rest = listed[1] if len(listed) > 1 else ""
            self.assertTrue(all(name in rest for name in names), rest)
            self.assertIn(f"{done + 1} part", text)
        self.assertIn("Every part has run on a card.", text)

    def test_results_stay_when_later_ones_are_of_other_parts(self):
        self.take(about("2026-01-01"), result("card/driver"), result("steps/gemma", outcome.FAILED, "a | b"))
        taken, text = self.take(about("2026-01-02", "b" * 40), result("runs/sweep"), result("runs/twice", outcome.NO_TIME))
        self.assertEqual(taken, 1)
        self.assertIn("3 parts of", text)
        self.assertIn("gemma failed: a / b (NVIDIA H200, 2026-01-01, aaaaaaaaaaaa)", text)
        self.assertIn("(NVIDIA H200, 2026-01-02, bbbbbbbbbbbb)", text)
        again = report.write(self.root, [])
        self.assertEqual((again, self.page.read_text()), (0, text))

    def test_a_machine_without_a_card_says_nothing_about_cards(self):
        taken, text = self.take(about("2026-01-01", has_card=False), result("card/driver"))
        self.assertEqual(taken, 0)
        self.assertIn("Nothing of the program", text)

    def test_a_page_without_marks_is_left_alone(self):
        self.page.write_text("mine")
        with self.assertRaises(SystemExit):
            report.write(self.root, [])
        self.assertEqual(self.page.read_text(), "mine")


SOURCE = """
fn on_devices_of_its_own() {}
#[cfg(test)]
mod tests {
    fn is_right<T>(x: T) {
        on_devices(|device| device.put(x));
    }
    #[test]
    fn at_once() {
        on_devices_once(|device| ());
    }
    /// Through two functions.
    #[test]
    #[should_panic]
    fn by_another() {
        again::<f32>(1);
    }
    fn again<T>(x: T) { is_right(x) }
    #[test]
    fn on_the_host() {
        let device = 1;
        assert_eq!(device.get(2), 2);
    }
}
"""


class Sources(unittest.TestCase):
    def test_tests_that_reach_a_card_are_found_also_through_functions(self):
        text = SOURCE[sources.TESTS.search(SOURCE).end():]
        self.assertEqual(sources.tests_of(text), (["at_once", "by_another"], ["on_the_host"]))

    def test_the_tests_of_this_repository_have_their_names(self):
        found = sources.card_tests(ROOT)
        for name in ("gpu::ops::norm::tests::norms_on_the_device_are_their_formula",
                     "gpu::product_tests::products_are_their_formula_however_the_factors_lie",
                     "gpu::conformance_tests::shuffles_are_exact", parts.SPEED + "norms_are_timed"):
            self.assertIn(name, found)
        self.assertEqual(len(found), len(set(found)))


class Numbers(unittest.TestCase):
    def test_distances(self):
        self.assertEqual(compare.apart(1.0, 1.0), 0.0)
        self.assertAlmostEqual(compare.apart(202.0, 200.0), 0.01)
        self.assertEqual(compare.apart(math.nan, 1.0), math.inf)
        self.assertEqual(compare.apart(math.nan, math.nan), 0.0)

    def test_a_number_that_is_apart_or_missing_is_a_failure(self):
        def of(loss):
            return {"r": {"metrics": {"loss": loss, "step_secs": loss}, "steps": {}, "weights": None}}

        exact = compare.all_runs(of(1.00001), of(1.0), lambda _: compare.F32)
        self.assertEqual((exact["n"], exact["runs"]), (1, 1))
        for got in (of(1.001), of(math.nan), {}, {"r": {"metrics": {}, "steps": {}, "weights": None}}):
            with self.assertRaises(outcome.Ended):
                compare.all_runs(got, of(1.0), lambda _: compare.F32)

    def test_made_weights_are_those_of_their_family_and_are_read_back(self):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "made"
            golden = ROOT / "tests/golden/families/gemma2"
            models.family(golden, ROOT / "models/stories260k", target)
            shapes = models.header(target / "model.safetensors")
            self.assertEqual(set(shapes), set(models.header(golden / "model.safetensors")))
            count = sum(math.prod(shape) for shape in shapes.values())
            file = target / "model.safetensors"
            self.assertEqual(len(models.weights(file)), count)
            self.assertEqual(compare.weights(file, file), 0.0)
            models.family(golden, ROOT / "models/stories260k", Path(folder) / "again")
            self.assertEqual(file.read_bytes(), (Path(folder) / "again/model.safetensors").read_bytes())

    def test_bf16_is_read_as_the_upper_half_of_f32(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "x"
            about = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
                                "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}).encode()
            numbers = struct.pack("<HHf", 0x3F80, 0xC040, 0.5)
            file.write_bytes(struct.pack("<Q", len(about)) + about + numbers)
            self.assertEqual(list(models.weights(file)), [1.0, -3.0, 0.5])

    def test_the_newest_glibc_is_found(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.4\0")
            file.flush()
            self.assertEqual(machine.glibc_wanted(file.name), (2, 34))


if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()) as said:
        program = unittest.main(exit=False)
    print(said.getvalue())
    sys.exit(not program.result.wasSuccessful())
