"""What is done on hosts, by the scripts that are run there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from skep.machine.plan import InstallEngine
from skep.machine.provision import install_script


def test_what_is_installed_drives_nothing_out(tmp_path: Path) -> None:
    for name in ("apt-get", "apt-cache"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$@" >>"$0.log"\n')
        (tmp_path / name).chmod(0o755)
    script = install_script(InstallEngine(("docker.io",), ("docker-cli",)))
    subprocess.run(["sh", "-c", script], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    update, install = (tmp_path / "apt-get.log").read_text().splitlines()
    assert update.split()[-1] == "update"
    assert install.split()[-1] == "docker.io", "there is no docker-cli"
    assert "--no-remove" in install.split()
    assert "Dpkg::Options::=--force-confold" in install.split(), "nor does dpkg ask, and nobody answers"
