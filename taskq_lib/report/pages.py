"""Executed notebooks as pages: self-contained HTML without code; and the page that holds a whole run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbformat import v4

from taskq_lib.report.runs import Run, listed, root_folder

_HERE = Path(__file__).parent
#: How the notebooks that answer a question begin; the others act.
_ANALYSIS = ("30", "40", "50", "60", "70", "80")
_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One executed notebook as HTML."""

    name: str  #: The executed notebook's name without its ending, such as 40_latency or, its second time, 40_latency-2
    title: str
    body: str  #: Escaped by nbconvert
    mark: str = ""  #: How it ended, and whether it acted: failed, interrupted, dry run, acted; empty where it only read
    started_at: str = ""  #: ISO 8601, by papermill

    @property
    def notebook(self) -> str:
        """The name of the notebook that was run."""
        return self.name.partition("-")[0]

    @property
    def order(self) -> tuple[str, str, int]:
        """By notebook, then by time; by number where no time is known."""
        return self.notebook, self.started_at, int(self.name.partition("-")[2] or 1)


def page_of(executed: Path) -> Page:
    """Render an executed notebook: outputs and prose, no code and no prompts.

    Text outputs are escaped by nbconvert, tables by `show`; the page asks nothing of the network.
    """
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    mark = _mark(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _settled(cell.outputs)
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _resources = exporter.from_notebook_node(notebook)
    # Several notebooks share one page, where an id may stand once; links of headings to themselves go with them.
    body = re.sub(r'(<h[1-6]) id="[^"]*"| id="cell-id=[^"]*"', r"\1", body)
    body = re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", body)
    body = body.replace("papermill-error-cell", f"{executed.stem}-error")
    # What lies outside the run's folder is not there for who gets the page.
    body = re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", body)
    return Page(
        name=executed.stem,
        title=_title(notebook, executed.stem),
        body=body,
        mark=mark,
        started_at=notebook.metadata.get("papermill", {}).get("start_time") or "",
    )


def printed(executed: Path) -> str:
    """Return what an executed notebook printed, without its progress bars; nothing where it was not begun."""
    if not executed.is_file():
        return ""
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.text.strip("\n") for output in outputs if output.get("name") == "stdout"]
    return "".join(f"{text}\n" for text in texts if text)


def write_pages(run: Run, pages: Sequence[Page]) -> Path:
    """Write every notebook's page, and `index.html`, the one to share; returns its path.

    The index holds the results, the analysis, then what was done to get them, and above all why a run failed. Of a
    notebook that was run several times it holds the last; the earlier pages are linked, and lie beside it.
    """
    pages = sorted(pages, key=lambda page: page.order)
    newest = {page.notebook: page for page in pages}
    addresses = {notebook: f"{page.name}.html" for notebook, page in newest.items()}
    for page in pages:
        text = _TEMPLATES.get_template("page.html.j2").render(
            title=page.title, run_id=run.id, body=_linked(page.body, addresses)
        )
        (run.folder / f"{page.name}.html").write_text(text, encoding="utf-8")
    anchors = {notebook: f"#{page.name}" for notebook, page in newest.items()}
    index = run.folder / "index.html"
    text = _TEMPLATES.get_template("index.html.j2").render(
        run=run,
        results=run.results(),
        analysis=[page for name, page in newest.items() if name.startswith(_ANALYSIS)],
        done=[page for name, page in newest.items() if not name.startswith(_ANALYSIS)],
        earlier=[page for page in pages if page not in newest.values()],
        bodies={page.name: _linked(page.body, anchors) for page in newest.values()},
    )
    index.write_text(text, encoding="utf-8")
    return index


def write_all(run: Run) -> Path:
    """Write the pages of all notebooks that lie in a run's folder, and the list of runs; returns the index's path."""
    log = run.folder / "kernels.log"
    if log.is_file() and log.stat().st_size == 0:
        log.unlink()
    index = write_pages(run, [page_of(path) for path in run.folder.glob("[0-9][0-9]_*.ipynb")])
    write_list(run.folder.parent)
    return index


def write_list(root: str | Path) -> Path:
    """Write `runs/index.html`, the list of runs, newest first."""
    runs = [(run, run.results()) for run in listed(root) if (run.folder / "index.html").is_file()]
    path = root_folder(root) / "index.html"
    path.write_text(_TEMPLATES.get_template("runs.html.j2").render(runs=runs), encoding="utf-8")
    return path


