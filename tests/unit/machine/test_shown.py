"""What users see of machines: environments of shells, the table, templates, OpenSSH's command line."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import PurePath

import pytest
from msgspec.structs import replace

from skep.cli.machine.user import for_each
from skep.machine import shells
from skep.machine.engine import HALF_MADE, RUNNING, Condition
from skep.machine.filters import is_state_wanted, is_wanted, parse_filters
from skep.machine.names import bracketed, check_address
from skep.machine.openssh import (
    HostWay,
    known_hosts_line,
    options_first,
    rsync_words,
    scp_words,
    split_place,
    ssh_words,
)
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.table import columns, row
from skep.machine.templates import filled, shown
from skep.runtime.errors import Invalid

HOSTILE = '/home/o\'neil/$HOME `id` "x" \\n/m'


def test_sh_takes_any_value_as_it_is() -> None:
    script = "\n".join(shells.set_lines("sh", {"A": HOSTILE}))
    for shell in ("sh", "bash"):
        shown = subprocess.run(
            [shell, "-c", f'eval "{shell_quoted(script)}"; printf %s "$A"'], capture_output=True
        )
        assert shown.stdout.decode() == HOSTILE


def shell_quoted(text: str) -> str:
    for each in '\\"$`':
        text = text.replace(each, f"\\{each}")
    return text


@pytest.mark.parametrize(
    ("shell", "line", "back"),
    [
        ("bash", 'export DOCKER_HOST="tcp://h:1"', "unset DOCKER_HOST"),
        ("fish", 'set -gx DOCKER_HOST "tcp://h:1";', "set -e DOCKER_HOST;"),
        ("powershell", '$Env:DOCKER_HOST = "tcp://h:1"', "Remove-Item Env:\\DOCKER_HOST"),
        ("cmd", "SET DOCKER_HOST=tcp://h:1", "SET DOCKER_HOST="),
        ("tcsh", "setenv DOCKER_HOST 'tcp://h:1';", "unsetenv DOCKER_HOST;"),
        ("emacs", '(setenv "DOCKER_HOST" "tcp://h:1")', '(setenv "DOCKER_HOST" nil)'),
    ],
)
def test_each_shell_is_spoken_to_in_its_own_words(shell: str, line: str, back: str) -> None:
    assert shells.set_lines(shell, {"DOCKER_HOST": "tcp://h:1"}) == [line]
    assert shells.unset_lines(shell, ("DOCKER_HOST",)) == [back]
    comment = {"cmd": "REM", "emacs": ";;"}.get(shell, "#")
    assert all(each.startswith(comment) for each in shells.hint(shell, "skep machine env mg0"))


def test_what_a_shell_cannot_take_is_refused() -> None:
    with pytest.raises(Invalid, match="cmd cannot take that"):
        shells.set_lines("cmd", {"A": "x & del *"})
    with pytest.raises(Invalid, match="control character"):
        shells.set_lines("sh", {"A": "x\nrm -rf"})


@pytest.mark.parametrize(
    ("path", "shell"),
    [
        ("/usr/bin/fish", "fish"),
        ("/bin/zsh", "zsh"),
        ("/bin/csh", "tcsh"),
        ("C:\\Windows\\pwsh.exe", "powershell"),
        ("/bin/dash", "sh"),
        ("", "sh"),
    ],
)
def test_the_users_shell_is_told_by_its_name(path: str, shell: str) -> None:
    assert shells.shell_of(path) == shell


def test_an_address_goes_by_no_proxy_and_comes_back() -> None:
    assert shells.no_proxy({}, "10.0.0.5", unset=False) == ("NO_PROXY", "10.0.0.5")
    both = {"NO_PROXY": "a,10.0.0.5"}
    assert shells.no_proxy(both, "10.0.0.5", unset=False) == ("NO_PROXY", "a,10.0.0.5")
    assert shells.no_proxy(both, "10.0.0.5", unset=True) == ("NO_PROXY", "a")
    assert shells.no_proxy({"no_proxy": "a"}, "b", unset=False) == ("no_proxy", "a,b")


def a_machine(name: str, address: str = "10.0.0.5") -> Machine:
    return Machine(name=name, driver="generic", ssh=SshPlace(address=address), engine=EngineWish())


def test_the_table_has_docker_machines_columns() -> None:
    rows = [
        row(a_machine("mg0"), Condition(RUNNING, "28.5.2"), "tcp://10.0.0.5:2376"),
        row(a_machine("mg1", "fd00::5"), Condition(HALF_MADE, error="it\ncloses"), ""),
        row("broken", Condition("Error", error="its config"), ""),
    ]
    lines = columns(rows)
    assert lines[0].split() == ["NAME", "ACTIVE", "DRIVER", "STATE", "URL", "SWARM", "DOCKER", "ERRORS"]
    assert lines[1].split() == ["mg0", "*", "generic", "Running", "tcp://10.0.0.5:2376", "v28.5.2"]
    assert lines[2].split() == ["mg1", "-", "generic", "Half-made", "Unknown", "it", "closes"]
    assert lines[3].split() == ["broken", "-", "Error", "Unknown", "its", "config"]
    assert rows[1]["Name"] == "mg1"


def test_addresses_of_ipv6_are_in_brackets_where_a_port_follows() -> None:
    assert a_machine("a", "fd00::5").url == "tcp://[fd00::5]:2376"
    assert bracketed("h.example") == "h.example"
    for each in ("-oProxyCommand=x", "a b", "", "a;b", "x" * 300, "a..b", "x" * 64, "*.x", "::::"):
        with pytest.raises(Invalid):
            check_address(each)


def test_templates_are_gos() -> None:
    config = {"Driver": {"IPAddress": "10.0.0.5"}, "List": [1]}
    assert filled("{{.Driver.IPAddress}} {{json .List}}", config) == "10.0.0.5 [1]"
    assert filled("{{prettyjson .Driver}}", config).count("\n") == 2
    assert shown(config, "json") == '{"Driver":{"IPAddress":"10.0.0.5"},"List":[1]}'
    assert shown(config, "{{prettyjson .}}").count("\n") == 7
    with pytest.raises(Invalid):
        filled("{{.Nothing}}", config)


def test_openssh_is_held_to_the_pinned_key() -> None:
    place = SshPlace(address="10.0.0.5", user="ada", port=2222, key="/k")
    assert known_hosts_line(place, "ssh-ed25519 AAAA root@h") == "[10.0.0.5]:2222 ssh-ed25519 AAAA\n"
    assert known_hosts_line(SshPlace(address="h"), "ssh-rsa AAAA") == "h ssh-rsa AAAA\n"
    words = ssh_words(
        HostWay(place, PurePath("/m x/known_hosts"), "ssh-rsa AAAA"), ("-L", "1:h:2"), ("ls", "-l")
    )
    assert words[-8:] == ["-L", "1:h:2", "-l", "ada", "--", "10.0.0.5", "ls", "-l"]
    hostile = ssh_words(
        HostWay(SshPlace(address="h", user="-oProxyCommand=x"), PurePath("/k"), "ssh-rsa AAAA")
    )
    assert hostile[-4:] == ["-l", "-oProxyCommand=x", "--", "h"], "a name is no option"
    assert "StrictHostKeyChecking=yes" in words
    assert 'UserKnownHostsFile="/m x/known_hosts"' in words
    assert "HostKeyAlgorithms=rsa-sha2-512,rsa-sha2-256" in words


@pytest.mark.parametrize(
    ("words", "options", "command"),
    [
        (("ls", "-l"), (), ("ls", "-l")),
        (("-L", "8080:localhost:80", "-N"), ("-L", "8080:localhost:80", "-N"), ()),
        (("-vL8080:localhost:80", "ls"), ("-vL8080:localhost:80",), ("ls",)),
        (("-tto", "A=b", "top"), ("-tto", "A=b"), ("top",)),
        (("-v", "--", "-x"), ("-v",), ("-x",)),
        (("-", "x"), (), ("-", "x")),
        ((), (), ()),
    ],
)
def test_options_of_ssh_come_before_the_command(
    words: tuple[str, ...], options: tuple[str, ...], command: tuple[str, ...]
) -> None:
    assert options_first(words) == (options, command)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mg0:/etc/hosts", ("", "mg0", "/etc/hosts")),
        ("ada@mg0:", ("ada", "mg0", "")),
        ("w[1:50]:a:b", ("", "w[1:50]", "a:b")),
        ("ada@w[1:5]x[2:3]:/t", ("ada", "w[1:5]x[2:3]", "/t")),
        ("./a:b", ("", "", "./a:b")),
        ("file", ("", "", "file")),
    ],
)
def test_a_path_is_a_machines_where_a_colon_comes_before_slashes(text: str, parts: tuple[str, ...]) -> None:
    assert split_place(text) == parts


def test_files_are_copied_by_the_pinned_keys_of_both_hosts() -> None:
    one = HostWay(
        SshPlace(address="10.0.0.5", user="a b", port=2222, key="/k1"), PurePath("/m1"), "ssh-rsa AAAA"
    )
    two = HostWay(SshPlace(address="fd00::6", key="/k2"), PurePath("/m2"), "ssh-ed25519 AAAA")
    words = scp_words(one, two, ("/etc/a b", "c"), ["-r"])
    assert words[-4:] == ["-r", "--", "scp://a%20b@10.0.0.5:2222//etc/a%20b", "scp://root@[fd00::6]:22/c"]
    assert "-3" in words
    assert 'UserKnownHostsFile="/m1" "/m2"' in words
    assert not [each for each in words if each.startswith("HostKeyAlgorithms")], "each has its own"
    assert [words[at + 1] for at, each in enumerate(words) if each == "-i"] == ["/k1", "/k2"]
    up = scp_words("", two, ("-x:y", ""), [])
    assert up[-2:] == ["./-x:y", "scp://root@[fd00::6]:22/"]
    assert "HostKeyAlgorithms=ssh-ed25519" in up
    assert "IdentitiesOnly=yes" in up
    agents = HostWay(SshPlace(address="h"), PurePath("/m"), "ssh-ed25519 AAAA")
    assert "IdentitiesOnly=yes" not in scp_words(agents, two, ("a", "b"), []), "one of them has no file"


def test_rsync_logs_in_the_same_way() -> None:
    one = HostWay(SshPlace(address="10.0.0.5", port=2222), PurePath("/m 1"), "ssh-rsa AAAA")
    words = rsync_words("", one, ("a", "/b"), ["-r"])
    assert words[-4:] == ["-r", "--", "./a", "10.0.0.5:/b"]
    assert "'UserKnownHostsFile=\"/m 1\"'" in words[2]
    with pytest.raises(Invalid, match="not between two"):
        rsync_words(one, one, ("a", "b"), [])


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ((), ["mg0", "w1", "broken"]),
        (("driver=Generic",), ["mg0", "w1"]),
        (("driver=a", "driver=generic", "name=^w"), ["w1"]),
        (("label=rack=7",), ["w1"]),
        (("name=o.*n",), ["broken"]),
        (("swarm=x",), []),
        (("state=Running",), ["mg0", "w1", "broken"]),
    ],
)
def test_machines_are_filtered_as_docker_machine_did(texts: tuple[str, ...], names: list[str]) -> None:
    labelled = replace(a_machine("w1"), engine=EngineWish(labels=("rack=7", "a=b")))
    filters = parse_filters(texts)
    found = [each for each in (a_machine("mg0"), labelled, "broken") if is_wanted(each, filters)]
    assert [each if isinstance(each, str) else each.name for each in found] == names


def test_states_are_filtered_once_they_are_known() -> None:
    filters = parse_filters(("state=stopped", "state=Timeout"))
    assert [each for each in ("Running", "Stopped", "Timeout") if is_state_wanted(each, filters)] == [
        "Stopped",
        "Timeout",
    ]
    for text in ("x=y", "name", "name=(", f"name={'x' * 300}"):
        with pytest.raises(Invalid, match="--filter"):
            parse_filters((text,))


def test_what_happens_to_one_machine_ends_no_other() -> None:
    done = []

    async def one(name: str) -> None:
        if name == "a":
            raise ValueError("nobody has thought of it")
        await asyncio.sleep(0.05)
        done.append(name)

    with pytest.raises(ValueError, match="nobody has thought of it"):
        for_each(("a", "b"), one)
    assert done == ["b"]
