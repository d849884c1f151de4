"""nftables by its library, in this process: 1 ms for a transaction where a program takes 60.

`ctypes`, not Debian's Python binding: that one is for Debian's own Python only, this one for any with the
library (package libnftables1), and it is these six functions. Contexts, used by one thread at a time.
"""

from __future__ import annotations

import ctypes
import socket
from functools import cached_property

from skep.runtime.errors import Unavailable

LIBRARY = "libnftables.so.1"
_NETFILTER = 12  # NETLINK_NETFILTER
_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON
_SHOWN_MAX = 500  # characters of what the library says that are repeated
# Makes nothing in any case: the table goes with the transaction in which it comes.
_TRIAL = "add table ip skep-trial\nadd chain ip skep-trial rules {{ {} }}\ndelete table ip skep-trial\n"
_REFUSED = 'counter name "none-of-this-name";'  # a rule that the kernel must refuse

MISSING = (
    f"{LIBRARY} is missing: published ports do not answer on this node, and its overlay networks"
    " do not reach other nodes. apt-get install libnftables1, then start skepd again"
)


class Nftables:
    """Errors: `Unavailable` where the library, or the kernel's part, is missing: it says why."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise Unavailable(MISSING) from error
        try:  # where this fails, the library ends the process
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER).close()
        except OSError as error:
            raise Unavailable(f"nftables cannot be reached: {error}") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._context = self._opened()

    @cached_property
    def takes_rules(self) -> bool:
        """True where chains may be added with their rules. Libraries before Debian's 1.0.6-2+deb12u2 make
        the chain, and leave the rules out without a word."""
        without, refused = (self._run(self._context, _TRIAL.format(rule))[1] for rule in ("", _REFUSED))
        return without is None and refused is not None

    def close(self) -> None:
        self._library.nft_ctx_free(self._context)

    def run(self, text: str) -> None:
        """Carries out commands, all or none. Errors: `Unavailable`, with the library's words."""
        error = self._run(self._context, text)[1]
        if error is not None:
            raise Unavailable(f"nftables did not take the rules: {error[:_SHOWN_MAX]}")

    def list(self, text: str) -> str | None:
        """Returns a listing as JSON; None where there is nothing of that name. Errors: `Unavailable`."""
        # A context keeps what it has read, here all rules, until its next use, which would take long for it.
        context = self._opened()
        try:
            self._library.nft_ctx_output_set_flags(context, _JSON)
            listing, error = self._run(context, text)
        finally:
            self._library.nft_ctx_free(context)
        if error is None:
            return listing
        if "No such file or directory" in error:
            return None
        raise Unavailable(f"nftables does not say what there is: {error[:_SHOWN_MAX]}")

    def _opened(self) -> int:
        context: int = self._library.nft_ctx_new(0)
        self._library.nft_ctx_buffer_output(context)
        self._library.nft_ctx_buffer_error(context)
        return context

    def _run(self, context: int, text: str) -> tuple[str, str | None]:
        failed = self._library.nft_run_cmd_from_buffer(context, text.encode())
        # Both are emptied by being read.
        listing = self._library.nft_ctx_get_output_buffer(context).decode()
        error = self._library.nft_ctx_get_error_buffer(context).decode()
        return listing, (error or "it does not say why") if failed else None
