"""Versions of what a service's tasks run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skep.model.container import ContainerSpec
from skep.model.service import first_template, still_needed, with_template
from skep.model.spec import ServiceSpec, TaskSpec

RECENT = 1


def spec_of(image: int) -> ServiceSpec:
    return ServiceSpec(name="s", task_template=TaskSpec(container_spec=ContainerSpec(image=str(image))))


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.booleans(), st.sets(st.integers(1, 30), max_size=3)), max_size=40
    )
)
def test_a_version_is_never_something_else(steps: list[tuple[int, bool, set[int]]]) -> None:
    """Found by the simulation's seed 92154: the number of an update that had failed was given to the next one, and
    nodes that had tried the first went on with that."""
    templates = [first_template(spec_of(0))]
    known = {1: templates[0].spec}
    for image, ends, in_use in steps:
        if ends:  # an update has come to its end
            templates = still_needed(templates, in_use, RECENT)
        else:
            templates = with_template(templates, spec_of(image), in_use)
        for each in templates:
            assert known.setdefault(each.version, each.spec) == each.spec
        assert len({each.version for each in templates}) == len(templates)
        assert not ends or len(templates) <= len(in_use) + RECENT + 1
