"""Random configurations of every decoder family, each compared with transformers through the command line.

For each case a folder with random weights, a random configuration and the shipped model's tokenizer is written; transformers
(eager attention, f32) and `lions eval` give log-likelihoods of the same continuations. A configuration that lions refuses must be
refused with a reason; everything else must agree within 1e-4 nats a continuation, or a millionth of it (f32 sums of hundreds of nats).

    python tests/golden/random_families.py LIONS [CASES] [SEED]
"""
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
import transformers

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "models/stories260k"


def rope(draw):
    theta = draw.choice([10000.0, 500000.0, 1000000.0])
    kind = draw.choice(["default", "default", "linear", "llama3", "dynamic", "yarn"])
    scaling = {"rope_type": kind, "rope_theta": theta}
    if kind in ("linear", "dynamic"):
        scaling["factor"] = draw.choice([2.0, 4.0])
    if kind == "llama3":
        scaling.update(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                       original_max_position_embeddings=draw.choice([32, 64, 256]))
    if kind == "yarn":
        scaling.update(factor=4.0, original_max_position_embeddings=64)
    return scaling


def configuration(draw):
    family = draw.choice(["llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3"])
    kv = draw.choice([1, 2, 3])
    groups = draw.choice([1, 2, 3])
    head = draw.choice([4, 8, 12, 16, 20])
    heads = kv * groups
    own_head = draw.random() < 0.6
    fields = dict(
        num_hidden_layers=draw.choice([1, 2, 3, 5]), num_attention_heads=heads, num_key_value_heads=kv,
        hidden_size=heads * head if family == "qwen2" or not own_head else draw.choice([24, 36, 40, 64]),
        intermediate_size=draw.choice([20, 33, 64, 100]), vocab_size=512,
        max_position_embeddings=draw.choice([128, 512, 2048]), rms_norm_eps=draw.choice([1e-6, 1e-5, 1e-3]),
        tie_word_embeddings=draw.random() < 0.5, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    if family != "qwen2":
        fields["head_dim"] = head
    if draw.random() < 0.6:
        fields["rope_parameters"] = rope(draw)
    if family == "llama":
        fields.update(attention_bias=draw.random() < 0.4, mlp_bias=draw.random() < 0.4)
    if family == "llama" or family == "mistral":
        fields["hidden_act"] = draw.choice(["silu", "silu", "gelu", "gelu_pytorch_tanh", "relu"])
    if family == "mistral":
        fields["sliding_window"] = draw.choice([None, 5, 16, 64])
    if family == "gemma":
        fields["hidden_act"] = draw.choice(["gelu_pytorch_tanh", "gelu"])
    if family == "gemma2":
        fields.update(sliding_window=draw.choice([5, 16, 64]), query_pre_attn_scalar=draw.choice([8, head, 144]),
                      attn_logit_softcapping=draw.choice([None, 2.0, 50.0]),
                      final_logit_softcapping=draw.choice([None, 3.0, 30.0]),
                      attention_bias=draw.random() < 0.3)
        if draw.random() < 0.3:
            fields["layer_types"] = [draw.choice(["sliding_attention", "full_attention"])
                                     for _ in range(fields["num_hidden_layers"])]
    if family == "qwen2":
        if draw.random() < 0.5:
            fields.update(use_sliding_window=True, sliding_window=draw.choice([5, 16]),
                          max_window_layers=draw.choice([0, 1, 2]))
    if family == "qwen3":
        fields["attention_bias"] = draw.random() < 0.4
        if draw.random() < 0.5:
            fields.update(use_sliding_window=True, sliding_window=draw.choice([5, 16]),
                          max_window_layers=draw.choice([0, 1, 2]))
    return family, fields


def model_of(family, fields, seed):
    config = AutoConfig.for_model(family, **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif weight.dim() == 1:
                weight.copy_((0.0 if family.startswith("gemma") else 1.0) + 0.3 * noise)
            elif "embed" in name:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(noise * (1.5 / weight.shape[1] ** 0.5))
    return model


def theirs(model, tokenizer, rows):
    found = []
    for row in rows:
        context = tokenizer(row["context"])["input_ids"]
        whole = tokenizer(row["context"] + row["continuation"])["input_ids"]
        with torch.no_grad():
            logps = model(torch.tensor([whole]), use_cache=False).logits[0].double().log_softmax(-1)
        n = len(context)
        assert whole[:n] == context
        found.append(sum(logps[i - 1, whole[i]].item() for i in range(n, len(whole))))
    return found


def ours(lions, folder, task, out):
    done = subprocess.run([lions, "eval", folder, "--tasks", task, "--out", out, "--root", folder, "--json"],
                          capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip()
    (samples,) = Path(out).glob("**/samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows.sort(key=lambda row: row["doc_id"])
    return [float(row["resps"][0][0][0]) for row in rows], done.stderr


def main():
    lions, cases, seed = sys.argv[1], int((sys.argv[2:] or [100])[0]), int((sys.argv[3:] or [1])[0])
    print("torch", torch.__version__, "transformers", transformers.__version__)
    draw = random.Random(seed)
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in open(ROOT / "data/sft/stories_test.jsonl")]
    texts = [message["content"] for row in rows for message in row["messages"]]
    texts = [text for text in texts if len(text) > 300]
    wrong = refused = 0
    for case in range(cases):
        family, fields = configuration(draw)
        work = Path(tempfile.mkdtemp(prefix="random_family_"))
        folder = work / "model"
        try:
            model = model_of(family, fields, case)
        except Exception as error:  # transformers itself refuses
            print(case, family, "transformers refuses:", str(error).splitlines()[-1][:100])
            continue
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(SHIPPED / name, folder / name)
        tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
        rows = []
        while len(rows) < 6:
            text = draw.choice(texts)
            start, length = draw.randrange(10, 200), draw.randrange(20, 200)
            cut = text.find(" ", start)
            row = dict(context=text[:cut], continuation=text[cut:cut + length])
            if cut > 0 and row["continuation"].strip() and len(
                    tokenizer(row["context"] + row["continuation"])["input_ids"]) < fields["max_position_embeddings"]:
                rows.append(row)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "task.toml").write_text(
            'data = ["rows.jsonl"]\nprompt = "{{ context }}"\ndelimiter = ""\ntarget = "0"\nscore = ["acc"]\n'
            'request = { choices = { of = "[continuation]" } }\n')
        got, said = ours(lions, str(folder), str(folder / "task.toml"), str(work / "out"))
        if got is None:
            refused += 1
            print(case, family, {k: v for k, v in fields.items() if k not in ("vocab_size",)}, "REFUSED", said[:300].replace("\n", " | "))
        else:
            want = theirs(model, tokenizer, rows)
            apart = max(abs(a - b) / max(1.0, abs(b) / 100) for a, b in zip(got, want, strict=True))
            if apart > 1e-4:
                wrong += 1
                print(case, family, fields, "APART", apart, got, want, work)
                continue
        shutil.rmtree(work)
    print(f"{cases} cases, {refused} refused, {wrong} apart")
    sys.exit(wrong > 0)


main()
