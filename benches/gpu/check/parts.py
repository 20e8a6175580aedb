"""All parts, their limits, and what runs beside what: in the order of what decides most."""

from dataclasses import dataclass

# As the files of logs are named.
SECTIONS = {
    "card": "the driver and what it shows",
    "kernels": "each kernel against its twin, as machine code and as text that the driver compiles",
    "steps": "whole steps of SFT, DPO and LoRA of each family against the CPU",
    "runs": "sweeps through `lions run`",
    "speed": "how fast kernels and steps are",
    "sanitizer": "compute-sanitizer over the kernels",
}
# Forms in which the driver is given the kernels: `LIONS_TEST_CARD` of the tests.
FORMS = ("machine-code", "text")
# See `shapes.py`.
SHAPES = ("135m", "1.1b", "2b")
SPEED = "gpu::speed_tests::"


@dataclass(frozen=True)
class Part:
    """`name` is its section and what it does; `seconds` its limit."""

    name: str
    seconds: float

    @property
    def section(self):
        return self.name.split("/")[0]


def stages(tests, families):
    """Parts that run beside each other, in turn: (how many at a time, parts)."""
    twins = [test for test in tests if not test.startswith(SPEED)]
    speeds = [test for test in tests if test.startswith(SPEED)]
    machine_code, text = ([Part(f"kernels/{form}/{test}", 45) for test in twins] for form in FORMS)
    return [
        (1, [Part("card/driver", 20), Part("card/doctor", 45)]),
        # A process each: after a fault no other call of that process is answered.
        (6, machine_code),
        (5, [Part(f"steps/{family}", 100) for family in families]),
        (3, [Part("runs/sweep", 100), Part("runs/twice", 80), Part("runs/resume", 80)]),
        (1, [Part("runs/shared", 80), Part("runs/host-state", 90)]),
        # The first compiles for all.
        (1, [Part(part.name, 90) for part in text[:1]]),
        (6, text[1:]),
        # Alone: they want the whole card.
        (1, [Part(f"speed/{test.removeprefix(SPEED)}", 45) for test in speeds]),
        (1, [Part(f"speed/{what}/{shape}", 60) for shape in SHAPES for what in ("step", "peer")]),
        (1, [Part("runs/memory", 60)]),
        (2, [Part("sanitizer/memcheck", 60), Part("sanitizer/racecheck", 60)]),
    ]


def names(tests, families):
    """Of all parts, in order."""
    return [part.name for _, parts in stages(tests, families) for part in parts]
