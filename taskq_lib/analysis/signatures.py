r"""The error signature: what two errors have in common when only ids, numbers and times tell them apart.

`CorruptInput: simulated failure of attempt 3` and `... attempt 1` are one bug; both have the signature
`CorruptInput: simulated failure of attempt <n>`. These rules make it, in this order, again and again until none of
them changes the text any more:

1. characters that do not print, and runs of white space, become one space;
2. the task's own id, whatever it looks like, becomes a number;
3. quoted text becomes `<text>`, also where our cut took the closing quote; an apostrophe in a word is no quote;
4. our cut mark (`... [cut, 1,234 characters]`) is dropped;
5. a URL becomes `<url>`, then an e-mail address `<email>`, a UUID `<uuid>`, a date or a time of day `<time>`,
   an IP address `<ip>`, and a file path that begins with `/`, `~/`, `./`, `../` or a drive `<path>`;
6. a word with a digit in it, or of 8 and more hexadecimal digits, with what `-`, `+` and `.` join to it, becomes `<n>`:
   numbers, `0x7f3a`, `run1-0000012`, `photo-000012.jpg`. One mask for all of them, since `12345678` may be any;
7. masks that stand in a list become one, as do the parts of `1,234,567`;
8. what comes after 200 characters is dropped: a long text was cut at another place for each id in it.

The error type stands before the text and is never masked, so that two types never share a signature.

The rules see one error at a time and nothing else, so a signature is the same in every run and for every order of the
errors, and a redrive can select by it. Drain3, the usual library for log templates, cannot promise that: its clusters
depend on the lines before, and on their order; besides, its last release, 0.9.11, is of July 2022.

They would rather merge than split: `HTTP 404` and `HTTP 503` are one signature, as are `KeyError: 'width'` and
`KeyError: 'height'`. What must be told apart needs an error type of its own. A name without digits or quotes is not
masked: it splits.
"""

import hashlib
import re
from functools import lru_cache

import pandas as pd

from taskq_lib.analysis import NOT_STATED, require

#: Rule 8. The function cuts at 500 characters; what is masked in them shortens them, by other amounts for other ids.
MAX_TEMPLATE_CHARS = 200
#: What is looked at, so that no text from outside can keep the rules busy; above what the function lets through.
_MAX_CHARS = 1_000

NO_TEXT = "<no text>"

_CUT = r"\.\.\. \[cut, [\d,]+ characters\]"
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?"
    r"|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
_DATE = rf"(?:\d{{4}}[-/]\d\d[-/]\d\d|(?:[A-Z][a-z]+, )?\d\d?[ /-]{_MONTH}[ /-]\d{{4}}|{_MONTH} +\d\d?(?:, \d{{4}})?)"
_ZONE = r"(?:Z| ?[+-]\d\d:?\d\d)?"
_CLOCK = rf"\d\d?:\d\d:\d\d(?:[.,]\d+)?{_ZONE}"

