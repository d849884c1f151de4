#!/usr/bin/env bash
# An InfluxDB whose disk was full for a moment refuses writes until it is started again, and shows what it refused.
#
# Versions: InfluxDB 1.6.7 (Debian 12).
# Question: the disk of the write-ahead log is full, a write is answered with 500 ("no space left on device"), then there
#           is room again. Is the next write taken? Does a query show the one that was refused?
# Guess:    yes, once there is room, as with any program that tries to write anew; no, for it was refused.
# Observed: every write since is refused with the same words, with 8 MB free, and the log stays as long as it was. All that
#           was refused is shown by queries, as if it were kept. A restart ends both: writes are taken, and what was
#           refused is gone. (Its log is written through a buffer that keeps its first error.)
# To do:    start InfluxDB again after its disk was full; take a point for written by its answer, not by a query.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
in_debian bookworm 'influxdb=1.6.7*' curl <<'INSIDE'
mkdir /full
mount -t tmpfs -o size=8m full /full
cat >/influx.conf <<'CONF'
reporting-disabled = true
bind-address = "127.0.0.1:8088"
[meta]
  dir = "/full/meta"
[data]
  dir = "/full/data"
  wal-dir = "/full/wal"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:8086"
CONF
url=http://127.0.0.1:8086
start() {
    influxd -config /influx.conf >>/tmp/log 2>&1 </dev/null &
    within 30 curl -sf $url/ping || { tail -n 3 /tmp/log >&2; cannot "InfluxDB does not answer"; }
}
query() { curl -s -G $url/query --data-urlencode db=d --data-urlencode "q=$1"; }
send() { # the status, and what is said of room
    curl -s -w ' %{http_code}' "$url/write?db=d&precision=s" --data-binary "m n=$1i $1" |
        tr -d '\n' | sed -E 's/.*(no space left on device).* ([0-9]+)$/\2 \1/; s/^ //'
}
kept() { query 'SELECT n FROM m' | grep -o ',[0-9]*\]' | tr -d ',]' | tr '\n' ' '; }
influxd version
start
curl -s $url/query --data-urlencode 'q=CREATE DATABASE d' >/dev/null
same "a write" "204" "$(send 1)"
dd if=/dev/zero of=/full/ballast bs=4k status=none 2>/dev/null || true
for n in $(seq 100 1000); do # the last page of the log has some room
    answer=$(send "$n")
    [ "$answer" = 204 ] || break
done
same "a write while the disk is full" "500 no space left on device" "$answer"
rm /full/ballast
same "writes with room, after 1 s" "500 no space left on device" "$(sleep 1; send 2)"
same "… and after 10 s" "500 no space left on device" "$(sleep 10; send 3)"
same "a query shows (of what was written with and without)" "1 2 3 $n " "$(kept | grep -oE '\b(1|2|3|'"$n"') ' | tr -d '\n')"
kill %1
wait || true
start
same "a write, once it was started again" "204" "$(send 4)"
same "a query shows" "1 4 " "$(kept | grep -oE '\b(1|2|3|4|'"$n"') ' | tr -d '\n')"
INSIDE
