"""What the engine leaves out of an answer and the kit relies on; each mend calls the engine's own functions."""

from __future__ import annotations

import json
from typing import Any

from ministack.services import scheduler


def schedules_in_pages() -> None:
    """List schedules in pages: the engine cuts a list after `MaxResults` and names no next token."""
    listed = scheduler._list_schedules  # noqa: SLF001

    def page(query: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = listed({**query, "MaxResults": 10**9})
        found = json.loads(body)["Schedules"]
        start, size = int(query.get("NextToken", 0)), int(query.get("MaxResults", 100))
        after = {"NextToken": str(start + size)} if start + size < len(found) else {}
        return status, headers, json.dumps({"Schedules": found[start : start + size], **after}).encode()

    scheduler._list_schedules = page  # noqa: SLF001
