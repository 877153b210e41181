"""What holds for every panel: axe-core finds nothing, it is fast, small, and nothing is cut.

axe-core comes from npm (`npm install axe-core`); AXE_CORE names its `axe.min.js`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
PANELS = ["search", "add", "classify", "tag", "compare", "inside", "status"]
_PLACES = [os.environ.get("AXE_CORE", ""), "node_modules/axe-core/axe.min.js"]
_RUN_AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
}"""
# Text that is cut without an ellipsis, and controls that lie over each other, of what is visible.
_CUT = """(panel) => {
  const all = [...document.querySelectorAll(`#${panel} *, header *`)]
    .filter((node) => node.checkVisibility());
  const scrolls = (node) => node.closest(".scroll, pre, textarea, select, canvas, .hidden, svg");
  const isCut = (node) => {
    const { overflow, textOverflow } = getComputedStyle(node);
    return node.children.length === 0 && node.textContent.trim() && overflow !== "visible"
      && node.scrollWidth > node.clientWidth + 1 && textOverflow !== "ellipsis";
  };
  const isControl = (node) => node.matches("button, select, textarea, input:not([type=file])")
    && !scrolls(node.parentElement) && getComputedStyle(node).opacity !== "0";
  const places = all.filter(isControl).map((node) => [node, node.getBoundingClientRect()]);
  const isOver = ([one, a], [other, b]) => !one.contains(other) && a.left < b.right - 1
    && a.right > b.left + 1 && a.top < b.bottom - 1 && a.bottom > b.top + 1;
  const over = places.flatMap((one, i) => places.slice(i + 1).filter((other) => isOver(one, other))
    .map((other) => `${one[0].outerHTML} over ${other[0].outerHTML}`));
  const cut = all.filter((node) => !scrolls(node) && isCut(node)).map((node) => node.outerHTML);
  return [...cut, ...over];
}"""
_LOADED = """() => performance.getEntries()
  .filter(({ name }) => name.includes("/page/") || name === document.URL)
  .reduce((sum, { transferSize = 0 }) => sum + transferSize, 0)"""
_MOVING = """() => [...document.querySelectorAll("*")].filter((node) => {
  const { transitionDuration, animationName, scrollBehavior } = getComputedStyle(node);
  const isSmooth = animationName !== "none" || scrollBehavior === "smooth";
  return parseFloat(transitionDuration) > 0 || isSmooth;
}).length"""


def open_panel(page: Any, server: str, name: str) -> None:
    page.set_default_timeout(60_000)
    page.goto(f"{server}/#{name}")
    page.wait_for_load_state("networkidle")
    if name == "search":
        page.locator("#search-results .hit").first.wait_for()
    page.wait_for_timeout(400)


@pytest.fixture(scope="module")
def axe() -> str:
    for place in filter(None, _PLACES):
        if Path(place).is_file():
            return Path(place).read_text(encoding="utf-8")
    pytest.skip("no axe-core: run npm install axe-core, or set AXE_CORE")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PANELS)
def test_axe_finds_nothing(browser: Any, server: str, axe: str, name: str, scheme: str) -> None:
    tab = browser.new_page(color_scheme=scheme, bypass_csp=True)  # for axe; the page needs none
    open_panel(tab, server, name)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    tab.add_script_tag(content=axe)
    assert tab.evaluate(_RUN_AXE) == []
    tab.close()


def test_axe_finds_nothing_in_the_lightbox(browser: Any, server: str, axe: str) -> None:
    tab = browser.new_page(bypass_csp=True)
    open_panel(tab, server, "search")
    tab.locator(".hit .open").first.click()
    tab.locator("#look-data dd").first.wait_for()
    tab.add_script_tag(content=axe)
    assert tab.evaluate(_RUN_AXE) == []
    tab.close()


@pytest.mark.parametrize("width", [360, 768, 1200])
@pytest.mark.parametrize("name", PANELS)
def test_nothing_overlaps_and_nothing_is_cut(page: Any, server: str, name: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_panel(page, server, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_CUT, name) == []


def test_the_first_paint_is_quick_and_little_is_loaded(
    browser: Any, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paints, sizes = [], []
    for _ in range(7):
        tab = browser.new_page()
        tab.goto(server)
        tab.locator("#search-results .hit").first.wait_for()
        paints.append(
            tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        sizes.append(tab.evaluate(_LOADED))
        tab.close()
    with capsys.disabled():
        print(f"\nfirst paint {sorted(paints)[3]:.0f} ms (median), {max(sizes) / 1e3:.0f} kB")  # noqa: T201
    assert max(sizes) <= 250_000
    assert min(paints) <= 450, "three times the aim of 150 ms: the machine is shared"


def test_nothing_moves_where_less_motion_is_wished(browser: Any, server: str) -> None:
    tab = browser.new_page(reduced_motion="reduce")
    open_panel(tab, server, "search")
    moving = tab.evaluate(_MOVING)
    assert moving == 0
    tab.close()
