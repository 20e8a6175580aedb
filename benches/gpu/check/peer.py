"""A training step of transformers with random weights: f32 weights and moments, bf16 by autocast."""

import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers

import shapes

STEPS, WARMUP = 6, 2


def measure(shape):
    with tempfile.TemporaryDirectory() as folder:
        config = transformers.AutoConfig.from_pretrained(shapes.folder(shape, Path(folder) / "shape"))
    config.use_cache = False
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1, fused=True)
    rows = shapes.TOKENS // shapes.LENGTH
    times = []
    for _ in range(WARMUP + STEPS):
        ids = torch.randint(3, config.vocab_size, (rows, shapes.LENGTH), device="cuda")
        torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
        print(f"loss {loss.item():.4f}, {times[-1] * 1e3:.1f} ms", flush=True)
    seconds = statistics.median(times[WARMUP:])
    return {"n": STEPS, "ms": seconds * 1e3, "tokens_s": shapes.TOKENS / seconds,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
