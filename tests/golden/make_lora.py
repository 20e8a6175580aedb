"""Golden numbers of PEFT adapters on the shipped model: files, log-probabilities, every gradient.

Adapters of rank 2 on q_proj, v_proj and down_proj, with a B that is not zero, on the first document
of model.json (transformers' LlamaForCausalLM in f32, eager attention).

    python tests/golden/make_lora.py        # needs peft 0.21.2 and accelerate 1.15.0 too

Writes lora/ (adapter_config.json and adapter_model.safetensors, as PEFT saves them) and lora.json
(token log-probabilities, loss, and fingerprints of the gradients of every A and B).
Versions: see `made_with` in the output.
"""

import json

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from common import GOLDEN, fingerprint, load_model, settle, signs, token_logps, versions, write_json

TARGETS = ["q_proj", "v_proj", "down_proj"]


def main():
    settle()
    document = next(iter(json.loads((GOLDEN / "model.json").read_text())["documents"].values()))
    model = load_model()
    config = LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS, lora_dropout=0.0, bias="none",
                        task_type="CAUSAL_LM")
    model = get_peft_model(model, config).eval()
    trained = {n.replace(".default", ""): p for n, p in sorted(model.named_parameters())
               if p.requires_grad}
    with torch.no_grad():
        for k, p in enumerate(trained.values()):
            values = 0.05 * signs(2000 + k, p.numel()) * (1 + np.arange(p.numel()) % 7) / 7
            p.copy_(torch.tensor(values, dtype=torch.float32).reshape(p.shape))
    tokens = document["tokens"]
    mask = torch.tensor(document["loss_mask"], dtype=torch.float32)
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    logps = token_logps(logits, tokens)
    loss = -(logps * mask).sum() / mask.sum()
    loss.backward()
    folder = GOLDEN / "lora"
    model.save_pretrained(folder)
    saved = folder / "adapter_config.json"
    config = json.loads(saved.read_text())
    config["base_model_name_or_path"] = None  # a path of this machine
    config["target_modules"].sort()  # a set
    saved.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)  # a form to be filled in
    write_json("lora.json", {
        "made_with": versions("peft"),
        "tokens": tokens,
        "loss_mask": document["loss_mask"],
        "logps": logps.tolist(),
        "loss": loss.item(),
        "gradients": {n: fingerprint(p.grad) for n, p in trained.items()},
    })


if __name__ == "__main__":
    main()
