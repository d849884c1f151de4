# What watches the swarm of ./quickstart up: a stack of services in it, as `skep monitor deploy` makes it. Sourced by it.
#
# Its images are made of Debian's packages, so that nothing is downloaded from anybody else; Grafana is not in Debian.
stack=quickstart-monitor
watcher=mg2 # where it runs, for its images and what it keeps are there; those that are told to be killed are others
prometheus_port=9090
influxdb_port=8086
grafana_image=grafana/grafana:12.3.2
DATA_S=60 # until there are numbers: managers are looked for every 30 s, and asked every 15

monitor() {
    local parts=(--prometheus) options=(--image "prometheus=$(monitor_image prometheus)" --publish prometheus=$prometheus_port)
    bring_up
    need_monitor_packages
    if has_influxdb; then
        parts+=(--influx)
        options+=(--image "influxdb=$(monitor_image influxdb)" --image "skep=$(monitor_image skep)")
        options+=(--publish influxdb=$influxdb_port)
    else
        say "this Debian has no InfluxDB: Prometheus watches alone"
    fi
    give_monitor_images || fail "$watcher was not given the images (see above); $me monitor goes on"
    say "deploying the stack $stack (skep monitor deploy --help says what of)"
    .venv/bin/skep monitor deploy --host "$(socket "$manager")" --name $stack "${parts[@]}" --no-grafana "${options[@]}" \
        --constraint node.hostname==$watcher --socket "$(api $watcher)/skep.sock" --metrics-port $metrics_port \
        --resolve-image never || fail "not all of it runs (see above); $me monitor goes on"
    write_boards
    show stack services $stack
    wait_numbers
    tell_next_monitor
}

need_monitor_packages() {
    local wanted=(prometheus=prometheus ldd=libc-bin)
    if command -v influxd >/dev/null || [ -n "$(apt-cache madison influxdb 2>/dev/null)" ]; then wanted+=(influxd=influxdb); fi
    need_packages "${wanted[@]}"
}

has_influxdb() { command -v influxd >/dev/null; }
has_monitor() { on "$manager" service inspect ${stack}_prometheus >/dev/null 2>&1; }
monitor_image() { # PART: named by the skep that it is of, so that another one is made for another
    echo "skep-quickstart-$1:$(find src scripts/monitor_images.py -type f -not -path '*/__pycache__/*' -print0 | sort -z |
        xargs -0 sha256sum | sha256sum | cut -c1-8)"
}

give_monitor_images() {
    local to=(docker -H "unix://$(engine $watcher)/docker.sock") files failed=0 part
    if "${to[@]}" image inspect "$(monitor_image prometheus)" >/dev/null 2>&1; then return; fi
    say "making images of Debian's packages for $watcher"
    files=$(mktemp -d)
    .venv/bin/python scripts/monitor_images.py "$files" || failed=1
    give_monitor_image prometheus 'ENTRYPOINT ["/usr/bin/prometheus"]' || failed=1
    if [ -d "$files/influxdb" ]; then
        give_monitor_image influxdb 'CMD ["/usr/bin/influxd", "run", "-config", "/etc/influxdb.conf"]' || failed=1
        give_monitor_image skep 'ENV PATH=/usr/local/bin:/usr/bin:/bin' || failed=1
    fi
    rm -rf "$files"
    return $failed
}

give_monitor_image() { # PART CHANGE
    tar -C "$files/$1" -c . | "${to[@]}" import -c "$2" - "$(monitor_image "$1")" >/dev/null
}

write_boards() { # for a Grafana elsewhere
    local sources=(--prometheus "http://$(address $watcher):$prometheus_port")
    ! has_influxdb || sources+=(--influx "http://$(address $watcher):$influxdb_port")
    .venv/bin/skep monitor grafana --out "$home/grafana" "${sources[@]}" >/dev/null
}

ask_prometheus() { # QUERY: the number that it gives, nothing where it has none yet
    curl -sf -m 5 --data-urlencode "query=$1" "http://$(address $watcher):$prometheus_port/api/v1/query" |
        sed -n 's/.*"value":\[[^,]*,"\([^"]*\)"\].*/\1/p'
}
ask_influxdb() { # QUERY: the last number of its answer
    curl -sf -m 5 -G --data-urlencode "q=$1" --data db=telegraf "http://$(address $watcher):$influxdb_port/query" |
        sed -n 's/.*,\([0-9.]*\)\]\].*/\1/p'
}
nodes_of_prometheus='max(sum by (instance) (swarm_manager_nodes))'
tasks_of_prometheus='max(swarm_manager_tasks_total{state="running"})'
nodes_of_influxdb='SELECT last("n_nodes") FROM "swarm"'
tasks_of_influxdb="SELECT last(\"n_tasks\") FROM \"swarm_task_status\" WHERE \"status\" = 'running'"

wait_numbers() { # until both have some, if that is soon
    local until=$((SECONDS + DATA_S))
    say "waiting for the first numbers"
    until [ -n "$(ask_prometheus "$nodes_of_prometheus")" ] &&
        { ! has_influxdb || [ -n "$(ask_influxdb "$nodes_of_influxdb")" ]; }; do
        [ $SECONDS -lt $until ] || break
        sleep 1
    done
}

tell_addresses() {
    local at
    at=$(address $watcher)
    printf '\n%s and what it watches (any of the five hosts leads there):\n' "$stack"
    echo "  Prometheus  http://$at:$prometheus_port    nodes: $(ask_prometheus "$nodes_of_prometheus"), tasks running: $(ask_prometheus "$tasks_of_prometheus")"
    ! has_influxdb ||
        echo "  InfluxDB    http://$at:$influxdb_port    nodes: $(ask_influxdb "$nodes_of_influxdb"), tasks running: $(ask_influxdb "$tasks_of_influxdb")"
}

tell_next_monitor() {
    tell_addresses
    cat <<END

Grafana is not in Debian, so it is left out here; its boards and what it is to ask are in $home/grafana.
Where its image can be had (any Docker Engine on this machine, not one of the swarm's):
  docker run --rm --network host -v $home/grafana:/etc/grafana/provisioning:ro $grafana_image
and then http://localhost:3000, user and password admin. \`skep monitor deploy\` without --no-grafana runs it in a swarm.

What to type next (after the last line below):
  docker stack services $stack
  docker service scale $service=8    # and look again at the numbers some seconds later: $me status
  curl -s 'http://$(address $watcher):$prometheus_port/api/v1/targets?state=active' | grep -o '"health":"[a-z]*"' | sort | uniq -c
  $PWD/.venv/bin/skep monitor rm --name $stack    # takes it away, and keeps what was measured
  Take all of it down, the swarm as well:
    $me down

export DOCKER_HOST=$(socket "$manager")
END
}
