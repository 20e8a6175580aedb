"""Tiny random models of every decoder family, in Hugging Face layout, with their golden numbers.

For each family a folder families/<name>/ with config.json and model.safetensors (2 layers, f32,
norm weights, biases and every matrix random enough that a forgotten one shows) and in
families.json: logits, loss and every gradient from transformers (eager attention) on 40 tokens in
two documents. The documents run one at a time, so attention never crosses between them and each
starts at position 0; the loss is the mean over all targets of both.

    python tests/golden/make_families.py

The script also asserts that each special feature matters: with the feature switched off the loss
differs. Versions: see `made_with` in the output.
"""

import json
import shutil

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from common import GOLDEN, fingerprint, settle, token_logps, versions, write_json

FOLDER = GOLDEN / "families"
LENGTHS = (23, 17)
SMALL = dict(num_hidden_layers=2, vocab_size=96, max_position_embeddings=64, bos_token_id=1,
             eos_token_id=2, pad_token_id=0, rms_norm_eps=1e-5)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}

# name -> (model_type, configuration, {feature: changes that switch it off})
FAMILIES = {
    "llama-gqa": ("llama", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, tie_word_embeddings=False), {}),
    "llama3-rope": ("llama", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=1,
        head_dim=8, tie_word_embeddings=True, rope_parameters=LLAMA3,
        max_position_embeddings=512),
        {"rope scaling": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}}),
    "llama-bias": ("llama", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=4,
        head_dim=8, tie_word_embeddings=False, attention_bias=True, mlp_bias=True), {}),
    "smollm": ("llama", dict(  # 9 heads over 3, as SmolLM-135M: sizes that no vector width divides
        hidden_size=36, intermediate_size=50, num_attention_heads=9, num_key_value_heads=3,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0}), {}),
    "mistral": ("mistral", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, tie_word_embeddings=False, sliding_window=8),
        {"sliding window": {"sliding_window": None}}),
    "gemma": ("gemma", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=1,
        head_dim=16, hidden_act="gelu_pytorch_tanh"), {}),
    "gemma2": ("gemma2", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, sliding_window=8, query_pre_attn_scalar=24, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0),
        {"window": {"sliding_window": 64}, "attention cap": {"attn_logit_softcapping": None},
         "final cap": {"final_logit_softcapping": None},
         "query scale": {"query_pre_attn_scalar": 16}}),
    "qwen2": ("qwen2", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True), {}),
    "qwen3": ("qwen3", dict(
        hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, tie_word_embeddings=False), {}),
}


def build(model_type, fields, seed):
    config = AutoConfig.for_model(model_type, **{**SMALL, **fields})
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif weight.dim() == 1:  # norms: around 1, or around 0 where the model adds the 1 itself
                center = 0.0 if model_type.startswith("gemma") else 1.0
                weight.copy_(center + 0.3 * noise)
            elif "embed" in name:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(noise * (1.5 / weight.shape[1] ** 0.5))
    return model


def nll(model, documents):
    """Mean negative log-likelihood of every next token of both documents; logits of all tokens."""
    total, count, logits = 0.0, 0, []
    for ids in documents:
        out = model(torch.tensor([ids]), use_cache=False).logits[0]
        total = total - token_logps(out, ids)[1:].sum()
        count += len(ids) - 1
        logits.append(out)
    return total / count, torch.cat(logits)


def packed_logits(model, documents):
    """The same through transformers' own packing, as a check of ours of theirs."""
    ids = torch.tensor([sum(documents, [])])
    positions = torch.tensor([[p for d in documents for p in range(len(d))]])
    return model(ids, position_ids=positions, use_cache=False).logits[0]


def without(model, model_type, fields, changes):
    other = build(model_type, {**fields, **changes}, 0)
    other.load_state_dict(model.state_dict())
    return other


def main():
    settle()
    generator = torch.Generator().manual_seed(7)
    documents = [[1] + torch.randint(3, SMALL["vocab_size"], (n - 1,), generator=generator).tolist()
                 for n in LENGTHS]
    shutil.rmtree(FOLDER, ignore_errors=True)
    out = {}
    for seed, (name, (model_type, fields, features)) in enumerate(FAMILIES.items()):
        model = build(model_type, fields, 100 + seed)
        folder = FOLDER / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
        loss, logits = nll(model, documents)
        loss.backward()
        gradients = {n: p.grad for n, p in sorted(model.named_parameters())}
        assert all(g is not None and g.norm() > 0 for g in gradients.values()), name
        with torch.no_grad():
            packed = packed_logits(model, documents)
            assert (packed - logits).abs().max() < 1e-4, name
            for feature, changes in features.items():
                off, _ = nll(without(model, model_type, fields, changes), documents)
                assert abs(off.item() - loss.item()) > 1e-3, (name, feature, off.item())
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: loss {loss.item():.6f}, {size} bytes, largest logit {logits.abs().max():.2f}")
        out[name] = {
            "model_type": model_type, "loss": loss.item(),
            "logits": fingerprint(logits),
            "logits_last": [logits[n - 1].tolist() for n in (LENGTHS[0], sum(LENGTHS))],
            "grad_norm": torch.stack([g.norm() for g in gradients.values()]).norm().item(),
            "gradients": {n: fingerprint(g) for n, g in gradients.items()},
        }
    write_json("families.json", {
        "about": "two documents through tiny random models; loss is the mean over all next tokens",
        "made_with": versions(), "documents": documents, "families": out,
    }, depth=4)


if __name__ == "__main__":
    main()
