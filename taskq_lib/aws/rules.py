"""The template's Rules, evaluated as CloudFormation does, so that what they refuse is refused before a request is made.

Sources: the CloudFormation template reference, "Rule functions" and "Rules syntax".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import yaml

Json = dict[str, Any]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads CloudFormation's short forms as the functions that they stand for: `!Not [..]` as `{"Fn::Not": [..]}`.

    By libyaml where PyYAML has it, which is ten times as fast.
    """


def _function(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> Json:
    key = name if name == "Ref" else f"Fn::{name}"
    if isinstance(node, yaml.SequenceNode):
        return {key: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.ScalarNode):
        return {key: loader.construct_scalar(node)}
    return {key: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _function)

#: What each function makes of its arguments, which are evaluated already.
_FUNCTIONS: dict[str, Callable[[Any], bool]] = {
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::Not": lambda found: not found[0],
    "Fn::Equals": lambda found: found[0] == found[1],
    "Fn::Contains": lambda found: found[1] in found[0],
    "Fn::EachMemberIn": lambda found: set(found[0]) <= set(found[1]),
}


@functools.lru_cache(maxsize=2)
def read(template: str) -> Json:
    """Return a template's text as it was written, every short form as the function that it stands for."""
    found: Json = yaml.load(template, Loader=_Loader)  # noqa: S506 - a SafeLoader
    return found


def rules(template: str) -> dict[str, Json]:
    """Return the Rules of a template's text: name -> RuleCondition (absent: always), Assertions."""
    found: dict[str, Json] = read(template).get("Rules", {})
    return found


def broken(rules: Mapping[str, Json], values: Mapping[str, str]) -> list[str]:
    """Return the AssertDescription of each assertion that does not hold with `values` (a complete set)."""
    return [
        assertion["AssertDescription"]
        for rule in rules.values()
        if "RuleCondition" not in rule or evaluate(rule["RuleCondition"], values)
        for assertion in rule["Assertions"]
        if not evaluate(assertion["Assert"], values)
    ]


def evaluate(node: Any, values: Mapping[str, str]) -> Any:
    """Return what an expression of a rule is with `values`: a text, a list of texts, True or False.

    Raises `ValueError` for a function that a rule of this template does not use.
    """
    if isinstance(node, list):
        return [evaluate(one, values) for one in node]
    if not isinstance(node, dict):
        return node
    [(name, arguments)] = node.items()
    if name == "Ref":
        # What the deployment alone knows, such as AWS::Region, may be missing; it then equals nothing.
        return values.get(arguments) if arguments.startswith("AWS::") else values[arguments]
    if name not in _FUNCTIONS:
        raise ValueError(f"{name} is not a function that the rules of this template use.")
    return _FUNCTIONS[name](evaluate(arguments, values))


def n_resources(template: str, kind: str, values: Mapping[str, str]) -> int:
    """Count the resources of a type, such as `AWS::CloudWatch::Alarm`, that a template's text makes with `values`."""
    parsed = read(template)
    conditions = parsed.get("Conditions", {})
    return sum(
        entry["Type"] == kind and ("Condition" not in entry or _holds(entry["Condition"], conditions, values))
        for entry in parsed["Resources"].values()
    )


def _holds(name: str, conditions: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Say whether a condition holds; one that it is made of is replaced by its own expression first."""

    def spelt(node: Any) -> Any:
        if isinstance(node, list):
            return [spelt(one) for one in node]
        if not isinstance(node, dict):
            return node
        [(function, arguments)] = node.items()
        return spelt(conditions[arguments]) if function == "Fn::Condition" else {function: spelt(arguments)}

    return bool(evaluate(spelt(conditions[name]), values))
