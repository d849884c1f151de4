# The swarm of ./quickstart machines: local machines (docs/operations.md), made by `skep cluster create`. Sourced by it.
#
# They are the user's as all machines are: in the user's store, with docker contexts. What is ours among them has a label
# and is of the driver `local`; a machine of the user's with the same name is neither touched nor replaced.
cluster=quickstart
label=skep.quickstart=$home # whose they are: that of another SKEP_QUICKSTART_DIR leaves them alone
store=${MACHINE_STORAGE_PATH:-${HOME:-/root}/.docker/machine}

skep() { .venv/bin/skep "$@" 8>&-; }
context() { docker --context "$1" "${@:2}"; }
show_context() { # runs a docker command on $manager in the open
    print_command docker --context "$manager" "$@"
    context "$manager" "$@"
}
has_machines() { grep -qsF "\"$label\"" "$store"/machines/*/config.json; }
has_machine() { [ -e "$store/machines/$1/config.json" ]; }

sort_machines() { # into `own` and `others`: those of our hosts' names that are there
    local name
    own=() others=()
    for name in "${hosts[@]}"; do
        has_machine "$name" || continue
        case $(skep machine inspect -f '{{.DriverName}} {{.HostOptions.EngineOptions.Labels}}' "$name") in
            "local [$label]") own+=("$name") ;;
            *) others+=("$name") ;;
        esac
    done
}

refuse_others() { # machines and docker contexts of the user's that have our hosts' names
    local name
    [ ${#others[@]} = 0 ] ||
        fail "you have machines of these names already, which stay as they are: ${others[*]} ($(skep_typed) machine ls)." \
            "A store of its own has room: MACHINE_STORAGE_PATH=/root/quickstart-machines $me machines"
    for name in "${hosts[@]}"; do
        said=$(docker context inspect "$name" 2>/dev/null) || continue
        grep -qF "\"skep machine, $store/machines/$name\"" <<<"$said" ||
            fail "there is a docker context $name already, which stays as it is (docker context inspect $name):" \
                "contexts of its own have room: DOCKER_CONFIG=/root/quickstart-contexts $me machines"
    done
}

start_machines() { # those that are off, as all are after a reboot of this host
    local states name state off=()
    # Half-made ones are gone on with by what makes them.
    states=$(skep machine ls --format json "${own[@]}" | sed -n 's/.*"Name":"\([^"]*\)".*"State":"\([^"]*\)".*/\1 \2/p') || true
    while read -r name state; do
        [ "$state" != Stopped ] || off+=("$name")
    done <<<"$states"
    [ ${#off[@]} = 0 ] || { say "starting ${off[*]}, which are off" && skep machine start "${off[@]}"; }
}

give_image() { # to the engine of that machine
    ! context "$1" image inspect $image >/dev/null 2>&1 || return 0
    tar -C "$files" -c . | context "$1" import -c 'ENV PATH=/bin' - $image >/dev/null
}

give_images() {
    local files failed=0
    files=$(mktemp -d)
    make_files "$files"
    each_host give_image || failed=1
    rm -rf "$files"
    return $failed
}

find_context() { # any manager answers
    local name said
    for name in "${managers[@]}"; do
        docker context inspect "$name" >/dev/null 2>&1 || continue # half-made, or removed
        if said=$(timeout 20 docker --context "$name" node ls 2>&1); then manager=$name && return; fi
        printf '%s: %s\n' "$name" "$said"
    done
    return 1
}

prepare_machines() {
    need_root ./quickstart
    [[ $store == /* ]] || fail "MACHINE_STORAGE_PATH is to be a whole path, and is $store"
    # What the user's shell has chosen is for what the user types.
    unset DOCKER_HOST DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH
}

one_at_a_time() { # of those that change machines: an earlier one may go on where nobody sees it
    exec 8>/run/skep-quickstart.lock
    flock --nonblock 8 || fail "another $me machines, or down, is at it: wait for its end"
}

machines() {
    local own others found=no
    prepare_machines
    need_packages python3=python3 import:ensurepip=python3-venv docker="docker-cli|docker.io" iptables=iptables ip=iproute2 \
        debootstrap=debootstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring unshare=util-linux \
        mount=mount ssh=openssh-client /bin/busybox=busybox-static pgrep=procps curl=curl \
        /etc/ssl/certs/ca-certificates.crt=ca-certificates
    make_venv ""
    one_at_a_time # only now: what packages start would have the lock, too
    sort_machines
    refuse_others
    if [ ${#own[@]} != 0 ]; then
        found=yes
        start_machines
    else
        say "making ${hosts[*]}, each a machine with an init, an address, sshd, a Docker Engine and skepd"
    fi
    skep cluster create $cluster --managers "$(IFS=,; echo "${managers[*]}")" --workers "$(IFS=,; echo "${workers[*]}")" \
        --driver local --engine-label $label || fail "not all of it is there (see above); $me machines goes on"
    give_images || fail "not all machines were given the image (see above); $me machines goes on"
    find_context || fail "no manager answers for the swarm"
    if context "$manager" service inspect $service >/dev/null 2>&1; then
        [ $found = no ] || say "found the swarm that was made before"
    else
        create_service show_context
    fi
    show_context node ls
    show_context service ps $service
    mapfile -t addresses < <(skep machine ip "${hosts[@]}")
    wait_answers "${addresses[@]}"
    tell_next_machines
}

skep_typed() { echo "$PWD/.venv/bin/skep"; }

exports() { # what a shell needs for what is said to be typed
    local name words=()
    for name in MACHINE_STORAGE_PATH DOCKER_CONFIG LOCAL_DIRECTORY LOCAL_BASE_DIRECTORY; do
        [ -z "${!name:-}" ] || words+=("$name=${!name@Q}")
    done
    echo "export ${words[*]}${words:+ }PATH=\$PATH:$PWD/.venv/bin"
}

tell_next_machines() {
    local first=${managers[0]} second=${managers[1]}
    cat <<END

What was done: ${managers[*]} (managers) and ${workers[*]} (workers), machines out of namespaces on this host, each with
an init, an address, sshd, a Docker Engine and skepd. Their files are in $(skep machine inspect -f '{{.Driver.Directory}}' "$first"), keys
and certificates in $store.
The service '$service' has $(context "$manager" service inspect -f '{{.Spec.Mode.Replicated.Replicas}}' $service) replicas, and each machine leads to them:

$(for place in 1 4; do
    printf '$ curl http://%s:%s    # %s\n%s\n' "${addresses[place]}" $port "${hosts[place]}" "$(curl -sS -m 5 "http://${addresses[place]}:$port" 2>&1)"
done)

What to type next${SUDO_USER:+, as root (sudo -i), whose machines they are} (after the last line below, which has your shell find skep):
  docker --context $manager node ls
  docker --context $manager service scale $service=8
  for n in 1 2 3 4; do curl http://${addresses[3]}:$port; done    # all of them in turn, by any machine
  eval "\$(skep machine env $first)"; docker info; eval "\$(skep machine env --unset)"    # plain docker speaks to $first meanwhile
  skep machine ls
  skep machine ssh w0 docker ps    # the containers of one machine; without a command, a shell
  skep cluster stats $cluster    # and, with $service after it, how many of its tasks run
  skep machine kill w1    # its plug is pulled: its tasks run elsewhere some seconds later
  skep machine start w1
  skep machine kill $first; docker --context $second node ls    # another manager leads some seconds later
  skep machine start $first
  A manager is switched off and on, for more memory say, and the service runs on (one manager after the other):
    docker --context $first node demote $second
    skep machine stop $second; docker --context $first node ls    # Unknown at first, then Down
    skep machine start $second; docker --context $first node ls    # Ready
    docker --context $first node promote $second
    skep cluster upgrade-managers --cluster $cluster --power-cycle    # all of that by one command, for all managers
  One more worker:
    skep machine create --driver local w2 && skep machine join --workers w2 --to $first
  Take it all down:
    $me down

$(exports)
END
}

status_machines() {
    local own others manager=$manager
    prepare_machines
    [ -x .venv/bin/skep ] || make_venv ""
    sort_machines
    [ ${#own[@]} != 0 ] || { echo "no machine of it is there; $me machines makes them"; return; }
    print_command skep machine ls "${own[@]}"
    skep machine ls "${own[@]}" || true
    find_context || { echo "no manager answers for the swarm of machines; $me machines goes on with what is missing"; return; }
    show_context node ls
    show_context service ls
    printf '\n%s\n' "$(exports)"
}

down_machines() {
    local own others images=
    prepare_machines
    one_at_a_time
    [ -x .venv/bin/skep ] || make_venv ""
    sort_machines
    if [ ${#own[@]} != 0 ]; then
        images=$(skep machine inspect -f '{{.Driver.BaseDirectory}}' "${own[0]}") || true
        say "taking down the machines ${own[*]}, with all they run"
        skep machine rm -y "${own[@]}" >/dev/null || fail "not all of it could be removed (see above); run $me down again"
    fi
    [ ${#others[@]} = 0 ] || echo "machines of your own stay: ${others[*]}"
    rm -f "$store/clusters/$cluster.json"
    echo "the machines are gone. Kept are the packages, .venv and the authority of your machines, $store/certs"
    [ -z "$images" ] || echo "and the base image, for the next ones: rm -r $images removes it"
}
