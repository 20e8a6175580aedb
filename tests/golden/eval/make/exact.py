"""Log-likelihoods of the requests of golden files by a forward pass of our own in f64, and how far from them others are.

usage: exact.py MODEL_FOLDER NAME [OUT.json] [--samples FOLDER...]

MODEL_FOLDER is a Llama in Hugging Face layout, NAME what the golden files `../lm/NAME.*.json` begin with. Contexts and
continuations become tokens by the harness's own functions. Everything is f64: weights as they are stored, the angles of
positions (transformers rounds frequencies and angles to f32), norms, attention, the sum over the vocabulary. Printed are, for
each file, the largest distances from these numbers: of the harness (in the golden file: f32, batch 1); of the same f64 pass
over transformers' f32 angles; of the same pass in f32 throughout, with exact and with f32 angles; of transformers in f32 as
the harness asks it here, and of the very same logits with their `log_softmax` in f64; and of `lions eval`, if
FOLDERs hold its samples. Most of the harness's distance is that of torch's f32 `log_softmax` over the vocabulary. OUT.json gets the numbers, and by how much each continuation's tokens are the likeliest: a flag
`is_greedy` hangs by that.

Versions: lm_eval 0.4.13, transformers 5.24.0, torch 2.15.0, Python 3.11.7.
"""

import json
import math
import os
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

LM = Path(__file__).resolve().parents[1] / "lm"


class Llama:
    """A forward pass over one context and several continuations of it."""

    def __init__(self, folder, dtype, f32_angles):
        self.c = json.loads((Path(folder) / "config.json").read_text())
        self.w = {k: v.to(dtype) for k, v in load_file(str(Path(folder) / "model.safetensors")).items()}
        self.dtype = dtype
        width = self.c.get("head_dim") or self.c["hidden_size"] // self.c["num_attention_heads"]
        theta = (self.c.get("rope_parameters") or self.c)["rope_theta"]
        kind = torch.float32 if f32_angles else torch.float64
        frequencies = 1.0 / (theta ** (torch.arange(0, width, 2, dtype=kind) / width))
        self.angles = lambda positions: positions[:, None].to(kind) * frequencies

    def norm(self, x, name):
        return self.w[name] * (x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.c["rms_norm_eps"]))

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def hidden(self, tokens, positions, mask):
        c, w = self.c, self.w
        angles = self.angles(positions)
        cos, sin = angles.cos().to(self.dtype), angles.sin().to(self.dtype)
        x = w["model.embed_tokens.weight"][tokens]
        heads = lambda y, n: y.view(len(tokens), n, -1).transpose(0, 1)
        for i in range(c["num_hidden_layers"]):
            part = lambda name: w[f"model.layers.{i}.{name}.weight"]
            y = self.norm(x, f"model.layers.{i}.input_layernorm.weight")
            q = self.rotate(heads(y @ part("self_attn.q_proj").T, c["num_attention_heads"]), cos, sin)
            k = self.rotate(heads(y @ part("self_attn.k_proj").T, c["num_key_value_heads"]), cos, sin)
            v = heads(y @ part("self_attn.v_proj").T, c["num_key_value_heads"])
            group = c["num_attention_heads"] // c["num_key_value_heads"]
            k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
            scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
            seen = scores.masked_fill(~mask, -math.inf).softmax(-1) @ v
            x = x + seen.transpose(0, 1).reshape(len(tokens), -1) @ part("self_attn.o_proj").T
            y = self.norm(x, f"model.layers.{i}.post_attention_layernorm.weight")
            x = x + (F.silu(y @ part("mlp.gate_proj").T) * (y @ part("mlp.up_proj").T)) @ part("mlp.down_proj").T
        return self.norm(x, "model.norm.weight")

    def score(self, context, continuations):
        """(log-likelihood, by how much its tokens are the likeliest at the least; negative if one is not) of each."""
        tokens, positions, owner = list(context), list(range(len(context))), [0] * len(context)
        for at, continuation in enumerate(continuations):
            tokens += continuation[:-1]
            positions += range(len(context), len(context) + len(continuation) - 1)
            owner += [at + 1] * (len(continuation) - 1)
        owner, positions = torch.tensor(owner), torch.tensor(positions)
        order = torch.arange(len(tokens))
        mask = ((owner[:, None] == owner) | (owner == 0)) & (order[:, None] >= order)
        hidden = self.hidden(torch.tensor(tokens), positions, mask)
        head = self.w.get("lm_head.weight", self.w["model.embed_tokens.weight"])
        found, start = [], len(context)
        for continuation in continuations:
            rows = torch.tensor([len(context) - 1, *range(start, start + len(continuation) - 1)])
            start += len(continuation) - 1
            logits = hidden[rows] @ head.T
            targets = torch.tensor(continuation)[:, None]
            own = logits.gather(1, targets)
            others = logits.scatter(1, targets, -math.inf).max(-1, keepdim=True).values
            logps = (own - logits.logsumexp(-1, keepdim=True)).double()
            found.append((logps.sum().item(), (own - others).min().item()))
        return found


