#!/usr/bin/env bash
# A full LRU map of BPF never forgets what another processor put last, however long nobody has asked for it.
#
# Version:  Linux 6.18; libbpf 1.1.2 (Debian 12).
# Question: Into a map of kind BPF_MAP_TYPE_LRU_HASH with room for 10,000, processor 0 puts 1, 128, 129 or 300 entries, and never
#           again any, nor asks for one. Processor 1 then puts 500,000 others, one after the other. How many of the first are left?
# Guess:    None: they are the least recently used, and the map was filled fifty times over.
# Observed: 1, 128, 1 and 44: all but whole groups of 128. What a processor puts is on a list of its own, of 128 at most, and gets
#           into the one by which entries are forgotten when that list is full, only then. Other processors forget what is in there.
# To do:    who goes by "what is not used is forgotten" (a table of connections, a rate of requests) says in the entry when it
#           was put, and looks at that; and counts on some hundred entries less than the map has room for, by each processor.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ "$(nproc)" -ge 2 ] || cannot "it takes two processors"
temporary_folder
cat >"$work/inside" <<'INSIDE'
cat >/lru.py <<'PYTHON'
import ctypes, os, sys
room, first = 10_000, int(sys.argv[1])
bpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
lru = bpf.bpf_map_create(9, b"lru", 4, 8, room, None)
if lru < 0:
    raise OSError(ctypes.get_errno(), "no map")
def put(key):
    if bpf.bpf_map_update_elem(lru, key.to_bytes(4, "little"), bytes(8), ctypes.c_uint64(0)):
        raise OSError(ctypes.get_errno(), "not put")
zero, one, *_ = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {zero})
for number in range(first):
    put(0xF0000000 + number)
os.sched_setaffinity(0, {one})
for number in range(50 * room):
    put(number)
left, before, key = 0, None, ctypes.create_string_buffer(4)
while bpf.bpf_map_get_next_key(lru, before, key) == 0:
    before = key.raw
    left += int.from_bytes(before, "little") >= 0xF0000000
print(left)
PYTHON
for pair in 1:1 128:128 129:1 300:44; do
    same "of ${pair%:*} that another processor put first" "${pair#*:}" "$(python3 /lru.py "${pair%:*}")"
done
INSIDE
echo "Linux $(uname -r), libbpf 1.1.2"
in_debian bookworm "libbpf1=1:1.1.2-*" python3-minimal libpython3-stdlib <"$work/inside"
