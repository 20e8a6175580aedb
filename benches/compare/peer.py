"""What the peer benches share: process settings, data, attention over packed segments, the report.

Importing this module restarts Python once with the allocator settings that `lions` gives itself
(large blocks from the heap, never trimmed, in large pages) and with the thread count of `--threads`,
because both are read before the first allocation.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "stories260k"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "18446744073709551615",
          "MALLOC_TOP_PAD_": "67108864", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
BOS, EOS = 1, 2


def parse(parser, argv=None):
    """Adds the shared options, restarts the process with its settings, returns the options."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=3, help="steps before the measurement")
    parser.add_argument("--steps", type=int, default=10, help="steps measured")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32",
                        help="bf16: torch.autocast, the weights stay f32")
    parser.add_argument("--work", metavar="FILE",
                        help="do the steps that `lions bench --work FILE` wrote, instead of own ones")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="DIR",
                        help="folder in Hugging Face layout; another than the shipped one needs --work")
    parser.add_argument("--paced", action="store_true",
                        help="wait for a line on stdin before each step, answer each with a JSON line")
    options = parser.parse_args(argv)
    if options.work:
        options.work = [json.loads(line) for line in open(options.work, encoding="utf-8")]
    wanted = {**MALLOC, "OMP_NUM_THREADS": str(options.threads),
              "MKL_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false",
              "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error",
              "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable] + sys.argv)
    import torch

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    return options


def autocast(options):
    import contextlib

    import torch

    if options.precision == "bf16":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def encoder():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def jsonl(path):
    with open(ROOT / path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def prompt_ids(encode, messages):
    return [BOS] + encode(f"User: {messages[0]['content']}\nAssistant:")


def load(attention, path):
    import torch
    from transformers import AutoModelForCausalLM

    register_segments()
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                 attn_implementation=attention)
    return model.train()


def register_segments():
    """Attention `segments`: causal sdpa document by document, the fastest exact way on a CPU.

    The work is the sum of squared document lengths; a block mask over the row would cost the square
    of the row. The model is called with `cu_seqlens=[0, ...]`, the starts of the documents.
    """
    import torch
    import torch.nn.functional as F
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def segments(module, query, key, value, attention_mask, scaling=None, cu_seqlens=None, **_):
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        parts = [F.scaled_dot_product_attention(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b],
                                                is_causal=True, scale=scaling)
                 for a, b in zip(cu_seqlens[:-1], cu_seqlens[1:])]
        return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None

    AttentionInterface.register("segments", segments)
    AttentionMaskInterface.register("segments", lambda *_, **__: None)


def flatten(documents):
    """Documents to one row: tokens (1, T), positions (1, T), starts of the documents."""
    import torch

    tokens = torch.tensor([sum(documents, [])])
    positions = torch.tensor([[p for d in documents for p in range(len(d))]])
    starts = [0]
    for document in documents:
        starts.append(starts[-1] + len(document))
    return tokens, positions, starts


def fused_adamw(model, learning_rate=1e-4):
    import torch

    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.1, fused=True)


def pace(options, said):
    """In a paced run: says `said` and waits for the word to go on. False: there will be no step."""
    if not options.paced:
        return True
    print(json.dumps(said), flush=True)
    return bool(sys.stdin.readline())


def train(options, model, optimizer, loss_of, batches, work):
    """Runs warm-up and measured steps; `loss_of(batch)` gives the loss, `work(batch)` its tokens."""
    import torch

    global resident_before
    resident_before = resident()
    cpu, wall, tokens, losses = [], [], [], []
    go = pace(options, {"ready": True})
    for step in range(options.warmup + options.steps):
        if not go:
            break
        batch = batches[step % len(batches)]
        c, w = time.process_time(), time.perf_counter()
        with autocast(options):
            loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        c, w = time.process_time() - c, time.perf_counter() - w
        losses.append(loss.item())
        if step >= options.warmup:
            cpu.append(c)
            wall.append(w)
            tokens.append(work(batch))
        go = pace(options, {"step": step + 1, "seconds": {"cpu": c, "wall": w},
                            "real_tokens": work(batch), "loss": losses[-1]})
    return cpu, wall, tokens, losses


resident_before = None


def resident():
    """Resident bytes now: before the first step it is the libraries and the weights."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_resident():
    """Largest resident bytes since the program began. (`ru_maxrss` would survive the restart.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def report(options, name, cpu, wall, tokens, **extra):
    """One JSON line. Rates are of the median step: in CPU seconds and in wall seconds."""
    if not cpu:
        raise SystemExit("no step was measured")
    import torch
    import transformers

    def median_rate(seconds):
        return statistics.median(t / s for t, s in zip(tokens, seconds))

    out = {
        "bench": name,
        "tokens_per_sec": median_rate(wall if options.threads > 1 else cpu),
        "tokens_per_cpu_sec": median_rate(cpu),
        "tokens_per_wall_sec": median_rate(wall),
        "cpu_secs": sum(cpu), "wall_secs": sum(wall), "real_tokens": sum(tokens),
        "peak_rss": peak_resident(),
        "rss_before": resident_before,
        "threads": options.threads, "precision": options.precision,
        **extra,
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "transformers": transformers.__version__},
    }
    print(json.dumps(out), flush=True)


def parser(description):
    return argparse.ArgumentParser(description=description)
