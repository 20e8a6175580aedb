"""What the scripts of this folder share: versions, data rows, fingerprints of tensors, JSON.

A tensor too large to be committed is stored as a fingerprint: its L2 norm, its first 16 values and
16 projections on seeded sign vectors (`signs`). The mean square of the differences of the
projections is an unbiased estimate of the squared L2 distance of two tensors (Johnson and
Lindenstrauss 1984), so a relative error can be tested without the tensor. `tests/it/parity_support.rs`
has the same arithmetic.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MODEL = ROOT / "models" / "stories260k"
PROJECTIONS = 16
HEAD = 16
BOS, EOS = 1, 2
MASK64 = np.uint64(0xFFFFFFFFFFFFFFFF)


def settle():
    """One thread and deterministic kernels, so that a second run writes the same bytes."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)


def versions(*packages):
    """The exact versions that made a file, and the command line."""
    import importlib.metadata as metadata

    names = ("torch", "transformers", "numpy", "safetensors", "tokenizers") + packages
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
        "command": "python " + " ".join(["tests/golden/" + Path(sys.argv[0]).name] + sys.argv[1:]),
    }


def splitmix64(x):
    """Vectorised SplitMix64 finaliser (Steele et al. 2014) of uint64 counters."""
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def signs(seed, n):
    """n values of +1 or -1: the top bit of SplitMix64 at counter `seed * 2^32 + i`."""
    counters = np.arange(n, dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))
    return np.where(splitmix64(counters) >> np.uint64(63), -1.0, 1.0)


def fingerprint(tensor):
    flat = tensor.detach().to(torch.float64).flatten().numpy()
    return {
        "shape": list(tensor.shape),
        "norm": float(np.linalg.norm(flat)),
        "head": [float(x) for x in flat[:HEAD]],
        "projections": [float(signs(k, flat.size) @ flat) for k in range(PROJECTIONS)],
    }


def fingerprint_distance(a, b):
    """Estimated ||a - b|| / ||b||, as the Rust tests compute it."""
    d = np.array(a["projections"]) - np.array(b["projections"])
    return float(np.sqrt(np.mean(d * d)) / max(b["norm"], 1e-30))


def rounded(value, digits=10):
    """Nine significant digits carry a float32 whole; ten keep the JSON short and lose nothing."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v, digits) for v in value]
    return value


def compact(value, depth):
    """JSON with one line per entry down to `depth`, so that differences can be read."""
    if depth > 0 and isinstance(value, dict) and value:
        pad = " "
        inner = ",\n".join(f"{json.dumps(k)}: {compact(v, depth - 1)}" for k, v in value.items())
        return "{\n" + inner.replace("\n", "\n" + pad) + "\n}"
    return json.dumps(value, separators=(",", ":"))


def write_json(name, value, depth=2, digits=10):
    path = GOLDEN / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact(rounded(value, digits), depth) + "\n")
    print(f"wrote {path.relative_to(ROOT)} ({path.stat().st_size} bytes)")


def rows(path, ids):
    wanted = list(ids)
    found = {}
    with open(ROOT / path, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["id"] in wanted:
                found[row["id"]] = row
    return [found[i] for i in wanted]


def encoder():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def encode_prompt(encode, messages):
    """`<s>User: ...\\nAssistant:`, one turn; the text is tokenised whole."""
    assert [m["role"] for m in messages] == ["user"]
    return [BOS] + encode(f"User: {messages[0]['content']}\nAssistant:")


def encode_reply(encode, text):
    """The reply is tokenised apart from the prompt, then `</s>`."""
    return encode(text) + [EOS]


def load_model(path=MODEL, attention="eager"):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation=attention
    )
    return model.eval()  # the models have no dropout; eval() keeps it that way


def perturb(model):
    """Multiplies every weight by 1 + 1/32 or 1 - 1/32, exactly, by the signs of its place.

    Parameter number p in the order of names uses seed 1000 + p; f32 products are correctly rounded,
    so the Rust tests make the same bits.
    """
    with torch.no_grad():
        for p, (_, weight) in enumerate(sorted(model.named_parameters())):
            s = torch.from_numpy(signs(1000 + p, weight.numel())).reshape(weight.shape)
            weight.mul_((1.0 + s / 32.0).to(torch.float32))


def token_logps(logits, ids):
    """Log-probability of ids[t] from logits[t - 1]; (T,), the first is 0."""
    logps = torch.log_softmax(logits[:-1].float(), dim=-1)
    picked = logps.gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)
    return torch.cat([torch.zeros(1), picked])
