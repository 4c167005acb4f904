"""Ids that a producer numbered, such as `20261124T020000Z-ab12-0000012`, read as their numbers.

To join a million ids by a hash of each takes longer than all else that is counted of them. Where they differ only in
the digits at their end, as those of `workload` do, the digits are as good, and an array is the index.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

#: Sums of so many digits are exact in a float64.
_MAX_DIGITS = 15
#: Rows that are read at a time: they stay in the processor's cache.
_ROWS = 16_384
#: Numbers that leave more gaps than this, each for one that is there, are no good as places in an array.
_MAX_GAPS = 8


def serials_of(columns: Sequence[ExtensionArray]) -> NDArray[np.int64] | None:
    """Return the number that each text ends in less the lowest, of all `columns` on end.

    None where two texts might differ in anything else: in length, or before their last digits; where one is missing,
    where there is none, and where the numbers are too far apart to be places in an array.
    """
    chunks = [chunk for column in columns for chunk in pa.chunked_array(pa.array(column)).chunks if len(chunk)]
    if not chunks or any(chunk.null_count or not pa.types.is_large_string(chunk.type) for chunk in chunks):
        return None
    text = chunks[0][0].as_py().encode()
    n_digits = min(_MAX_DIGITS, len(text) - len(text.rstrip(b"0123456789")))
    if not n_digits:
        return None
    # What may be added to each byte of a row: to the head nothing, to a zero up to nine.
    least = np.frombuffer(text[:-n_digits] + b"0" * n_digits, np.uint8)
    most = np.repeat(np.array([0, 9], np.uint8), (len(text) - n_digits, n_digits))
    least, most = np.tile(least, _ROWS), np.tile(most, _ROWS)
    power = 10.0 ** np.arange(n_digits)[::-1]
    numbers, n = np.empty(sum(map(len, chunks)), dtype=np.int64), 0
    for row_bytes in _blocks(chunks, len(text)):
        if row_bytes is None:
            return None
        digits = row_bytes - least[: len(row_bytes)]
        if (digits > most[: len(digits)]).any():
            return None
        some = digits.reshape(-1, len(text))[:, -n_digits:].astype(np.float64) @ power
        numbers[n : n + len(some)] = some
        n += len(some)
    numbers -= numbers.min()
    return numbers if numbers.max() < (1 + _MAX_GAPS) * len(numbers) else None


def _blocks(chunks: Sequence[pa.Array], width: int) -> Iterator[NDArray[np.uint8] | None]:
    """Yield the bytes of the texts on end, some at a time; None where one is not `width` long."""
    for chunk in chunks:
        _, ends, text = chunk.buffers()
        ends = np.frombuffer(ends, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        bytes_ = np.frombuffer(text, np.uint8) if text else np.empty(0, np.uint8)
        for begin in range(0, len(chunk), _ROWS):
            some = ends[begin : begin + _ROWS + 1]
            is_even = bool((np.diff(some) == width).all())
            yield bytes_[some[0] : some[-1]] if is_even else None
