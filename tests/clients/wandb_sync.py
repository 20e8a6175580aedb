"""What `wandb sync` uploads of the files of `lions store export --format wandb`.

usage: python tests/clients/wandb_sync.py LIONS PROJECT

Wants `wandb` (0.31.0 was tried) in the Python that runs it; needs no network and no account: the package's own uploader is
pointed at a server of this script on the loopback, which takes what the service would take. PROJECT is a folder with
finished runs. Every value of every step, every final metric and every recipe that arrives is compared with the tables of
`lions store export --format jsonl`. Ends with an error at the first difference.
"""
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import wandb


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


class Service(ThreadingHTTPServer):
    """Takes runs: what their names, configurations, steps and final numbers are."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs, self.lock = {}, threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def run(self, name):
        return self.runs.setdefault(name, {"history": [], "summary": {}, "ends": False})


class Request(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def body(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

    def answer(self, value):
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer({})

    def do_PUT(self):
        self.body()
        self.answer({})

    def do_POST(self):
        body, url = self.body(), self.server.url
        if self.path.endswith("/file_stream"):
            with self.server.lock:
                self.take(self.path.split("/")[-2], json.loads(body))
            return self.answer({})
        if not self.path.endswith("/graphql"):
            return self.answer({})
        asked = json.loads(body).get("variables") or {}
        if "config" in asked and asked.get("name"):
            with self.server.lock:
                # Told again as the upload goes on, with less.
                known = self.server.run(asked["name"]).setdefault("told", {})
                known.update({key: value for key, value in asked.items() if value is not None})
        owner = {"id": "o", "name": "me"}
        project = {"id": "p", "name": asked.get("project") or "p", "entity": owner}
        bucket = {"id": "b", "name": asked.get("name") or "r", "displayName": asked.get("displayName"), "description": None,
                  "config": asked.get("config") or "{}", "sweepName": None, "historyLineCount": 0, "project": project}
        files = [{"name": name, "uploadUrl": f"{url}/up/{name}"} for name in asked.get("files") or []]
        self.answer({"data": {
            "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
            "serverInfo": {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "features": []},
            "upsertBucket": {"bucket": bucket, "inserted": True},
            "createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files},
            "model": {"bucket": None}, "project": None,
        }})

    def take(self, name, sent):
        run = self.server.run(name)
        for file, part in (sent.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]]
            if file == "wandb-history.jsonl":
                run["history"][part["offset"]:] = lines
            if file == "wandb-summary.json":
                run["summary"] = lines[-1]
        run["ends"] |= sent.get("complete") is True and sent.get("exitcode") == 0


def near(one, other):
    """Numbers as JSON of another program: to the last digit but one."""
    return abs(one - other) <= 1e-14 * max(abs(one), abs(other))


def same(one, other):
    """Whether two values are the same but for the last digits of numbers: the uploader has no other than those of double precision."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    number = lambda x: isinstance(x, (int, float)) and not isinstance(x, bool)
    return near(one, other) if number(one) and number(other) else one == other


def without_empty(value):
    """Empty tables as `true`, as they are exported: the package leaves them out."""
    if isinstance(value, dict):
        return {key: without_empty(one) for key, one in value.items()} or True
    return [without_empty(one) for one in value] if isinstance(value, list) else value


def compare(row, sent, training, metrics, uses):
    told, name = sent["told"], row["run"][:12]
    check(told["jobType"] == row["stage"] and told["project"] in {use["sweep"] for use in uses}, f"{name}: {told}")
    config, identity = json.loads(told["config"]), json.loads(row["identity"])
    for key, value in identity.items():
        sent_value = config[key]["value"]
        check(same(sent_value, without_empty(value)), f"{name}: `{key}` of the configuration: {sent_value} and {value}")
    want = {}
    for one in training:
        if one["value"] is not None:
            want.setdefault(one["step"], {})[one["metric"]] = one["value"]
    numbers = 0
    for got in sent["history"]:
        got = {key: value for key, value in got.items() if key not in ("_timestamp", "_runtime")}
        step = got.pop("_step")
        known = want.pop(step, {})
        check(got.keys() == known.keys() and all(near(got[key], known[key]) for key in got), f"{name}: step {step}")
        numbers += len(got)
    check(not want, f"{name}: steps {sorted(want)} did not arrive")
    for one in metrics:
        check(near(sent["summary"][one["metric"]], one["value"]), f"{name}: {one['metric']}")
        if one["stderr"] is not None:
            check(near(sent["summary"][f"{one['metric']}/stderr"], one["stderr"]), f"{name}: {one['metric']}/stderr")
        numbers += 1
    check(sent["ends"], f"{name}: the run did not end")
    return numbers


def main(lions, project):
    service = Service()
    with tempfile.TemporaryDirectory() as work:
        def export(form, name):
            words = [lions, "store", "export", f"{work}/{name}", "--format", form, "--root", project, "--json"]
            return json.loads(subprocess.run(words, check=True, text=True, capture_output=True).stdout)

        written = export("wandb", "offline")["written"]
        export("jsonl", "tables")
        read = lambda name: [json.loads(line) for line in (Path(work) / f"tables/{name}.jsonl").open()]
        env = {**os.environ, "WANDB_BASE_URL": service.url, "WANDB_API_KEY": "0" * 40, "WANDB_DIR": work, "HOME": work}
        folders = [f"{work}/offline/{Path(name).parent}" for name, _ in written]
        synced = subprocess.run([sys.executable, "-m", "wandb", "sync", *folders], env=env, text=True, capture_output=True)
        check(synced.returncode == 0, synced.stdout + synced.stderr)
        training, metrics, uses = read("training"), read("metrics"), read("trial_runs")
        check(len(written) == len(service.runs) > 0, f"{len(service.runs)} of {len(written)} runs arrived")
        numbers = 0
        for row in read("runs"):
            sent = [sent for name, sent in service.runs.items() if row["run"].startswith(name)]
            of = lambda table: [one for one in table if one["run"] == row["run"]]
            if sent:
                numbers += compare(row, sent[0], of(training), of(metrics), of(uses))
    print(f"ok  {len(written)} runs, {numbers} numbers: `wandb sync` {wandb.__version__} uploads what stands in the tables")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
