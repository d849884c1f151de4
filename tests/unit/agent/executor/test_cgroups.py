"""What a container uses, by the kernel's files: both versions of control groups, alone and beside each other."""

from __future__ import annotations

import pytest

from skep.agent.executor.cgroups import (
    CgroupPlace,
    MemoryUsed,
    busy_s_of,
    counted_of,
    cpu_s_of,
    host_memory_of,
    load_of,
    memory_of,
    mounts_of,
    place_of,
)

ID = "5dd54bf3c0011604299b0fea35745b8eb242314808b72187f4fe0264d1fa7eab"
VERSION_1 = """\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:32 / /mnt/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
VERSION_2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
OF_1 = f"9:name=systemd:/docker/{ID}\n4:memory:/docker/{ID}\n2:cpu,cpuacct:/docker/{ID}\n0::/docker/{ID}\n"


def test_the_first_version_where_it_has_both_controllers() -> None:
    place = place_of(OF_1, ID, mounts_of(VERSION_1))
    assert place == CgroupPlace(
        f"/sys/fs/cgroup/cpu,cpuacct/docker/{ID}", f"/sys/fs/cgroup/memory/docker/{ID}", is_unified=False
    )


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (f"/system.slice/docker-{ID}.scope", f"/system.slice/docker-{ID}.scope"),
        (f"/system.slice/docker-{ID}.scope/init.scope", f"/system.slice/docker-{ID}.scope"),  # systemd within
        (f"/machine.slice/libpod-{ID}.scope/container", f"/machine.slice/libpod-{ID}.scope"),  # Podman's
    ],
)
def test_the_second_version_and_the_containers_own_group_of_those_within_it(path: str, own: str) -> None:
    directory = "/sys/fs/cgroup" + own
    assert place_of(f"0::{path}\n", ID, mounts_of(VERSION_2)) == CgroupPlace(
        directory, directory, is_unified=True
    )


def test_below_another_root() -> None:
    mounts = mounts_of("41 31 0:38 /lxc/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    directory = f"/sys/fs/cgroup/docker/{ID}"
    assert place_of(f"0::/lxc/a/docker/{ID}\n", ID, mounts) == CgroupPlace(
        directory, directory, is_unified=True
    )
    assert place_of(f"0::/lxc/ab/docker/{ID}\n", ID, mounts) is None


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/system.slice/ssh.service\n",  # the process's number is another one's by now
        f"0::/../../docker/{ID}\n",  # outside of this process's namespace
        "",
        "nonsense",
        f"4:memory:/docker/{ID}\n",  # of no use without processors
    ],
)
def test_what_is_not_the_containers_or_not_to_be_seen(cgroup: str) -> None:
    assert place_of(cgroup, ID, mounts_of(VERSION_1 if "memory" in cgroup else VERSION_2)) is None
    assert place_of(OF_1, "", mounts_of(VERSION_1)) is None


def test_processors() -> None:
    assert cpu_s_of("35118918\n", is_unified=False) == 0.035118918
    assert cpu_s_of("usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n", is_unified=True) == 2.5


def test_memory_is_counted_as_docker_does() -> None:
    stat = "cache 9\ninactive_file 1\nhierarchical_memory_limit 104857600\ntotal_inactive_file 4096\n"
    assert memory_of("557056\n", stat, "") == MemoryUsed(552960, 104857600)
    assert memory_of("557056\n", "anon 1\ninactive_file 4096\n", "max\n") == MemoryUsed(552960, 0)
    assert memory_of("557056\n", "inactive_file 4096\n", "1048576\n") == MemoryUsed(552960, 1048576)
    # What is more than all of it was read later, and is not taken off.
    assert memory_of("4096\n", "inactive_file 8192\n", "max\n") == MemoryUsed(4096, 0)


def test_what_an_engine_says_is_the_same() -> None:
    memory = {"usage": 557056, "limit": 104857600, "stats": {"inactive_file": 1, "total_inactive_file": 4096}}
    stats = {"cpu_stats": {"cpu_usage": {"total_usage": 35118918}}, "memory_stats": memory}
    assert counted_of(stats) == (0.035118918, MemoryUsed(552960, 104857600))
    with pytest.raises((KeyError, ValueError, TypeError)):
        counted_of({"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}})  # it has ended


def test_the_host() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice, in hundredths of a second
    assert busy_s_of("cpu  100 20 30 4000 500 6 7 800 90 10\ncpu0 1 2\n", 100) == 1.63
    assert host_memory_of("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n") == (
        600 << 10,
        1000 << 10,
    )
    assert load_of("0.52 0.58 0.59 2/345 6789\n") == 0.52


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu a b c d e f g\n"])
def test_a_host_that_says_nothing_of_use(text: str) -> None:
    with pytest.raises(ValueError, match=r"values to unpack|invalid literal"):
        busy_s_of(text, 100)
