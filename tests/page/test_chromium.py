"""The page as Chromium shows it; the pictures are kept below the build's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import Serve
from tests.page.scenes import LEAKS, Scene
from tools.browser import Browser
from wsgi_persist.status import StatusPage

SCRIPT = "GET '/<script>document.title=1</script>" + "x" * 4000 + "'"
# What reaches out of the part of the page that it is in, or hides a part of itself.
OVERFLOW = """(() => {
  const end = element => element.getBoundingClientRect().right;
  const inner = element => end(element) - parseFloat(getComputedStyle(element).paddingRight);
  const out = element => end(element) > inner(element.parentElement) + 0.5;
  const found = [...document.querySelectorAll('main > section > *, main > section, header > *')].filter(out);
  if (document.documentElement.scrollWidth > innerWidth) found.push(document.body);
  return found.map(each => each.outerHTML.slice(0, 80));
})()"""


def load(scene: Scene) -> None:
    for number in range(3):
        scene.worker("news", number)
        scene.busy("shop", number, "GET '/basket/'", 0.2)


def outage(scene: Scene) -> None:
    load(scene)
    scene.out_of_reach("shop", 7, 75)
    scene.out_of_reach("shop", 8, 61)


def killed(scene: Scene) -> None:
    load(scene)
    scene.worker("shop", 9, dead=True)


def leak(scene: Scene) -> None:
    load(scene)
    scene.worker("shop", 9, leaks=LEAKS)


def many(scene: Scene) -> None:
    for number in range(200):
        scene.busy("shop", number, "GET '/basket/'", 60 * (number % 2))


def hostile(scene: Scene) -> None:
    scene.busy("shop", 5, SCRIPT, 35)


SCENES: list[tuple[Callable[[Scene], None], str]] = [
    (load, "✔ Fine Nothing is wrong."),
    (outage, "✖ Fault shop: The database of 'default' has been out of reach for"),
    (killed, "▲ Warning shop: 1 worker ended without a word: pid"),
    (leak, "○ Note shop: Requests have left state in their session 35 times"),
    (many, "▲ Warning shop: 100 of 200 workers have been busy with one request for more than 10 s"),
    (hostile, "✖ Fault shop: All 1 workers have been busy with one request for more than 10 s"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize(("prepare", "told"), SCENES, ids=lambda given: getattr(given, "__name__", ""))
def test_scene(
    prepare: Callable[[Scene], None],
    told: str,
    width: int,
    scheme: str,
    scene: Scene,
    serve: Serve,
    chromium: Browser,
    pictures: Path,
) -> None:
    """What is wrong is said in words, nothing is cut off, and the page's own policy has no complaint."""
    prepare(scene)
    chromium.show(serve(StatusPage(scene.folder)) + "/", width=width, scheme=scheme)
    chromium.picture(pictures / f"{prepare.__name__}-{width}-{scheme}.png")
    assert told in chromium.value("document.querySelector('main').innerText").replace("\n", " ")
    assert chromium.value(OVERFLOW) == []
    assert chromium.complaints() == []


@pytest.mark.parametrize("width", [320, 420, 780, 820, 1000, 1100, 1240, 1250, 1900])
def test_nothing_is_cut_off(width: int, scene: Scene, serve: Serve, chromium: Browser) -> None:
    outage(scene)
    hostile(scene)
    chromium.show(serve(StatusPage(scene.folder)) + "/", width=width)
    assert chromium.value(OVERFLOW) == []


def test_script_in_a_path_is_text(scene: Scene, serve: Serve, chromium: Browser) -> None:
    hostile(scene)
    chromium.show(serve(StatusPage(scene.folder)) + "/")
    assert chromium.value("document.scripts.length") == 0
    assert "<script>document.title=1</script>" in chromium.value("document.body.innerText")
    assert chromium.value("document.title").startswith("✖ Fault: connections of ")


def test_colours_follow_the_scheme(scene: Scene, serve: Serve, chromium: Browser) -> None:
    load(scene)
    address = serve(StatusPage(scene.folder)) + "/"
    background = "getComputedStyle(document.body).backgroundColor"
    found = set()
    for scheme in ("light", "dark"):
        chromium.show(address, scheme=scheme)
        found.add(chromium.value(background))
    assert found == {"rgb(246, 247, 249)", "rgb(18, 22, 29)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str, scene: Scene, serve: Serve, chromium: Browser) -> None:
    """4.5 to 1, as WCAG's level AA asks."""
    outage(scene)
    scene.worker("shop", 9, dead=True, leaks=LEAKS)
    chromium.show(serve(StatusPage(scene.folder)) + "/", scheme=scheme)
    assert chromium.value(CONTRAST) == []


@pytest.mark.parametrize("width", [1280, 360])
def test_screen_reader_finds_tables_and_headings(
    width: int, scene: Scene, serve: Serve, chromium: Browser
) -> None:
    """On a phone, too, where each row is a card."""
    killed(scene)
    chromium.show(serve(StatusPage(scene.folder)) + "/", width=width)
    nodes = chromium.tell("Accessibility.getFullAXTree")["nodes"]
    headings = names(nodes, "heading")
    assert headings[:4] == ["Database connections of the workers", "What is wrong", "shop", "In all"]
    assert names(nodes, "table")[0] == "Workers: 3 of 4 run"
    assert len(names(nodes, "rowheader")) >= 7
    assert "State" in names(nodes, "columnheader")
    pictures = [name for name in names(nodes, "image") + names(nodes, "img") if name]
    assert "503: not known yet" in pictures
    assert {"Sites", "Refresh"} <= set(names(nodes, "navigation"))


def names(nodes: list[dict[str, Any]], role: str) -> list[str]:
    return [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == role]


def test_page_shows_itself_again(scene: Scene, serve: Serve, chromium: Browser) -> None:
    load(scene)
    chromium.show(serve(StatusPage(scene.folder)) + "/?refresh=1")
    for _ in range(2):
        chromium.events.clear()
        chromium.wait_for("Page.loadEventFired")


# The texts that are too pale against what is behind them.
CONTRAST = """(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = numbers(colour).map(each => each / 255)
      .map(each => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 ? behind(element.parentElement) : colour;
  };
  const pale = element => {
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05) < 4.5;
  };
  const texts = [...document.body.querySelectorAll('*')].filter(
    element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return texts.filter(pale).map(element => element.textContent.slice(0, 40));
})()"""
