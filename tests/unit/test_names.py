"""One public name, one class: who reads it need not ask which."""

from __future__ import annotations

from collections import defaultdict

from tests.unit import source

# Those that two classes have all the same, and why.
KEPT = {
    "Arrivals": "a protocol, and what fulfils it",
    "Attachments": "a protocol, and what fulfils it",
    "ContainerPlace": "a protocol, and what fulfils it",
    "Naming": "a protocol, and what fulfils it",
    "Making": "of a machine, by its driver, and of what is in a kernel, by service",
    "Manager": "what the API, and what the role keeper, needs of one: two protocols",
    "Node": "the model's, and what the role keeper needs of one: a protocol",
    "Session": "the agent's, and what the role keeper needs of it: a protocol",
    "Cut": "of a large service, and of the simulator's network",
    "Network": "the model's, and the simulator's",
    "Wire": "Docker's API, and the simulator's",
}


def test_public_names_of_classes_mean_one_thing() -> None:
    files = defaultdict(set)
    for each in source.classes():
        if not each.name.startswith("_"):
            files[each.name].add(each.file)
    twice = {name: sorted(of) for name, of in files.items() if len(of) > 1 and name not in KEPT}
    assert not twice, "name them by what they are of, or say here and in docs/glossary.md why not"
    assert not [name for name in KEPT if len(files[name]) < 2], "there is one only: it need not be kept"
