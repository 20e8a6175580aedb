"""Scores of data-selection methods on eight real pairs, by transformers on the shipped model.

    python tests/golden/make_select.py

- perplexity and IFD (Li et al. 2024, Superfiltering: PPL(y | x) / PPL(y)) of the preferred replies;
  for PPL(y) the reply stands behind the beginning-of-text token;
- margins of mean token log-probabilities, and gaps of DPO's implicit rewards over beta of the
  perturbed model (common.py) against the shipped one;
- Deita: complexity and quality as `deita.selection.scorer` of hkust-nlp/deita computes them (expected
  digit of 1 to 6 behind its prompts; the shipped model is no scorer, so the values mean nothing),
  mean and last hidden states as embeddings, and the rows that its filter keeps;
- LESS: mean cosine between the gradient of a row and those of the targets, over all weights, not
  projected: for pairs of log pi(y_l) - log pi(y_w), with the first rows themselves as targets; for
  conversations (prompt and preferred reply) of the negative log-likelihood, with other targets.
"""

import json

import numpy as np
import torch

from common import (BOS, MODEL, ROOT, encode_prompt, encode_reply, encoder, load_model, perturb, settle,
                    token_logps, versions, write_json)

DATA, TARGET = "data/pref/polite_train.jsonl", "data/pref/polite_test.jsonl"
ROWS, TARGETS = 8, 4
THRESHOLD = {"mean": 0.964, "last": 0.9}
COMPLEXITY = ("You are a helpful assistant. Please identify the complexity score of the following "
              "user query. \n##Query: {instruction}  \n##Complexity: ")
QUALITY = ("You are a helpful assistant. Please identify the quality score of the Response "
           "corresponding to the Question. \n #Question#:\n{instruction}\n#Response#:\n{output} \n"
           "##Quality: ")


def first_rows(path, count):
    with open(ROOT / path, encoding="utf-8") as lines:
        return [json.loads(next(lines)) for _ in range(count)]


def reply_logps(model, prompt, reply):
    """Log-probabilities of the reply's tokens, (len(reply),)."""
    ids = prompt + reply
    return token_logps(model(torch.tensor([ids]), use_cache=False).logits[0], ids)[len(prompt):]


def pair(encode, row):
    return (encode_prompt(encode, row["prompt"]), encode_reply(encode, row["chosen"]),
            encode_reply(encode, row["rejected"]))


def margin(model, prompt, chosen, rejected):
    return reply_logps(model, prompt, chosen).sum() - reply_logps(model, prompt, rejected).sum()


def direction(model, loss):
    """Gradient of a loss by all weights, at length 1."""
    model.zero_grad()
    loss.backward()
    flat = torch.cat([p.grad.flatten().double() for _, p in sorted(model.named_parameters())])
    return flat / flat.norm()


def scorer(model, tokenizer):
    digits = [tokenizer.token_to_id(d) for d in "123456"]

    def score(text):
        ids = tokenizer.encode(text).ids
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1, digits].double()
        return (torch.softmax(logits, 0) * torch.arange(1, 7)).sum().item()

    return score


def deita_filter(scores, embeddings, threshold):
    """The loop of deita.selection.filter.base with batches of one row."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if not any(float(embeddings[i] @ embeddings[j]) > threshold for j in kept):
            kept.append(i)
    return kept


def main():
    from tokenizers import Tokenizer

    settle()
    model, encode = load_model(), encoder()
    policy = load_model()
    perturb(policy)
    rows = first_rows(DATA, ROWS)
    tokens = [pair(encode, row) for row in rows]
    out = {key: [] for key in ("perplexity", "ifd", "margin", "implicit_gap", "deita")}
    embeddings = {"mean": [], "last": []}
    score = scorer(model, Tokenizer.from_file(str(MODEL / "tokenizer.json")))
    with torch.no_grad():
        for row, (prompt, chosen, rejected) in zip(rows, tokens):
            given = reply_logps(model, prompt, chosen).double().mean()
            alone = reply_logps(model, [BOS], chosen).double().mean()
            out["perplexity"].append((-given).exp().item())
            out["ifd"].append((alone - given).exp().item())
            other = reply_logps(model, prompt, rejected).double().mean()
            out["margin"].append((given - other).item())
            gap = margin(policy, prompt, chosen, rejected) - margin(model, prompt, chosen, rejected)
            out["implicit_gap"].append(gap.item())
            instruction = row["prompt"][0]["content"]
            complexity = score(COMPLEXITY.format(instruction=instruction))
            quality = score(QUALITY.format(instruction=instruction, output=row["chosen"]))
            out["deita"].append(complexity * quality)
            hidden = model.model(torch.tensor([prompt + chosen]), use_cache=False).last_hidden_state[0]
            for name, vector in (("mean", hidden.mean(0)), ("last", hidden[-1])):
                embeddings[name].append(vector.double() / vector.double().norm())
    for name, vectors in embeddings.items():
        cosines = sorted(float(a @ b) for i, a in enumerate(vectors) for b in vectors[:i])
        print(name, "cosines", [round(c, 3) for c in cosines])
        out[f"deita_kept_{name}"] = deita_filter(out["deita"], vectors, THRESHOLD[name])
        nearest = min(abs(c - THRESHOLD[name]) for c in cosines)
        assert nearest > 1e-3, (name, nearest)
    mean_cosines = lambda own, targets: [float(np.mean([float(g @ t) for t in targets])) for g in own]
    pairs = [direction(model, -margin(model, *t)) for t in tokens]
    out["less_pairs"] = mean_cosines(pairs, pairs[:TARGETS])
    nll = lambda prompt, chosen, _: direction(model, -reply_logps(model, prompt, chosen).mean())
    targets = [nll(*pair(encode, row)) for row in first_rows(TARGET, TARGETS)]
    out["less_chat"] = mean_cosines([nll(*t) for t in tokens], targets)
    write_json("select.json", {
        "about": f"the first {ROWS} pairs of {DATA}; targets of less_pairs: the first {TARGETS} of them, "
                 f"of less_chat: the first {TARGETS} of {TARGET}",
        "made_with": versions(), "ids": [row["id"] for row in rows], "thresholds": THRESHOLD,
        "scores": out,
    })


if __name__ == "__main__":
    main()
