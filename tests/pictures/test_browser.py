"""The report in a browser: everything that can be clicked is, nothing breaks, nothing leaves the machine."""

import numpy as np
import pytest
from PIL import Image

from tests.pictures.chromium import NAMES, Browser, find


@pytest.fixture
def browser(tmp_path):
    program = find()
    if program is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(NAMES)}")
    with Browser(program, tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def address(report):
    return report.as_uri()


def shown(browser, what="section"):
    return browser.value(
        f"[...document.querySelectorAll('{what}')].filter(e => e.offsetParent !== null).map(e => e.id)"
    )


def test_clicking_through_the_report(browser, address, tmp_path):
    browser.open(address)
    title = browser.value("document.title")
    tabs = browser.value("[...document.querySelectorAll('[role=tab]')].map(e => e.getAttribute('aria-controls'))")
    assert tabs == ["summary", "curves", "relations", "graph", "spectra", "embeddings", "classes"]
    assert shown(browser) == ["summary"]
    pictures = {}
    for name in tabs:
        browser.click(f"#tab-{name}")
        assert shown(browser) == [name]
        assert browser.value(f"document.getElementById('tab-{name}').getAttribute('aria-selected')") == "true"
        browser.screenshot(tmp_path / f"{name}.png")
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"))
        assert len(np.unique(pictures[name].reshape(-1, 3), axis=0)) > 50  # something is drawn
    assert browser.value("[...document.images].every(e => e.complete && e.naturalWidth > 300)")

    browser.click("#tab-embeddings")
    assert browser.value("document.querySelector('output').value") == "student, epoch 0"
    browser.value("document.querySelector('input[type=range]').focus()")
    for key, caption, name in (
        ("ArrowRight", "student, epoch 2", "embedding-00002"),
        ("End", "student, epoch 4", "embedding-00004"),
        ("Home", "student, epoch 0", "embedding-00000"),
    ):
        browser.press(key)
        assert browser.value("document.querySelector('output').value") == caption
        assert shown(browser, "img") == [name, "embedding-teacher"]

    browser.click("#tab-classes")
    column = "[...document.querySelectorAll('.sortable tbody tr')].map(r => r.cells[{}].textContent)"
    for place in range(5):
        orders = []
        for direction in ("ascending", "descending"):
            browser.click(f".sortable th:nth-child({place + 1}) button")
            state = f"document.querySelector('.sortable th:nth-child({place + 1})').ariaSort"
            assert browser.value(state) == direction
            orders.append(browser.value(column.format(place)))
        assert orders[0] == orders[1][::-1] or len(set(orders[0])) < 3
    browser.click("#tab-summary")
    browser.click("details summary")
    assert browser.value("document.querySelector('details').open")

    assert browser.errors() == []
    assert browser.requests() == [address]
    assert browser.value("document.title") == title  # no name was taken for script


def test_an_address_leads_to_its_section(browser, address):
    browser.open(f"{address}#spectra")
    assert shown(browser) == ["spectra"]
    assert browser.errors() == []


def test_the_browser_would_notice(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>throw new Error('seen')</script><img src='http://127.0.0.1:9/x.png'>")
    browser.open(page.as_uri())
    assert any("seen" in str(each) for each in browser.errors())
    assert browser.requests() == [page.as_uri(), "http://127.0.0.1:9/x.png"]


def test_without_script_all_is_shown(browser, address):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(address)
    assert len(shown(browser)) == 7
