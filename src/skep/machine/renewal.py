"""An authority that gives way to another, without a moment in which a machine's client is not trusted.

    begin    certs/next has the new one. Machines are given certificates of it; they and clients trust both.
    switch   It takes the place of the old one (certs/previous-ca.pem). Machines are told to trust it alone.
    end      All of them were.

Each step may be interrupted, and is gone on with: what is in `certs` says where it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from enum import StrEnum
from pathlib import Path

from skep.machine import certs
from skep.machine.store import MachineStore, read_file, write_file
from skep.runtime.errors import Invalid

CA = ("ca.pem", "ca-key.pem")
PREVIOUS = "previous-ca.pem"
_NEXT, _DROPPING = "next", "previous-is-trusted"


class Stage(StrEnum):
    """What machines are being told."""

    BOTH = "to trust both"
    NEW = "to trust the new one alone"


def directory(store: MachineStore) -> Path:
    """Returns where the new authority is, where there is one."""
    return store.certs / _NEXT


def stage(store: MachineStore) -> Stage | None:
    if (directory(store) / CA[1]).exists():
        return Stage.BOTH
    return Stage.NEW if (store.certs / _DROPPING).exists() or directory(store).exists() else None


def begin(store: MachineStore, organization: str, now: float) -> Stage:
    """Makes the new authority, or finds how far a renewal has come that was interrupted. Errors: `Invalid`
    where there is nothing to renew, or the directory cannot be written."""
    with store.locked():
        finish_switch(store)
        found = stage(store)
        if found is not None:
            return found
        if not (store.certs / CA[0]).exists():
            raise Invalid("there is no authority yet: the first machine that is made brings one")
        new = certs.new_ca(organization, now)
        try:
            made = Path(tempfile.mkdtemp(prefix=f".{_NEXT}.", dir=store.certs))  # readable by its owner alone
            write_file(made / CA[1], new.key_pem)
            write_file(made / CA[0], new.certificate_pem)
            made.rename(directory(store))  # both, or none
        except OSError as error:
            raise Invalid(f"{store.certs} cannot be written: {error.strerror}") from error
        return Stage.BOTH


def switch(store: MachineStore) -> None:
    """Has the new authority be the one. Errors: `Invalid`."""
    with store.locked():
        write_file(store.certs / PREVIOUS, read_file(store.certs / CA[0]))
        write_file(store.certs / _DROPPING, b"")
        os.replace(directory(store) / CA[1], store.certs / CA[1])
        finish_switch(store)


def finish_switch(store: MachineStore) -> None:
    """Goes on with a switch that has begun; is called with the store locked."""
    new = directory(store)
    if new.exists() and not (new / CA[1]).exists():
        with contextlib.suppress(FileNotFoundError):
            os.replace(new / CA[0], store.certs / CA[0])
        shutil.rmtree(new)


def end(store: MachineStore) -> None:
    """No machine trusts the one before any more."""
    with store.locked():
        (store.certs / _DROPPING).unlink(missing_ok=True)
