"""What stands behind the dashboard's page, with real daemons: who gets in, what passes, and how the swarm shows
as it changes, through a break and a change of leader."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.model.board import STATES

from .dashboards import Page, ShownSwarm
from .fixtures import swarm_fixture
from .hosts import wait_until
from .managers import Managers, create, wait_running
from .skep_cli import skep

pytestmark = pytest.mark.timeout(180)
RUNNING = STATES.index("running")
SHOWN_S = 2.0 * 1.5  # half as much again on a machine that others use, too

swarm = swarm_fixture(lambda directory: Managers(directory, managers=3, workers=1))


@pytest.fixture
def shown(swarm: Managers, tmp_path: Path) -> Iterator[ShownSwarm]:
    hosts = [part for host in swarm.managers for part in ("--host", host.url)]
    with ShownSwarm(tmp_path, *hosts) as made:
        yield made


def service_of(page: Page, name: str) -> tuple[int, list[Any]]:
    """Returns a service's place on the board, and its row; -1 where it is not there yet."""
    rows = page.get("/board")["services"]
    found = [(place, row) for place, row in enumerate(rows) if row is not None and row[1] == name]
    return found[0] if found else (-1, [])


def running(board: dict[str, Any], service: int) -> int:
    return sum(
        flat[at + 2]
        for flat in board["tasks"]
        for at in range(0, len(flat), 3)
        if flat[at] == service and flat[at + 1] == RUNNING
    )


def test_a_link_opens_one_browser_and_the_next_one_is_printed(shown: ShownSwarm) -> None:
    (link,) = shown.links
    page = Page(link)
    assert page.opened
    assert page.get("/api/nodes")
    again = Page(link)
    assert not again.opened
    assert "Open the link" in again.why
    wait_until("another link is printed", lambda: len(shown.links) == 2)
    assert Page(shown.links[1]).opened


def test_others_get_nothing(shown: ShownSwarm, swarm: Managers) -> None:
    page = Page(shown.links[0])
    stranger = Page(shown.links[0])
    assert stranger.request("GET", "/board")[0] == 403
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert page.request("GET", "/api/nodes", **headers)[0] == 403
    node = page.get("/api/nodes")[0]
    order = f"/api/nodes/{node['ID']}/update?version={node['Version']['Index']}"
    spec = {**node["Spec"], "Availability": "pause"}
    assert page.post(order, spec, X_Skep_CSRF="x")[0] == 403
    assert page.request("GET", "/api/swarm")[0] == 403, "it has the join tokens"
    assert all(each["Spec"]["Availability"] == "active" for each in page.get("/api/nodes"))


def test_who_may_only_look(swarm: Managers, tmp_path: Path) -> None:
    with ShownSwarm(tmp_path, "--host", swarm.first.url, "--read-only") as shown:
        page = Page(shown.links[0])
        session = page.get("/session")
        assert (session["readOnly"], session["may"], session["host"]) == (True, [], swarm.first.url)
        status, why = page.post("/api/services/x/update?version=1", {})
        assert (status, "--read-only" in why) == (403, True)


@pytest.mark.parametrize(
    ("options", "status", "why"),
    [
        (["--host", "unix:///nowhere.sock"], 1, "nowhere.sock"),
        (["--host", "http://x"], 2, "unix://PATH or tcp://HOST:PORT"),
        (["--context", "nobody-has-this"], 1, "nobody-has-this"),
        (["--host", "unix:///x", "--context", "y"], 1, "not by both"),
    ],
)
def test_what_cannot_be_shown_is_said(options: list[str], status: int, why: str) -> None:
    done = skep("dashboard --no-browser", *options)
    assert done.returncode == status
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_is_no_swarm_to_show(swarm: Managers) -> None:
    done = skep("dashboard --no-browser", on=swarm.workers[0])
    assert (done.returncode, "is no manager" in done.stderr) == (1, True)


