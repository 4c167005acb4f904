"""What unit tests share without importing it."""

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from taskq_lib import plots


@pytest.fixture
def quiet_figures() -> Iterator[None]:
    """Draw into memory, in the kit's style, and leave no figure and no setting behind."""
    with mpl.rc_context():
        mpl.use("Agg")
        plots.style()
        yield
        plt.close("all")
