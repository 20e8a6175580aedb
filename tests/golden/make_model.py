"""Golden numbers of the shipped model: logits, loss, every gradient, ten AdamW steps.

Runs transformers' LlamaForCausalLM (f32, eager attention, one document at a time, so no packing
and no padding is involved) on six real documents of data/sft.

    python tests/golden/make_model.py

Writes model.json (documents, token log-probabilities, logits at some positions, loss, the AdamW
steps and fingerprints of the trained weights) and model_gradients.safetensors (every gradient of
the mean negative log-likelihood over the masked targets of all six documents).
Versions: see `made_with` in the output.
"""

import torch
from safetensors.torch import save_file

from common import (
    GOLDEN, MODEL, encode_prompt, encode_reply, encoder, fingerprint, fingerprint_distance,
    load_model, rows, settle, token_logps, versions, write_json,
)

DOCUMENTS = [
    ("data/sft/stories_train.jsonl", ["ts-0010", "ts-0012"]),
    ("data/sft/instruct_train.jsonl", ["rasbt-0001", "rasbt-0003", "rasbt-0007", "rasbt-0015"]),
]
LOGIT_DOCUMENTS = 3  # logits are stored at the first, middle and last position of each of these
STEPS = 10
ADAMW = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1,
         "max_grad_norm": 1.0}


def documents():
    encode = encoder()
    out = []
    for path, ids in DOCUMENTS:
        for row in rows(path, ids):
            user, assistant = row["messages"]
            prompt = encode_prompt(encode, [user])
            reply = encode_reply(encode, assistant["content"])
            mask = [0] * len(prompt) + [1] * len(reply)
            out.append({"id": row["id"], "tokens": prompt + reply, "loss_mask": mask})
    return out


def nll(model, docs):
    """Summed negative log-likelihood of the masked targets, divided by their number."""
    total, count = 0.0, 0
    for doc in docs:
        logits = model(torch.tensor([doc["tokens"]]), use_cache=False).logits[0]
        mask = torch.tensor(doc["loss_mask"], dtype=torch.float32)
        total = total - (token_logps(logits, doc["tokens"]) * mask).sum()
        count += sum(doc["loss_mask"])
    return total / count, count


def adamw_steps(docs, attention="eager"):
    """Constant rate, decay on matrices only, global clipping; step k trains on documents k..k+2."""
    model = load_model(attention=attention)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": ADAMW["weight_decay"]},
         {"params": others, "weight_decay": 0.0}],
        lr=ADAMW["learning_rate"], betas=(ADAMW["beta1"], ADAMW["beta2"]), eps=ADAMW["eps"],
        foreach=False, fused=False,
    )
    steps = []
    for k in range(STEPS):
        batch = [(k + j) % len(docs) for j in range(3)]
        loss, count = nll(model, [docs[i] for i in batch])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), ADAMW["max_grad_norm"])
        optimizer.step()
        steps.append({"documents": batch, "targets": count, "loss": loss.item(),
                      "grad_norm": norm.item()})
    after, _ = nll(model, docs)
    end = dict(sorted(model.named_parameters()))
    return {
        "optimizer": ADAMW,
        "decayed": sorted(n for n, p in end.items() if p.dim() >= 2),
        "steps": steps,
        "loss_after": after.item(),
        "weights": {n: fingerprint(p) for n, p in end.items()},
        "updates": {n: fingerprint(p.detach().double() - start[n].double())
                    for n, p in end.items()},
    }


def distance_of_kernels(docs, eager):
    """How far torch is from itself after the ten steps, eager against sdpa attention.

    The rounding of the two kernels differs; Adam divides by the root of the second moment, so where
    a gradient is close to 0 its rounding decides the update. No other engine can be asked for less.
    """
    sdpa = adamw_steps(docs, "sdpa")

    def largest(key):
        return max(fingerprint_distance(sdpa[key][n], eager[key][n]) for n in eager[key])

    return {"weights": largest("weights"), "updates": largest("updates"),
            "loss": max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(sdpa["steps"], eager["steps"]))}


def main():
    settle()
    docs = documents()
    model = load_model()
    for i, doc in enumerate(docs):
        logits = model(torch.tensor([doc["tokens"]]), use_cache=False).logits[0].detach()
        doc["token_logps"] = token_logps(logits, doc["tokens"]).tolist()
        if i < LOGIT_DOCUMENTS:
            last = len(doc["tokens"]) - 1
            doc["logits"] = {str(t): logits[t].tolist() for t in (0, last // 2, last)}
    loss, count = nll(model, docs)
    loss.backward()
    gradients = {n: p.grad.contiguous() for n, p in sorted(model.named_parameters())}
    save_file(gradients, GOLDEN / "model_gradients.safetensors", metadata={"format": "pt"})
    adamw = adamw_steps(docs)
    adamw["eager_against_sdpa"] = distance_of_kernels(docs, adamw)
    write_json("model.json", {
        "about": "shipped model on real rows; log-probabilities in nats, f32",
        "made_with": versions(),
        "model": str(MODEL.relative_to(MODEL.parents[1])),
        "targets": count,
        "loss": loss.item(),
        "grad_norm": torch.stack([g.norm() for g in gradients.values()]).norm().item(),
        "order": [d["id"] for d in docs],
        "documents": {d.pop("id"): d for d in docs},
        "adamw": adamw,
    }, depth=3)


if __name__ == "__main__":
    main()
