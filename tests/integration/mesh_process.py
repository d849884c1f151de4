"""One node's data plane in a process of its own, so that it can be in a network namespace: meshes as JSON on
stdin, one per line, what became of each on stdout. `seen` says what there is, `carried` what is counted, `clear` takes all away; the end of the input leaves all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import structlog

from skep.model.mesh import Mesh
from skep.network import lingering
from skep.network.plane import DataPlane
from skep.runtime.errors import SkepError


def main(node_id: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    lingering.LINGER_S = 0.5
    # The machine's own nameservers are nobody's here.
    plane = DataPlane(node_id, "swarm1", Path(os.devnull))
    for line in sys.stdin:
        try:
            if line.strip() == "clear":
                answer: object = plane.clear()
            elif line.strip() == "carried":
                answer = plane.carried()
            elif line.startswith("seen "):
                answer = plane.seen(msgspec.json.decode(line.partition(" ")[2], type=Mesh))
            else:
                quick, _, text = line.partition(" ")
                answer = plane.apply(msgspec.json.decode(text, type=Mesh), look=quick == "look")
                plane.forget()
        except SkepError as error:
            answer = {"failures": [str(error)], "changed": -1}
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
