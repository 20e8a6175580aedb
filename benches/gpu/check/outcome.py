"""How a part can end, and how it tells."""

import json

OK = "ok"
FAILED = "failed"
CRASHED = "crashed"
TIMED_OUT = "timed out"
NO_CARD = "no card"
NOT_BUILT = "not in this build"
NOT_HERE = "not here"
NO_TIME = "no time left"

# What makes `run` end with 1.
BAD = (FAILED, CRASHED, TIMED_OUT)
# What says something about the card.
RAN = (OK, *BAD)

# The line by which a part tells its outcome begins so; the last one counts.
MARK = "@result "


class Ended(Exception):
    """A part ends with this outcome."""

    def __init__(self, outcome, why="", **values):
        super().__init__(why)
        self.outcome, self.why, self.values = outcome, why, values


def line(outcome, why="", values=None):
    return MARK + json.dumps({"outcome": outcome, "why": why, "values": values or {}})


def told(text):
    """What a line tells, or None."""
    if not text.startswith(MARK):
        return None
    try:
        found = json.loads(text[len(MARK):])
        return found if isinstance(found, dict) and isinstance(found.get("outcome"), str) else None
    except ValueError:
        return None


def first_line(text, width=300):
    lines = [x.strip() for x in text.splitlines() if x.strip()]
    return lines[0][:width] if lines else ""


def last_line(text, width=300):
    lines = [x.strip() for x in text.splitlines() if x.strip()]
    return lines[-1][:width] if lines else ""
