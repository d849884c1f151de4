"""What the templates of one spec, or of one task's files, may take: all of them together.

Expanding is work that users make, on the leader's own loop where a service is made: ranges inside ranges,
or long texts given to functions again and again, would hold it for minutes. Pure.
"""

from __future__ import annotations

from skep.model.template_functions import Wrong

# One unit of work is some 3 µs. These are 0.1 s in all, and ten actions in each of 400 variables.
SPEC_WORK_MAX = 30_000
# A manager tries a spec with names made up; with a task's own the same spec may take somewhat more.
TASK_WORK_MAX = 2 * SPEC_WORK_MAX
FILES_WORK_MAX = 600_000  # of a task's secrets and configs, which are expanded beside the loop: two seconds
OUTPUT_MAX_CHARS = 1 << 20  # of a spec; an engine's request has a few kilobytes
FILES_OUTPUT_MAX_CHARS = 16 << 20  # several of the largest; they stay in the node's memory

CHARS_A_UNIT = 20  # of what functions are given and make: quoting a character is the slowest, 0.1 µs
COPIED_A_UNIT = 4000  # of what is only copied


class Budget:
    """Work and characters that are left."""

    def __init__(self, work: int = SPEC_WORK_MAX, output_chars: int = OUTPUT_MAX_CHARS) -> None:
        self._work = self._work_max = work
        self._chars = self._chars_max = output_chars

    def spend(self, units: int = 1) -> None:
        """Errors: `Wrong` where it is more than is left."""
        self._work -= units
        if self._work < 0:
            raise Wrong(f"the templates take more than {self._work_max} steps, all of them together")

    def spend_on(self, text: str) -> None:
        """For a text that a function reads or makes. Errors: `Wrong`."""
        self.spend(len(text) // CHARS_A_UNIT)

    def write(self, text: str) -> None:
        """For a text that becomes part of a result. Errors: `Wrong`."""
        self.spend(len(text) // COPIED_A_UNIT)
        self._chars -= len(text)
        if self._chars < 0:
            raise Wrong(
                f"what the templates write has more than {self._chars_max} characters, all of them together"
            )


def task_budget() -> Budget:
    """Returns what a task's hostname, environment and mounts may take."""
    return Budget(TASK_WORK_MAX)


def files_budget() -> Budget:
    """Returns what a task's secrets and configs may take."""
    return Budget(FILES_WORK_MAX, FILES_OUTPUT_MAX_CHARS)
