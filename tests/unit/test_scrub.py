"""No secret stays in what is shared: found by its form, by its name, or because it is this process's own."""

import json
import string
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import v4

from taskq_lib.report import pages, runs, scrub

KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzzzzzzzzzz"
#: Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "AWS access key id": "AKIA" + "Q3EGRZPLMN7XWV2T",
    "AWS access key id of a session": "ASIA" + "Q3EGRZPLMN7XWV2T",
    "AWS secret access key": f"aws_secret_access_key = {KEY}",
    "AWS secret access key in JSON": f'{{"SecretAccessKey": "{KEY}"}}',
    "AWS secret access key in HTML": f"&quot;secretAccessKey&quot;: &quot;{KEY}&quot;",
    "AWS secret access key in Python": f"{{'aws_secret_access_key': '{KEY}'}}",
    "AWS session token": "IQoJb3JpZ2lu" + "X2VjEJr/" * 30,
    "bearer token": "Authorization: Bearer " + "abcDEF0123456789._~+/-==",
    "basic authorization": "authorization: Basic " + "dXNlcjpodW50ZXIy" + "Zm9v==",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----",
    "private key, cut": "-----BEGIN " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA",
    "password in an address": "postgres://user:" + "hunter2@db.example.com/x",
    "Jupyter token": "http://127.0.0.1:8888/lab?token=" + "0123456789abcdef0123456789abcdef",
    "presigned address": "https://b.s3.amazonaws.com/k?X-Amz-Expires=9&X-Amz-Signature=" + "0a1b" * 16,
    "GitHub token": "ghp_" + "aB3" * 12,
    "Slack token": "xoxb-" + "123456789012-abcdef",
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.abcdefghijk",
    "password by its name": "password=" + "correct-horse",
    "API key by its name": "api_key: '" + "0123456789abcdef'",
}
HARMLESS = [
    "the password is wrong",
    "secret access key",
    "commit 1bb2b4552dbe94c5d3c6f2e8a9b0c1d2e3f4a5b6",
    "sha256 54a6eec128b860d1640c2264b4215aad1898216db8e0efd549a48b97ff7fd285",
    "arn:aws:sqs:us-east-1:000000000000:taskq",
    "http://127.0.0.1:43455/a?b=c",
    "AKIA is how a key begins",
    "mailto:ann@example.com at 10:30",
    "basic responsibilities of the bearer characteristically",
    "Authorization: basic understanding-of-things",
]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_replaced(secret: str) -> None:
    """A secret goes, what is around it stays, its kind is told, and the check that nothing leaks agrees."""
    found = scrub.text(f"before {secret}, after")
    assert secret.partition("= ")[2] not in found or "= " not in secret
    assert KEY not in found
    assert found.startswith("before ")
    assert "[scrubbed: " in found
    assert scrub.leaks(f"before {secret}, after") != []
    assert scrub.leaks(found) == []
    assert scrub.text(found) == found


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    """Hashes, ARNs, addresses and prose about secrets are left as they are."""
    assert scrub.text(text) == text
    assert scrub.leaks(text) == []


@given(text=st.text(st.sampled_from(string.printable), max_size=200) | st.text(max_size=100))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    """What is scrubbed holds no secret, so that a page that is rendered anew has the same bytes."""
    once = scrub.text(text)
    assert scrub.text(once) == once
    assert scrub.leaks(once) == []


def test_the_environments_own_secrets_are_found() -> None:
    """Values under a secret's name are secrets, wherever they stand; short words, paths and other values are none."""
    variables = {
        "AWS_SECRET_ACCESS_KEY": "x" * 40,
        "MY_API_KEY": "y" * 20,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/token-of-the-pod",
        "PATH": "/usr/bin:/usr/local/bin",
    }
    own = scrub.environment(variables)
    assert own == ("x" * 40, "y" * 20)
    assert scrub.text(f"a{'x' * 40}b", own) == "a[scrubbed: secret of the environment]b"
    odd = 'long & <odd> "secret" value'
    for page in (odd, 'long &amp; &lt;odd&gt; "secret" value', json.dumps(odd)):
        assert scrub.leaks(page, (odd,)) == ["secret of the environment"]


def test_texts_are_cleaned_however_deep() -> None:
    """Names and values are cleaned at any depth; what stands under a secret's name goes whole; pictures stay."""
    key = SECRETS["AWS access key id"]
    tree = {"a": [key, {"b": f"x {key}"}], key: 1, "password": "short", "image/png": key, "n": 3}
    mark = "[scrubbed: AWS access key id]"
    assert scrub.tree(tree, scrub.cleaner(())) == {
        "a": [mark, {"b": f"x {mark}"}],
        mark: 1,
        "password": "[scrubbed: secret by its name]",
        "image/png": key,
        "n": 3,
    }


def test_account_ids_go_by_choice() -> None:
    """Asked to, an account's number loses all but its last four digits wherever it stands; other numbers stay."""
    texts = "arn:aws:sqs:eu-central-1:123456789012:taskq taskq-code-123456789012-eu 210987654321"
    assert scrub.cleaner(())(texts) == texts
    hidden = scrub.cleaner((), accounts_of=texts)
    assert hidden(texts) == "arn:aws:sqs:eu-central-1:...9012:taskq taskq-code-...9012-eu 210987654321"
    assert scrub.cleaner((), accounts_of='{"account": "210987654321"}')("of 210987654321") == "of ...4321"


def test_a_run_is_scrubbed_before_its_pages_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of outputs, metadata, parameters and results no secret stays, neither in the files nor on a page."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    everything = "\n".join(SECRETS.values())
    run = runs.create("r", tmp_path / "runs", failure=everything, parameters={"edit": everything}, state="failed")
    outputs: list[Any] = [
        v4.new_output("stream", name="stdout", text=everything),  # type: ignore[no-untyped-call]
        v4.new_output("display_data", {"text/html": everything, "application/json": {"a": everything}}),  # type: ignore[no-untyped-call]
        v4.new_output("error", ename="E", evalue=everything, traceback=[everything]),  # type: ignore[no-untyped-call]
    ]
    cell = v4.new_code_cell(f"edit = {everything!r}", outputs=outputs)  # type: ignore[no-untyped-call]
    metadata = {"papermill": {"parameters": {"edit": everything, "alone": KEY}}}
    nbformat.write(v4.new_notebook(cells=[cell], metadata=metadata), run.folder / "50_failures.ipynb")  # type: ignore[no-untyped-call]
    pages.write_all(run)
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"50_failures.ipynb", "50_failures.html", "index.html", "summary.md", "results.json"}
    for name in names:
        text = (run.folder / name).read_text()
        assert scrub.leaks(text, (KEY,)) == [], name
        assert "MIIEpAIBAAKCAQEA" not in text
        assert "hunter2" not in text
    kept = nbformat.read(run.folder / "50_failures.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(kept)
    assert "[scrubbed: bearer token]" in kept.cells[0].outputs[0].text


def test_only_the_secret_itself_is_replaced() -> None:
    """A password that is a part of its own address leaves the rest of that as it is."""
    assert scrub.text("postgres://u:" + "p@db") == "postgres://u:[scrubbed: password in an address]@db"
