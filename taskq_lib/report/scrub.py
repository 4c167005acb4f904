"""Secrets in what a run shows: found by their form, or by being this process's own, and replaced by what they were.

What is replaced: AWS keys and session tokens, bearer and Jupyter tokens, private keys, passwords in addresses, tokens
of common services, and the values that the environment keeps under a secret's name. Account ids go by choice.
A secret key alone has no form; it is known by the name before it, or by the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

#: What names a secret, before a colon or an equals sign, in quotes or not, in JSON or in HTML.
_NAME = (
    r"(?:secret[_ -]?access[_ -]?key|aws[_ -]?secret[_ -]?key|(?:session|security|access|auth|refresh)[_ -]?token"
    r"|passw(?:or)?d|passphrase|api[_ -]?key|client[_ -]?secret)"
)
_QUOTE = r"(?:\\?[\"']|&quot;|&\#3[49];)?"
_FORMS = {
    "AWS access key id": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "AWS session token": r"\b(?:IQoJb3JpZ2lu|FwoGZXIvYXdz|FQoGZXIvYXdz)[A-Za-z0-9/+=]{50,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    # A word of that length without a digit is a word.
    "bearer token": r"(?i:\bbearer|\bauthorization:\s*basic)\s+(?P<secret>(?=\S*\d)[A-Za-z0-9._~+/-]{16,}=*)",
    "token of a service": (
        r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}|\bxox[abposr]-[\w-]{10,}"
        r"|\b[sr]k_live_\w{16,}|\bAIza[\w-]{35}"
    ),
    "JSON web token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "token in an address": r"[?&](?:amp;)?(?i:token|X-Amz-Signature|X-Amz-Security-Token)=(?P<secret>[\w%/+=.-]{16,})",
    "password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s:@/\"'<>]+:(?P<secret>[^\s@/\"'<>]+)@",
    "secret by its name": rf"(?i:{_NAME}){_QUOTE}\s*[:=]\s*{_QUOTE}(?P<secret>(?!\[scrubbed)[^\s\"'&,;<>\\]{{8,}})",
}
_PATTERNS = {kind: re.compile(form, re.DOTALL) for kind, form in _FORMS.items()}
_SECRET_KEY = re.compile(_NAME, re.IGNORECASE)
#: Environment variables that hold a secret, by their names; a shorter value is a word such as `test`.
_VARIABLE = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|PRIVATE_KEY|API_?KEY|ACCESS_KEY")
_SHORTEST = 16
#: Where an account's number stands: in an ARN, a queue's address, or under its name.
_ACCOUNT = re.compile(
    r"arn:aws[\w-]*:[\w-]*:[\w-]*:(\d{12})\b|//[^/\s\"']+/(\d{12})/|account[\w\"':= \\]{1,20}?(\d{12})\b", re.I
)
#: Pictures: long, and no text.
_PICTURES = ("image/png", "image/jpeg")


def text(value: str, own: Collection[str] = ()) -> str:
    """Return a text in which every secret is replaced by what it was; those of `own` are found wherever they stand."""
    for secret in own:
        value = value.replace(secret, _mark("secret of the environment"))
    for kind, pattern in _PATTERNS.items():
        value = pattern.sub(_replacement(kind), value)
    return value


def tree(value: Any, clean: Callable[[str], str]) -> Any:
    """Return a value of JSON in which every text, names included, is cleaned; what a secret's name holds goes whole."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return [tree(member, clean) for member in value]
    if isinstance(value, Mapping):
        return {clean(str(name)): _member(str(name), member, clean) for name, member in value.items()}
    return value


def environment(variables: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the secrets that environment variables hold, the longest first."""
    found = {value for name, value in variables.items() if _VARIABLE.search(name.upper()) and len(value) >= _SHORTEST}
    # A path to a file of secrets is none.
    return tuple(sorted((value for value in found if not value.startswith("/")), key=len, reverse=True))


def cleaner(own: Collection[str], *, accounts_of: str = "") -> Callable[[str], str]:
    """Return what cleans one text; the account numbers that stand as such in `accounts_of` lose all but 4 digits."""
    accounts = {number for match in _ACCOUNT.finditer(accounts_of) for number in match.groups() if number}
    hidden = re.compile("|".join(rf"(?<!\d){number}(?!\d)" for number in sorted(accounts))) if accounts else None

    @cache
    def clean(value: str) -> str:
        value = text(value, own)
        return hidden.sub(lambda match: f"...{match[0][-4:]}", value) if hidden else value

    return clean


def leaks(page: str, own: Collection[str] = ()) -> list[str]:
    """Return the kinds of the secrets that a text still holds, however it is written: plain, in HTML or in JSON."""
    found = [kind for kind, pattern in _PATTERNS.items() if any(map(_is_secret, pattern.finditer(page)))]
    held = any(form in page for secret in own for form in _written(secret))
    return found + ["secret of the environment"] * held


def _written(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _member(name: str, value: Any, clean: Callable[[str], str]) -> Any:
    if name in _PICTURES and isinstance(value, str):
        return value
    if isinstance(value, str) and value and _SECRET_KEY.fullmatch(name) and not value.startswith("[scrubbed"):
        return _mark("secret by its name")
    return tree(value, clean)


def _replacement(kind: str) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        if not _is_secret(match):
            return match[0]
        # By its place: a short password may stand in the address a second time.
        group = "secret" if match.groupdict().get("secret") else 0
        begin, end = match.start(group) - match.start(), match.end(group) - match.start()
        return f"{match[0][:begin]}{_mark(kind)}{match[0][end:]}"

    return replace


def _is_secret(match: re.Match[str]) -> bool:
    return not (match.groupdict().get("secret") or match[0]).startswith("[scrubbed")


def _mark(kind: str) -> str:
    return f"[scrubbed: {kind}]"
