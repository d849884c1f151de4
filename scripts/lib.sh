# Shared by check and quickstart: what this machine needs, said and installed. Sourced by bash.

say() { if [ -t 2 ]; then printf '\033[1m==>\033[0m %s\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian's own tools are in sbin, which not every root shell has in its PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

need_root() {
    [ "$(id -u)" -eq 0 ] || fail "$1 needs root: try sudo $0"
}

# need_packages PROGRAM=PACKAGE ...: installs the packages whose program, /file, import:module or lib:NAME is missing. Of
# PACKAGE|OTHER the first that this release has: what is one package in Debian 12 can be two in 13.
need_packages() {
    local pair program service missing=()
    for pair in "$@"; do
        program=${pair%%=*}
        case $program in
            /*) [ -e "$program" ] || missing+=("${pair#*=}") ;;
            lib:*) ldconfig -p | grep -F "${program#lib:} " >/dev/null || missing+=("${pair#*=}") ;;
            import:*) python3 -c "import ${program#import:}" 2>/dev/null || missing+=("${pair#*=}") ;;
            *) command -v "$program" >/dev/null || missing+=("${pair#*=}") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "please install: ${missing[*]} (this script knows Debian's apt only)"
    need_root "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt_get update
    local wanted packages=() services=()
    for wanted in "${missing[@]}"; do packages+=("$(first_available "$wanted")"); done
    # Debian starts a service with each of these; ours are run by skep alone.
    [[ " ${packages[*]} " == *" etcd-server "* ]] && services+=(etcd)
    [[ " ${packages[*]} " == *" docker.io "* ]] && [ "${KEEP_DOCKER_SERVICE:-}" != yes ] && services+=(docker docker.socket)
    [[ " ${packages[*]} " == *" openssh-server "* ]] && services+=(ssh)
    [[ " ${packages[*]} " == *" influxdb "* ]] && services+=(influxdb)
    [[ " ${packages[*]} " == *" prometheus "* ]] && services+=(prometheus)
    say "installing ${packages[*]}"
    apt_get install -y --no-install-recommends "${packages[@]}"
    if [ -d /run/systemd/system ]; then
        for service in "${services[@]}"; do
            systemctl disable --now "$service" >/dev/null 2>&1 || true
        done
    else
        for service in etcd ssh influxdb prometheus; do
            [[ " ${services[*]} " == *" $service "* ]] && [ -x "/etc/init.d/$service" ] || continue
            "/etc/init.d/$service" stop >/dev/null 2>&1 || true
        done
    fi
}

first_available() { # of A|B the first that apt can install; the last where it knows none, and says so
    local name names
    IFS='|' read -ra names <<<"$1"
    for name in "${names[@]}"; do
        [ -z "$(apt-cache madison "$name" 2>/dev/null)" ] || break
    done
    echo "$name"
}

apt_get() {
    local log
    log=$(mktemp)
    if ! apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" 2>&1 </dev/null |
        tee "$log" | progress '^(Setting up|Unpacking) [^ ]+'; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get $1 failed (see above): is the network there, and are the package sources right?"
    fi
    rm -f "$log"
}

progress() { # shows the part of each line that matches, indented
    grep --line-buffered -oE "$1" | sed -u 's/^/    /' >&2 || true
}

# make_venv EXTRA: a virtual environment in .venv with skep and what it needs; quick when nothing changed.
make_venv() {
    local extra=$1 wanted stamp=.venv/skep-stamp python=/usr/bin/python3
    [ -x $python ] || python=python3
    $python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or later is needed, this is $($python --version)"
    wanted="$extra $(sha256sum pyproject.toml | cut -d' ' -f1)"
    # What has the extras has the rest too.
    [ -f $stamp ] && grep -q -- "^$extra.*${wanted##* }" $stamp && .venv/bin/python -c 'import skep' 2>/dev/null && return
    if [ ! -x .venv/bin/python ]; then
        say "making a virtual environment in .venv"
        $python -m venv .venv || fail "python3 -m venv failed: is python3-venv installed?"
    fi
    say "installing skep${extra:+ with $extra} and its libraries (some minutes the first time)"
    .venv/bin/python -m pip install --progress-bar off --disable-pip-version-check -e ".${extra:+[$extra]}" |
        progress '^(Collecting|Downloading|Installing collected) [A-Za-z0-9._-]+' || fail "pip could not install the libraries (see above)"
    echo "$wanted" >>$stamp
}

this_network() { stat -Lc %i /proc/self/ns/net; }

# pids_below DIR [ROOT]: the processes of this machine, or of that root (not of a container or another one), that were
# started with a path below DIR, ours apart.
pids_below() {
    local process
    for process in /proc/[0-9]*; do
        [ "$process" != "/proc/$$" ] && [ "$process" != "/proc/$BASHPID" ] || continue
        grep -qsaF -- "$1/" "$process/cmdline" || continue
        if [ "$process/root" -ef / ] || { [ -n "${2:-}" ] && [ "$process/root" -ef "$2" ]; }; then echo "${process#/proc/}"; fi
    done
    return 0
}

end_below() { # DIR: kills them
    local pid
    for pid in $(pids_below "$1"); do kill -9 "$pid" 2>/dev/null || true; done
}

unmount_below() { # DIR: what is mounted below it, the deepest first
    local mounted _
    for _ in 1 2 3; do # an engine that is just ending may mount what it was told to make
        for mounted in $(awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r); do
            umount -l "$mounted" 2>/dev/null || true
        done
        grep -qF " $1/" /proc/self/mounts || return 0
        sleep 0.5
    done
}
