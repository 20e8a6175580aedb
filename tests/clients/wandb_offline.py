"""What Weights & Biases' own package reads in the files of `lions store export --format wandb`.

usage: python tests/clients/wandb_offline.py LIONS PROJECT

Wants `wandb==0.19.11`, the last line of versions whose reader of these files (`wandb.sdk.internal.datastore`) is Python;
needs no network and no account. PROJECT is a folder with finished runs. Every value of every step and every final metric is
compared with the tables of `lions store export --format jsonl`. Ends with an error at the first difference.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import wandb
from wandb.proto import wandb_internal_pb2 as protos
from wandb.sdk.internal.datastore import DataStore

wandb._assert_is_internal_process = True


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


def records(path):
    """The records of a file, by the package's own reader, which checks every checksum."""
    store = DataStore()
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = protos.Record()
        record.ParseFromString(data)
        yield record


def values(items):
    return {item.key: json.loads(item.value_json) for item in items}


def main(lions, project):
    with tempfile.TemporaryDirectory() as work:
        def export(form, name):
            words = [lions, "store", "export", f"{work}/{name}", "--format", form, "--root", project, "--json"]
            return json.loads(subprocess.run(words, check=True, text=True, capture_output=True).stdout)

        written = export("wandb", "offline")["written"]
        export("jsonl", "tables")
        read = lambda name: [json.loads(line) for line in (Path(work) / f"tables/{name}.jsonl").open()]
        training, metrics, runs, trials = read("training"), read("metrics"), read("runs"), read("trial_runs")
        numbers = 0
        for name, steps in written:
            found = list(records(Path(work) / "offline" / name))
            kinds = [record.WhichOneof("record_type") for record in found]
            check(kinds == ["header", "run"] + ["history"] * steps + ["summary", "exit"], f"{name}: {kinds[:3]} …")
            check([record.num for record in found] == list(range(1, len(found) + 1)), f"{name}: numbers")
            run = found[1].run
            row = next(row for row in runs if row["run"].startswith(run.run_id))
            check(f"run-{run.run_id}.wandb" == Path(name).name and run.job_type == row["stage"], f"{name}: {run.job_type}")
            uses = {use["sweep"] for use in trials if use["run"] == row["run"]}
            check(run.project in uses, f"{name}: project {run.project}")
            config = values(run.config.update)
            check({key: config[key] for key in json.loads(row["identity"])} == json.loads(row["identity"]), f"{name}: config")
            want = {}
            for one in training:
                if one["run"] == row["run"] and one["value"] is not None:
                    want.setdefault(one["step"], {})[one["metric"]] = one["value"]
            for record in found[2:-2]:
                got = values(record.history.item)
                step = got.pop("_step")
                got.pop("_timestamp")
                check(step == record.history.step.num and got == want.pop(step, {}), f"{name}: step {step}")
                numbers += len(got)
            check(not want, f"{name}: steps {sorted(want)} are not there")
            last = values(found[-2].summary.update)
            for one in metrics:
                if one["run"] == row["run"]:
                    check(last.pop(one["metric"]) == one["value"], f"{name}: {one['metric']}")
                    check(last.pop(f"{one['metric']}/stderr", None) == one["stderr"], f"{name}: {one['metric']}/stderr")
                    numbers += 1
            check(not last, f"{name}: {sorted(last)}")
        check(numbers > 0, "there is nothing to compare")
        print(f"ok  {len(written)} runs, {numbers} numbers are read by wandb {wandb.__version__} as they stand in the tables")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
