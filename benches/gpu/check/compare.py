"""Numbers of the card beside those of the processor."""

import math
import re

import models
import outcome

# Two orders of the same sums in f32: of a number's size, or of 1 where it is below.
F32 = 1e-4
# Rounded to bf16 at every step, 8 bits.
BF16 = 3e-2
# Not compared in bf16: what may flip as a whole, and differences of numbers that are compared themselves.
NOT_IN_BF16 = re.compile(r"accurac|rewards/|margin|_shift")
OF_THE_MACHINE = re.compile(r"secs|seconds|per_sec|memory|time|mfu|flops")


def apart(got, want):
    if math.isnan(got) and math.isnan(want):
        return 0.0
    distance = abs(got - want) / max(1.0, abs(want))
    return math.inf if math.isnan(distance) else distance


def metrics(what, got, want, tolerance):
    """(numbers compared, largest distance, of which); raises where they are not of the same things."""
    keep = {k for k in want if not OF_THE_MACHINE.search(k)}
    if tolerance > F32:
        keep = {k for k in keep if not NOT_IN_BF16.search(k)}
    missing = sorted(k for k in keep if k not in got)
    if missing:
        raise outcome.Ended(outcome.FAILED, f"{what}: the card gives no {missing[0]}")
    worst = max(((apart(got[k], want[k]), k) for k in keep), default=(0.0, ""))
    return len(keep), worst[0], worst[1]


def weights(got, want):
    """Relative distance (L2) of two files of weights."""
    a, b = models.weights(got), models.weights(want)
    if len(a) != len(b):
        return math.inf
    difference = math.fsum((x - y) ** 2 for x, y in zip(a, b))
    size = math.fsum(y * y for y in b)
    found = math.sqrt(difference / size) if size else math.inf
    return math.inf if math.isnan(found) else found


def all_runs(card, processor, tolerance_of):
    """Compares the runs of two projects; `tolerance_of(run)` says how closely."""
    if set(card) != set(processor) or not card:
        raise outcome.Ended(outcome.FAILED, f"{len(card)} runs on the card, {len(processor)} on the processor")
    count, worst = 0, {}
    for name, got in card.items():
        want, tolerance = processor[name], tolerance_of(name)
        for part in ("metrics", "steps"):
            n, distance, key = metrics(f"run {name}", got[part], want[part], tolerance)
            count += n
            if distance > tolerance:
                value = f"{got[part][key]:.9g}, on the processor {want[part][key]:.9g}"
                raise outcome.Ended(outcome.FAILED, f"run {name}, {key}: {value}", n=count)
            worst[tolerance] = max(worst.get(tolerance, 0.0), distance)
        if got["weights"]:
            distance = weights(got["weights"], want["weights"])
            count += 1
            worst[tolerance] = max(worst.get(tolerance, 0.0), distance)
            if distance > tolerance:
                raise outcome.Ended(outcome.FAILED, f"run {name}: weights {distance:.1e} apart", n=count)
    return {"runs": len(card), "n": count,
            "largest": {str(t): float(f"{d:.2e}") for t, d in sorted(worst.items())}}