def test_a_break_is_taken_up_where_it_was(shown: ShownSwarm, swarm: Managers) -> None:
    page = Page(shown.links[0])
    stream = page.stream()
    first = stream.next("snapshot")
    stream.close()
    create(swarm.first, "meanwhile", 3)
    wait_running(swarm.first, "meanwhile", 3)
    wait_until(
        "the board has it",
        lambda: any(row and row[1] == "meanwhile" for row in page.get("/board")["services"]),
    )
    again = page.stream(f"{first['epoch']}:{first['seq']}")
    assert again.next("link") == {"ok": True, "why": ""}
    change = again.next("change")
    assert change["seq"] == first["seq"] + 1
    assert not any(event.event == "snapshot" for event in again.seen)
    again.close()


def test_events_and_explanations_pass(shown: ShownSwarm, swarm: Managers) -> None:
    page = Page(shown.links[0])
    filters = json.dumps({"type": ["service"]}).replace('"', "%22").replace(" ", "")
    status, content, _ = page.request(
        "GET", f"/api/events?since={int(time.time()) - 300}&until={int(time.time()) + 1}&filters={filters}"
    )
    assert status == 200
    assert b'"Type":"service"' in content
    assert page.get("/api/skep/v1/services/meanwhile/explain")["Name"] == "meanwhile"


def test_another_leader_is_another_board(shown: ShownSwarm, swarm: Managers) -> None:
    page = Page(shown.links[0])
    before = page.get("/board")
    stream = page.stream(f"{before['epoch']}:{before['seq']}")
    stream.next("link")
    leader = swarm.leader()
    leader.kill()
    after = stream.next("snapshot")
    assert after["epoch"] != before["epoch"]
    assert after["swarm"]["leader"] != before["swarm"]["leader"]
    assert after["swarm"]["id"] == before["swarm"]["id"]
    assert {row[1] for row in after["services"] if row} == {row[1] for row in before["services"] if row}
    assert after["history"][: len(before["history"])] == before["history"], "the hour so far is kept"
    leader.start()
    swarm.wait_reachable(3)
    stream.close()
    assert shown.process.poll() is None


def drain(page: Page, name: str) -> None:
    node = next(each for each in page.get("/api/nodes") if each["Description"]["Hostname"] == name)
    path = f"/api/nodes/{node['ID']}/update?version={node['Version']['Index']}"
    assert page.post(path, {**node["Spec"], "Availability": "drain"}) == (200, "")


@pytest.mark.alone
def test_orders_pass_and_show_within_two_seconds(shown: ShownSwarm, swarm: Managers) -> None:
    create(swarm.first, "web", 2)
    wait_running(swarm.first, "web", 2)
    page = Page(shown.links[0])
    wait_until("the board has it", lambda: running(page.get("/board"), service_of(page, "web")[0]) == 2)
    place, row = service_of(page, "web")
    assert row[2:] == ["replicated", 2, "image:latest", ""]
    stream = page.stream()
    stream.next("snapshot")
    service = page.get("/api/services/web")
    mode = {"Replicated": {"Replicas": 7}}
    path = f"/api/services/{service['ID']}/update?version={service['Version']['Index']}"
    assert page.post(path, {**service["Spec"], "Mode": mode}) == (200, "")
    ordered = time.monotonic()
    while not any(at == place and each[3] == 7 for at, each in stream.next("change")["services"]):
        pass
    assert time.monotonic() - ordered < SHOWN_S
    wait_until("they run", lambda: running(page.get("/board"), place) == 7, 10)
    status, why = page.post(path, {**service["Spec"], "Mode": mode})
    assert (status, "out of sequence" in why) == (500, True), "the swarm's own answer"
    drain(page, "w0")
    wait_until(
        "it shows", lambda: [row[4] for row in page.get("/board")["nodes"] if row and row[1] == "w0"] == [2]
    )
    stream.close()
