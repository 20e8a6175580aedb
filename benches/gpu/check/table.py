"""The results in few lines: what ended how, what failed and why, how fast it is."""

from collections import Counter

import outcome

# What comes back of an output.
MOST = 11_000
WIDTH = 150
# Failures that are told one by one.
TOLD = 25
# Dense bf16 products, TFLOP/s, and memory, GB/s, by the data sheets.
SHEETS = {"H200": (989, 4800), "H100 PCIe": (756, 2000), "H100": (989, 3350), "A100": (312, 2039),
          "L40S": (362, 864), "4090": (165, 1008)}


def group(name):
    """The line of the table that a part belongs to: section and form, or the part itself."""
    pieces = name.split("/")
    return "/".join(pieces[:2]) if pieces[0] == "kernels" else pieces[0] if pieces[0] == "steps" else name


def counted(results):
    """For each group, in order: how many parts ended how, and their seconds."""
    found = {}
    for result in results:
        counts, seconds = found.setdefault(group(result["part"]), (Counter(), [0.0]))
        counts[result["outcome"]] += 1
        seconds[0] += result["seconds"]
    return [(name, counts, seconds[0]) for name, (counts, seconds) in found.items()]


def outcomes(counts):
    if len(counts) == 1 and sum(counts.values()) == 1:
        return next(iter(counts))
    return ", ".join(f"{n} {how}" for how, n in counts.most_common())


def sheet(card):
    return next((rates for name, rates in SHEETS.items() if name in card), None)


def speeds(results):
    """All measured rates, one after the other."""
    return [speed for result in results for speed in result["values"].get("speeds", [])]


def peaks(results):
    """The best product and the copy, which others are held against: TFLOP/s, GB/s."""
    all_of = speeds(results)
    products = [s["tflop_s"] for s in all_of if s["speed"].startswith("product bf16,")]
    copies = [s["gb_s"] for s in all_of if s["speed"] == "copy on the card"]
    return max(products, default=None), max(copies, default=None)


def rate(speed, product, copy):
    """A measured rate in words, and its share of what the card was seen to do."""
    if "tflop_s" in speed:
        share = f", {speed['tflop_s'] / product * 100:.0f} % of the product" if product else ""
        return f"{speed['tflop_s']:.1f} TFLOP/s{share}"
    if "gb_s" in speed:
        share = f", {speed['gb_s'] / copy * 100:.0f} % of the copy" if copy else ""
        return f"{speed['gb_s']:,.0f} GB/s{share}"
    return ""


def described(about):
    card = about["card"]
    if not card:
        return "a card that nvidia-smi does not describe" if about["has_card"] else "no card"
    return f"{card.get('name')}, {card.get('memory.total')}, compute {card.get('compute_cap')}, driver {card.get('driver_version')}"


def short(about, results, seconds):
    rows = [f"{described(about)}; commit {about['commit'][:12]}; {about['at']}; {seconds:.0f} s in all"]
    for name, counts, took in counted(results):
        rows.append(f"{name:24} {outcomes(counts):50} {took:6.1f} s")
    bad = [r for r in results if r["outcome"] in outcome.BAD]
    for result in bad[:TOLD]:
        rows.append(f"{result['outcome'].upper()} {result['part']}: {result['why']}")
    if len(bad) > TOLD:
        rows.append(f"and {len(bad) - TOLD} more, in results.jsonl")
    compared = [r for r in results if "largest" in r["values"]]
    for result in compared:
        values = result["values"]
        largest = ", ".join(f"{d:.1e} (of {t})" for t, d in values["largest"].items())
        rows.append(f"{result['part']}: {values['runs']} runs, {values['n']} numbers, at most {largest} from the processor")
    product, copy = peaks(results)
    for speed in speeds(results):
        rows.append(f"  {speed['speed']:56} {speed['ms']:9.3f} ms  {rate(speed, product, copy)}")
    for result in results:
        if "tokens_s" in result["values"]:
            values = result["values"]
            rows.append(f"{result['part']}: {values['tokens_s']:,.0f} tokens/s, {values['ms']:.1f} ms a step")
    rows.append("FAILED" if bad else "nothing failed")
    return fit(rows)


def fit(rows):
    """The rows cut to their width, and the middle ones left out where they are too many."""
    rows = [row[:WIDTH] for row in rows]
    left_out = 0
    while sum(len(row) + 1 for row in rows) > MOST and len(rows) > 2:
        del rows[-2]
        left_out += 1
    if left_out:
        rows.insert(-1, f"({left_out} rows left out: results.jsonl)")
    return "\n".join(rows) + "\n"
