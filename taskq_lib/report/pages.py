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

from taskq_lib.report.runs import Run, listed, root_folder

_HERE = Path(__file__).parent
#: How the notebooks that answer a question begin; the others act.
_ANALYSIS = ("30", "40", "50")
_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One executed notebook as HTML."""

    name: str  #: The notebook's name without its ending, such as 40_latency
    title: str
    body: str  #: Escaped by nbconvert


def page_of(executed: Path) -> Page:
    """Render an executed notebook: outputs and prose, no code and no prompts.

    Text outputs are escaped by nbconvert, tables by `show`; the page asks nothing of the network.
    """
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
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
    # What lies outside the run's folder is not there for who gets the page.
    body = re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", body)
    return Page(name=executed.stem, title=_title(notebook, executed.stem), body=body)


def write_pages(run: Run, pages: Sequence[Page], failure: str = "") -> Path:
    """Write every notebook's page, and `index.html`, the one to share; returns its path.

    The index holds the results, the analysis, then what was done to get them, and above all why a run failed.
    """
    addresses = {page.name: f"{page.name}.html" for page in pages}
    for page in pages:
        text = _TEMPLATES.get_template("page.html.j2").render(
            title=page.title, run_id=run.id, body=_linked(page.body, addresses)
        )
        (run.folder / addresses[page.name]).write_text(text, encoding="utf-8")
    anchors = {page.name: f"#{page.name}" for page in pages}
    index = run.folder / "index.html"
    text = _TEMPLATES.get_template("index.html.j2").render(
        run=run,
        results=run.results(),
        analysis=[page for page in pages if page.name.startswith(_ANALYSIS)],
        done=[page for page in pages if not page.name.startswith(_ANALYSIS)],
        bodies={page.name: _linked(page.body, anchors) for page in pages},
        failure=failure,
    )
    index.write_text(text, encoding="utf-8")
    return index


def write_list(root: str | Path) -> Path:
    """Write `runs/index.html`, the list of runs, newest first."""
    runs = [(run, run.results()) for run in listed(root) if (run.folder / "index.html").is_file()]
    path = root_folder(root) / "index.html"
    path.write_text(_TEMPLATES.get_template("runs.html.j2").render(runs=runs), encoding="utf-8")
    return path


def _settled(outputs: Sequence[Any]) -> list[Any]:
    """Join a cell's pieces of one stream, and leave of each line what a terminal would: a progress bar's last state."""
    joined: dict[str, Any] = {}
    settled: list[Any] = []
    for output in outputs:
        name = output.get("name", "")
        if output.output_type != "stream":
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


_TEMPLATES.filters |= {"utc": _utc, "seconds": _seconds, "percent": _percent, "count": _count, "code": _code}
