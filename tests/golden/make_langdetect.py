"""Packs the profiles of langdetect into data/langdetect/profiles.zst, and its tables of characters.

    pip install langdetect==1.0.9 zstandard
    python tests/golden/make_langdetect.py

The first line of the unpacked text has the languages with the totals of their 1-, 2- and 3-grams; the next ones the
tables of characters (`messages.properties`); then a line a gram: it, and the languages (by number) with its counts.
"""
import json
import os
import langdetect
import zstandard

folder = os.path.dirname(langdetect.__file__)
names = sorted(os.listdir(os.path.join(folder, "profiles")))
profiles = [json.load(open(os.path.join(folder, "profiles", n), encoding="utf-8")) for n in names]
out = [" ".join(p["name"] + ":" + ",".join(map(str, p["n_words"])) for p in profiles)]
tables = {}
for line in open(os.path.join(folder, "utils", "messages.properties")):
    key, _, value = line.strip().partition("=")
    tables[key] = value.encode().decode("unicode_escape")
kanji = [v for k, v in tables.items() if k.startswith("NGram.KANJI_")]
vi = [tables["NORMALIZED_VI_CHARS_" + k] for k in ("0300", "0301", "0303", "0309", "0323")]
out += [
    tables["NGram.LATIN1_EXCLUDE"],
    tables["TO_NORMALIZE_VI_CHARS"],
    tables["DMARK_CLASS"],
    "\t".join(vi),
    "\t".join(kanji),
]
grams = {}
for index, profile in enumerate(profiles):
    for gram, count in profile["freq"].items():
        if 1 <= len(gram) <= 3:
            grams.setdefault(gram, []).append((index, count))
for gram in sorted(grams):
    assert "\t" not in gram and "\n" not in gram
    out.append(gram + "\t" + " ".join(f"{i}:{n}" for i, n in grams[gram]))
text = "\n".join(out).encode()
packed = zstandard.ZstdCompressor(level=22).compress(text)
target = os.path.join(os.path.dirname(__file__), "../../data/langdetect/profiles.zst")
open(target, "wb").write(packed)
print(len(profiles), "languages", len(grams), "grams", len(text), "bytes", len(packed), "packed")
