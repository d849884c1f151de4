# Takes away what a ./check has left: its run directory, and all that was started or mounted below it. Sourced by bash,
# after lib.sh, in the directory of this tree.

sweep() { # ends and removes all of one run directory
    local run=$1
    [ -d "$run" ] || return 0
    local engine lan
    remove_fresh "$run"
    # The lanes' engines and those of single tests, each a directory of scripts/engine.sh: before their shims end, which
    # would leave the containers.
    for engine in $(find "$run" -maxdepth 6 -path "$run/fresh" -prune -o -type d -name exec -printf '%h\n' 2>/dev/null); do
        scripts/engine.sh stop "$engine" >/dev/null 2>&1 || true
    done
    unplug_below "$run"
    end_below "$run"
    for lan in $(find "$run" -maxdepth 6 -path "$run/fresh" -prune -o -type f -name lan -print 2>/dev/null); do
        scripts/lan.sh down "${lan%/lan}" || true
    done
    for namespace in $(ip netns list 2>/dev/null | grep -o "^skn${run##*.}[a-z][a-z0-9]*" || true); do
        ip netns del "$namespace" || true
    done
    # Of hosts with cgroups of their own (tests/e2e/machine_hosts.py).
    find /sys/fs/cgroup -depth -type d -path "*/skn${run##*.}[a-z]*" -exec rmdir {} + 2>/dev/null || true
    # Where /run is no tmpfs, skepd mounts one for tasks' secrets, which outlives it. This run's is empty by now.
    if [ ! -e "$run/had-task-files" ] && [ -z "$(find /run/skep-tasks -type f 2>/dev/null | head -n 1)" ]; then
        umount /run/skep-tasks 2>/dev/null || true
        find /run/skep-tasks -depth -type d -empty -delete 2>/dev/null || true
    fi
    unmount_below "$run" # of engines whose shims were ended, too, before anybody could stop them
    rm -rf --one-file-system "$run" || say "$run could not be removed whole"
}

unplug_below() { # DIR: ends local machines (tests/e2e/test_local_machines.py); their supervisors take away what else there is
    local file pid began boot
    for _ in $(seq 50); do
        for file in $(find "$1" -maxdepth 9 -path "$1/fresh" -prune -o -path '*/hosts/*/init' -print 2>/dev/null); do
            read -r pid began boot <"$file" || continue
            # No other process that has its number now.
            [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || continue
            [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" != "$began" ] || kill -9 "$pid" 2>/dev/null || true
        done
        pids_below "$1" | xargs -r -I{} cat /proc/{}/cmdline 2>/dev/null | grep -qaF host.sh || return 0
        sleep 0.2
    done
}

remove_fresh() { # a run's fresh root, with what it left in this machine's network
    local root=$1/fresh/root
    [ -d "$root" ] || return 0
    end_below "$1/fresh" # its first process, and so all of its
    scripts/lan.sh down "$root/var/lib/skep-quickstart" || true
    # Who was killed may take a moment to let go of its files.
    rm -rf --one-file-system "$1/fresh" 2>/dev/null || { sleep 2; rm -rf --one-file-system "$1/fresh"; }
}
