"""Everything about the engine on a card, in one call on a machine that has one.

    python3 benches/gpu/check pack .gpu      # here: builds what has to be carried there
    python3 .gpu/check run                   # there: bash, python3 and a driver; torch is compared with if it is there
    python3 benches/gpu/check report DIR     # here: DIR's results into reports/gpu.md

`README.md` beside this file says what is done, in which order and within which times.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(prog="check", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="build what has to be carried into a folder")
    pack.add_argument("folder", type=Path)
    pack.add_argument("--lions", type=Path, help="this program instead of building one")
    run = commands.add_parser("run", help="run all parts; 1 if one failed")
    run.add_argument("--only", help="parts, as patterns: `kernels/*,runs/sweep`")
    run.add_argument("--seconds", type=float, default=565.0, help="for all parts [default: 565]")
    run.add_argument("--out", type=Path, help="folder of results [default: $OUT, or /tmp/lions-check]")
    report = commands.add_parser("report", help="write reports/gpu.md")
    report.add_argument("results", type=Path, nargs="*", help="folders that `run` wrote")
    part = commands.add_parser("part", help="one part (what `run` starts)")
    part.add_argument("name")
    options = parser.parse_args()
    if options.command == "pack":
        import pack as module
    elif options.command == "run":
        import run as module
    elif options.command == "report":
        import report as module
    else:
        import bodies as module
    return module.main(options)


if __name__ == "__main__":
    sys.exit(main())
