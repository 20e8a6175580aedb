"""What programs of others make of `lions serve-model`: the client of OpenAI, and lm-evaluation-harness.

usage: python tests/clients/serve_model.py LIONS MODEL_FOLDER

Wants `openai`, `lm_eval[api]`, `torch` and `transformers`; needs no network. It starts the server on a free port, checks
what the client gets, then lets `lm_eval --model local-completions` ask rows of tests/golden/eval and compares every
log-likelihood with what `lions eval` says of the same rows. Ends with an error at the first difference.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OPENAI_API_KEY="none")
ROWS = Path(__file__).resolve().parents[1] / "golden/eval/rows"
# Sums of f32 in another grouping; the same weights.
CLOSE = 1e-4


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"ok  {what}")


def with_openai(url, model):
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    check([m.id for m in client.models.list().data] == [model], "the model is listed")
    ask = dict(model=model, prompt="Once upon a time", temperature=0, max_tokens=12)
    whole = client.completions.create(**ask)
    check(whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 12, "a text is continued")
    parts = client.completions.create(stream=True, **ask)
    streamed = "".join(part.choices[0].text for part in parts)
    check(streamed == whole.choices[0].text, "streamed it is the same")
    echo = client.completions.create(model=model, prompt="Once upon a time", max_tokens=0, echo=True, logprobs=2)
    known = echo.choices[0].logprobs
    check(echo.choices[0].text == "Once upon a time" and known.token_logprobs[0] is None, "echo gives the prompt back")
    best = [max(top.values()) for top in known.top_logprobs[1:]]
    check(all(own <= most + 1e-12 for own, most in zip(known.token_logprobs[1:], best)), "no token is likelier than the best")
    stop = whole.choices[0].text.split(".")[0][-4:]
    cut = client.completions.create(stop=[stop], **ask)
    check(cut.choices[0].finish_reason == "stop" and stop not in cut.choices[0].text, "a stop text ends a reply")

    talk = dict(model=model, messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=12, seed=7)
    one, again = (client.chat.completions.create(**talk).choices[0].message.content for _ in range(2))
    check(one == again and one, "a seed gives the same reply")
    parts = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **talk))
    streamed = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
    check(streamed == one and parts[-1].usage.completion_tokens > 0, "streamed it is the same, with what it cost")
    several = client.chat.completions.create(n=3, logprobs=True, top_logprobs=1, **talk)
    check(len({c.message.content for c in several.choices}) > 1, "n replies differ")
    content = several.choices[0].logprobs.content
    check(content and all(len(t.top_logprobs) == 1 for t in content), "a chat tells log-probabilities")
    for wrong, kind in [
        (dict(talk, model="other"), openai.NotFoundError),
        (dict(talk, temperature=-1), openai.BadRequestError),
        (dict(talk, messages=[{"role": "user", "content": "word " * 5000}]), openai.BadRequestError),
        (dict(talk, tools=[{"type": "function", "function": {"name": "f"}}]), openai.BadRequestError),
    ]:
        try:
            client.chat.completions.create(**wrong)
            check(False, f"{kind.__name__} is raised")
        except kind as error:
            check(error.body["message"], f"{kind.__name__}: {error.body['message'][:60]}")


def with_harness(lions, url, model, folder, scratch):
    import lm_eval
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    tasks = Path(lm_eval.__file__).parent / "tasks"
    sets = {
        "arc_challenge": ("arc/arc_challenge.yaml", dict(train="arc_train", validation="arc_train", test="arc_test")),
        "winogrande": ("winogrande/default.yaml", dict(train="winogrande_train", validation="winogrande_validation")),
    }
    yaml = scratch / "yaml"
    yaml.mkdir()
    for name, (file, splits) in sets.items():
        files = {split: str(ROWS / f"{rows}.jsonl") for split, rows in splits.items()}
        task = dict(include=str(tasks / file), task=f"own_{name}", dataset_path="json", dataset_name=None, tag=None,
                    dataset_kwargs=dict(data_files=files))
        (yaml / f"own_{name}.yaml").write_text(json.dumps(task))
        for split, rows in splits.items():
            to = scratch / f"data/eval/{name}/{split}.jsonl"
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text((ROWS / f"{rows}.jsonl").read_text())
    (scratch / "sweeps").mkdir()
    words = [lions, "eval", folder, "--tasks", ",".join(sets), "--shots", "2", "--out", "out", "--root", str(scratch)]
    subprocess.run(words, cwd=scratch, check=True, stdout=subprocess.DEVNULL)

    api = LocalCompletionsAPI(model=model, base_url=f"{url}/completions", tokenizer=folder, tokenizer_backend="huggingface",
                              tokenized_requests=True, max_length=512, batch_size=4, add_bos_token=True)
    found = lm_eval.simple_evaluate(model=api, tasks=[f"own_{name}" for name in sets], num_fewshot=2,
                                    task_manager=TaskManager(include_path=str(yaml)), log_samples=True,
                                    random_seed=0, numpy_random_seed=1234, torch_random_seed=1234, fewshot_random_seed=1234)
    for name in sets:
        theirs = {s["doc_id"]: s for s in found["samples"][f"own_{name}"]}
        ours = [json.loads(line) for line in max((scratch / "out").glob(f"samples_{name}_2*.jsonl")).read_text().splitlines()]
        check(len(ours) == len(theirs) > 0, f"{name}: {len(ours)} rows")
        most = 0.0
        for row in ours:
            other = theirs[row["doc_id"]]
            asked = [row["arguments"][f"gen_args_{at}"] for at in range(len(row["arguments"]))]
            asked = [[pair["arg_0"], pair["arg_1"]] for pair in asked]
            check_same = [list(a) for a in other["arguments"]] == asked
            if not check_same:
                sys.exit(f"FAILED: {name} {row['doc_id']}: another question")
            for a, b in zip(row["resps"], other["resps"]):
                most = max(most, abs(float(a[0][0]) - float(b[0][0])))
        check(most < CLOSE, f"{name}: log-likelihoods through the server are those of `lions eval` ({most:.1e} apart)")


def main():
    lions, folder = (str(Path(p).resolve()) for p in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as scratch:
        words = [lions, "serve-model", folder, "--port", "0", "--json", "--quiet"]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            told = json.loads(server.stdout.readline())
            with_openai(told["url"], told["model"])
            with_harness(lions, told["url"], told["model"], folder, Path(scratch))
        finally:
            server.terminate()
        check(server.wait(timeout=20) == 0, "the server ends when it is told to")


if __name__ == "__main__":
    main()
