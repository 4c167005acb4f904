"""Run the benchmarks named on the command line, or all; `--write` puts what they found into docs/benchmarks.md."""

from __future__ import annotations

import importlib
import sys
import time

from benchmarks import table

#: Each is a module with `main() -> list[Row]`, and `FIGURES` where it draws some.
BENCHMARKS = (
    "analysis",
    "compare",
    "concurrency",
    "drain",
    "export",
    "function",
    "options",
    "redrive",
    "report",
    "scaling",
    "status",
    "submit",
)


def main() -> int:
    """Run them one after the other; returns 2 for a name that is not known."""
    words = [word for word in sys.argv[1:] if word != "--write"]
    if unknown := [word for word in words if word not in BENCHMARKS]:
        print(f"error: there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in words or BENCHMARKS:
        print(f"== {name}", flush=True)
        module = importlib.import_module(f"benchmarks.{name}")
        begun = time.monotonic()
        rows: list[table.Row] = module.main()
        print(*rows, sep="\n", flush=True)
        if "--write" in sys.argv:
            says = " ".join((module.__doc__ or "").split())
            figures = getattr(module, "FIGURES", ())
            table.write({name: table.section(name, says, rows, figures, time.monotonic() - begun)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
