"""Write what follows from the chart's values.yaml: the schema, the rules that its checks apply, and the README.

    python -m charts.generate

The comment above a value is its description, its default tells its type. Lines `# @schema {...}` say more, as JSON
Schema with four words of our own: `is` names a kind of value (value_types.py), `expected` is what a refusal says in
place of a pattern, `refused` lists what the chart keeps for itself, `example` is what a refusal offers. Objects are
closed unless they say `additionalProperties`.

Helm would answer a wrong value with the rule that it breaks, such as a regular expression. So the chart checks the
values itself (templates/checks/values.yaml, by files/values.rules.json) and names field, value, expectation and fix.
values.schema.json is for editors: it says the same, for files that do not hold all values.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import dopd
from charts.value_types import TYPES, Rule

CHART = Path(__file__).parent / "dopd"
_OURS = ("expected", "example", "refused")
_ONLY_FOR_HELM = (
    "Helm validates the values with the chart's defaults in them, which always hold `global`: there the chart's own"
    " checks answer, with the fix. Editors see a file without `global`, and get all of the schema."
)


def files() -> dict[Path, str]:
    """What is generated, by path."""
    rule = read(CHART / "values.yaml")
    return {
        CHART / "values.schema.json": _json(_schema(rule)),
        CHART / "files" / "values.rules.json": _json(_without(rule, ("description", "default"))),
        CHART / "README.md": _readme(rule),
        CHART / "Chart.yaml": _versioned((CHART / "Chart.yaml").read_text()),
    }


def read(path: Path) -> Rule:
    """The rule of all values, from the file's defaults and comments.

    Raises:
        ValueError: a value has no description, or an example or a default that its own rule does not take.
    """
    text = path.read_text()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    return _object(node, text.splitlines(), "")


def _object(node: yaml.MappingNode, lines: list[str], path: str) -> Rule:
    properties = {}
    for key, value in node.value:
        here = f"{path}.{key.value}" if path else key.value
        properties[key.value] = _value(value, *_comment(lines, key.start_mark.line, here), lines, here)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _comment(lines: list[str], at: int, path: str) -> tuple[str, Rule]:
    above: list[str] = []
    while at and lines[at - 1].lstrip().startswith("# "):
        at -= 1
        above.insert(0, lines[at].lstrip()[2:])
    words = [line for line in above if not line.startswith("@schema")]
    if not words:
        raise ValueError(f"values.yaml: {path} has no comment; describe it in the lines above")
    said: Rule = {}
    for line in above:
        if line.startswith("@schema"):
            said |= yaml.safe_load(line.removeprefix("@schema"))
    return " ".join(words), said


def _value(node: yaml.Node, description: str, said: Rule, lines: list[str], path: str) -> Rule:
    default = yaml.SafeLoader("").construct_object(node, deep=True)
    if isinstance(node, yaml.MappingNode) and not said:
        return {"description": description, **_object(node, lines, path)}
    rule: Rule = {"type": _type_of(default), **_resolved(said)}
    if isinstance(default, list) and "items" not in rule:
        raise ValueError(
            f"values.yaml: {path} is a list; say what it holds, as in # @schema {{items: {{type: string}}}}"
        )
    if "example" not in rule:
        rule["example"] = default
    return {"description": description, **rule, "default": default}


def _resolved(said: Any) -> Any:
    """With the named kinds put in."""
    if isinstance(said, list):
        return [_resolved(item) for item in said]
    if not isinstance(said, dict):
        return said
    named = TYPES[said["is"]] if "is" in said else {}
    return {
        **named,
        **{key: value if key == "example" else _resolved(value) for key, value in said.items() if key != "is"},
    }


def _type_of(default: Any) -> str:
    """Type of a default; a value that may be null says its type itself."""
    names: dict[type, str] = {
        type(None): "null",
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return names[type(default)]


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _without(rule: Any, names: tuple[str, ...]) -> Any:
    """A rule without some of its words. Words of a rule are told from names of values by where they stand."""
    kept = {}
    for word, content in rule.items():
        if word in names:
            continue
        if word == "properties":
            content = {name: _without(child, names) for name, child in content.items()}
        elif word in ("items", "additionalProperties", "propertyNames") and isinstance(content, dict):
            content = _without(content, names)
        kept[word] = content
    return kept


def _schema(rule: Rule) -> Rule:
    values = _plain(rule)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart dopd",
        "$comment": _ONLY_FOR_HELM,
        "if": {"type": "object", "required": ["global"]},
        "else": {"$ref": "#/$defs/values"},
        "$defs": {"values": values},
    }


def _plain(rule: Rule) -> Rule:
    """As JSON Schema says it: our words become those of the standard."""
    plain = {key: value for key, value in rule.items() if key not in _OURS}
    if "example" in rule:
        plain["examples"] = [rule["example"]]
    if "expected" in rule:
        plain["description"] = (
            f"{rule['description']} Expected: {rule['expected']}."
            if "description" in rule
            else (f"{rule['expected'][0].upper()}{rule['expected'][1:]}.")
        )
    if "refused" in rule:
        plain["not"] = {"enum": rule["refused"]}
    for word in ("items", "additionalProperties", "propertyNames"):
        if isinstance(plain.get(word), dict):
            plain[word] = _plain(plain[word])
    if "properties" in plain:
        plain["properties"] = {name: _plain(child) for name, child in plain["properties"].items()}
    return plain


def _versioned(chart: str) -> str:
    """Chart.yaml with the version of the code: dopd.__version__ is the only place where it is written by hand."""
    for field in ("version", "appVersion"):
        chart = re.sub(rf"^{field}: .*$", f"{field}: {dopd.__version__}", chart, flags=re.M)
    return re.sub(r"(image: \S+?):[^:\s]+$", rf"\1:{dopd.__version__}", chart, flags=re.M)


def _readme(rule: Rule) -> str:
    rows = [f"| `{path}` | {_shown(child['default'])} | {_cell(child)} |" for path, child in _leaves(rule, "")]
    head = (Path(__file__).parent / "README.head.md").read_text().replace("{version}", dopd.__version__)
    return f"{head}\n| value | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _leaves(rule: Rule, path: str, above: str = "") -> Iterator[tuple[str, Rule]]:
    for name, child in rule["properties"].items():
        here = f"{path}.{name}" if path else name
        if "default" in child:
            yield here, {**child, "description": f"{above}{child['description']}"}
        else:
            first = True
            for below, leaf in _leaves(child, here):
                yield below, {**leaf, "description": f"{child['description']} {leaf['description']}"} if first else leaf
                first = False


def _shown(default: Any) -> str:
    text = "null" if default is None else json.dumps(default, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")


def _cell(rule: Rule) -> str:
    text: str = rule["description"]
    if "enum" in rule:
        text += f" One of {', '.join(rule['enum'])}."
    limits = [f"{word} {rule[key]}" for key, word in (("minimum", "at least"), ("maximum", "at most")) if key in rule]
    if limits:
        text += f" {', '.join(limits).capitalize()}."
    return text.replace("|", "\\|")


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
