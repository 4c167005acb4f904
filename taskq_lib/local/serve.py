"""What the engine's process runs: MiniStack, with one function remembered.

The function's statements come again and again with other parameters, and MiniStack splits the text of each into
tokens anew, twice: a fifth of all its work in a drain. Splitting is pure, so what it returned is remembered.
"""

import functools

from ministack.app import main
from ministack.services import _dynamodb_keywords as partiql

if __name__ == "__main__":
    # The version is pinned; should the name go with another one, that version says so here and not in a slow run.
    partiql._tokenize = functools.lru_cache(maxsize=1024)(partiql._tokenize)  # noqa: SLF001
    main()
