"""What upgrades an engine, by the script that is run on its host, with an apt of the test's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from skep.machine.upgrading import UPGRADE, PackageChange, read_changes
from skep.runtime.errors import Invalid

APT = """#!/bin/sh
echo "$@" >>"$0.log"
case "$*" in *install*) echo 2 >"$(dirname "$0")/version" ;; esac
"""
DPKG_QUERY = """#!/bin/sh
case "$3" in
*Status*) case "$4" in docker.io | runc) printf installed ;; containerd) printf config-files ;; *) exit 1 ;; esac ;;
*) when=${3%% *}; [ "$4" = runc ] && version=1 || version=$(cat "$(dirname "$0")/version"); echo "$when $4 $version" ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    texts = {"apt-get": APT, "dpkg-query": DPKG_QUERY, "dockerd": "#!/bin/sh\n", "dpkg": "#!/bin/sh\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "version").write_text("1")
    return tmp_path


def run(programs: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", UPGRADE], env=environment, capture_output=True, text=True)


def test_those_packages_that_are_there_are_upgraded_and_none_is_removed(programs: Path) -> None:
    done = run(programs)
    assert done.returncode == 0, done.stderr
    assert read_changes(done.stdout) == [PackageChange("docker.io", "1", "2")]
    update, install = (programs / "apt-get.log").read_text().splitlines()
    assert update.split()[-1] == "update"
    assert install.split()[-2:] == ["docker.io", "runc"]
    assert {"--only-upgrade", "--no-remove", "-y"} <= set(install.split())


def test_an_engine_of_no_package_is_left(programs: Path) -> None:
    (programs / "dpkg").write_text("#!/bin/sh\nexit 1\n")
    assert run(programs).returncode == 3
    assert not (programs / "apt-get.log").exists()


def test_why_it_fails_is_said(programs: Path) -> None:
    (programs / "apt-get").write_text("#!/bin/sh\necho E: held packages; exit 100\n")
    done = run(programs)
    assert done.returncode == 1
    assert done.stderr == "E: held packages\n"


def test_a_host_that_says_nothing_of_its_packages_is_not_believed() -> None:
    with pytest.raises(Invalid, match="does not say which versions"):
        read_changes("before docker.io 1\nnonsense\n")
    hostile = read_changes("before a 1\nafter a \033[31m2\n")
    assert "\033" not in hostile[0].after
