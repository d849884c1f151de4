"""Scripts as login shells are given them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from skep.machine.facts import PROBE
from skep.machine.remote_shell import by_any_shell

# All that one of them takes for something: quotes, history, variables, lines, patterns, other letters.
_SCRIPT = r"""
# It's the 1st line!
said='a!b "c" $HOME `id` \n \01 \\ \c'
printf '%s|' "$said" 'two
lines' "$(cat)" "\\" ünï 100% '!!' \
  end
[ ! -e /nowhere ] && ! false
exit 7
"""
_SHELLS = ("sh", "bash", "busybox sh")


@pytest.mark.parametrize("shell", _SHELLS)
@pytest.mark.real_time
def test_a_script_is_what_it_is_by_every_login_shell(shell: str) -> None:
    assert shutil.which(shell.split()[0])
    plain = subprocess.run(["sh", "-c", _SCRIPT], input=b"data", capture_output=True, cwd="/")
    assert plain.returncode == 7
    expected = 'a!b "c" $HOME `id` \\n \\01 \\\\ \\c|two\nlines|data|\\|ünï|100%|!!|end|'
    assert plain.stdout.decode() == expected
    line = by_any_shell(_SCRIPT)
    done = subprocess.run([*shell.split(), "-c", line], input=b"data", capture_output=True, cwd="/")
    assert (done.returncode, done.stdout) == (7, plain.stdout)


def test_no_login_shell_finds_anything_of_its_own_in_it() -> None:
    """csh reads line by line and takes `!` for history within quotes, too; fish takes two backslashes for one."""
    for script in (_SCRIPT, PROBE, "\\'", "\r\n"):
        line = by_any_shell(script)
        assert not {"\n", "\r", "!"} & set(line)
        assert "\\\\" not in line
        assert "\\'" not in line
        assert line.count("'") == 4, "two words that are quoted"


def test_what_is_run_can_be_read_in_a_list_of_processes() -> None:
    assert "/etc/init.d/docker start" in by_any_shell("/etc/init.d/docker start </dev/null")
