"""Groups of commands, of which only the one that was chosen is loaded: most of what a command takes to start
is imports, and none needs all of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from skep.runtime.importing import importing


class LazyGroup(click.Group):
    """Commands of its own, and those of `lazy`: where each is, like `package.module:attribute`."""

    def __init__(self, *args: Any, lazy: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Errors: `ImportError`."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        with importing():
            found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found
