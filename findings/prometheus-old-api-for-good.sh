#!/usr/bin/env bash
# Prometheus' discovery of a swarm speaks API 1.24 for as long as it runs if nobody answered its first request.
#
# Versions: Prometheus 2.42.0 (Debian 12).
# Question: dockerswarm_sd asks a Docker API for nodes, services and tasks, every minute. It negotiates the API's version, as
#           docker's client does: a ping first, then paths of the version that both know. Prometheus is started before the
#           API answers, as happens at each boot. Which version does it speak once the API is there?
# Guess:    the one that both know: a negotiation that failed is made again with the next request.
# Observed: /v1.24 (of 2016), in each request and without another ping, until Prometheus is started again; where the API was
#           there first, /v1.41. Nothing in its log says so. What came after 1.24 is not in the answers then.
# To do:    an API that is asked by it must go on answering /v1.24, also where all else asks for newer ones; an engine whose
#           oldest version is 1.40 or 1.44 is never discovered. Or start Prometheus after it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
ip link set lo up 2>/dev/null || true
cat >/tmp/api.py <<'API'
import http.server, socketserver, sys

class Asked(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.command, self.path, file=open(sys.argv[2], "a"), flush=True)
        body = b"OK" if self.path == "/_ping" else b"[]"
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def address_string(self):
        return "a client"

    def log_message(self, *said):
        pass

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass

Server(sys.argv[1], Asked).serve_forever()
API
cat >/tmp/prometheus.yml <<'CONFIG'
scrape_configs:
  - job_name: nodes
    dockerswarm_sd_configs:
      - {host: "unix:///tmp/api.sock", role: nodes, refresh_interval: 1s}
CONFIG
serve() { python3 /tmp/api.py /tmp/api.sock "$1" & api=$!; }
discover() {
    rm -rf /tmp/data
    prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/tmp/data --web.listen-address=127.0.0.1:9090 \
        --log.level=error 2>"$1" & discovering=$!
}
wait_for() { for _ in $(seq 300); do if grep -q "$1" "$2" 2>/dev/null; then return; fi; sleep 0.1; done; }
end() { kill "$api" "$discovering"; wait "$api" "$discovering" 2>/dev/null || true; rm -f /tmp/api.sock; }
paths() { sort "$1" | uniq | tr '\n' ' ' | sed 's/ $//'; }

serve /tmp/first.asked
while [ ! -S /tmp/api.sock ]; do sleep 0.1; done
discover /tmp/first.log
wait_for nodes /tmp/first.asked
sleep 3
end
same "the API is there first" "GET /v1.41/nodes HEAD /_ping" "$(paths /tmp/first.asked)"
discover /tmp/then.log
wait_for "Cannot connect" /tmp/then.log
serve /tmp/then.asked
wait_for nodes /tmp/then.asked
sleep 5
end
same "the API comes later" "GET /v1.24/nodes" "$(paths /tmp/then.asked)"
INSIDE
in_debian bookworm "prometheus=2.42.0+ds-5*" python3-minimal libpython3-stdlib <"$work/inside"
