from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .mesh_hosts import Lan

# `mesh_hosts` is loaded with the first test that wants it: it names namespaces by the lane, and what is loaded
# here may come before `tests/conftest.py` has said which that is.


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    """Three hosts in namespaces, with nothing of the mesh yet, shared by the tests of a file."""
    from .mesh_hosts import three_hosts

    with three_hosts() as made:
        yield made


@pytest.fixture
def own_lan() -> Iterator[Lan]:
    """The same for one test alone: it may leave them in any state."""
    from .mesh_hosts import three_hosts

    with three_hosts() as made:
        yield made
