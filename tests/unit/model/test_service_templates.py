"""Versions of what a service's tasks run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.model.container import ContainerSpec, FileTarget, SecretReference
from skep.model.service import first_template, still_needed, with_template
from skep.model.spec import ServiceSpec, TaskSpec

RECENT = 1


def spec_of(image: int) -> ServiceSpec:
    return ServiceSpec(name="s", task_template=TaskSpec(container_spec=ContainerSpec(image=str(image))))


def test_the_order_of_secrets_is_no_change() -> None:
    """The docker client gives references to one secret in any order, deployment by deployment."""
    one, two = (
        SecretReference(file=FileTarget(name=name), secret_id="i", secret_name="s") for name in ("a", "b")
    )
    given_so, given_otherwise = (
        replace(spec_of(0), task_template=TaskSpec(container_spec=ContainerSpec(secrets=secrets)))
        for secrets in ([one, two], [two, one])
    )
    templates = [first_template(given_so)]
    assert with_template(templates, given_otherwise) == templates
    assert len(with_template(templates, spec_of(0))) == 2


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
