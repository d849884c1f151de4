#!/usr/bin/env bash
# What a compaction of etcd 3.4 frees is not in its figures until something has been written twice.
#
# Versions: etcd 3.4.23 (Debian 12); not 3.5.16 (Debian 13), not 3.5.30 (Debian testing).
# Question: a key is written over 40 times (20 MB in all), then all but the last revision is compacted with --physical,
#           which waits until that is done. When does the size in use (dbSizeInUse of `endpoint status`, the metric
#           etcd_mvcc_db_total_size_in_use_in_bytes) go down?
# Guess:    at once, for --physical has waited; at the latest with the backend's next commit, after a tenth of a second.
# Observed: with 3.5 so. With 3.4 not in 10 s, not after reads, not with the next write: with the second write after it.
#           A store at rest looks full for as long as it rests.
# To do:    whoever compacts by this figure (or has an alert on it) must not compact again because it has not moved.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://127.0.0.1:2379
etcd --data-dir /tmp/data --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 >/tmp/log 2>&1 </dev/null &
within 30 etcdctl endpoint health || { tail -n 3 /tmp/log >&2; cannot "etcd does not answer"; }
status() { etcdctl endpoint status -w json | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }
in_use() { # half a second is five commits of the backend
    sleep 0.5
    if [ "$(status dbSizeInUse)" -gt 15000000 ]; then echo "20 MB"; else echo "next to nothing"; fi
}
etcd --version | head -n 1
head -c 500000 /dev/zero | tr '\0' x >/tmp/value
for _ in $(seq 40); do etcdctl put key </tmp/value >/dev/null; done
same "in use after 40 writes of 0.5 MB" "20 MB" "$(in_use)"
etcdctl compact --physical "$(status revision)" >/dev/null
same "after the compaction" "$then" "$(in_use)"
sleep 10
etcdctl get key >/dev/null
same "10 s and a read later" "$then" "$(in_use)"
etcdctl put other x >/dev/null
same "after a write of another key" "$then" "$(in_use)"
etcdctl put other x >/dev/null
same "after a second one" "next to nothing" "$(in_use)"
kill %1
INSIDE
then="20 MB" in_debian bookworm 'etcd-server=3.4.23*' 'etcd-client=3.4.23*' <"$work/inside"
for release in trixie=3.5.16 testing=3.5.30; do
    then="next to nothing" in_debian "${release%=*}" "etcd-server=${release#*=}*" "etcd-client=${release#*=}*" <"$work/inside"
done
