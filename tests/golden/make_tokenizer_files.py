"""What `AutoTokenizer` of transformers makes of the files of a model folder: `tokenizer_files.json`.

    python tests/golden/make_tokenizer_files.py

Each case has the shipped `tokenizer.json`, changed by `change` (a value by the path of its keys), and files beside it
(`files`). `bare` are the ids of each text without anything at its ends, `whole` those of `tokenizer(text)`, `decoded`
the text of the latter without special tokens.

Needs transformers 5.24.0.
"""

import copy
import json
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

from common import GOLDEN, MODEL, versions

TEXTS = ["Once <s> upon</s> a time</s>\n Tim", "  two blanks <extra>and <pad> é\n", "</s>Lily", "<a> <b>x"]
LLAMA = {"config.json": {"model_type": "llama", "vocab_size": 600}}
MISTRAL = {"config.json": {"model_type": "mistral", "vocab_size": 600}}
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
FIRST = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


def token(content, **flags):
    usual = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"content": content, **usual, **flags}


def config(model=LLAMA, more=None, **fields):
    return {**model, "tokenizer_config.json": {**NAMES, **fields}, **(more or {})}


CASES = {
    "plain": ({}, config(tokenizer_class="PreTrainedTokenizerFast")),
    "no class": ({}, config()),
    "llama": ({}, config(tokenizer_class="LlamaTokenizer")),
    "llama fast, not legacy": ({}, config(tokenizer_class="LlamaTokenizerFast", legacy=False)),
    "llama, legacy": ({}, config(tokenizer_class="LlamaTokenizer", legacy=True)),
    "llama, without prefix": ({}, config(tokenizer_class="LlamaTokenizer", add_prefix_space=False)),
    "llama, nulls": ({}, config(tokenizer_class="LlamaTokenizer", legacy=None, add_prefix_space=None)),
    "code llama": ({}, config(tokenizer_class="CodeLlamaTokenizer", legacy=True)),
    "llama of a mistral": ({}, config(MISTRAL, tokenizer_class="LlamaTokenizer", legacy=False)),
    "llama, metaspace": ({"normalizer": None, "pre_tokenizer": FIRST}, config(tokenizer_class="LlamaTokenizer")),
    "added by the config": ({}, config(added_tokens_decoder={
        "0": token("<unk>"), "1": token("<s>"), "2": token("</s>"), "512": token("<extra>"), "513": token("<a>", special=False)})),
    "other flags": ({}, config(added_tokens_decoder={
        "0": token("<unk>"), "1": token("<s>"), "2": token("</s>", rstrip=True), "512": token("<extra>", lstrip=True)})),
    "a word of the vocabulary": ({}, config(extra_special_tokens=["▁Tim", "<b>", "<a>"])),
    "additional": ({}, config(additional_special_tokens=["<b>", {"__type": "AddedToken", **token("<a>", rstrip=True)}])),
    "named": ({}, config(pad_token="<pad>", sep_token={"__type": "AddedToken", **token("<extra>", rstrip=True)})),
    "added_tokens.json": ({}, config(more={"added_tokens.json": {"<b>": 513, "<extra>": 512}})),
    "the map has the last word": ({}, config(more={"special_tokens_map.json": {"pad_token": "<pad>", "eos_token": "<b>"}},
                                             eos_token="<a>")),
    "the map is not read": ({}, config(more={"special_tokens_map.json": {"pad_token": "<pad>"}}, added_tokens_decoder={
        "0": token("<unk>"), "1": token("<s>"), "2": token("</s>")})),
    "beginning and end": ({}, config(add_bos_token=True, add_eos_token=True)),
    "no beginning": ({}, config(add_bos_token=False)),
    "an end alone": ({"post_processor": None}, config(add_eos_token=True)),
    "nothing at the ends": ({"post_processor": None}, config()),
    "llama with an end": ({}, config(tokenizer_class="LlamaTokenizer", add_bos_token=True, add_eos_token=True)),
}


def main():
    own = json.loads((MODEL / "tokenizer.json").read_text())
    cases = {}
    for name, (change, files) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            changed = {**copy.deepcopy(own), **change}
            for file, value in {**files, "tokenizer.json": changed}.items():
                (Path(folder) / file).write_text(json.dumps(value))
            tokenizer = AutoTokenizer.from_pretrained(folder)
        whole = [tokenizer(text)["input_ids"] for text in TEXTS]
        cases[name] = {
            "change": change, "files": files, "class": type(tokenizer).__name__,
            "bare": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS], "whole": whole,
            "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in whole],
        }
    made = versions()
    out = {"about": "tokenizers of folders by transformers' AutoTokenizer", "made_with": made, "texts": TEXTS, "cases": cases}
    lines = [f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(case, ensure_ascii=False)}" for name, case in cases.items()]
    out["cases"] = "@"
    text = json.dumps(out, ensure_ascii=False, indent=1).replace('"@"', "{\n  " + ",\n  ".join(lines) + "\n }")
    json.loads(text)
    (GOLDEN / "tokenizer_files.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
