"""Debian's Chromium before the dashboard's page. What the page says to its console fails a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WAIT_S = 15.0  # until the page shows what it is to show: other tests use the machine as well
GRAVE = ("serious", "critical")

expect.set_options(timeout=WAIT_S * 1000)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, url: str, *, expected: str = "\0", **options: Any) -> Iterator[Page]:
    """Gives a page of a browser that was never there before. What the console says is a failure, but for lines
    with `expected` in them: Chromium itself notes there what a server refuses. So is a request to anybody else."""
    options.setdefault("viewport", {"width": 1280, "height": 800})
    context = browser.new_context(**options)
    context.set_default_timeout(WAIT_S * 1000)
    said: list[str] = []
    page = context.new_page()
    origin = "/".join(url.split("/")[:3])

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and expected not in message.text:
            said.append(f"{message.type}: {message.text} ({message.location})")

    def note_request(request: Request) -> None:
        if not request.url.startswith(origin):
            said.append(f"asks for {request.url}")

    page.on("console", note)
    page.on("pageerror", lambda error: said.append(f"{error}: {error.stack}"))
    page.on("dialog", lambda dialog: said.append(f"a script ran: {dialog.message}"))
    page.on("request", note_request)
    try:
        page.goto(url)
        page.locator("main h1").first.wait_for(state="attached")
        yield page
        assert not said, said
    except BaseException:
        if said:
            pytest.fail(f"the page said: {said}")
        raise
    finally:
        context.close()


def show(page: Page, address: str, until: str = "h1") -> None:
    """Has the page show a view, and waits until it is there, with an element of that selector in it."""
    page.evaluate(
        "to => { if ((location.hash || '#/map') === to) return; document.querySelector('main').firstChild.dataset.was = 'before';"
        " location.hash = to; }",
        address,
    )
    expect(page.locator("main > [data-was]")).to_have_count(0)
    page.locator(f"main {until}").first.wait_for(state="attached")


def assert_accessible(page: Page, only: tuple[str, ...] = ()) -> None:
    """Fails with what axe finds that is serious or critical; `only`: by these rules."""
    found = (
        Axe()
        .run(page, options={"runOnly": {"type": "rule", "values": only}} if only else None)
        .response["violations"]
    )
    grave = [
        f"{each['id']}: {each['help']}: {[node['html'] + str(node['any'] or node['all'])[:300] for node in each['nodes']]}"
        for each in found
        if each["impact"] in GRAVE
    ]
    assert not grave, "\n".join(grave)