#: Rules 3 to 7: pattern, mask, flags. None begins in the middle of a word, so that a text is walked about once.
_RULES = [
    (re.compile(pattern, flags), mask)
    for pattern, mask, flags in (
        (rf"(?<!\w)[bBrRuU]?([\"'`]).*?(?:\1(?!\w)|{_CUT}$)", "<text>", 0),
        (_CUT, "", 0),
        (r"(?<![\w.+-])[a-z][\w.+-]{1,20}://[^\s<>\"'`]*[^\s<>\"'`.,;:!?)\]}]", "<url>", re.I),
        (r"(?<![\w.%+-])[\w.%+-]+@\w[\w-]*(?:\.[\w-]+)*", "<email>", 0),
        (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>", re.I),
        (rf"(?<![\w:])(?:{_DATE}(?:[T,: ]{{1,2}}(?:{_CLOCK}|\d\d:\d\d{_ZONE}))?|{_CLOCK})(?!:?\w)", "<time>", 0),
        (r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?!\.?\w)", "<ip>", 0),
        (
            r"(?<![\w:.])(?=[0-9a-f:]*::|(?:[0-9a-f]+:){7})(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|(?<=::)(?<!:::))(?!:?\w)",
            "<ip>",
            re.I,
        ),
        (r"(?<![\w.~/>])(?:[A-Za-z]:|~|\.\.?)?(?:[/\\][\w.@%+=-]*[\w@%+=-])+[/\\]?", "<path>", 0),
        (r"(?<!\w)[-+]?(?:\w+[-+.])*(?:\w*\d\w*|[0-9a-fA-F]{8,}(?!\w))(?:[-+.]\w+)*", "<n>", 0),
        (r"(<[a-z]+>)(?:, ?\1)+", r"\1", 0),
    )
]
#: Rule 2: what may be a task id; the contract's own rule, `contract.ID_RULE`, less a mark at its end.
_ID_LIKE = re.compile(r"[A-Za-z0-9](?:[\w.:-]*\w)?", re.ASCII)


def signature(
    error_type: "pd.Series[str]", error: "pd.Series[str]", task_id: "pd.Series[str] | None" = None
) -> "pd.Series[str]":
    """Give each error its signature, such as `CorruptInput: simulated failure of attempt <n>`.

    The series share one index; `task_id` is for rule 2. Where there is neither type nor text, the signature is missing;
    a missing type is "not stated", a missing or empty text (in a dead letter, `-`) is `<no text>`. Any text will do.
    """
    if task_id is not None:
        error = _without_own_id(error, task_id)
    # The rules run once for each distinct text; of the texts that come out, few differ.
    codes, texts = pd.factorize(error)
    templates = pd.array([_template(text) for text in texts], dtype="str").take(codes, allow_fill=True)
    template = pd.Series(templates, index=error.index)
    known = error_type.notna() | template.notna()
    return (error_type.fillna(NOT_STATED) + ": " + template.fillna(NO_TEXT)).where(known)


def signature_id(signature: "pd.Series[str]") -> "pd.Series[str]":
    """Name each signature by the first 8 hexadecimal digits of the SHA-256 of its UTF-8: the same in every run.

    Missing where the signature is. Of 1,000 signatures, two share an id in about one case of 8,600 (n^2 / 2^33).
    """
    codes, distinct = pd.factorize(signature)
    ids = [hashlib.sha256(text.encode()).hexdigest()[:8] for text in distinct]
    return pd.Series(pd.array(ids, dtype="str").take(codes, allow_fill=True), index=signature.index)


def signed(frame: pd.DataFrame, otherwise: str = "reason") -> pd.DataFrame:
    """Return `frame`, of dead letters or attempts, with two more columns: `signature` and `signature_id` (str).

    It needs `task_id`, `error_type`, `error` and `otherwise`, the column that stands in where there is no error: the
    `reason` of a dead letter, the `outcome` of an attempt. Raises `BadInput` for a missing column.
    """
    require(frame, "frame", "task_id", "error_type", "error", otherwise)
    found = signature(frame["error_type"], frame["error"], frame["task_id"])
    found = found.fillna(frame[otherwise].astype("str")).fillna(NOT_STATED)
    return frame.assign(signature=found, signature_id=signature_id(found))


def _without_own_id(error: "pd.Series[str]", task_id: "pd.Series[str]") -> "pd.Series[str]":
    """Turn each task's own id into a number in its error, so that the later rules see one (rule 2)."""
    pairs = zip(error.fillna("").tolist(), task_id.fillna("").tolist(), strict=True)
    texts = [_without(text, own) if own and own in text else text for text, own in pairs]
    return pd.Series(pd.array(texts, dtype="str"), index=error.index).where(error.notna())


def _without(text: str, own: str) -> str:
    # Between spaces it is a word for sure; only where it stands elsewhere too, the words have to be looked for.
    numbered = f" {text} ".replace(f" {own} ", " 0 ")
    if own not in numbered and _ID_LIKE.fullmatch(own):
        return numbered[1:-1]

    def number(found: re.Match[str]) -> str:
        # The id is a word of the text: `run-1` does not stand in `run-10`.
        return "0" if found[0] == own else found[0]

    return _ID_LIKE.sub(number, text)


def _template(text: str) -> str:
    """Apply the rules to one text until none changes it, so that a template is its own template."""
    return _settled(_masked(text[:_MAX_CHARS]))


@lru_cache(maxsize=10_000)
def _settled(text: str) -> str:
    """Apply the rules to a text that they have been applied to; most come out as they went in."""
    # It ends: each change leaves fewer characters that a rule looks for, or a shorter text.
    while (masked := _masked(text)) != text:
        text = masked
    return text if text.strip("- ") else NO_TEXT


def _masked(text: str) -> str:
    """Apply each rule once."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    for pattern, mask in _RULES:
        text = pattern.sub(mask, text)
    return text[:MAX_TEMPLATE_CHARS].strip()
