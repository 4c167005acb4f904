"""The runbook and analysis kit's library; what each part is for stands in README.md and docs/decisions.md."""

from pathlib import Path

#: The checkout: `cloudformation.yaml`, `lambda/` and `notebooks/` are found from here.
PROJECT_ROOT = Path(__file__).resolve().parent.parent
