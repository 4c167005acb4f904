"""The pages of a run: one for each executed notebook, `index.html` that holds the whole, and `summary.md`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from taskq_lib.report import markdown, provenance, rendering, runs_list, scrub, summary
from taskq_lib.report.executed import Page, page_of
from taskq_lib.report.runs import Run

#: How the notebooks that answer a question begin; the others act.
_ANALYSIS = ("30", "40", "50", "60", "70", "80")
_NOTEBOOKS = "[0-9][0-9]_*.ipynb"


def write_all(run: Run) -> Path:
    """Write what is to share of a run that was just executed, and the list of runs; returns the index's path."""
    log = run.folder / "kernels.log"
    if log.is_file() and log.stat().st_size == 0:
        log.unlink()
    run.record(data=provenance.data(run))
    index = write_run(run)
    runs_list.write(run.folder.parent)
    return index


def write_run(run: Run, changed: Sequence[str] = (), *, hide_accounts: bool = False) -> Path:
    """Write a run's pages and its summary from what lies in its folder; returns the index's path.

    Secrets are taken out of the notebooks and the results first, for good; with `hide_accounts`, account ids as well.
    The same folder makes the same bytes. `changed` names frames that are not those the report was made of.
    """
    notebooks = sorted(run.folder.glob(_NOTEBOOKS))
    clean = _cleaner(run, notebooks, hide_accounts=hide_accounts)
    held = run.results()
    if (cleaned := scrub.tree(held, clean)) != held:
        run.record(**cleaned)
    index = write_pages(run, [page_of(path, clean) for path in notebooks], changed)
    (run.folder / "summary.md").write_text(markdown.page(run.id, run.results()), encoding="utf-8")
    return index


def write_pages(run: Run, pages: Sequence[Page], changed: Sequence[str] = ()) -> Path:
    """Write every notebook's page, and `index.html`, the one to share; returns its path.

    The index holds the answers, the results, the analysis, then what was done to get them, and above all why a run
    failed. Of a notebook that was run several times it holds the last; the earlier pages are linked, and lie beside it.
    """
    templates, results = rendering.environment(), run.results()
    pages = sorted(pages, key=lambda page: page.order)
    newest = {page.notebook: page for page in pages}
    addresses = {notebook: f"{page.name}.html" for notebook, page in newest.items()}
    for page in pages:
        text = templates.get_template("page.html.j2").render(
            title=page.title, run_id=run.id, body=_linked(page.body, addresses)
        )
        (run.folder / f"{page.name}.html").write_text(text, encoding="utf-8")
    anchors = {notebook: f"#{page.name}" for notebook, page in newest.items()}
    index = run.folder / "index.html"
    text = templates.get_template("index.html.j2").render(
        run=run,
        results=results,
        summary=summary.of(results),
        changed=changed,
        provenance=provenance.facts(run, results),
        packages=provenance.packages(results),
        analysis=[page for name, page in newest.items() if name.startswith(_ANALYSIS)],
        done=[page for name, page in newest.items() if not name.startswith(_ANALYSIS)],
        earlier=[page for page in pages if page not in newest.values()],
        bodies={page.name: _linked(page.body, anchors) for page in newest.values()},
    )
    index.write_text(text, encoding="utf-8")
    return index


def _cleaner(run: Run, notebooks: Sequence[Path], *, hide_accounts: bool) -> Callable[[str], str]:
    """Return what cleans the texts of a run; account ids are looked for in all of it, since one ARN tells them all."""
    texts = [json.dumps(run.results()), *(path.read_text(encoding="utf-8", errors="replace") for path in notebooks)]
    return scrub.cleaner(scrub.environment(), accounts_of="\n".join(texts) if hide_accounts else "")


def _linked(body: str, addresses: Mapping[str, str]) -> Markup:
    """Point links to notebooks at their pages; where one was not run, its name stays as text."""

    def link(match: re.Match[str]) -> str:
        name, text = match.groups()
        return f'<a href="{addresses[name]}">{text}</a>' if name in addresses else text

    return Markup(re.sub(r'<a href="(\d\d_\w+)\.ipynb">(.*?)</a>', link, body))  # noqa: S704 - nbconvert escaped it
