#!/usr/bin/env bash
# An engine that is told to listen at a socket where somebody listens already takes it, and takes it away in the end.
#
# Versions: Docker Engine 20.10.24 (Debian 12), 26.1.5 (Debian 13), 28.5.2 (Debian testing).
# Question: a process listens at a unix socket, as systemd does for docker.socket. dockerd is started with
#           --host unix://THAT-PATH. Which of the two answers, and what is there when dockerd has been stopped?
# Guess:    dockerd does not start (the address is in use), as it does for a TCP port that is taken.
# Observed: with all three dockerd starts and answers in the other's place, and removes the file when it ends. The first
#           listener goes on listening, and nobody reaches it any more. So an engine that was started once without -H fd://
#           leaves a host whose docker.socket is "active (listening)" and whose docker.service is "running", and no socket.
# To do:    look for the file after an engine was started again; stop docker.socket, too, and start both.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
python3 - <<'PYTHON' &
import socket
first = socket.socket(socket.AF_UNIX)
first.bind("/run/docker.sock")
first.listen()
while True:
    taken, _ = first.accept()
    taken.recv(4096)
    taken.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
    taken.close()
PYTHON
listener=$!
asked() { curl -s -m 3 --unix-socket /run/docker.sock http://x/_ping || echo "nobody"; }
within 10 test -S /run/docker.sock
same "before" first "$(asked)"
mkdir -p /run/engine
ip link add br0 type bridge && ip addr add 10.99.0.1/24 dev br0 && ip link set br0 up
dockerd --host unix:///run/docker.sock --exec-root /run/engine/exec --pidfile /run/engine/pid --bridge br0 \
    >/run/engine/log 2>&1 </dev/null &
engine=$!
until grep -q "API listen" /run/engine/log || ! kill -0 $engine 2>/dev/null; do sleep 0.2; done
same "dockerd says" "API listen on /run/docker.sock" "$(grep -o 'API listen on [^"]*\|can.t create unix socket.*' /run/engine/log | tail -n 1)"
same "who answers with dockerd there" OK "$(asked)"
kill $engine
wait $engine || true
same "the socket's file after dockerd was stopped" gone "$([ -S /run/docker.sock ] && echo there || echo gone)"
same "the first listener" "listens on" "$(kill -0 $listener && echo "listens on")"
kill $listener
INSIDE
for version in 20.10.24 26.1.5 28.5.2; do on_engine $version curl python3 <"$work/inside"; done