def asked(golden, encode):
    """The requests of a golden file by context: {context ids: [(document, place, continuation ids)]}."""
    groups = {}
    for d, document in enumerate(golden["docs"]):
        for at, request in enumerate(document["requests"]):
            if "continuation" not in request:
                continue
            context, continuation = encode(request.get("context", document.get("context")), request["continuation"])
            assert continuation == request["continuation_ids"] and len(context) == request["context_tokens"]
            groups.setdefault(tuple(context), []).append((d, at, continuation))
    return groups


class Transformers:
    """The harness's model, its logits made probabilities in `softmax`."""

    def __init__(self, model, softmax):
        self.model, self.softmax = model, softmax

    def score(self, context, continuations):
        found = []
        for continuation in continuations:
            logits = self.model(torch.tensor([context + continuation[:-1]])).logits[0, -len(continuation):]
            logps = F.log_softmax(logits, -1, dtype=self.softmax).gather(1, torch.tensor(continuation)[:, None])
            found.append((logps.sum().item(), None))
        return found


def scored(model, golden, groups):
    found = [[None] * len(document["requests"]) for document in golden["docs"]]
    for context, requests in groups.items():
        scores = model.score(list(context), [continuation for _, _, continuation in requests])
        for (d, at, _), score in zip(requests, scores):
            found[d][at] = score
    return found


def of_lions(folders, golden):
    """Log-likelihoods of `samples_TASK*.jsonl` in the order of the golden documents, if a folder has them."""
    lines = {}
    for folder in folders:
        for file in Path(folder).rglob("samples_*.jsonl"):
            for line in map(json.loads, file.read_text().splitlines()):
                asked = [line["arguments"][f"gen_args_{at}"] for at in range(len(line["arguments"]))]
                pairs = [[pair["arg_0"], pair["arg_1"]] for pair in asked]
                lines[json.dumps(pairs)] = [float(one[0][0]) for one in line["resps"]]
    def own(document):
        context = document.get("context")
        return lines.get(json.dumps([[request.get("context", context), request["continuation"]] for request in document["requests"]]))
    found = [own(document) for document in golden["docs"]]
    return None if None in found else found


def main():
    words = sys.argv[1:]
    folders = words[words.index("--samples") + 1:] if "--samples" in words else []
    words = words[:words.index("--samples")] if folders else words
    folder, name = words[:2]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    from lm_eval.models.huggingface import HFLM
    lm = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1)
    encode = lambda context, continuation: tuple(map(list, lm._encode_pair(context, continuation)))
    kinds = {"exact": (torch.float64, False), "f64, f32 angles": (torch.float64, True),
             "f32": (torch.float32, False), "f32, f32 angles": (torch.float32, True)}
    models = {kind: Llama(folder, *how) for kind, how in kinds.items()}
    models["transformers, f32"] = Transformers(lm.model, torch.float32)
    models["and f64 softmax"] = Transformers(lm.model, torch.float64)
    kinds = list(models)
    out = {"model": name, "what": "log-likelihood in f64 and margin of each request", "files": {}}
    print(f"| file | requests | tokens | harness | {' | '.join(kinds[1:])} | lions | lions and harness |")
    print("| --- |" + " ---: |" * (len(kinds) + 4))
    with torch.inference_mode():
        for file in sorted(LM.glob(f"{name}.*.json")):
            golden, tag = json.loads(file.read_text()), file.name.removeprefix(f"{name}.").removesuffix(".json")
            groups = asked(golden, encode) if "docs" in golden else {}
            if not groups:
                continue
            found = {kind: scored(model, golden, groups) for kind, model in models.items()}
            out["files"][tag] = [[{"loglikelihood": ll, "margin": margin} for ll, margin in row] for row in found["exact"]]
            theirs = [[request["loglikelihood"] for request in document["requests"]] for document in golden["docs"]]
            ours = of_lions(folders, golden)
            away = lambda one, other: max(abs(a - b) for p, q in zip(one, other) for a, b in zip(p, q))
            exact = [[ll for ll, _ in row] for row in found["exact"]]
            cells = [away(theirs, exact)] + [away([[ll for ll, _ in row] for row in found[kind]], exact) for kind in kinds[1:]]
            cells += [away(ours, exact), away(ours, theirs)] if ours else []
            longest = max(len(continuation) for rows in groups.values() for _, _, continuation in rows)
            print(f"| {tag} | {sum(map(len, groups.values()))} | {longest} | " + " | ".join(f"{cell:.1e}" for cell in cells) + " |", flush=True)
            for document, row, one in zip(golden["docs"], found["exact"], theirs):
                for (_, margin), request in zip(row, document["requests"]):
                    if (margin > 0) != request["is_greedy"]:
                        print(f"  is_greedy differs: {tag} {document['doc_id']}, margin {margin:.1e}")
    if len(words) > 2:
        Path(words[2]).write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
