"""What is done on hosts by scripts of ours: files written, commands that must succeed."""

from __future__ import annotations

import shlex

from skep.machine.ssh import SshHost
from skep.runtime.errors import Unavailable

_SBIN = 'export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; '
# Its length says whether all of it came. Whoever else writes the file has a new one of their own.
_WRITE = """
umask 077
mkdir -p -m 755 {directory} && to={path} || exit
{place}
new=$(mktemp "$to.XXXXXX") || exit
trap 'rm -f "$new"' EXIT
{own} && cat >"$new" && [ $(wc -c <"$new") = {length} ] && sync "$new" && mv "$new" "$to"
"""
_PLACE = '[ ! -e "$to" ] || to=$(readlink -f "$to") || exit'
_OWN = 'if [ -e "$to" ]; then cp -p "$to" "$new"; else chmod 644 "$new"; fi'


async def must(
    host: SshHost, script: str, failing: str, *, data: bytes = b"", timeout_s: float = 60.0
) -> None:
    """Errors: `Unavailable`: what is `failing`, and what the host said."""
    done = await host.run_root(_SBIN + script, data=data, timeout_s=timeout_s)
    if done.status != 0:
        raise Unavailable(f"{failing}: {done.said or f'status {done.status}, and it says nothing'}")


def write_script(path: str, length: int, mode: int | None = None) -> str:
    """Returns what makes its input, of `length` bytes, the file: whole or not at all.

    Without a mode, one that is there keeps its own, its owner, and where it is, if the path is a link; a new
    one is everybody's to read.
    """
    return _WRITE.format(
        path=shlex.quote(path),
        directory=shlex.quote(path.rpartition("/")[0]),
        length=length,
        place=_PLACE if mode is None else "",
        own=_OWN if mode is None else f'chmod {mode:o} "$new"',
    )


async def write(host: SshHost, path: str, content: bytes, mode: int | None = None) -> None:
    """Writes a file of the host, as `write_script` says. Errors: `Unavailable`."""
    script = write_script(path, len(content), mode)
    await must(host, script, f"{path} cannot be written on the host", data=content)
