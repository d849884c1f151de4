"""BPF programs at devices' ingress, and their maps, by libbpf. Blocking.

`ctypes`, as with nftables: it is these functions, and the library (package libbpf1, on which Debian's
iproute2 depends) is the one that reads compiled programs and knows each kernel's ways of loading them. What
is attached goes on without this process, and keeps its maps; all of it goes with its devices.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping

from msgspec import Struct

from skep.runtime.errors import Unavailable

LIBRARIES = ("libbpf.so.1", "libbpf.so.0")  # what is used here is the same in both, from 0.4 on
_NEWEST = ("bpf_tc_hook_create", "bpf_tc_hook_destroy", "bpf_tc_attach", "bpf_tc_detach", "bpf_tc_query")
_ERRORS_MAX = 4095  # what libbpf 0 answers instead of an address: the number of an error, less than 0
_INGRESS, _EGRESS = 1, 2  # BPF_TC_INGRESS, BPF_TC_EGRESS
_REPLACE = 1  # BPF_TC_F_REPLACE
# Our place among a device's filters: programs of others go before and after it.
_HANDLE, _PRIORITY = 1, 7791
_NAME_MAX = 16  # of programs and maps, in the kernel
_MAPS_MAX = 16  # of one program; ours has six
_NOBODY = (errno.ENOENT, errno.EINVAL, errno.ENODEV)  # nothing is attached there, or no device is there


class _Hook(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    )


class _Attached(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """The begin of `struct bpf_prog_info` (linux/bpf.h)."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("lengths", ctypes.c_uint32 * 2),
        ("instructions", ctypes.c_uint64 * 2),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * _NAME_MAX),
    )


