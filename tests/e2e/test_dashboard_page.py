"""The dashboard's page in Chromium, before a made-up swarm: what it shows, how it is used, by whom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.dashboard_board import HOSTILE, MadeSwarm
from tests.dashboard_page_server import PageServer

from .dashboard_browser import assert_accessible, chromium, opened, show
from .hosts import wait_until

pytestmark = pytest.mark.timeout(120)
PICTURES = Path(__file__).parents[2] / "docs/pictures"
REWRITES = "SKEP_PICTURES"  # set: docs/pictures are taken anew
PICTURE_MAX_BYTES = 200_000
COLOURS = 256  # of a picture, the rare ones too: nobody sees the difference, and it is a third as large
FIRST_PAINT_S = 1.0
SERVICE, NODE = "#/service/s" + "1".zfill(24), "#/node/n" + "0".zfill(24)

PAINTED = "performance.getEntriesByName('skep-painted')[0]?.startTime"

Serve = Callable[..., PageServer]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[PageServer, str]]]:
    started = []

    def start(nodes: int = 5, tasks: int = 40, services: int = 8, **options: Any) -> tuple[PageServer, str]:
        server = PageServer(MadeSwarm(nodes, tasks, services, options.pop("hostile", False)), **options)
        started.append(server)
        return server, server.start()

    yield start
    for each in started:
        each.stop()


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent || document.activeElement.id"))


def test_each_view_says_what_the_swarm_has(browser: Browser, serve: Any) -> None:
    server, url = serve()
    with opened(browser, url) as page:
        expect(page.locator(".figure").nth(0)).to_contain_text("4 of 5")
        running = sum(
            server.swarm.tasks[n][at + 2]
            for n in range(5)
            for at in range(0, len(server.swarm.tasks[n]), 3)
            if server.swarm.tasks[n][at + 1] == 7
        )
        expect(page.locator(".figure").nth(1)).to_contain_text(f"{running} of 42")
        page.hover(".map canvas", position={"x": 100, "y": 60})
        expect(page.locator(".tip")).to_contain_text("leader, ready, active")
        page.click("nav >> text=Services")
        expect(page.locator("tbody tr")).to_have_count(8)
        expect(page.locator("tbody tr", has_text="search")).to_contain_text("pending 2")
        expect(page.locator("tbody tr", has_text="api:1.1")).to_contain_text("4 of 7 new")
        page.fill("#search", "service:mail")
        expect(page.locator("tbody tr")).to_have_count(1)
        assert "q=service%3Amail" in page.url
        page.click("nav >> text=Nodes")
        expect(page.locator("tbody tr")).to_have_count(5)
        page.select_option("select[aria-label=availability]", "drain")
        assert page.input_value("#search") == "availability:drain"
        expect(page.locator("tbody tr")).to_have_count(1)
        page.click("nav >> text=Pending")
        expect(page.locator("main")).to_contain_text("It has no node: each is refused by a filter.")
        page.click("nav >> text=Events")
        expect(page.locator(".log p")).to_have_count(3)


def test_a_service_shows_replicas_history_and_whole_errors(browser: Browser, serve: Any) -> None:
    _, url = serve()
    with opened(browser, url + SERVICE) as page:
        expect(page.locator("tbody tr")).to_have_count(7)
        page.click("[aria-expanded=false] >> nth=0")
        expect(page.locator("tr.older")).to_contain_text(f"task: non-zero exit (1): {HOSTILE}")
        page.click("button[aria-label='Explain api.1']")
        expect(page.locator("dialog")).to_contain_text("What each node says to it now")
        page.keyboard.press("Escape")
        page.click(".tabs >> text=Logs")
        expect(page.locator(".log p").nth(4)).to_contain_text("GET /4")
        expect(page.locator(".log p").nth(4).locator(".err")).to_have_text("E")
        lines = page.locator(".log p")
        count = lines.count()
        wait_until("it follows", lambda: lines.count() > count)
        page.fill("#search", "GET /3 ")
        expect(page.locator(".log p:visible")).to_have_count(1)
        page.click(".tabs >> text=About")
        expect(page.locator("main")).to_contain_text("shop (10.1.0.2/24)")
        expect(page.locator("main")).to_contain_text("tls-key → tls.key")
        page.click("nav >> text=Nodes")
        page.click("[data-row]:text-is('node1')")
        expect(page.locator("main")).to_contain_text("3 GiB in use")
        expect(page.locator("main")).to_contain_text("zone = a")


def answer(page: Page, button: str, says: str) -> None:
    """Presses a button, and says yes to what it asks."""
    page.click(f"main button:has-text('{button}')")
    expect(page.locator("dialog")).to_contain_text(says)
    page.click("dialog button.main")


def test_orders_ask_first_and_are_given_once(browser: Browser, serve: Any) -> None:
    server, url = serve()
    with opened(browser, url + SERVICE, expected="400 (Bad Request)") as page:
        page.click("text=Scale…")
        assert page.is_disabled("dialog button.main"), "it has seven already"
        page.fill("dialog input", "9")
        expect(page.locator("dialog")).to_contain_text("from 7 replicas to 9: 2 tasks more start")
        assert server.orders == []
        page.click("dialog button.main")
        expect(page.locator("dialog")).to_have_count(0)
        expect(page.locator(".toast")).to_contain_text("api scales to 9")
        (path, query, spec) = server.orders.pop()
        assert (path, query) == ("services/s" + "1".zfill(24) + "/update", {"version": "21"})
        assert spec == {**server.swarm.specs["s" + "1".zfill(24)], "Mode": {"Replicated": {"Replicas": 9}}}

        answer(page, "Force update", "2 tasks at a time, 5 s apart; each new one starts before")
        expect(page.locator("dialog")).to_have_count(0)
        assert server.orders.pop()[2]["TaskTemplate"]["ForceUpdate"] == 1

        server.refusal = f"rpc error: {HOSTILE} " + "a long one, " * 60
        answer(page, "Roll back", "Image: registry.example/api:1.1 becomes registry.example/old:0.9.")
        expect(page.locator("dialog .error")).to_have_text(server.refusal.strip())
        server.refusal = ""
        page.click("dialog button.main")
        expect(page.locator("dialog")).to_have_count(0)
        assert server.orders.pop()[1] == {"version": "21", "rollback": "previous"}

        show(page, NODE)
        answer(page, "Drain", "14 tasks on node1 are stopped")
        expect(page.locator("dialog")).to_have_count(0)
        assert server.orders.pop()[2]["Availability"] == "drain"
        answer(page, "Demote", "node1 becomes a worker: 2 managers in place of 3.")
        expect(page.locator("dialog")).to_have_count(0)
        assert server.orders.pop()[2] == {"Role": "worker", "Availability": "active", "Labels": {"zone": "a"}}
        page.click("text=Pause…")
        page.click("dialog >> text=Cancel")
        expect(page.locator("dialog")).to_have_count(0)
        assert "Pause" in focused(page)


@pytest.mark.parametrize("read_only", [True, False], ids=["read-only", "some"])
def test_only_what_one_may_is_offered(browser: Browser, serve: Any, read_only: bool) -> None:
    server, url = serve(read_only=read_only)
    server.may = ["force"]
    with opened(browser, url + SERVICE) as page:
        expect(page.locator("tbody tr")).to_have_count(7)
        offered = page.locator(".head .filters button").all_text_contents()
        assert offered == ([] if read_only else ["Force update…"])
        expect(page.locator(".readonly")).to_have_count(1 if read_only else 0)
        show(page, NODE)
        expect(page.locator("main")).to_contain_text("3 GiB in use")
        assert page.locator(".head .filters button").count() == 0


def test_changes_are_shown_and_a_break_is_gone_on_from(browser: Browser, serve: Any) -> None:
    server, url = serve()
    with opened(browser, url + "#/services", expected="net::ERR_") as page:
        row = page.locator("tbody tr", has_text="web:1.0")
        expect(row).to_contain_text("9 / 10")
        wait_until("it follows", lambda: server.asked_after)
        server.tell("change", server.swarm.add(0, 0, "running", 3))
        expect(row).to_contain_text("12 / 13")
        server.cut(away=True)
        expect(page.locator("#link")).to_contain_text("not connected since")
        expect(page.locator("#banner")).to_contain_text("is `skep dashboard` still running?")
        missed = server.swarm.add(0, 1, "failed", 2)
        server.swarm.seq -= 1  # the stream says it itself, from where it was
        server.is_away = False
        expect(page.locator("#link")).to_have_text("live")
        assert server.asked_after[-1] == f"epoch1:{missed['seq'] - 1}"
        server.swarm.seq += 1
        server.tell("change", missed)
        expect(row).to_contain_text("12 / 15")
        expect(row).to_contain_text("failed 2")
        server.tell("link", {"ok": False, "why": f"no manager answers: {HOSTILE}"})
        expect(page.locator("#banner")).to_contain_text(f"no manager answers: {HOSTILE}")
        server.tell("link", {"ok": True, "why": ""})
        expect(page.locator("#link")).to_have_text("live")
        server.swarm.epoch = "epoch2"
        server.swarm.services[2] = None
        server.cut(away=False)  # what was resumed is another epoch's: all of it comes again
        expect(page.locator("tbody tr")).to_have_count(7)


def test_keys_alone_do(browser: Browser, serve: Any) -> None:
    _, url = serve()
    with opened(browser, url) as page:
        page.keyboard.press("?")
        expect(page.locator("dialog")).to_contain_text("next, previous row")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        assert focused(page) == "search"
        page.keyboard.type("node2")
        expect(page.locator(".count")).to_have_text("1 node of 5")
        page.keyboard.press("Enter")
        expect(page.locator("#say")).to_contain_text("node2: manager, ready, active;")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#say")).to_contain_text("node3: manager")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("node3")
        page.keyboard.press("Escape")
        expect(page.locator("h1")).to_have_text("Nodes")
        page.keyboard.press("2")
        expect(page.locator("h1")).to_have_text("Services")
        page.keyboard.press("j")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("j")
        page.keyboard.press("k")
        assert focused(page) == "billing-frontend"
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("billing-frontend")
        page.keyboard.press("?")
        page.click("dialog input[type=checkbox]")
        page.keyboard.press("Escape")
        page.keyboard.press("1")  # switched off
        expect(page.locator("h1")).to_have_text("billing-frontend")


def test_names_of_users_are_text(browser: Browser, serve: Any) -> None:
    server, url = serve(hostile=True)
    server.swarm.nodes[0][1] = HOSTILE
    with opened(browser, url, expected="404 (Not Found)") as page:
        page.hover(".map canvas", position={"x": 100, "y": 60})
        expect(page.locator(".tip b")).to_have_text(HOSTILE)
        for part in ("", "/explain", "/logs", "/events", "/about"):
            show(page, "#/service/s" + "0" * 24 + part)
            expect(page.locator("h1")).to_have_text(HOSTILE)
            expect(page.locator("main")).to_contain_text(
                {"": "Replicas", "/explain": "lack memory"}.get(part, HOSTILE)
            )
        page.click("text=Scale…")
        expect(page.locator("dialog h2")).to_have_text(f"Scale {HOSTILE}")
        page.keyboard.press("Escape")
        for view in ("services", "nodes", "events", NODE[2:], "service/none"):
            show(page, f"#/{view}")
            expect(page.locator("main")).to_contain_text(HOSTILE)
        assert page.locator("img[src=x]").count() == 0


COLOUR_RULES = ("color-contrast", "link-in-text-block")
# Each view, and what is there once it has read all it shows.
VIEWS = {
    "#/map": ".chart canvas",
    "#/services": "tbody tr",
    "#/nodes": "tbody tr",
    "#/pending": ".groups",
    "#/events": ".log p",
    NODE: ".columns dl",
    SERVICE: "tbody tr",
    SERVICE + "/explain": ".groups",
    SERVICE + "/logs": ".log p",
    SERVICE + "/about": ".columns dl",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(browser: Browser, serve: Any, scheme: str) -> None:
    _, url = serve()
    only = COLOUR_RULES if scheme == "dark" else ()  # nothing else depends on it
    with opened(browser, url, color_scheme=scheme, reduced_motion="reduce") as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(243, 245, 247)", "dark": "rgb(15, 20, 25)"}[scheme]
        for view in VIEWS:
            show(page, view, VIEWS[view])
            assert_accessible(page, only)
        page.click("text=Scale…")
        assert_accessible(page, only)
        page.keyboard.press("Escape")
        page.click("#theme")  # light
        page.click("#theme")  # dark
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 25)"


def test_it_fits_a_telephone(browser: Browser, serve: Any) -> None:
    _, url = serve()
    with opened(browser, url, viewport={"width": 400, "height": 800}) as page:
        for view in VIEWS:
            show(page, view, VIEWS[view])
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 400, f"{view} is {wide} px wide"


@pytest.mark.alone
def test_two_thousand_nodes_are_painted_within_a_second(browser: Browser, serve: Any) -> None:
    server, url = serve(2300, 100_000, 60)
    with opened(browser, url) as page:
        took = []
        for _ in range(3):
            page.reload()
            took.append(wait_until("it is painted", lambda: page.evaluate(PAINTED)) / 1000)
        assert min(took) < FIRST_PAINT_S, took
        expect(page.locator(".figure").nth(0)).to_contain_text("of 2,300")
        page.fill("#search", "service:billing-frontend state:failed")
        page.check("text=only these")
        expect(page.locator(".count")).to_contain_text("of 2,300")
        found = int(page.locator(".count").text_content().split()[0])
        assert 0 < found < 200
        show(page, "#/service/s" + "0" * 24)
        expect(page.locator("main")).to_contain_text("too many replicas to list")
        expect(page.locator("tbody tr")).to_have_count(200)  # a page of them
        show(page, "#/nodes")
        expect(page.locator("tbody tr")).to_have_count(200)
        server.tell("change", server.swarm.add(0, 0, "running", 3))


def test_pictures(browser: Browser, serve: Any, tmp_path: Path) -> None:
    """What docs show; written there where somebody asks for it."""
    directory = PICTURES if os.environ.get(REWRITES) else tmp_path
    server, small = serve()
    server.swarm.says = "cannot resolve host db"
    _, large = serve(2300, 100_000, 60)
    for name, url, scheme in (
        ("dashboard", small, "light"),
        ("dashboard-2300", large + "#/map", "dark"),
        ("dashboard-service", small + SERVICE, "light"),
    ):
        with opened(browser, url, color_scheme=scheme, viewport={"width": 1200, "height": 720}) as page:
            if "service" in name:
                page.click("[aria-expanded=false] >> nth=0")
                expect(page.locator("tr.older")).to_contain_text("non-zero exit")
            else:
                page.locator(".chart canvas").nth(2).wait_for()
            path = directory / f"{name}.png"
            page.screenshot(path=path, scale="css", animations="disabled", caret="hide")
            with Image.open(path) as taken:
                taken.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
            assert path.stat().st_size < PICTURE_MAX_BYTES
