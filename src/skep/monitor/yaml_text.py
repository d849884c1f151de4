"""Files of YAML, written for people and programs, by PyYAML. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

Value = str | int | bool | Sequence["Value"] | Mapping[str, "Value"]

# Readers differ in what they take for a number or a truth value (Go's: 1e3 and 0o7, old ones y): all but
# these texts are quoted.
_PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9_./:@-]+")
_NEVER_FOLDED = 1 << 20  # columns: no text of ours is as long, and one line is easier to compare


def yaml_of(value: Mapping[str, Value], says: str = "") -> str:
    """Returns it as YAML, in its own order; `says` is a comment's lines above it."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in says.splitlines())
    return comment + yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_NEVER_FOLDED
    )


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True  # what stands twice is written twice: no `*id001` for people


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
