"""Local machines, before anything is made of them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path, PurePath

import pytest

from skep.machine.drivers import DriverOption
from skep.machine.drivers.local import Local
from skep.machine.local import addresses, plan
from skep.machine.local import hosts as local_hosts
from skep.machine.local.hosts import LocalHosts, new_files, write_nameservers
from skep.machine.local.plan import LocalHost
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.runtime.errors import Conflict, Corrupt, Denied, Invalid, Unsupported

NETWORK = ipaddress.IPv4Network("10.218.0.0/24")
HOST = LocalHost(name="mg0", image="/b/bookworm", init="systemd", address="10.218.0.7", cpu_millis=1500)


def values(**said: str) -> dict[str, str]:
    found = {each.name: each.default for each in Local.options}
    return {**found, **{name.replace("_", "-"): value for name, value in said.items()}}


def machine(**said: str) -> Machine:
    bare = Machine(name="mg0", driver="local", ssh=SshPlace(), engine=EngineWish())
    return Local().wanted(bare, values(**said))


def test_a_release_whose_systemd_wants_other_groups_has_another_init() -> None:
    assert plan.image_of("testing", has_groups_v2=True).init == plan.SYSTEMD
    old = plan.image_of("testing", has_groups_v2=False)
    assert old.init == plan.SYSV
    assert {"sysvinit-core", "docker-cli"} <= set(old.packages)
    assert not {"systemd", "systemd-sysv", "dbus"} & set(old.packages)
    for each in ("bookworm", "trixie"):
        assert plan.image_of(each, has_groups_v2=False).init == plan.SYSTEMD
    assert "docker-cli" not in plan.image_of("bookworm", has_groups_v2=True).packages, "it has none"
    with pytest.raises(Invalid, match="one of bookworm, trixie, testing"):
        plan.image_of("jessie", has_groups_v2=True)


def test_another_list_of_packages_is_another_image() -> None:
    image = plan.image_of("trixie", has_groups_v2=True)
    more = plan.Image(image.release, image.init, (*image.packages, "vim"))
    names = {image.name(b"recipe"), more.name(b"recipe"), image.name(b"another")}
    assert len(names) == 3
    assert all(each.startswith("trixie-systemd-") for each in names)
    assert image.name(b"recipe") == plan.image_of("trixie", has_groups_v2=True).name(b"recipe")


def test_the_release_is_the_hosts_where_that_is_one() -> None:
    assert plan.default_release("ID=debian\nVERSION_CODENAME=trixie\n") == "trixie"
    assert plan.default_release('VERSION_CODENAME="bookworm"\n') == "bookworm"
    assert plan.default_release("VERSION_CODENAME=noble\n") == "bookworm"
    assert plan.default_release("") == "bookworm"


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("512m", 512 << 20), ("2GB", 2 << 30), ("1gib", 1 << 30), ("268435456", 1 << 28)],
)
def test_memory(text: str, size: int) -> None:
    assert plan.memory_of(text) == size


@pytest.mark.parametrize("text", ["1", "64m", "lots", "-1g", "1t", "9" * 15 + "g", "1 g"])
def test_memory_that_is_none(text: str) -> None:
    with pytest.raises(Invalid, match="--local-memory"):
        plan.memory_of(text)


def test_processors() -> None:
    assert [plan.cpu_millis_of(each) for each in ("", "2", "0.5", "1.25")] == [0, 2000, 500, 1250]
    for each in ("0", "0.001", "-1", "all", "1.2345", "99999"):
        with pytest.raises(Invalid, match="--local-cpus"):
            plan.cpu_millis_of(each)


def test_the_network_is_one_that_the_host_has_no_way_to() -> None:
    first, second = addresses.NETWORKS[:2]
    assert addresses.choose_network("", []) == first
    assert addresses.choose_network("", [ipaddress.IPv4Network("10.218.0.128/25")]) == second
    assert str(addresses.choose_network("192.168.7.0/28", [first])) == "192.168.7.0/28"
    with pytest.raises(Conflict, match=r"a way to 192\.168\.0\.0/16 already"):
        addresses.choose_network("192.168.7.0/28", [ipaddress.IPv4Network("192.168.0.0/16")])
    with pytest.raises(Conflict, match="--local-network"):
        addresses.choose_network("", [ipaddress.IPv4Network("10.0.0.0/8")])
    for each in ("10.218.0.1/24", "10.0.0.0/8", "10.0.0.0/30", "lan", "fd00::/64"):
        with pytest.raises(Invalid, match="--local-network"):
            addresses.network_of(each)
    addresses.check_network_stays("", NETWORK, "/d")
    addresses.check_network_stays(str(NETWORK), NETWORK, "/d")
    with pytest.raises(Conflict, match="another --local-directory"):
        addresses.check_network_stays("10.9.0.0/24", NETWORK, "/d")


def test_a_network_that_others_took_meanwhile_is_not_shared() -> None:
    wider = ipaddress.IPv4Network("10.0.0.0/8")
    addresses.check_network_is_ours(NETWORK, [wider], "/d")
    for way in (NETWORK, ipaddress.IPv4Network(f"{NETWORK[7]}/32")):
        with pytest.raises(Conflict, match=f"ip route show {way}"):
            addresses.check_network_is_ours(NETWORK, [wider, way], "/d")


def test_each_has_an_address_that_nobody_has() -> None:
    assert addresses.gateway_of(NETWORK) == "10.218.0.1"
    assert addresses.choose_address(NETWORK, []) == "10.218.0.2"
    assert addresses.choose_address(NETWORK, ["10.218.0.2", "10.218.0.4"]) == "10.218.0.3"
    with pytest.raises(Conflict, match="are taken"):
        addresses.choose_address(NETWORK, [str(each) for each in NETWORK.hosts()])


def test_an_address_has_one_hardware_address() -> None:
    assert addresses.mac_of("10.218.0.7") == "02:5b:0a:da:00:07"
    assert int(addresses.mac_of("10.218.0.7")[:2], 16) & 3 == 2, "its own, and one station's"


def test_what_the_scripts_are_told() -> None:
    directory = PurePath("/var/lib/skep/machines")
    told = plan.host_environment(directory, "mg0-1a2b3c", HOST, NETWORK)
    shared = addresses.network_environment(directory, NETWORK)
    assert told["DIR"] == "/var/lib/skep/machines/hosts/mg0-1a2b3c"
    assert told["BASE"] == "/b/bookworm/root"
    assert told["GROUP"] == "skep-machines/mg0-1a2b3c"
    assert (told["MEMORY"], told["CPU_MILLIS"]) == ("", "1500")
    assert (told["ADDRESS"], told["GATEWAY"], told["PREFIX"]) == ("10.218.0.7", "10.218.0.1", "24")
    assert told["LAN"] == shared["LAN"]
    for device in (told["PORT"], shared["UPLINK"]):
        assert len(device) <= 15, "as long as the kernel takes them"
    elsewhere = addresses.network_environment(PurePath("/srv/machines"), NETWORK)
    assert not set(elsewhere.values()) & {shared["LAN"], shared["UPLINK"], shared["TAG"]}
    other_root = addresses.network_environment(directory, ipaddress.IPv4Network("10.99.0.0/24"))
    assert not set(other_root.values()) & {shared["UPLINK"], shared["TAG"]}


def test_paths_that_an_overlays_options_would_be_cut_at() -> None:
    for path in ("/a b", "/a,b", "/a:b", "relative", ""):
        with pytest.raises(Invalid, match="--local-directory"):
            plan.check_path("local-directory", path)
    plan.check_path("local-directory", "/srv/m_1/x.y")
    with pytest.raises(Unsupported, match="overlay"):
        plan.check_filesystem("overlayfs", "/d")
    plan.check_filesystem("ext2/ext3", "/d")


def test_nobody_else_has_the_hosts_own_resolver() -> None:
    assert not plan.has_nameserver("nameserver 127.0.0.53\noptions edns0\n")
    assert not plan.has_nameserver("# nameserver 9.9.9.9\nnameserver ::1\n")
    assert plan.has_nameserver("nameserver 127.0.0.53\nnameserver 192.0.2.53\n")


def test_what_is_missing_is_said_with_its_packages() -> None:
    assert plan.missing_packages(["ip", "unshare", "nsenter"]) == (
        "this host has no ip, unshare, nsenter: apt-get install iproute2 util-linux"
    )


def test_what_is_wanted_is_kept_with_the_machine() -> None:
    details = machine(local_release="trixie", local_memory="1g", local_cpus="0.5").details
    assert details["Release"] == "trixie"
    assert details["Memory"] == 1 << 30
    assert details["CpuMillis"] == 500
    assert details["BaseDirectory"] == "/var/lib/skep/machines/base"
    assert details["Host"] == ""
    with pytest.raises(Invalid, match="--local-release"):
        machine(local_release="sid")
    with pytest.raises(Invalid, match="--local-network"):
        machine(local_network="here")
    assert all(isinstance(each, DriverOption) and each.name.startswith("local-") for each in Local.options)


async def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Denied, match="which only root can make: sudo skep machine"):
        await Local().check(machine(), print)


async def test_details_that_are_none_are_said() -> None:
    wrong = Machine(name="mg0", driver="local", ssh=SshPlace(), engine=EngineWish(), details={"Directory": 7})
    with pytest.raises(Corrupt, match="Directory"):
        await Local().state(wrong)


def test_hosts_on_disk(tmp_path: Path) -> None:
    hosts = LocalHosts(tmp_path / "d")
    assert (hosts.names(), hosts.network(), hosts.load("mg0-1")) == ([], None, None)
    files = new_files("mg0", "0" * 32, (b"private", b"public"), b"ssh-ed25519 AAAA me")
    hosts.add("mg0-1", HOST, files)
    (hosts.path("mg0-2")).mkdir()  # of a create that was killed there
    hosts.save_network(NETWORK)
    assert hosts.names() == ["mg0-1", "mg0-2"]
    assert hosts.load("mg0-1") == HOST
    assert hosts.taken() == ["10.218.0.7"]
    assert hosts.network() == NETWORK
    upper = hosts.path("mg0-1") / "upper"
    modes = {str(path.relative_to(upper)): path.stat().st_mode & 0o777 for path in [upper, *upper.rglob("*")]}
    assert modes["."] == modes["etc"] == modes["etc/ssh"] == 0o755
    assert modes["root"] == modes["root/.ssh"] == 0o700
    assert modes["etc/ssh/ssh_host_ed25519_key"] == modes["root/.ssh/authorized_keys"] == 0o600
    assert modes["etc/hostname"] == 0o644
    assert hosts.path("mg0-1").stat().st_mode & 0o777 == 0o700, "nobody else here looks into a machine"
    (hosts.path("mg0-1") / "host.json").write_text("{")
    with pytest.raises(Corrupt, match=r"host\.json"):
        hosts.load("mg0-1")
    for each in hosts.names():
        hosts.remove(each)
    hosts.remove_shared()
    assert not (tmp_path / "d").exists()


def test_images_stay_when_the_last_machine_goes(tmp_path: Path) -> None:
    hosts = LocalHosts(tmp_path)
    hosts.add("mg0-1", HOST, {})
    (tmp_path / "base/bookworm").mkdir(parents=True)
    hosts.remove("mg0-1")
    hosts.remove_shared()
    assert [each.name for each in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize(
    "host", ["../../../../srv", ".", "..", "a/b-1a2b3c", "mg0", "-1a2b3c", "x" * 80 + "-1a2b3c"]
)
async def test_a_config_of_somebody_else_has_nothing_removed_that_is_no_machine(
    tmp_path: Path, host: str
) -> None:
    """`skep machine rm` removes its directory, as root."""
    directory = tmp_path / "machines"
    (directory / "hosts").mkdir(parents=True)
    theirs = tmp_path / "srv"
    theirs.mkdir()
    details = {"Directory": str(directory), "BaseDirectory": str(directory / "base"), "Host": host}
    wrong = Machine(name="mg0", driver="local", ssh=SshPlace(), engine=EngineWish(), details=details)
    with pytest.raises(Corrupt, match=r"config\.json of machine mg0"):
        await Local().remove(wrong, print)
    assert theirs.is_dir()
    assert (directory / "hosts").is_dir()


def test_a_directory_of_somebody_elses_config_is_checked_too() -> None:
    for directory in ("/srv/../etc", "etc", "/a:b"):
        with pytest.raises(Invalid, match="--local-directory"):
            plan.check_details(plan.Details(directory=directory, base_directory="/b", host="mg0-1a2b3c"))


@pytest.mark.parametrize("where", ["etc", "etc/resolv.conf", "etc/.resolv.conf"])
def test_links_of_a_machine_lead_nowhere_on_this_host(tmp_path: Path, where: str) -> None:
    """Its root has made them; who starts it is this host's root."""
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "resolv.conf").write_text("as it was")
    link = own / "upper" / where
    link.parent.mkdir(parents=True)
    if where.endswith(".resolv.conf"):  # the name of what is written first, which can be told
        link = link.with_name(f".resolv.conf.{os.getpid()}")
    link.symlink_to(theirs if where == "etc" else theirs / "resolv.conf")
    write_nameservers(own)
    assert (theirs / "resolv.conf").read_text() == "as it was"
    assert [each.name for each in theirs.iterdir()] == ["resolv.conf"]
    if where != "etc":
        assert (own / "upper/etc/resolv.conf").is_file()
        assert not (own / "upper/etc/resolv.conf").is_symlink()


def test_what_is_mounted_in_a_machines_directory_is_not_removed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that somebody has given it, or a directory of this host's; its own mounts nobody sees here."""
    hosts = LocalHosts(tmp_path)
    inside = hosts.path("mg0-1a2b3c") / "data/docker"
    inside.mkdir(parents=True)
    (inside / "kept").touch()
    mounts = tmp_path / "mountinfo"
    line = "36 35 98:0 / {} rw,noatime - ext4 /dev/sdb rw\n"
    monkeypatch.setattr(local_hosts, "MOUNTS", mounts)
    mounts.write_text(line.format("/") + line.format(inside))
    with pytest.raises(Conflict, match=f"something is mounted at {inside}: umount {inside}"):
        hosts.remove("mg0-1a2b3c")
    assert (inside / "kept").exists()
    # Another machine's, and what this one's directory is on itself.
    mounts.write_text(line.format(f"{tmp_path}/hosts/mg0-1a2b3c4/data") + line.format(tmp_path))
    hosts.remove("mg0-1a2b3c")
    assert not hosts.path("mg0-1a2b3c").exists()
