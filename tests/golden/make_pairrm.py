"""A tiny random PairRM in the layout of llm-blender/PairRM-hf, and what llm-blender makes of it.

Folder pairrm/ with config.json, model.safetensors and tokenizer.json (a SentencePiece-like unigram
tokenizer of words of our data, with the special tokens of DeBERTa and the marks of PairRM), and
pairrm.json: for a few prompts with three replies the logit of every ordered pair and the score of
every reply.

    pip install --no-deps llm-blender==0.0.2
    python tests/golden/make_pairrm.py

Of llm-blender only single pieces are used (the package asks for much older versions of
transformers): the model `DebertaV2PairRM`, the function `tokenize_pair` and the function
`get_scores_from_cmps`. The script asserts that the log buckets of far positions, the cut at
max_position_embeddings and the truncation of texts matter. Versions: see `made_with`.
"""

import ast
import importlib.util
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import DebertaV2Config, PreTrainedTokenizerFast

from common import GOLDEN, ROOT, rows, settle, versions, write_json

FOLDER = GOLDEN / "pairrm"
PACKAGE = Path(importlib.util.find_spec("llm_blender").submodule_search_locations[0])
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
MARKS = ["<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"]
PAIRS = "data/pref/polite_test.jsonl"
LENGTHS = [(1224, 412), (24, 20)]


def pairrm_class():
    spec = importlib.util.spec_from_file_location("pairrm", PACKAGE / "pair_ranker" / "pairrm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DebertaV2PairRM


def function(path, name):
    """One function of a file that cannot be imported whole."""
    tree = ast.parse((PACKAGE / path).read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", None) == name]
    scope = {"np": np, "List": list}
    exec(compile(tree, path, "exec"), scope)
    return scope[name]


def make_tokenizer(texts):
    """Characters and whole words by their frequency; the trainer of `tokenizers` is not reproducible."""
    words = Counter("▁" + word for text in texts for word in text.split())
    chars = Counter(char for word, n in words.items() for char in word for _ in range(n))
    counts = {**chars, **{word: n for word, n in words.items() if n > 1 and len(word) > 2}}
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    vocab = [(t, 0.0) for t in SPECIAL] + [(t, math.log(n / total)) for t, n in ranked]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=SPECIAL.index("[UNK]")))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        unk_token="[UNK]", mask_token="[MASK]")
    fast.add_tokens(MARKS)
    return fast


def randomise(model):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if "LayerNorm.weight" in name:
                weight.copy_(1 + 0.2 * noise)
            elif weight.dim() == 2 and "embeddings" not in name:
                weight.copy_(noise * (3 / weight.shape[1] ** 0.5))
            else:
                weight.copy_(0.5 * noise)


def main():
    settle()
    ids = [json.loads(line)["id"] for line in (ROOT / PAIRS).read_text().splitlines()[:6]]
    picked = rows(PAIRS, ids)
    texts = [t for row in picked for t in texts_of(row)]
    tokenizer = make_tokenizer(texts)
    marks = dict(zip(MARKS, tokenizer.convert_tokens_to_ids(MARKS)))
    config = DebertaV2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, hidden_act="gelu", max_position_embeddings=64, type_vocab_size=0,
        relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
        max_relative_positions=-1, layer_norm_eps=1e-7, pad_token_id=0)
    config.n_tasks, config.drop_out = 2, 0.05
    config.sep_token_id = tokenizer.sep_token_id
    config.source_prefix_id = marks["<|source|>"]
    config.cand_prefix_id = marks["<|candidate|>"]
    config.cand1_prefix_id = marks["<|candidate1|>"]
    config.cand2_prefix_id = marks["<|candidate2|>"]
    model = pairrm_class()(config).eval()
    randomise(model)

    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    config.architectures = ["DebertaV2PairRM"]
    (FOLDER / "config.json").write_text(json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n")
    state = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(state, FOLDER / "model.safetensors")
    (FOLDER / "model.safetensors").chmod(0o644)
    tokenizer.backend_tokenizer.save(str(FOLDER / "tokenizer.json"), pretty=False)

    tokenize_pair = function("blender/blender_utils.py", "tokenize_pair")
    get_scores = function("gpt_eval/utils.py", "get_scores_from_cmps")

    def logits(prompt, replies, lengths, model=model):
        matrix = np.zeros((len(replies), len(replies)))
        longest = 0
        for i, left in enumerate(replies):
            for j, right in enumerate(replies):
                if i != j:
                    batch = tokenize_pair(tokenizer, [prompt], [left], [right], *lengths)
                    longest = max(longest, int(batch["attention_mask"].sum()))
                    with torch.no_grad():
                        matrix[i, j] = model(**batch, return_dict=True).logits.item()
        return matrix, longest

    cases = []
    for k in range(3):
        prompt, chosen, rejected = texts_of(picked[k])
        replies = [chosen, rejected, texts_of(picked[k + 3])[1] if k < 2 else ""]
        for lengths in LENGTHS:
            matrix, longest = logits(prompt, replies, lengths)
            scores = get_scores(matrix[None])[0]
            cases.append({"prompt": prompt, "replies": replies, "lengths": list(lengths),
                          "longest": longest, "logits": matrix.tolist(),
                          "scores": [float(s) for s in scores]})
    assert max(c["longest"] for c in cases) > 2 * config.max_position_embeddings
    full, cut = cases[0], cases[1]
    assert not np.allclose(full["logits"], cut["logits"], atol=1e-2), "truncation changes nothing"
    for change in ({"position_buckets": -1}, {"max_relative_positions": 256}):
        other = DebertaV2Config(**{**config.to_dict(), **change})
        for name in ("n_tasks", "drop_out", "sep_token_id", "source_prefix_id", "cand_prefix_id",
                     "cand1_prefix_id", "cand2_prefix_id"):
            setattr(other, name, getattr(config, name))
        changed = pairrm_class()(other).eval()
        weights = model.state_dict()
        if "position_buckets" in change:
            table = "pretrained_model.encoder.rel_embeddings.weight"
            weights = {**weights, table: weights[table].repeat(4, 1)}
        changed.load_state_dict(weights)
        got, _ = logits(full["prompt"], full["replies"], LENGTHS[0], changed)
        assert not np.allclose(got, full["logits"], atol=1e-2), f"{change} changes nothing"
    spread = np.ptp(full["logits"])
    assert spread > 0.5, f"logits are all alike: {spread}"
    write_json("pairrm.json", {"made_with": versions("llm-blender"), "cases": cases}, depth=1)


def texts_of(row):
    """Prompt, preferred reply and the other, as lines `role: content` and plain text."""
    prompt = row["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    reply = lambda value: value if isinstance(value, str) else value[-1]["content"]
    lines = "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    return lines, reply(row["chosen"]), reply(row["rejected"])


if __name__ == "__main__":
    main()
