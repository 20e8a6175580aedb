"""Golden numbers of PEFT adapters on the shipped model: files, log-probabilities, every gradient.

Adapters of rank 2 on q_proj, v_proj and down_proj, with a B that is not zero, on the first document
of model.json (transformers' LlamaForCausalLM in f32, eager attention). And adapters of other
configurations (ranks and scalings of their own, some layers, expressions), merged by PEFT.

    python tests/golden/make_lora.py        # needs peft 0.21.2 and accelerate 1.15.0 too

Writes lora/ (adapter_config.json and adapter_model.safetensors, as PEFT saves them) and lora.json
(token log-probabilities, loss, and fingerprints of the gradients of every A and B); lora_merged/NAME/
and lora_merged.json (what `merge_and_unload` makes of each: token log-probabilities, and fingerprints
of the changes of all weights that change).
Versions: see `made_with` in the output.
"""

import json

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from common import GOLDEN, fingerprint, load_model, settle, signs, token_logps, versions, write_json

TARGETS = ["q_proj", "v_proj", "down_proj"]


PATTERNS = {"rank_pattern": {"q_proj": 1, "layers.1.mlp.down_proj": 3},
            "alpha_pattern": {"down_proj": 5, "layers.4.self_attn.q_proj": 0.5}}
# What differs from rank 2 and alpha 3 on `q_proj` and `down_proj`.
MERGED = {
    "rslora": {"use_rslora": True, "r": 4},
    "patterns": PATTERNS,
    "patterns-rslora": {**PATTERNS, "use_rslora": True},
    "some-layers": {"layers_to_transform": [0, 3], "layers_pattern": "layers"},
    "expression": {"target_modules": r"model\.layers\.[13]\.(self_attn\.k|mlp\.up)_proj"},
    "excluded": {"exclude_modules": ["layers.2.mlp.down_proj"]},
    "all-linear": {"target_modules": "all-linear", "r": 1},
}


def adapted(seed, **options):
    """The shipped model under new adapters, and these by PEFT's names, with a B that is not zero."""
    model = load_model()
    config = LoraConfig(**{"lora_dropout": 0.0, "bias": "none", "task_type": "CAUSAL_LM", **options})
    model = get_peft_model(model, config).eval()
    trained = {n.replace(".default", ""): p for n, p in sorted(model.named_parameters())
               if p.requires_grad}
    with torch.no_grad():
        for k, p in enumerate(trained.values()):
            values = 0.05 * signs(seed + k, p.numel()) * (1 + np.arange(p.numel()) % 7) / 7
            p.copy_(torch.tensor(values, dtype=torch.float32).reshape(p.shape))
    return model, trained


def save(model, folder):
    """What PEFT saves, the same bytes each time."""
    model.save_pretrained(folder)
    saved = folder / "adapter_config.json"
    config = json.loads(saved.read_text())
    config["base_model_name_or_path"] = None  # a path of this machine
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # a set
    saved.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)  # a form to be filled in


def merged(name, seed, options, tokens):
    """Saves adapters of these options and says what the model is that PEFT merges them into."""
    options = {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "down_proj"], **options}
    model, trained = adapted(seed, **options)
    save(model, GOLDEN / "lora_merged" / name)
    before = dict(load_model().named_parameters())
    model = model.merge_and_unload()
    changes = {n: p.detach() - before[n].detach() for n, p in sorted(model.named_parameters())}
    changed = {n: fingerprint(change) for n, change in changes.items() if change.any()}
    assert len(changed) == len(trained) // 2
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    return {"logps": token_logps(logits, tokens).tolist(), "changes": changed}


def main():
    settle()
    document = next(iter(json.loads((GOLDEN / "model.json").read_text())["documents"].values()))
    model, trained = adapted(2000, r=2, lora_alpha=3, target_modules=TARGETS)
    tokens = document["tokens"]
    mask = torch.tensor(document["loss_mask"], dtype=torch.float32)
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    logps = token_logps(logits, tokens)
    loss = -(logps * mask).sum() / mask.sum()
    loss.backward()
    save(model, GOLDEN / "lora")
    write_json("lora.json", {
        "made_with": versions("peft"),
        "tokens": tokens,
        "loss_mask": document["loss_mask"],
        "logps": logps.tolist(),
        "loss": loss.item(),
        "gradients": {n: fingerprint(p.grad) for n, p in trained.items()},
    })
    write_json("lora_merged.json", {
        "made_with": versions("peft"),
        "tokens": tokens,
        "adapters": {name: merged(name, 3000 + 100 * k, options, tokens)
                     for k, (name, options) in enumerate(MERGED.items())},
    }, depth=4)


if __name__ == "__main__":
    main()
