"""Tiny random reward models and what transformers says they score.

For each family a folder reward/<name>/ with config.json and model.safetensors of
`...ForSequenceClassification` with one label, and in reward.json the scores of five sequences: scored
one at a time, once as they are and once padded on the right, where transformers finds the last token
that is not padding. One sequence ends in the padding token itself. `ultrarm` is the same decoder with
the head called `regression_head` and read at the last token, as in the class that the model card of
openbmb/UltraRM-13b defines.

    python tests/golden/make_reward.py
"""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from common import GOLDEN, settle, versions, write_json

FOLDER = GOLDEN / "reward"
PAD = 0
SMALL = dict(num_hidden_layers=2, vocab_size=96, max_position_embeddings=64, bos_token_id=1,
             eos_token_id=2, pad_token_id=PAD, rms_norm_eps=1e-5, num_labels=1, hidden_size=32,
             intermediate_size=40, num_attention_heads=4, num_key_value_heads=2)
FAMILIES = {
    "llama": ("llama", dict(head_dim=8, tie_word_embeddings=False)),
    "gemma2": ("gemma2", dict(head_dim=16, sliding_window=8, query_pre_attn_scalar=24,
                              attn_logit_softcapping=2.0, final_logit_softcapping=3.0)),
    "qwen3": ("qwen3", dict(head_dim=16, tie_word_embeddings=False)),
}
LENGTHS = (23, 17, 1, 40)


def build(model_type, fields, seed):
    config = AutoConfig.for_model(model_type, **{**SMALL, **fields})
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() == 1:
                center = 0.0 if model_type.startswith("gemma") else 1.0
                weight.copy_(center + 0.3 * noise)
            elif "embed" in name:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(noise * (1.5 / weight.shape[1] ** 0.5))
    return model.float().eval()


def scores(model, sequences):
    one = lambda ids: model(torch.tensor([ids]), use_cache=False).logits[0, 0].item()
    longest = max(map(len, sequences))
    padded = [ids + [PAD] * (longest - len(ids)) for ids in sequences]
    mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences]
    alone = [one(ids) for ids in sequences]
    batch = model(torch.tensor(padded), attention_mask=torch.tensor(mask), use_cache=False).logits[:, 0]
    assert (torch.tensor(alone) - batch).abs().max() < 1e-4
    return alone


def ultrarm(llama):
    """The llama model with UltraRM's head: reads the last token, whatever it is."""
    folder = FOLDER / "ultrarm"
    shutil.copytree(FOLDER / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["LlamaRewardModel"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = load_file(folder / "model.safetensors")
    tensors["regression_head.weight"] = tensors.pop("score.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def score(ids):
        hidden = llama.model(torch.tensor([ids]), use_cache=False).last_hidden_state
        return llama.score(hidden[0, -1]).item()

    return score


def main():
    settle()
    generator = torch.Generator().manual_seed(7)
    sequences = [[1] + torch.randint(3, SMALL["vocab_size"], (n - 1,), generator=generator).tolist()
                 for n in LENGTHS]
    sequences.append(sequences[1] + [PAD, PAD])
    shutil.rmtree(FOLDER, ignore_errors=True)
    out = {}
    with torch.no_grad():
        for seed, (name, (model_type, fields)) in enumerate(FAMILIES.items()):
            build(model_type, fields, 300 + seed).save_pretrained(FOLDER / name)
            model = AutoModelForSequenceClassification.from_pretrained(
                FOLDER / name, attn_implementation="eager").eval()
            out[name] = scores(model, sequences)
            assert abs(out[name][1] - out[name][4]) < 1e-5, name
            if name == "llama":
                score = ultrarm(model)
                out["ultrarm"] = [score(ids) for ids in sequences]
                assert abs(out["ultrarm"][1] - out["ultrarm"][4]) > 1e-3
    write_json("reward.json", {
        "about": "scores of five sequences by tiny random reward models",
        "made_with": versions(), "sequences": sequences, "scores": out,
    })


if __name__ == "__main__":
    main()
