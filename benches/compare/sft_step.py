"""The peer's SFT step: forward, loss, backward, clip to norm 1, fused AdamW.

    python benches/compare/sft_step.py --shape stories260k                  # real rows, packed
    python benches/compare/sft_step.py --shape stories260k --layout padded  # one document a row
    python benches/compare/sft_step.py --shape 15m                          # random weights, 8 x 256
    python benches/compare/sft_step.py --work FILE                          # the steps of `lions bench`

`stories260k` trains the shipped model on documents of data/sft, 2048 positions a step, every token
of a document but its first a target. `15m` is a Llama with V 32000, width 288, 6 layers, 6 heads,
MLP 768, tied embedding, batch 8 of 256 random tokens. Only real tokens are counted.
"""

import torch
import torch.nn.functional as F

from peer import (
    EOS, encoder, flatten, fused_adamw, jsonl, load, parse, parser, prompt_ids, register_segments,
    report, train,
)

POSITIONS = 2048


def stories_documents(limit=512):
    encode = encoder()
    rows = jsonl("data/sft/stories_train.jsonl") + jsonl("data/sft/instruct_train.jsonl")
    for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).tolist():
        user, assistant = rows[i]["messages"][:2]
        yield (prompt_ids(encode, [user]) + encode(assistant["content"]) + [EOS])[:limit]


def packed_batches(n):
    """Rows of exactly 2048 tokens, whole documents, the last one cut."""
    batches, row = [], []
    for document in stories_documents():
        row.append(document)
        excess = sum(map(len, row)) - POSITIONS
        if excess >= 0:
            row[-1] = row[-1][: len(row[-1]) - excess]
            batches.append([d for d in row if len(d) > 1])
            row = []
        if len(batches) == n:
            return [make_packed(b) for b in batches]
    raise SystemExit("not enough rows")


def make_packed(documents):
    tokens, positions, starts = flatten(documents)
    keep = torch.ones(tokens.shape[1], dtype=torch.bool)
    keep[torch.tensor(starts[1:]) - 1] = False  # the last token of a document predicts nothing
    rows = keep.nonzero().squeeze(1)
    return {"input_ids": tokens, "position_ids": positions, "starts": starts, "rows": rows,
            "targets": tokens[0, rows + 1], "real": sum(map(len, documents))}


def padded_batches(n):
    """One document a row, as many rows as fit 2048 positions at the longest one's length."""
    batches, rows = [], []
    for document in stories_documents():
        longest = max(map(len, rows + [document]))
        if rows and longest * (len(rows) + 1) > POSITIONS:
            batches.append(make_padded(rows))
            rows = []
        rows.append(document)
        if len(batches) == n:
            return batches
    raise SystemExit("not enough rows")


def make_padded(documents):
    width = max(map(len, documents))
    tokens = torch.tensor([d + [EOS] * (width - len(d)) for d in documents])
    mask = torch.tensor([[1] * len(d) + [0] * (width - len(d)) for d in documents])
    keep = mask.clone()
    keep[:, :-1] &= mask[:, 1:]
    keep[:, -1] = 0
    rows = keep.flatten().nonzero().squeeze(1)
    return {"input_ids": tokens, "attention_mask": mask, "rows": rows,
            "targets": tokens.flatten()[rows + 1], "real": int(mask.sum())}


def given_batch(step):
    """A step of `lions bench train --work`: rows where all segments are equally long (padded ones
    are, and right padding needs no mask under causal attention), else packed."""
    starts = step["cu_seqlens"]
    lengths = {b - a for a, b in zip(starts, starts[1:])}
    batch = {"rows": torch.tensor(step["target_rows"]), "targets": torch.tensor(step["targets"]),
             "real": step["real_tokens"]}
    tokens = torch.tensor([step["tokens"]])
    if len(lengths) == 1:
        return {**batch, "input_ids": tokens.reshape(-1, lengths.pop())}
    return {**batch, "input_ids": tokens, "position_ids": torch.tensor([step["positions"]]),
            "starts": starts}


def shape_15m(attention):
    from transformers import LlamaConfig, LlamaForCausalLM

    register_segments()
    config = LlamaConfig(vocab_size=32000, hidden_size=288, intermediate_size=768,
                         num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
                         max_position_embeddings=256, tie_word_embeddings=True)
    config._attn_implementation = attention
    return LlamaForCausalLM(config).train()


def main():
    args = parser(__doc__.splitlines()[0])
    args.add_argument("--shape", choices=["stories260k", "15m"], default="stories260k")
    args.add_argument("--layout", choices=["packed", "padded"], default="packed")
    args.add_argument("--attention", choices=["segments", "sdpa"], default="segments",
                      help="of packed rows: document by document, or transformers' block mask")
    args.add_argument("--compile", action="store_true", help="torch.compile the decoder; for the fixed shape `15m` only, since every"
                      " new set of document lengths would be compiled again")
    options = parse(args)
    if options.compile and options.shape != "15m":
        args.error("--compile needs --shape 15m")
    packed = options.shape == "stories260k" and options.layout == "packed"
    given = [given_batch(step) for step in options.work or []]
    if given:
        packed = any("starts" in batch for batch in given)
        options.layout = "packed" if packed else "rows"
    attention = options.attention if packed else "sdpa"
    if given:
        model = shape_15m(attention) if options.shape == "15m" else load(attention, options.model)
        batches = given
    elif options.shape == "15m":
        model = shape_15m(attention)
        tokens = torch.randint(0, 32000, (4, 8, 256))
        batches = [{"input_ids": t, "rows": None, "targets": t[:, 1:].flatten(),
                    "real": t.numel()} for t in tokens]
    else:
        model = load(attention, options.model)
        batches = packed_batches(8) if packed else padded_batches(8)
    optimizer = fused_adamw(model)
    decoder = torch.compile(model.model) if options.compile else model.model

    def loss_of(batch):
        inputs = {k: batch[k] for k in ("input_ids", "position_ids", "attention_mask") if k in batch}
        if attention == "segments":
            inputs["cu_seqlens"] = batch.get("starts", [0, batch["input_ids"].shape[1]])
        hidden = decoder(**inputs, use_cache=False).last_hidden_state
        if batch["rows"] is None:
            hidden = hidden[:, :-1].reshape(-1, hidden.shape[-1])
        else:
            hidden = hidden.reshape(-1, hidden.shape[-1])[batch["rows"]]
        return F.cross_entropy(model.lm_head(hidden).float(), batch["targets"])

    cpu, wall, tokens, losses = train(options, model, optimizer, loss_of, batches,
                                      lambda b: b["real"])
    report(options, f"sft/{options.shape}", cpu, wall, tokens, attention=attention,
           layout=options.layout, compiled=options.compile, first_loss=losses[0],
           last_loss=losses[-1], positions=sum(b["input_ids"].numel() for b in batches) / len(batches))


if __name__ == "__main__":
    main()
