"""The command line: one file a command, each with `arguments(parser)` and `run(args) -> exit code`.

Exit codes: 0 done; 1 it ran and what it checks does not hold; 2 it could not run, or not go
on, and the message says what to do; 3 (`compare`) not enough data to say; 130 and 143 after Ctrl-C and SIGTERM.
"""

import sys

# `nbformat` imports `jsonschema`, which, where it can, has 39 grammars compiled for a format that no notebook has:
# 1.5 s of CPU at each start. What is None here cannot be imported; `jsonschema` then does without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
