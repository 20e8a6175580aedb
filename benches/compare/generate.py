"""The peer's sampling: transformers `generate`, 64 story prompts x 5 samples of the shipped model.

    python benches/compare/generate.py

Left-padded batches with a key-value cache (`DynamicCache`), temperature 1, no nucleus, at most 256
new tokens, stop at `</s>`. Tokens counted: the generated ones up to and with the first `</s>`; the
prompt and what the batch computes for finished rows are not. `--batch` is in prompts; 64 (all
samples at once) is the fastest on the machines tried.
"""

import time

import torch

import peer
from peer import EOS, encoder, jsonl, load, pace, parse, parser, prompt_ids, report


def main():
    args = parser(__doc__.splitlines()[0])
    args.add_argument("--prompts", type=int, default=64)
    args.add_argument("--samples", type=int, default=5)
    args.add_argument("--max-new-tokens", type=int, default=256)
    args.add_argument("--batch", type=int, default=64, help="prompts at a time")
    args.add_argument("--top-p", type=float, default=1.0)
    args.set_defaults(steps=1, warmup=0)
    options = parse(args)
    encode = encoder()
    rows = jsonl("data/sft/stories_test.jsonl")[: options.prompts]
    prompts = [prompt_ids(encode, r["messages"]) for r in rows]
    if options.work:
        prompts = options.work[0]["prompts"]
        options.samples = options.work[0]["samples"]
        options.max_new_tokens = options.work[0]["max_new_tokens"]
    model = load("sdpa", options.model).eval()
    model.generation_config.pad_token_id = EOS

    def sample(part, new_tokens):
        width = max(map(len, part))
        ids = torch.tensor([[EOS] * (width - len(p)) + p for p in part])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in part])
        out = model.generate(input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0,
                             top_k=0, top_p=options.top_p, max_new_tokens=new_tokens,
                             num_return_sequences=options.samples, use_cache=True)
        return out[:, width:]

    sample(prompts[:2], 8)  # warm up
    peer.resident_before = peer.resident()
    cpu, wall, tokens, finished = [], [], [], 0
    go = pace(options, {"ready": True})
    for step in range(options.warmup + options.steps):
        if not go:
            break
        generated = 0
        c, w = time.process_time(), time.perf_counter()
        with torch.inference_mode():
            for i in range(0, len(prompts), options.batch):
                for row in sample(prompts[i:i + options.batch], options.max_new_tokens).tolist():
                    done = EOS in row
                    generated += row.index(EOS) + 1 if done else len(row)
                    finished += done
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
        tokens.append(generated)
        go = pace(options, {"step": step + 1, "seconds": {"cpu": cpu[-1], "wall": wall[-1]},
                            "real_tokens": generated})
    report(options, "generate", cpu, wall, tokens, prompts=len(prompts),
           samples=options.samples, batch=options.batch, finished=finished,
           max_new_tokens=options.max_new_tokens)


if __name__ == "__main__":
    main()
