"""What a person does on the page, and what is seen there, for tests that assert both."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lab
from playwright.sync_api import Page

# The verdict and the numbers of the selected design.
ANSWER = (
    "[...document.querySelectorAll('.explorer-side .explorer-answer')]"
    ".slice(0, 2).map(e => e.textContent).join()"
)
# Every number the three panels draw.
DRAWN = (
    f"JSON.stringify({lab.PLOT}._fullData"
    ".map(trace => [...(trace.x || [])].concat([...(trace.y || [])])))"
)
# What the controls say.
SETTINGS = (
    "[...document.querySelectorAll('.explorer-grid :is(select, input, .widget-readout)')]"
    ".map(e => e.value ?? e.textContent).join('|')"
)
# How many questions there are to go back to, and whether there are any.
UNDO = "[...document.querySelectorAll('.explorer-past button')][0]"
UNDOS, CAN_UNDO = f"{UNDO}.title", f"(!{UNDO}.disabled)"
# Texts of labels and buttons that are wider than their place.
CUT = """
[...document.querySelectorAll('.explorer-app label, .explorer-app button')]
  .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)
"""
# A style of something in the panels.
LOOK = "((part, key) => getComputedStyle(document.querySelector('.explorer-panels ' + part))[key])"
PIN = ".explorer-app button:text-is('Pin')"
IS_CHOICE = f"({ANSWER}).startsWith('your choice')"
CLICKS, CLICK_MS = 6, 10_000
MOST_UNDOS = 30


def answer(page: Page) -> str:
    """The verdict and the numbers."""
    return str(page.evaluate(ANSWER))


def drawn(page: Page) -> str:
    """The data of the panels."""
    return str(page.evaluate(DRAWN))


@contextmanager
def changing(page: Page, *what: str) -> Iterator[None]:
    """Wait until each of these expressions has another value than before."""
    before = {one: page.evaluate(one) for one in what}
    yield
    for one, value in before.items():
        page.wait_for_function(f"old => {one} !== old", arg=value)


def await_value(page: Page, what: str, value: str) -> None:
    """Wait until an expression has a value."""
    page.wait_for_function(f"wanted => {what} === wanted", arg=value)


def await_status(page: Page, words: str, timeout_ms: int = lab.WAIT_MS) -> None:
    """Wait until the app says something."""
    page.wait_for_selector(f".explorer-text:visible:has-text('{words}')", timeout=timeout_ms)


def await_stopped(page: Page) -> None:
    """Wait until the search says it was stopped; a measurement may say so of itself."""
    page.wait_for_selector(".explorer-text b:text-is('stopped')")


def end(page: Page, text: str) -> None:
    """Press a button that ends something, unless that ends by itself this moment."""
    page.evaluate(
        "text => [...document.querySelectorAll('.explorer-app button:enabled')]"
        ".find(button => button.textContent === text)?.click()",
        text,
    )
    page.wait_for_selector(f".explorer-app button:text-is('{text}'):disabled")


def remember(page: Page) -> None:
    """Take what the page says now as what `reset` goes back to, also when it is loaded again."""
    select_point(page, "your choice")
    rest(page)
    page.evaluate(f"() => {{ sessionStorage.firstSettings = {SETTINGS}; }}")


def reset(page: Page) -> None:
    """Go back to the first question, the choice and the first tab."""
    for text in ("Stop", "Cancel"):
        end(page, text)
    undo_all(page)
    for text in ("Own board, network", "Fewer"):
        toggle = page.locator(f".explorer-more.mod-active:visible:has-text('{text}')")
        if toggle.count():
            toggle.click()
    if not page.evaluate(IS_CHOICE):
        select_point(page, "your choice")
        page.wait_for_function(IS_CHOICE)
    lab.open_tab(page, "Layers")
    rest(page)


def undo_all(page: Page) -> None:
    """Press Undo until the first question stands there; TimeoutError says what does instead.

    Where it does not stand there and nothing is undone, a change is still on its way.
    """
    is_first = f"{SETTINGS} === sessionStorage.firstSettings"
    with suppress(lab.NotThere):
        for _ in range(MOST_UNDOS):
            page.wait_for_function(f"{is_first} || {CAN_UNDO}")
            if not page.evaluate(CAN_UNDO):
                return
            undos = page.evaluate(UNDOS)
            page.evaluate(f"{UNDO}.click()")
            page.wait_for_function(f"undos => {UNDOS} !== undos || !{CAN_UNDO}", arg=undos)
    asked, first = page.evaluate(f"[{SETTINGS}, sessionStorage.firstSettings]")
    raise TimeoutError(f"the first question is {first}, but it is {asked}; {page.evaluate(UNDOS)}")


def rest(page: Page) -> None:
    """Wait until the app has nothing left to draw, and the browser has drawn it."""
    page.wait_for_selector(".explorer-app:not(.explorer-busy)")
    lab.settle(page)


def open_all(page: Page) -> None:
    """Open what is closed above the panels."""
    lab.press(page, "More settings")
    page.wait_for_selector(lab.label("Weight update"))
    lab.press(page, "Own board, network")
    page.wait_for_selector(".explorer-own:visible")


def own_folder(page: Page, folder: Path) -> Path:
    """A folder for what is written while this page is tested."""
    place = folder / f"own-{page.url.partition('?')[0][-4:].strip('/')}"
    place.mkdir(exist_ok=True)
    return place


def select_point(page: Page, text: str) -> None:
    """Select in the list of points by the start of a text."""
    field = lab.field(page, "Point")
    options = [
        option.replace("\xa0", " ") for option in field.locator("option").all_text_contents()
    ]
    field.select_option(index=next(i for i, one in enumerate(options) if one.startswith(text)))


def labels(page: Page) -> list[str]:
    """The labels of every field that is shown."""
    shown = page.locator(".explorer-app .widget-label:visible").all_text_contents()
    return [label.strip() for label in shown if label.strip()]


def box(page: Page, selector: str) -> dict[str, float]:
    """Where something is on the screen."""
    found = page.locator(selector).bounding_box()
    assert found is not None
    return dict(found)


def click_known(page: Page, name: str) -> None:
    """Click the point of a known policy in the first panel until the answer is another.

    A click that falls between two drawings of the page is nobody's.
    """
    known, before = trace(page, "known"), answer(page)
    texts = f"{lab.PLOT}._fullData[{known}].hovertext"
    find = f"name => {texts}.findIndex(text => text.startsWith(name + '<'))"
    point = int(page.evaluate(find, name))
    for _ in range(CLICKS):
        lab.click_point(page, known, point)
        with suppress(lab.NotThere):
            page.wait_for_function(f"old => {ANSWER} !== old", arg=before, timeout=CLICK_MS)
            return
    raise TimeoutError(f"{CLICKS} clicks on {name} selected nothing")


def trace(page: Page, name: str) -> int:
    """The number of the first trace of a name."""
    find = f"name => {lab.PLOT}._fullData.findIndex(trace => trace.name === name)"
    return int(page.evaluate(find, name))


def picture(page: Page, name: str) -> None:
    """A screenshot among the artifacts, once nothing moves."""
    lab.ARTIFACTS.mkdir(parents=True, exist_ok=True)
    lab.settle(page)
    page.screenshot(path=lab.ARTIFACTS / f"{name}.png")


def whole_path(page: Page, name: str) -> Path:
    """The path that a field shows cut, as its label says it."""
    title = page.locator(f".explorer-app .widget-label > span:text-is('{name}')")
    return Path((title.get_attribute("title") or "").partition(". Shown: ")[2])


def is_visited(page: Page) -> bool:
    """Whether it is the page of Voila, whose visitors download what others write."""
    return "/lab/" not in page.url


def saved_download(page: Page, link: str, place: Path) -> None:
    """Save what a link offers; nothing was written there before."""
    page.wait_for_selector(link)
    assert not place.exists()
    with page.expect_download() as offered:
        page.click(link)
    assert offered.value.suggested_filename == place.name
    offered.value.save_as(place)
