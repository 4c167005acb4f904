"""What tests of figures share: a figure as a picture, and what is written on it."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def png(ax: Axes) -> bytes:
    """Draw the figure of `ax` for good, as a report does; what cannot be drawn raises here."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def texts(ax: Axes) -> str:
    """Give what stands on the axes beside the data, title and tick labels included."""
    labels = [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()]
    return "\n".join([ax.get_title(loc="left"), *(label.get_text() for label in labels)])