def _settled(outputs: Sequence[Any]) -> list[Any]:
    """Join a cell's pieces of one stream, and leave of each line what a terminal would: a progress bar's last state.

    Of an interrupt its traceback tells nothing.
    """
    joined: dict[str, Any] = {}
    settled: list[Any] = []
    for output in outputs:
        name = output.get("name", "")
        if output.get("ename") == "KeyboardInterrupt":
            settled.append(v4.new_output("stream", name="stderr", text="interrupted"))  # type: ignore[no-untyped-call]
        elif output.output_type != "stream":
            settled.append(output)
        elif name in joined:
            joined[name].text += output.text
        else:
            joined[name] = output
            settled.append(output)
    for output in joined.values():
        output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n"))
    return [output for output in settled if output.output_type != "stream" or output.text.strip()]


def _linked(body: str, addresses: Mapping[str, str]) -> Markup:
    """Point links to notebooks at their pages; where one was not run, its name stays as text."""

    def link(match: re.Match[str]) -> str:
        name, text = match.groups()
        return f'<a href="{addresses[name]}">{text}</a>' if name in addresses else text

    return Markup(re.sub(r'<a href="(\d\d_\w+)\.ipynb">(.*?)</a>', link, body))  # noqa: S704 - nbconvert escaped it


def _mark(notebook: Any) -> str:
    """Say how a notebook ended or, where it may act, whether it did."""
    ran = notebook.metadata.get("papermill", {})
    raised = [output.ename for cell in notebook.cells for output in cell.get("outputs", []) if "ename" in output]
    if "KeyboardInterrupt" in raised or (ran and not ran.get("end_time")):
        return "interrupted"
    if raised or ran.get("exception"):
        return "failed"
    noted = [cell.metadata["papermill"] for cell in notebook.cells if "papermill" in cell.metadata]
    # Interrupted between two cells, papermill calls the rest completed all the same.
    if not all(cell.get("end_time") for cell in noted):
        return "interrupted"
    declared = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if not any(re.search(r"^dry_run =", source, re.MULTILINE) for source in declared):
        return ""
    # All that may act are dry runs unless told otherwise.
    return "dry run" if ran.get("parameters", {}).get("dry_run", True) else "acted"


def _title(notebook: Any, name: str) -> str:
    """Return the notebook's first heading."""
    for cell in notebook.cells:
        first = cell.source.splitlines()[0] if cell.source else ""
        if cell.cell_type == "markdown" and first.startswith("# "):
            return str(first.removeprefix("# ").strip())
    return name


def _seconds(value: float | None) -> str:
    """Write a duration for people: three significant digits and a unit."""
    if value is None:
        return "-"
    return f"{value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{value:,.3g} s" if value < 1000 else f"{value:,.0f} s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _code(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _utc(text: str) -> str:
    return text[:19].replace("T", " ")


def account(ledger: Mapping[str, Any]) -> str:
    """Write a ledger of `results.json` as one line."""
    sides = ("completed", "dead_lettered", "open", "lost")
    parts = " + ".join(f"{ledger[side]:,} {side.replace('_', '-')}" for side in sides)
    return f"{ledger['submitted']:,} submitted = {parts}; {ledger['duplicates']:,} duplicate deliveries"


def _selection(choice: Mapping[str, Any]) -> str:
    """Say in words what a redrive selected."""
    given = {name.removeprefix("select_"): value for name, value in choice.items() if name.startswith("select_")}
    return ", ".join(f"{name} {value}" for name, value in given.items() if value and value is not True) or (
        "all" if given.get("all") else "none"
    )


def _counts(counts: Mapping[str, int] | None) -> str:
    """Write counts that are not zero; what was deleted from the dead-letter queue was sent before."""
    names = {"deleted": "sent", "sent": "sent, not deleted yet"}
    return ", ".join(f"{n:,} {names.get(name, name)}" for name, n in (counts or {}).items() if n) or "-"


_TEMPLATES.filters |= {
    "utc": _utc, "seconds": _seconds, "percent": _percent, "count": _count, "code": _code, "account": account,
    "selection": _selection, "counts": _counts,
}  # fmt: skip