class _MapInfo(ctypes.Structure):
    """The begin of `struct bpf_map_info`."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * _NAME_MAX),
    )


class BpfMap(Struct, frozen=True):
    """`shape` is what must be the same for programs to work with it: its kind, sizes and bounds."""

    fd: int
    id: int
    shape: tuple[int, ...]

    @property
    def key_size(self) -> int:
        return self.shape[1]

    @property
    def value_size(self) -> int:
        return self.shape[2]


class BpfProgram(Struct, frozen=True):
    """A program in the kernel, with its maps by name. `tag` is the same for the same instructions."""

    fd: int
    id: int
    name: str
    tag: bytes
    maps: dict[str, BpfMap]

    @property
    def map_ids(self) -> dict[str, int]:
        return {name: each.id for name, each in self.maps.items()}

    def close(self) -> None:
        """Lets go of it; what is attached stays."""
        for fd in (self.fd, *(each.fd for each in self.maps.values())):
            os.close(fd)


class Bpf:
    """Errors: `Unavailable` where the library is missing, or the kernel refuses: it says why."""

    def __init__(self) -> None:
        self._library = library = _opened()
        library.libbpf_set_print.argtypes = [ctypes.c_void_p]
        library.libbpf_set_print(None)  # it would write to standard error
        library.bpf_object__open_mem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
        library.bpf_object__open_mem.restype = ctypes.c_void_p
        library.bpf_object__load.argtypes = [ctypes.c_void_p]
        library.bpf_object__close.argtypes = [ctypes.c_void_p]
        library.bpf_object__close.restype = None
        for each in (library.bpf_object__find_program_by_name, library.bpf_object__find_map_by_name):
            each.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
            each.restype = ctypes.c_void_p
        library.bpf_map__reuse_fd.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.bpf_program__fd.argtypes = [ctypes.c_void_p]

    def load(
        self, image: bytes, names: tuple[str, ...], maps: Mapping[str, BpfMap] = {}
    ) -> dict[str, BpfProgram]:
        """Returns the programs of a compiled object, loaded, with the maps that they share: these, by name,
        and new ones."""
        opened = self._library.bpf_object__open_mem(image, len(image), None)
        if not opened or -_ERRORS_MAX <= ctypes.c_ssize_t(opened).value < 0:
            raise Unavailable(f"the program cannot be read: {_why()}")
        try:
            for name, each in maps.items():
                known = self._library.bpf_object__find_map_by_name(opened, name.encode())
                if not known or self._library.bpf_map__reuse_fd(known, each.fd) != 0:
                    raise Unavailable(f"the program cannot use map {name}: {_why()}")
            if self._library.bpf_object__load(opened) != 0:
                raise Unavailable(f"the kernel takes no such program: {_why()}")
            found = {}
            for name in names:
                program = self._library.bpf_object__find_program_by_name(opened, name.encode())
                found[name] = self._program(os.dup(self._library.bpf_program__fd(program)))
            return found
        finally:
            self._library.bpf_object__close(opened)

    def attached(self, index: int) -> int | None:
        """Returns the id of the program that is attached to a device at our place; None for nothing."""
        hook, asked = _hook(index), _place()
        if self._library.bpf_tc_query(ctypes.byref(hook), ctypes.byref(asked)) != 0:
            return None
        return int(asked.prog_id)

    def program(self, number: int) -> BpfProgram | None:
        """Returns a program of the kernel's by its id; None where it has gone."""
        fd = self._library.bpf_prog_get_fd_by_id(ctypes.c_uint32(number))
        return self._program(fd) if fd >= 0 else None

    def try_at(self, index: int, program: BpfProgram) -> None:
        """Attaches it to a device and takes it away again. Errors as `attach`."""
        is_new = self.attach(index, program)
        self.detach(index)
        if is_new:
            hook = _hook(index, _INGRESS | _EGRESS)  # both: what filters are on goes, too
            self._library.bpf_tc_hook_destroy(ctypes.byref(hook))

    def attach(self, index: int, program: BpfProgram) -> bool:
        """Attaches it to a device, in the place of what is there at our place. True where the device had no
        place for filters before."""
        hook, wanted = _hook(index), _place(program.fd, _REPLACE)
        made = self._library.bpf_tc_hook_create(ctypes.byref(hook))
        if made != 0 and ctypes.get_errno() != errno.EEXIST:
            raise Unavailable(f"device {index} takes no filters: {_why()}")
        if self._library.bpf_tc_attach(ctypes.byref(hook), ctypes.byref(wanted)) != 0:
            raise Unavailable(f"device {index} takes no program: {_why()}")
        return bool(made == 0)

    def detach(self, index: int) -> None:
        """Takes it away; that it is gone already is as well."""
        hook, gone = _hook(index), _place()
        failed = self._library.bpf_tc_detach(ctypes.byref(hook), ctypes.byref(gone)) != 0
        if failed and ctypes.get_errno() not in _NOBODY:
            raise Unavailable(f"device {index} keeps its program: {_why()}")

    def put(self, where: BpfMap, key: bytes, value: bytes) -> None:
        assert (len(key), len(value)) == (where.key_size, where.value_size)
        if self._library.bpf_map_update_elem(where.fd, key, value, ctypes.c_uint64(0)) != 0:
            raise Unavailable(f"the program's map takes no more: {_why()}")

    def drop(self, where: BpfMap, key: bytes) -> None:
        """Takes an entry away; that it is gone already is as well."""
        self._library.bpf_map_delete_elem(where.fd, key)

    def get(self, where: BpfMap, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(where.value_size)
        failed = self._library.bpf_map_lookup_elem(where.fd, key, value) != 0
        return None if failed else value.raw

    def keys(self, where: BpfMap) -> Iterator[bytes]:
        """Yields the keys of a map that nobody changes meanwhile but this process."""
        key = ctypes.create_string_buffer(where.key_size)
        before: bytes | None = None
        while self._library.bpf_map_get_next_key(where.fd, before, key) == 0:
            before = key.raw
            yield before

    def _program(self, fd: int) -> BpfProgram:
        ids = (ctypes.c_uint32 * _MAPS_MAX)()
        info = _ProgramInfo(nr_map_ids=_MAPS_MAX, map_ids=ctypes.addressof(ids))
        self._info(fd, info)
        maps = {}
        for number in ids[: info.nr_map_ids]:
            name, found = self._map(number)
            maps[name] = found
        return BpfProgram(fd, info.id, info.name.decode(), bytes(info.tag), maps)

    def _map(self, number: int) -> tuple[str, BpfMap]:
        fd = self._library.bpf_map_get_fd_by_id(ctypes.c_uint32(number))
        if fd < 0:
            raise Unavailable(f"a program's map cannot be reached: {_why()}")
        info = _MapInfo()
        self._info(fd, info)
        shape = info.type, info.key_size, info.value_size, info.max_entries, info.map_flags
        return info.name.decode(), BpfMap(fd, number, shape)

    def _info(self, fd: int, info: ctypes.Structure) -> None:
        size = ctypes.c_uint32(ctypes.sizeof(info))
        if self._library.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)) != 0:
            raise Unavailable(f"the kernel does not say what its program is: {_why()}")


def _opened() -> ctypes.CDLL:
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
        if missing := [each for each in _NEWEST if not hasattr(library, each)]:
            raise Unavailable(f"{name} is too old: it has no {missing[0]}")
        return library
    raise Unavailable(f"{LIBRARIES[0]} is missing (package libbpf1)")


def _hook(index: int, where: int = _INGRESS) -> _Hook:
    return _Hook(ctypes.sizeof(_Hook), index, where, 0)


def _place(fd: int = 0, flags: int = 0) -> _Attached:
    return _Attached(ctypes.sizeof(_Attached), fd, flags, 0, _HANDLE, _PRIORITY)


def _why() -> str:
    return os.strerror(ctypes.get_errno())
