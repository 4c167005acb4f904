"""The parameters of a notebook as a form, where somebody is there to fill it in; else as a table."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from IPython.display import HTML, display
from markupsafe import escape

from taskq_lib import attended
from taskq_lib.errors import BadInput
from taskq_lib.report import looks, show
from taskq_lib.report.parameters import PARAMETERS, Value, check, parse

if TYPE_CHECKING:
    import ipywidgets

_LABEL_WIDTH, _FIELD_WIDTH = "11rem", "30rem"
#: Of a text beside a field: its lines are closer than fields are.
_LOOK = "display: inline-block; line-height: 1.35; padding: .35em 0;"
_SAYS = (
    "A change counts for the cells that run after it: select the next cell, then Run, Run Selected Cell and All Below. "
    "To run the parameters cell again takes its values back."
)


def ask(chosen: MutableMapping[str, Value]) -> HTML | None:
    """Show a notebook's parameters, as `parameters.check` returned them.

    In JupyterLab a form, which writes what is entered into `chosen` and into the notebook's own names once it is
    allowed, and says beside the field why it is not. Where nobody looks on, as under papermill, a table.
    """
    looks.register()
    shell, facts = attended.shell(), show.facts(chosen)
    if shell is None or shell.display_formatter is None or not attended.is_attended():
        return facts
    form = _form(chosen, shell.user_ns, helps(shell.user_ns["In"]))
    bundle, _metadata = shell.display_formatter.format(form)  # type: ignore[no-untyped-call]
    # A file that is read without its kernel has no widgets; it shows the table.
    display(bundle | {"text/html": facts.data, "text/plain": looks.text(chosen)}, raw=True)  # type: ignore[no-untyped-call]
    return None


def helps(cells: list[str]) -> dict[str, str]:
    """Return the help of each parameter, the comment behind its value, from the newest of these cells that has one."""
    found = {}
    for line in (line for cell in cells for line in cell.splitlines()):
        name, _equals, rest = line.partition(" = ")
        _value, mark, told = rest.partition("  # ")
        if mark and name in PARAMETERS:
            found[name] = told
    return found


def _form(
    chosen: MutableMapping[str, Value], names: MutableMapping[str, Any], told: Mapping[str, str]
) -> ipywidgets.Widget:
    """Return the form: a row for each parameter, and below them what a change does."""
    import ipywidgets as widgets  # noqa: PLC0415 - takes a third of a second, and only who looks on has a use for it

    def row(name: str) -> ipywidgets.Widget:
        """Return the field of a parameter, and on its right its help, or what is wrong."""
        field, beside, help_ = _field(name, chosen[name], widgets), widgets.HTML(), _soft(told.get(name, ""))
        beside.value = help_

        def take(change: Mapping[str, Any]) -> None:
            new = change["new"]
            try:
                value = (parse({name: new}, [name]) if isinstance(new, str) else check({name: new}))[name]
            except BadInput as error:
                beside.value = _wrong(f"{error.args[0]} It stays {chosen[name]!r}.")
            else:
                chosen[name] = names[name] = value
                beside.value = help_

        field.observe(take, "value")
        return widgets.HBox([field, beside])

    return widgets.VBox([*map(row, chosen), widgets.HTML(_soft(_SAYS))])


def _field(name: str, value: Value, widgets: Any) -> Any:
    """Return the field that fits a parameter; a number is typed, and read as the command line reads it."""
    parameter = PARAMETERS[name]
    look = {
        "description": name,
        "tooltip": f"{name}: {parameter.allowed}",
        "style": {"description_width": _LABEL_WIDTH},
        "layout": {"width": _FIELD_WIDTH, "flex": "none"},
    }
    if parameter.kind is bool:
        return widgets.Checkbox(value=value, **look)
    if parameter.choices:
        return widgets.Dropdown(options=parameter.choices, value=value, **look)
    return widgets.Text(value=str(value), continuous_update=False, **look)


def _soft(text: str) -> str:
    return f'<span style="{_LOOK} color: var(--jp-ui-font-color2, #5b6675)">{escape(text)}</span>'


def _wrong(text: str) -> str:
    return f'<span role="alert" style="{_LOOK} color: var(--jp-error-color1, #b3261e)">{escape(text)}</span>'
