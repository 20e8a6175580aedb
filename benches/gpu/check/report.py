"""Writes the part of `reports/gpu.md` that says what ran on a card and what never did.

Results are kept in `reports/gpu.jsonl`, so that what ran once is known when later results are of some parts only. What
has never run is all parts that the sources have, without those that have a result of a card.
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import outcome
import parts
import sources
import table

ROOT = Path(__file__).resolve().parents[3]
BEGIN, END = "<!-- check: begin -->", "<!-- check: end -->"


def read(path):
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def of_a_card(lines):
    """Runs on a card of a file of results, `(about, results)` each; results carry what `about` knows."""
    runs = []
    for line in lines:
        if line["part"] == "about":
            runs.append((line, []))
        elif runs:
            runs[-1][1].append(line)
    return [(about, [r for r in results if r["outcome"] in outcome.RAN])
            for about, results in runs if about["has_card"]]


def key(about):
    return about["at"], about["commit"]


def merged(old, new):
    """Runs by their time; one that is known already is taken once."""
    found = OrderedDict((key(about), (about, results)) for about, results in [*old, *new])
    return [found[k] for k in sorted(found)]


def latest(runs):
    """The last result of each part: (about, result)."""
    return {r["part"]: (about, r) for about, results in runs for r in results}


def plural(n, word):
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def words(name):
    return name.replace("_", " ").replace("-", " ")


def module(test):
    """`gpu::ops::norm::tests::x` is of `ops/norm`."""
    pieces = test.split("::")[1:-1]
    return "/".join(p for p in pieces if p != "tests").removesuffix("_tests")


def lines_of(name):
    """The row of the page that a part is counted in, and the part within it."""
    pieces = name.split("/")
    if pieces[0] == "kernels":
        return f"kernels: `{module(pieces[2])}`", f"{words(pieces[2].split('::')[-1])} ({words(pieces[1])})"
    if pieces[0] == "steps":
        return "steps on the card and on the processor", pieces[1]
    if pieces[0] == "speed" and len(pieces) == 3:
        return {"step": "training steps, timed", "peer": "the same by transformers"}[pieces[1]], pieces[2]
    if pieces[0] == "speed":
        return "kernels, timed", words(pieces[1])
    return pieces[0], pieces[1]


def status(all_parts, found):
    """Rows of the table: of each line of parts how many ran, how they ended, and on what."""
    rows = OrderedDict()
    for name in all_parts:
        row, of_it = lines_of(name)
        rows.setdefault(row, []).append((of_it, found.get(name)))
    for row, some in rows.items():
        ran = [x for x in some if x[1]]
        bad = [f"{of_it} {r['outcome']}: {r['why']}" for of_it, got in ran for r in [got[1]] if r["outcome"] != outcome.OK]
        if not ran:
            yield row, f"0 of {len(some)}", "never"
            continue
        about = max((about for _, (about, _) in ran), key=key)
        name = about["card"].get("name", "a card")
        where = f"{name}, {about['at'][:10]}, {about['commit'][:12]}"
        text = "; ".join(bad[:3]) + ("; …" if len(bad) > 3 else "") if bad else "right"
        yield row, f"{len(ran)} of {len(some)}", f"{text.replace('|', '/')} ({where})"


def never(all_parts, found):
    """What has no result, by line."""
    rows = OrderedDict()
    for name in all_parts:
        if name not in found:
            row, of_it = lines_of(name)
            rows.setdefault(row, []).append(of_it)
    return rows


def measured(found):
    """Rows of all rates, with the number of calls."""
    results = [result for _, result in found.values()]
    product, copy = table.peaks(results)
    for speed in table.speeds(results):
        yield speed["speed"], speed["n"], f"{speed['ms']:.3f}", table.rate(speed, product, copy)


def compared(found):
    for name, (_, result) in found.items():
        values = result["values"]
        if "largest" in values:
            largest = "; ".join(f"{d:.1e} of {t} allowed" for t, d in values["largest"].items())
            yield name, values["runs"], values["n"], largest


def steps(found):
    for name, (_, result) in found.items():
        values = result["values"]
        if "tokens_s" in values:
            yield name, values["n"], f"{values['tokens_s']:,.0f}", f"{values['ms']:.1f}"


def rows_of(heads, rows):
    """A table in Markdown, or nothing."""
    rows = [" | ".join(str(cell) for cell in row) for row in rows]
    if not rows:
        return []
    return ["", f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |", *(f"| {r} |" for r in rows)]


def page(all_parts, runs):
    """The part of the page between its marks."""
    found = {name: got for name, got in latest(runs).items() if name in set(all_parts)}
    out = [BEGIN, "<!-- written by `python3 benches/gpu/check report`; what stands outside the marks is not -->", ""]
    if not found:
        out += ["**Nothing of the program as it is now has run on a card**: its driver, cuBLAS and kernels have been tried on an",
                "emulation and on a driver that pretends."]
    else:
        out.append(f"{plural(len(found), 'part')} of {len(all_parts)} ran on a card; the last result of each counts.")
        out += rows_of(("card", "driver", "when", "commit", "parts"),
                       ((a["card"].get("name", "?"), a["card"].get("driver_version", "?"), a["at"], a["commit"][:12], len(r))
                        for a, r in runs))
    out += rows_of(("what", "ran", "result"), status(all_parts, found))
    missing = never(all_parts, found)
    if missing and found:
        out += ["", "**Never ran on a card:**", ""]
        out += [f"- {row}: {', '.join(some)}" for row, some in missing.items()]
    elif not missing:
        out += ["", "Every part has run on a card."]
    for title, heads, rows in (
        ("Numbers of the card beside the processor's", ("part", "runs", "numbers", "largest distance"), compared(found)),
        ("Kernels, median of n calls", ("what", "n", "ms", "rate"), measured(found)),
        ("Steps, median of n", ("part", "n", "tokens/s", "ms"), steps(found)),
    ):
        lines = rows_of(heads, rows)
        out += ["", f"{title}:", *lines] if lines else []
    return "\n".join([*out, END])


def placed(text, new):
    """The page with what stands between the marks replaced."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"check: reports/gpu.md has no `{BEGIN}` and `{END}` to write between")
    return text[:text.index(BEGIN)] + new + text[text.index(END) + len(END):]


def kept(runs):
    lines = [line for about, results in runs for line in (about, *results)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def write(root, folders):
    """Takes up the results of some folders and writes the page; how many runs on a card they hold."""
    store, target = root / "reports/gpu.jsonl", root / "reports/gpu.md"
    new = [run for folder in folders for run in of_a_card(read(folder / "results.jsonl"))]
    runs = merged(of_a_card(read(store)), new)
    if runs:
        store.write_text(kept(runs), encoding="utf-8")
    all_parts = parts.names(sources.card_tests(root), sources.families(root))
    text = target.read_text(encoding="utf-8")
    target.write_text(placed(text, page(all_parts, runs)), encoding="utf-8")
    return len(new)


def main(options):
    for folder in options.results:
        if not (folder / "results.jsonl").exists():
            print(f"check: no results.jsonl in {folder}", file=sys.stderr)
            return 2
    taken = write(ROOT, options.results)
    print(f"reports/gpu.md: {plural(taken, 'run')} on a card taken up")
    return 0
