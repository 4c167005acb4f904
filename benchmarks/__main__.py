"""Run the benchmarks named on the command line, or all."""

from __future__ import annotations

import sys

from benchmarks import drain, options, redrive, report

BENCHMARKS = {"drain": drain.main, "options": options.main, "redrive": redrive.main, "report": report.main}


def main() -> int:
    """Run them one after the other; returns 2 for a name that is not known."""
    names = sys.argv[1:] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            print(f"error: there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
            return 2
    for name in names:
        print(f"== {name}", flush=True)
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
