"""How many pairs of a sequence stand in the wrong order, counted by merging."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: So many neighbours are compared each with each; what is longer is merged of these.
_LEAF = 64


def inversions(numbers: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return of how many greater ones before it each place of `numbers` was passed, and sort these, all different.

    Counts stand where a number came to stand in some merge. Where a stretch holds just the numbers that belong there,
    as the ranks of one group after those of another, the sum over it is its number of inversions; no other is promised.

    A merge sort in rows: n log n steps, about n where most are near their place, since only what overlaps is merged.
    """
    n = len(numbers)
    counts = np.zeros(n, dtype=np.int64)
    for rows, found in _in_rows(numbers, counts, _LEAF):
        _sort_leaves(rows, found)
    half = _LEAF
    while half < n:
        for rows, found in _in_rows(numbers, counts, 2 * half):
            _merge(rows, found, half)
        half *= 2
    return counts


def _in_rows(numbers: NDArray[np.int32], counts: NDArray[np.int64], width: int) -> list[tuple[Any, Any]]:
    """Lay both out in rows, and what is left over in a shorter one."""
    whole = len(numbers) // width * width
    parts = [(numbers[:whole].reshape(-1, width), counts[:whole].reshape(-1, width))]
    parts += [(numbers[whole:].reshape(1, -1), counts[whole:].reshape(1, -1))]
    return [(rows, found) for rows, found in parts if rows.size]


def _sort_leaves(rows: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
    columns = np.ascontiguousarray(rows.T)
    for place in range(1, len(columns)):
        greater = (columns[:place] > columns[place]).view(np.uint8)
        counts[:, place] = greater.sum(axis=0, dtype=np.uint8)
    rows.sort(axis=1)


def _merge(rows: NDArray[np.int32], counts: NDArray[np.int64], half: int) -> None:
    """Merge the two halves of each row, both sorted."""
    left, right = rows[:, :half], rows[:, half:]
    if not right.size:
        return
    n_left = int(np.count_nonzero(left > right[:, :1], axis=1).max())
    n_right = int(np.count_nonzero(right < left[:, -1:], axis=1).max())
    # What is outside of these places is in its place in each row.
    there = slice(half - n_left, half + n_right)
    both = 2 * rows[:, there]
    both[:, n_left:] += 1
    both.sort(axis=1)
    is_right = both & 1
    rows[:, there] = both >> 1
    # Of the left half come after a number of the right just those that it passed.
    counts[:, there] += is_right * (n_left - np.cumsum(1 - is_right, axis=1, dtype=np.int32))
