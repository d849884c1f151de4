"""What is to be done to a host, by what it has."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
from msgspec.structs import replace

from skep.machine import daemon_json, plan, unit
from skep.machine.facts import PROBE, MachineFacts, read_facts
from skep.machine.plan import (
    InstallByScript,
    InstallPackages,
    RemoveFile,
    SetHostName,
    StartEngine,
    WriteFile,
)
from skep.machine.record import EngineWish
from skep.runtime.errors import Conflict, Invalid, Unsupported

UNIT = """# /lib/systemd/system/docker.service
[Unit]
Description=Docker Application Container Engine

[Service]
Type=notify
EnvironmentFile=-/etc/default/docker
ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS
ExecReload=/bin/kill -s HUP $MAINPID
"""
FACTS = MachineFacts(
    host_name="mg0",
    release="Debian GNU/Linux 12",
    release_ids=("debian",),
    clock_s=0.0,
    free_kib=5_000_000,
    has_init_script=True,
    has_apt=True,
    dockerd="/usr/sbin/dockerd",
)
BY_SYSTEMD = replace(FACTS, has_systemd=True, unit=UNIT)
WISH = EngineWish()


def files(facts: MachineFacts, wish: EngineWish = WISH) -> dict[str, str]:
    steps = plan.decide_configuration(facts, wish)
    assert steps[-1] == StartEngine(facts.has_systemd, anew=True), "what is written counts from then on"
    return {each.path: each.content for each in steps if isinstance(each, WriteFile)}


def test_a_host_without_an_engine_gets_one_from_its_own_packages() -> None:
    steps = plan.decide_preparation(replace(FACTS, dockerd="", host_name="x"), "mg0")
    assert steps[0] == SetHostName("mg0")
    assert isinstance(steps[1], InstallPackages)
    assert steps[1].packages[0] == "docker.io"
    assert steps[1].optional == ("docker-cli",)
    assert plan.decide_preparation(FACTS, "mg0") == ()


@pytest.mark.parametrize(
    "ids", [("ubuntu", "debian"), ("linuxmint", "ubuntu", "debian"), ("raspbian", "debian")]
)
def test_debians_family_is_recognised(ids: tuple[str, ...]) -> None:
    assert plan.provisioner_of(replace(FACTS, release_ids=ids)) in plan.RECOGNISED


def test_others_are_not_and_are_told_which_are() -> None:
    alpine = replace(FACTS, release="Alpine Linux v3.20", release_ids=("alpine",), dockerd="", has_apt=False)
    with pytest.raises(Unsupported, match=r"Alpine Linux v3.20 is not recognised: Debian and Ubuntu"):
        plan.decide_preparation(alpine, "mg0")
    assert plan.decide_preparation(replace(alpine, dockerd="/usr/bin/dockerd"), "mg0") == ()


def test_a_full_disk_is_said_before_packages_are_unpacked() -> None:
    with pytest.raises(Conflict, match="100 MiB free"):
        plan.decide_preparation(replace(FACTS, dockerd="", free_kib=100 * 1024), "mg0")


def test_without_systemd_the_engine_listens_by_its_file() -> None:
    written = files(FACTS, EngineWish(port=2377, labels=("a=b",)))
    assert list(written) == [daemon_json.PATH]
    assert json.loads(written[daemon_json.PATH]) == {
        "hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2377"],
        "tlsverify": True,
        "tlscacert": "/etc/docker/ca.pem",
        "tlscert": "/etc/docker/server.pem",
        "tlskey": "/etc/docker/server-key.pem",
        "labels": ["a=b"],
    }


def test_with_systemd_the_units_own_command_line_stays_but_where_it_listens() -> None:
    written = files(BY_SYSTEMD, EngineWish(environment=("HTTP_PROXY=http://p:1/%2f", 'A="x"')))
    assert written[unit.DROP_IN].splitlines()[1:] == [
        "[Service]",
        "ExecStart=",
        "ExecStart=/usr/sbin/dockerd --containerd=/run/containerd/containerd.sock $DOCKER_OPTS",
        'Environment="HTTP_PROXY=http://p:1/%%2f"',
        'Environment="A=\\"x\\""',
    ]
    assert json.loads(written[daemon_json.PATH])["hosts"] == ["fd://", "tcp://0.0.0.0:2376"]


def test_what_was_written_before_is_written_the_same_again() -> None:
    first = files(BY_SYSTEMD)
    again = replace(
        BY_SYSTEMD,
        unit=f"{UNIT}\n# {unit.DROP_IN}\n{first[unit.DROP_IN]}",
        daemon_json=first[daemon_json.PATH],
    )
    assert files(again) == first
    other = json.loads(files(again, EngineWish(port=2400))[daemon_json.PATH])
    assert other["hosts"] == ["fd://", "tcp://0.0.0.0:2400"], "its port may change"


def test_a_drop_in_of_somebody_else_stays_or_is_refused() -> None:
    proxy = (
        f"{UNIT}\n# /etc/systemd/system/docker.service.d/proxy.conf\n[Service]\nEnvironment=HTTP_PROXY=x\n"
    )
    assert files(replace(BY_SYSTEMD, unit=proxy)) == files(BY_SYSTEMD)
    own = f"{UNIT}\n# /etc/systemd/system/docker.service.d/own.conf\n[Service]\nExecStart=\nExecStart=dockerd -D\n"
    with pytest.raises(Conflict, match=r"own\.conf sets the engine's command line"):
        files(replace(BY_SYSTEMD, unit=own))


@pytest.mark.parametrize(
    "line",
    [
        "dockerd -H tcp://0.0.0.0",
        "dockerd -Htcp://0.0.0.0",
        "dockerd --tlsverify",
        "dockerd --host=unix:///x",
    ],
)
def test_a_unit_that_says_itself_who_may_connect_is_refused(line: str) -> None:
    with pytest.raises(Conflict, match="take that out"):
        files(
            replace(BY_SYSTEMD, unit=f"# /lib/systemd/system/docker.service\n[Service]\nExecStart={line}\n")
        )


def test_a_unit_over_several_lines_is_one_command() -> None:
    text = "# /lib/x.service\n[Service]\nExecStart=/usr/bin/dockerd \\\n  -H fd:// \\\n  --debug\n"
    assert "ExecStart=/usr/bin/dockerd --debug" in " ".join(unit.drop_in(text, ()).split())
    with pytest.raises(Conflict, match="starts nothing"):
        unit.drop_in("", ())


def test_settings_of_the_init_script_that_say_where_to_listen_are_refused() -> None:
    with pytest.raises(Conflict, match="-H in DOCKER_OPTS"):
        files(replace(FACTS, default_docker='DOCKER_OPTS="--debug -H tcp://0.0.0.0:2375"\n'))
    files(replace(FACTS, default_docker='#DOCKER_OPTS="-H tcp://0.0.0.0"\nDOCKER_OPTS="--debug"\n'))


def test_the_init_script_exports_the_environment_and_keeps_the_rest() -> None:
    before = 'DOCKER_OPTS="--debug"'
    text = files(replace(FACTS, default_docker=before), EngineWish(environment=("A=it's $x",)))[
        unit.DEFAULT_DOCKER
    ]
    shown = subprocess.run(
        ["sh", "-c", f'{text}\necho "$DOCKER_OPTS"; env'], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("--debug\n")
    assert "\nA=it's $x\n" in shown.stdout
    assert unit.default_docker(text, ("B=1",)) == (
        f"{before}\n# skep machine begins\nexport B=1\n# skep machine ends\n"
    )
    assert unit.default_docker(text, ()) == f"{before}\n"
    assert unit.default_docker(before + "\n", ()) is None


def test_a_host_without_either_is_refused() -> None:
    with pytest.raises(Conflict, match="neither systemd nor"):
        files(replace(FACTS, has_init_script=False))


def test_a_file_of_the_hosts_own_is_merged() -> None:
    own = {"debug": True, "labels": ["own=1"], "log-opts": {"max-size": "1m"}, "dns": ["10.0.0.1"]}
    wish = EngineWish(
        labels=("a=b", "own=1"),
        options=("log-opt=max-file=3", "dns=10.0.0.2", "mtu=1400", "live-restore", "log-driver=local"),
    )
    whole = json.loads(files(replace(FACTS, daemon_json=json.dumps(own)), wish)[daemon_json.PATH])
    assert whole["debug"] is True
    assert whole["labels"] == ["own=1", "a=b"]
    assert whole["log-opts"] == {"max-size": "1m", "max-file": "3"}
    assert whole["dns"] == ["10.0.0.1", "10.0.0.2"]
    assert (whole["mtu"], whole["live-restore"], whole["log-driver"]) == (1400, True, "local")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ('{"hosts": ["tcp://127.0.0.1:2375"]}', "says where its engine listens"),
        ('{"tlscacert": "/etc/ssl/own.pem"}', "tlscacert="),
        ('{"log-driver": "syslog"}', "log-driver="),
        ('{"log-opts": {"max-file": "9"}}', "log-opts="),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_what_contradicts_is_refused(own: str, said: str) -> None:
    wish = EngineWish(options=("log-driver=local", "log-opt=max-file=3"))
    with pytest.raises(Conflict, match=said):
        files(replace(FACTS, daemon_json=own), wish)


@pytest.mark.parametrize(
    "wish",
    [
        EngineWish(options=("host=tcp://0.0.0.0",)),
        EngineWish(options=("--tlsverify=false",)),
        EngineWish(options=("=x",)),
        EngineWish(environment=("A",)),
        EngineWish(environment=("A=b\nExecStart=x",)),
        EngineWish(environment=("A B=c",)),
        EngineWish(tls_sans=("münchen.example",)),
        EngineWish(tls_sans=("",)),
        EngineWish(tls_sans=("a b",)),
        EngineWish(tls_sans=("fe80::1%eth0",)),
    ],
)
def test_wishes_that_cannot_be_are_refused_at_once(wish: EngineWish) -> None:
    with pytest.raises(Invalid):
        plan.check_wish(wish)


def test_the_probe_says_what_this_very_machine_has() -> None:
    said = subprocess.run(["sh", "-c", PROBE], capture_output=True, text=True, check=True).stdout
    as_root = said.replace(f"uid {subprocess.check_output(['id', '-u'], text=True).strip()}\n", "uid 0\n")
    facts = read_facts(as_root)
    assert facts.release_ids
    assert facts.free_kib > 0
    assert facts.clock_s > 1_700_000_000


def an_answer(**files_of: str) -> str:
    lines = ["uid 0", "host_name h", "clock_s 1800000000", "free_kib 5", "dockerd ", "client /usr/bin/docker"]
    lines += [f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in files_of.items()]
    return "\n".join([*lines, "end", ""])


def test_what_a_host_says_is_read_and_looked_at() -> None:
    release = 'PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE="debian"\n'
    facts = read_facts(an_answer(release=release, daemon_json="{}\nuid 5\nend"))
    assert facts.release_ids == ("ubuntu", "debian")
    assert facts.release == "Ubuntu 24.04 LTS"
    assert facts.daemon_json == "{}\nuid 5\nend"
    assert (facts.dockerd, facts.client, facts.unit) == ("", "/usr/bin/docker", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "did not say"),
        (an_answer().replace("uid 0", "uid 1000"), "not root"),
        (an_answer().replace("free_kib 5", "free_kib x"), "free_kib"),
        (an_answer().replace("end", "daemon_json !!\nend"), "cannot be read"),
        (an_answer(daemon_json="x" * 70000), "more than"),
    ],
)
def test_a_host_that_says_what_cannot_be_is_not_believed(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_facts(text)


def test_a_label_of_two_values_is_refused() -> None:
    """dockerd does not start with both."""
    with pytest.raises(Conflict, match="labels="):
        files(replace(FACTS, daemon_json='{"labels": ["rack=1", "own=1"]}'), EngineWish(labels=("rack=7",)))
    for labels in (("rack=1", "rack=7"), ("rack",)):
        with pytest.raises(Invalid, match="--engine-label rack"):
            plan.check_wish(EngineWish(labels=labels))


def test_where_a_machines_engine_listens_besides_stays_and_is_made_no_wider() -> None:
    own = json.loads(files(FACTS)[daemon_json.PATH])
    for hosts in (
        ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376", "unix:///run/own.sock"],
        ["unix:///var/run/docker.sock", "tcp://10.0.0.5:2376"],
    ):
        text = files(replace(FACTS, daemon_json=json.dumps({**own, "hosts": hosts})))[daemon_json.PATH]
        assert json.loads(text)["hosts"] == hosts


def test_a_host_that_is_somebody_elses_machine_is_refused() -> None:
    theirs = read_facts(an_answer(ca="theirs"))
    for own in ((), (b"ours",)):
        with pytest.raises(Conflict, match=r"/etc/docker/ca\.pem is not of your machines' CA"):
            plan.check_authority(theirs, own)
    plan.check_authority(theirs, (b"ours", b"theirs"))
    plan.check_authority(read_facts(an_answer()), ())


def test_of_an_authority_that_is_being_renewed_a_host_may_trust_both() -> None:
    old, new, other = (f"-----BEGIN CERTIFICATE-----\n{each}\n-----END CERTIFICATE-----\n" for each in "ABC")
    both = read_facts(an_answer(ca=new + old))
    plan.check_authority(both, (old.encode(), new.encode()))
    for own in ((new.encode(),), (new.encode(), other.encode())):
        with pytest.raises(Conflict, match="is not of your machines' CA"):
            plan.check_authority(both, own)


MACHINES = f"""{UNIT}
# {unit.MACHINES_DROP_IN}
[Service]
ExecStart=
ExecStart=/usr/bin/dockerd -H tcp://0.0.0.0:2376 -H unix:///var/run/docker.sock --storage-driver aufs --tlsverify \
 --tlscacert /etc/docker/ca.pem --label provider=generic --registry-mirror https://m.example --registry-mirror=b
