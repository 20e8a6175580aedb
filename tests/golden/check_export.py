"""Whether transformers opens what lions writes, and computes the same.

    cargo test --test it write_checkpoints -- --ignored     # writes target/exports/<name>/
    python tests/golden/check_export.py target/exports/*

Every folder holds a checkpoint saved by lions after its weights were changed, and
`lions_logits.json`: token ids of one document and the logits that lions computes for it. The folder
is opened by `AutoModelForCausalLM.from_pretrained` (and `AutoTokenizer` where a tokenizer is part of
it); any missing, unexpected or mismatched weight is an error, and so is a relative error of the
logits (largest difference over largest logit) of 1e-5 or more. A folder whose name ends in `-bf16`
must open in that format; there PyTorch rounds at other places than lions, and the error may be 0.03.
Needs the packages of tests/golden/README.md.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}


def check(folder):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype="auto", output_loading_info=True
    )
    problems = {k: v for k, v in info.items() if v}
    if problems:
        return f"weights do not fit: {problems}", None
    dtype = torch.bfloat16 if folder.name.endswith("-bf16") else torch.float32
    if {p.dtype for p in model.parameters()} != {dtype}:
        return f"not {dtype}, as config.json should say", None
    want = json.loads((folder / "lions_logits.json").read_text())
    with torch.no_grad():
        got = model.eval()(torch.tensor([want["tokens"]]), use_cache=False).logits[0].float()
    ours = torch.tensor(want["logits"])
    if got.shape != ours.shape:
        return f"shapes {tuple(got.shape)} and {tuple(ours.shape)}", None
    error = ((got - ours).abs().max() / got.abs().max()).item()
    if not error < TOLERANCE[dtype]:
        return f"relative error {error:.2e}", None
    if (folder / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        chat = [{"role": "user", "content": "Tell me a story."}]
        if tokenizer.chat_template is None:
            return "the tokenizer has no chat template", None
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return None, f"relative error {error:.1e}; chat template gives {text!r}"
    return None, f"relative error {error:.1e}"


def main():
    folders = [Path(a) for a in sys.argv[1:]]
    if not folders:
        raise SystemExit(__doc__)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    failed = False
    for folder in folders:
        problem, note = check(folder)
        failed |= problem is not None
        print(f"{folder.name}: {problem or 'ok, ' + note}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
