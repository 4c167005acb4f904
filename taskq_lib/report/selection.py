"""Which dead letters are meant: the `select_` parameters of a redrive, read strictly and applied to an inventory.

Values within one parameter are alternatives, and the parameters narrow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd

from taskq_lib.errors import BadInput, did_you_mean
from taskq_worker.contract import ID_RULE, Reason, is_id, task_types

#: parameter -> column of the inventory whose value must be one of those named
_NAMED = {
    "select_signature": "signature_id",
    "select_type": "task_type",
    "select_reason": "reason",
    "select_ids": "task_id",
}
_TIMES = ("select_since", "select_until")


def read_list(text: str) -> list[str]:
    """Read names that are separated by commas; none for an empty text."""
    return [name.strip() for name in text.split(",")] if text.strip() else []


def read_types(text: str) -> list[str]:
    """Read task types; raises `BadInput` for one that is not registered."""
    return _known(read_list(text), task_types(), "task type")


def read_reasons(text: str) -> list[str]:
    """Read reasons of dead-lettering; raises `BadInput` for one that does not exist."""
    return _known(read_list(text), [str(reason) for reason in Reason], "reason")


def read_ids(text: str) -> list[str]:
    """Read task ids, or signature ids, which look alike; raises `BadInput` for what cannot be one."""
    found = read_list(text)
    for name in found:
        if not is_id(name):
            raise BadInput(f"Id {name[:100]!r} is not allowed: {ID_RULE}.", "Separate several by commas.")
    return found


def read_time(text: str) -> pd.Timestamp | None:
    """Read an ISO 8601 time with its zone; None for an empty text. Raises `BadInput`."""
    if not text:
        return None
    hint = "Write it as 2026-11-24T02:00:00Z; empty is open."
    try:
        time = pd.Timestamp(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is not a time.", hint) from error
    if pd.isna(time) or time.tzinfo is None:
        raise BadInput(f"{text!r} is not a time with a zone.", hint)
    return time.tz_convert("UTC")


def check(chosen: Mapping[str, Any]) -> None:
    """Raise `BadInput` where the selectors contradict each other; those that are not given are empty."""
    given = [name for name in (*_NAMED, *_TIMES) if chosen.get(name)]
    if chosen.get("select_all") and given:
        raise BadInput(
            f"select_all takes every dead letter, and {given[0]} only some.", f"Leave out select_all or {given[0]}."
        )
    since, until = (read_time(chosen.get(name, "")) for name in _TIMES)
    if since is not None and until is not None and since > until:
        raise BadInput(f"select_since, {since}, is later than select_until, {until}.")


def selected(letters: pd.DataFrame, chosen: Mapping[str, Any]) -> pd.Series[bool]:
    """Return which letters the selectors mean; without a selector all or, where `select_all` is False, none.

    `letters` has signature_id, task_type, reason, task_id (str) and at (datetime64[us, UTC]), when its task failed.
    """
    found = pd.Series(data=True, index=letters.index, dtype="bool")
    for parameter, column in _NAMED.items():
        if names := read_list(chosen[parameter]):
            found &= letters[column].isin(names)
    since, until = (read_time(chosen[name]) for name in _TIMES)
    if since is not None:
        found &= letters["at"] >= since
    if until is not None:
        found &= letters["at"] <= until
    any_given = any(chosen[name] for name in (*_NAMED, *_TIMES))
    return found if any_given or chosen["select_all"] else ~found & found


def refusal(letters: pd.DataFrame, chosen: Mapping[str, Any]) -> BadInput | None:
    """Return why acting on these selectors is to be refused: a signature or task that no letter has, or none at all.

    `letters` as for `selected`: all that could be meant.
    """
    for parameter, what in (("select_signature", "signature"), ("select_ids", "task")):
        there = letters[_NAMED[parameter]].dropna().unique().tolist()
        if absent := [name for name in read_list(chosen[parameter]) if name not in there]:
            sentence = f"No dead letter that was listed is of {what} {_some(absent)}; nothing was sent."
            return BadInput(sentence, f"{did_you_mean(absent[0], there)}There are {_some(there) or 'none'}.")
    if selected(letters, chosen).any():
        return None
    sentence = f"Nothing is selected, of {len(letters):,} dead letters that could be meant; nothing was sent."
    return BadInput(sentence, "Give a selector that fits, or select_all = True; 50_failures shows what there is.")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


#: How each text among the selectors is read.
FORMS: dict[str, Callable[[str], object]] = {
    "select_signature": read_ids,
    "select_type": read_types,
    "select_reason": read_reasons,
    "select_ids": read_ids,
    "select_since": read_time,
    "select_until": read_time,
}


def _known(names: list[str], allowed: Collection[str], what: str) -> list[str]:
    for name in names:
        if name not in allowed:
            hint = f"{did_you_mean(name, allowed)}There are {', '.join(allowed)}; separate by commas."
            raise BadInput(f"There is no {what} {name[:100]!r}.", hint)
    return names
