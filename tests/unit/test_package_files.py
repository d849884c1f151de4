"""What is installed with the package beside its modules."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_that_is_no_module_is_named_as_one_to_install() -> None:
    source = ROOT / "src" / "skep"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "skep"
    ]
    named = {path for pattern in patterns for path in source.glob(pattern)}
    others = {each for each in source.rglob("*") if each.is_file() and each.suffix not in (".py", ".pyc")}
    assert others == named


def test_what_a_run_leaves_is_not_in_the_tree() -> None:
    """A simulated host's directory with its keys was committed once: who adds a folder says so here."""
    known = {"bench", "docs", "findings", "scripts", "src", "tests"}
    ignored = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()}
    found = {each.name for each in ROOT.iterdir() if each.is_dir() and not each.name.startswith(".")}
    assert found - ignored == known
