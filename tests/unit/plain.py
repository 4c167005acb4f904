"""The template as the tests look at it: short forms as plain values, `!Ref Queue` as "Queue"."""

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    pass


def _plain(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_mapping(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _plain)


def read(text: str) -> dict[str, Any]:
    """Read a template's text."""
    found: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    return found
