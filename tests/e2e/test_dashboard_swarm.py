"""`skep dashboard` in Chromium, before a real swarm: what is ordered there is done, and what is done is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from .dashboard_browser import chromium, opened
from .dashboards import ShownSwarm
from .fixtures import swarm_fixture
from .hosts import Swarm, wait_until

pytestmark = pytest.mark.timeout(180)

swarm = swarm_fixture(lambda directory: Swarm(directory, "simulated", workers=1))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


def order(page: Page, button: str, number: str = "") -> None:
    page.click(f"main button:has-text('{button}')")
    if number:
        page.fill("dialog input", number)
    page.click("dialog button.main")
    expect(page.locator("dialog")).to_have_count(0)


def spec(swarm: Swarm, kind: str, name: str) -> Any:
    """Returns what the API has of it."""
    if kind == "services":
        return swarm.manager.get(f"/services/{name}")["Spec"]
    (node,) = [each for each in swarm.manager.get("/nodes") if each["Description"]["Hostname"] == name]
    return node["Spec"]


def test_orders_are_carried_out_and_what_comes_of_them_is_seen(
    browser: Browser, swarm: Swarm, tmp_path: Path
) -> None:
    docker = swarm.manager.docker
    docker("service create -q -d --name web --replicas 4 image:1")
    docker("service create -q -d --name big --replicas 2 --reserve-cpu 900 image:1")
    host = ("--host", swarm.manager.url)
    with ShownSwarm(tmp_path, *host) as shown, opened(browser, shown.links[0]) as page:
        expect(page.locator(".figure").nth(1)).to_contain_text("4 of 6")
        page.click("nav >> text=Services")
        page.click("main >> text=web")
        expect(page.locator("tbody tr")).to_have_count(4)
        order(page, "Scale", "7")
        expect(page.locator("tbody tr")).to_have_count(7)
        expect(page.locator("main")).to_contain_text("7 / 7")
        docker("service update -q -d --image image:2 --update-parallelism 0 web")
        expect(page.locator("tbody tr", has_text="image:2")).to_have_count(7)
        page.click("[aria-expanded=false] >> nth=0")
        expect(page.locator("tr.older")).to_contain_text("image:1")
        order(page, "Roll back")
        wait_until("it is rolled back", lambda: _image(swarm).startswith("image:1"))
        order(page, "Force update")
        wait_until("it is forced", lambda: spec(swarm, "services", "web")["TaskTemplate"]["ForceUpdate"])
        page.click(".tabs >> text=Logs")
        expect(page.locator(".log p").first).to_contain_text("web.")
        page.click("nav >> text=Pending")
        expect(page.locator("main")).to_contain_text("900 CPUs reserved, 64 free")
        page.click("nav >> text=Nodes")
        page.click("main >> text=w0")
        order(page, "Drain")
        wait_until("it is drained", lambda: spec(swarm, "nodes", "w0")["Availability"] == "drain")
        expect(page.locator(".head >> text=drain")).to_have_count(1)
        order(page, "Pause")
        order(page, "Activate")
        wait_until("it is active", lambda: spec(swarm, "nodes", "w0")["Availability"] == "active")
        order(page, "Promote")
        wait_until("it is to manage", lambda: spec(swarm, "nodes", "w0")["Role"] == "manager")
        expect(page.locator(".head >> text=manager")).to_have_count(1)
        order(page, "Demote")
        wait_until("it is to work", lambda: spec(swarm, "nodes", "w0")["Role"] == "worker")


def _image(swarm: Swarm) -> str:
    return str(spec(swarm, "services", "web")["TaskTemplate"]["ContainerSpec"]["Image"])


def test_a_manager_that_starts_again_is_seen_to_go_and_come(
    browser: Browser, swarm: Swarm, tmp_path: Path
) -> None:
    host = ("--host", swarm.manager.url)
    with (
        ShownSwarm(tmp_path, *host, "--read-only") as shown,
        opened(browser, shown.links[0], expected="503 (Service") as page,
    ):
        expect(page.locator(".readonly")).to_have_count(1)
        expect(page.locator("#link")).to_have_text("live")
        swarm.manager.stop()
        expect(page.locator("#link")).to_contain_text("not connected since")
        expect(page.locator("#banner")).to_contain_text("The swarm does not answer")
        swarm.manager.start()
        expect(page.locator("#link")).to_have_text("live")
        swarm.manager.docker("service create -q -d --name later --replicas 3 image:1")
        page.click("nav >> text=Services")
        expect(page.locator("tbody tr", has_text="later")).to_contain_text("3 / 3")
