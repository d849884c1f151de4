"""etcd as a child: killed, missing, of a bad version, left over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from skep.runtime.errors import Invalid, Unavailable
from skep.store.election import Campaign
from skep.store.etcd.client import EtcdStore
from skep.store.etcd.supervisor import EtcdProcess
from skep.store.etcd.version import check_version
from skep.store.interfaces import Put, Txn
from tests.leads import win


async def test_a_killed_etcd_is_back_with_its_data_and_leadership_is_kept(tmp_path: Path) -> None:
    etcd = EtcdProcess(tmp_path)
    await etcd.start()
    store = EtcdStore(etcd.target)
    leadership = await win(Campaign(store, "/leader", "a"))
    await store.commit(Txn((Put("/t/a", b"1"),), fence=leadership.fence))
    os.kill(etcd.pid, signal.SIGKILL)
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        try:
            await store.commit(Txn((Put("/t/b", b"2"),), fence=leadership.fence))
            break
        except Unavailable:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)
    pairs, _ = await store.load("/t/")
    assert [p.value for p in pairs] == [b"1", b"2"]
    assert etcd.restarts == 1
    await leadership.resign()
    await store.close()
    await etcd.stop()
    assert etcd.pid == 0


async def test_a_leftover_of_a_killed_daemon_is_ended(tmp_path: Path) -> None:
    first, second = EtcdProcess(tmp_path), EtcdProcess(tmp_path)
    await first.start()
    leftover = first.pid
    first._stopping = True  # the daemon that would restart it is gone
    await second.start()
    assert second.pid != leftover
    assert not Path(f"/proc/{leftover}/exe").exists() or "Z" in Path(f"/proc/{leftover}/stat").read_text()
    await second.stop()
    await first.stop()


async def test_an_etcd_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "etcd" / "log").mkdir(parents=True)
    etcd = EtcdProcess(tmp_path)
    with pytest.raises(Unavailable, match=r"etcd cannot be started: .*/etcd/log: Is a directory"):
        await etcd.start()
    await etcd.stop()


async def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """At first only where there are others to wait for it; later always."""
    log, etcd = tmp_path / "etcd" / "log", EtcdProcess(tmp_path)
    log.mkdir(parents=True)
    await etcd.start(["other"])
    await until(lambda: etcd.restarts > 1)
    assert "Is a directory" in etcd.trouble()
    log.rmdir()
    await until(log.is_file)
    await etcd.stop()
    alone = EtcdProcess(tmp_path / "a")
    await alone.start()
    before, log = alone.pid, tmp_path / "a" / "etcd" / "log"
    log.rename(log.with_name("away"))
    log.mkdir()
    os.kill(before, signal.SIGKILL)
    await until(lambda: "Is a directory" in alone.trouble())
    log.rmdir()
    await until(lambda: alone.pid not in (0, before))
    await alone.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.05)


async def test_a_missing_etcd_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="apt-get install etcd-server"):
        await EtcdProcess(tmp_path, binary="no-such-etcd").start()


async def test_something_else_is_not_etcd(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not look like etcd"):
        await EtcdProcess(tmp_path, binary="true").start()


@pytest.mark.parametrize("version", ["3.3.25", "3.4.21", "3.5.0", "3.5.5", "2.3.8"])
def test_unsafe_versions_are_refused(version: str) -> None:
    with pytest.raises(Invalid, match=f"etcd {version} is not safe"):
        check_version(f"etcd Version: {version}\nGit SHA: x")


@pytest.mark.parametrize("version", ["3.4.22", "3.4.23", "3.5.6", "3.5.21", "3.6.0"])
def test_good_versions_are_taken(version: str) -> None:
    assert ".".join(map(str, check_version(f"etcd Version: {version}\n"))) == version