Environment=
# /etc/systemd/system/docker.service.d/proxy.conf
[Service]
Environment=A=b
"""


def test_docker_machines_own_drop_in_is_taken_over() -> None:
    """Ours comes after it. What only it says is kept, and nothing that the file says: no engine takes both."""
    written = files(replace(BY_SYSTEMD, unit=MACHINES))
    command = written[unit.DROP_IN].splitlines()[3]
    assert command == (
        "ExecStart=/usr/sbin/dockerd --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"
        " --storage-driver=aufs --registry-mirror=https://m.example --registry-mirror=b"
    )
    assert json.loads(written[daemon_json.PATH])["hosts"] == ["fd://", "tcp://0.0.0.0:2376"]
    again = f"{MACHINES}\n# {unit.DROP_IN}\n{written[unit.DROP_IN]}"
    assert files(replace(BY_SYSTEMD, unit=again)) == written
    own = files(
        replace(BY_SYSTEMD, unit=MACHINES), EngineWish(options=("registry-mirror=https://o.example",))
    )
    assert "registry-mirror" not in own[unit.DROP_IN]
    assert "--storage-driver=aufs" in own[unit.DROP_IN]


def test_an_architecture_that_is_none_is_not_taken() -> None:
    for said in ("x86_64; rm -rf /", "../../x", "x" * 101):
        assert read_facts(an_answer().replace("uid 0", f"uid 0\narchitecture {said}")).architecture == ""
    assert read_facts(an_answer().replace("uid 0", "uid 0\narchitecture aarch64")).architecture == "aarch64"


def test_a_script_of_the_users_choice_installs_docker_where_it_is_missing() -> None:
    url = "https://get.docker.com"
    fedora = replace(FACTS, dockerd="", release_ids=("fedora",), has_apt=False)
    assert plan.decide_preparation(fedora, "mg0", install_url=url) == (InstallByScript(url),)
    assert plan.decide_preparation(FACTS, "mg0", install_url=url) == (), "it is there"
    both = plan.decide_preparation(
        replace(FACTS, dockerd=""), "mg0", InstallPackages("skepd's packages", ("etcd-server",)), url
    )
    assert both == (InstallByScript(url), InstallPackages("skepd's packages", ("etcd-server",)))
    plan.check_wish(EngineWish(install_url=f"{url}/a?b=c&d"))
    for wrong in ("http://get.docker.com", "https://x/$(reboot)", "https://x y", "file:///x", "https://x/'"):
        with pytest.raises(Invalid, match="--engine-install-url"):
            plan.check_wish(EngineWish(install_url=wrong))


@pytest.mark.parametrize("skepd", [False, True])
@pytest.mark.parametrize("facts", [FACTS, BY_SYSTEMD])
def test_what_an_engine_does_not_take_gives_way_to_what_was_there(facts: MachineFacts, skepd: bool) -> None:
    wish = EngineWish(options=("storage-driver=nonesuch",), environment=("A=b",))
    there = replace(facts, daemon_json='{"debug": true}', default_docker="# own\n", drop_in="[Service]\n")
    for before in (facts, there):
        configuration = plan.decide_configuration(before, wish, skepd=skepd)
        *files, last = plan.decide_return(before, configuration)
        assert last == StartEngine(facts.has_systemd, anew=True)
        had = {
            "/etc/docker/daemon.json": before.daemon_json,
            "/etc/default/docker": before.default_docker,
            "/etc/systemd/system/docker.service.d/10-skep-machine.conf": before.drop_in,
        }
        written = [each.path for each in configuration if isinstance(each, WriteFile)]
        assert len(written) == 2
        assert files == [
            RemoveFile(path) if (text := had[path]) is None else WriteFile(path, text) for path in written
        ]


def test_where_nothing_was_written_there_is_nothing_to_put_back() -> None:
    """The engine does not start for another reason, and would be stopped for nothing."""
    wish = EngineWish(options=("dns=10.0.0.1",))
    written = plan.decide_configuration(FACTS, wish, skepd=True)
    now = replace(FACTS, daemon_json=next(each.content for each in written if isinstance(each, WriteFile)))
    configuration = plan.decide_configuration(now, wish, skepd=True)
    assert configuration == (StartEngine(by_systemd=False, anew=False),)
    assert plan.decide_return(now, configuration) == ()
