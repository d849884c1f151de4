"""What users see of machines: environments of shells, the table, templates, OpenSSH's command line."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import PurePath

import pytest

from skep.cli.machine.user import for_each
from skep.machine import shells
from skep.machine.engine import HALF_MADE, RUNNING, Condition
from skep.machine.names import bracketed, check_address
from skep.machine.openssh import known_hosts_line, ssh_words
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.table import columns, row
from skep.machine.templates import filled
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
    with pytest.raises(Invalid):
        filled("{{.Nothing}}", config)


def test_openssh_is_held_to_the_pinned_key() -> None:
    place = SshPlace(address="10.0.0.5", user="ada", port=2222, key="/k")
    assert known_hosts_line(place, "ssh-ed25519 AAAA root@h") == "[10.0.0.5]:2222 ssh-ed25519 AAAA\n"
    assert known_hosts_line(SshPlace(address="h"), "ssh-rsa AAAA") == "h ssh-rsa AAAA\n"
    words = ssh_words(place, PurePath("/m x/known_hosts"), "ssh-rsa AAAA", ("ls", "-l"))
    assert words[-6:] == ["-l", "ada", "--", "10.0.0.5", "ls", "-l"]
    hostile = ssh_words(SshPlace(address="h", user="-oProxyCommand=x"), PurePath("/k"), "ssh-rsa AAAA", ())
    assert hostile[-4:] == ["-l", "-oProxyCommand=x", "--", "h"], "a name is no option"
    assert "StrictHostKeyChecking=yes" in words
    assert 'UserKnownHostsFile="/m x/known_hosts"' in words
    assert "HostKeyAlgorithms=rsa-sha2-512,rsa-sha2-256" in words


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
