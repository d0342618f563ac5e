"""Every control, panel and tab, in JupyterLab and in Voila: what a person does and what changes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

import driving
import lab
from driving import ANSWER, DRAWN, changing
from playwright.sync_api import Locator, Page

# A control, another value of it, and what of the page has to change with it.
CHOSEN = {
    "Model": ("mbv2-w0.35", (ANSWER, DRAWN)),
    "Device": ("stm32h743", (ANSWER, DRAWN)),
    "Task": ("omniglot", (ANSWER, DRAWN)),
    "Precision": ("fp16", (ANSWER, DRAWN)),
    "Optimizer": ("adam", (ANSWER, DRAWN)),
    "Update policy": ("last-layer", (ANSWER, DRAWN)),
    "Memory axis": ("above-inference", (DRAWN,)),
    "Worth axis": ("accuracy, measured", (DRAWN,)),
    "Weight update": ("deferred", (ANSWER, DRAWN)),
    "Recompute": ("blocks", (ANSWER, DRAWN)),
    "Normalisation": ("gn", (ANSWER, DRAWN)),
}
TYPED = {
    "App reserve": ("200", (ANSWER, DRAWN)),
    "scheme": ("49kb", (ANSWER, DRAWN)),
    "classes": ("10", (ANSWER, DRAWN)),
    "resolution": ("96", (ANSWER, DRAWN)),
}
# Covered by tests of their own.
ELSEWHERE = {
    *("Batch", "Micro-batch", "biases", "layers", "shares", "criterion"),
    *("Trials", "Sampler", "Seed", "Point", "File", "Episodes", "Strip", "Cell, mAh", "V"),
    *("Profile (TOML)", "Save as", "Network JSON", "Task data"),
}
# Every button, here and in the tests by keys.
PRESSED = {
    *("Fewer settings", "As published", "Undo", "Redo", "◀", "▶", "Pin", "Export policy"),
    *("Search", "Pause", "Stop", "Measure", "Measure picks", "Cancel", "What would fit?"),
    *("Own board, network, task", "Duplicate the device", "Save and show"),
    *("Show", "Upload (0)", "Read task"),
}
# What each tab draws of the selected design.
TABS = {
    "Layers": ".explorer-details table",
    "Network": ".js-plotly-plot .bars .point",
    "Memory map": ".js-plotly-plot .bars .point",
    "Time and energy": ".js-plotly-plot .bars .point",
    "Battery": ".js-plotly-plot .bars .point",
    "Search": ".js-plotly-plot .parcoords",
    "Compare": ".explorer-empty",
    "Evidence": ".explorer-evidence td.source",
}
RARE = {
    *("Memory axis", "Worth axis", "Weight update", "Recompute", "Normalisation"),
    *("App reserve", "classes", "resolution"),
}
TRIALS = "200"
# Each field by its label, and what comes when the pointer rests on it.
SAID = """
[...document.querySelectorAll('.explorer-app .jupyter-widgets:has(> :is(select, input, textarea))')]
  .filter(e => e.offsetParent)
  .map(e => [e.querySelector('label')?.textContent ?? '',
             [e, ...e.querySelectorAll('[title]')].map(part => part.title).find(Boolean) ?? ''])
"""
ERROR = ".explorer-error:visible"


def whole(page: Page, start: str) -> str:
    """The label that starts so."""
    return next(label for label in driving.labels(page) if label.startswith(start))


def shown(page: Page, label: str) -> None:
    """Open the row of rare settings where the label is one of them."""
    if label in RARE:
        lab.press(page, "More")
        page.wait_for_selector(lab.label("Weight update"))


def test_every_control_has_a_test(page: Page) -> None:
    driving.open_all(page)
    assert page.evaluate(driving.CUT) == []
    buttons = page.locator(".explorer-app button:visible:not(.js-plotly-plot *)")
    assert {words.strip() for words in buttons.all_inner_texts()} == PRESSED
    tabs = page.locator(".explorer-below .lm-TabBar-tabLabel").all_text_contents()
    assert tabs == list(TABS)
    labels = set(driving.labels(page))
    for title, part in TABS.items():
        lab.open_tab(page, title)
        page.locator(f".explorer-below {part}").first.wait_for(state="attached")
        labels |= set(driving.labels(page))
    known = CHOSEN.keys() | TYPED.keys() | ELSEWHERE
    named = {label: {label, label.partition(" (")[0]} & known for label in labels}
    assert [label for label, names in named.items() if not names] == []
    assert known - {"biases", "layers", "shares", "criterion"} <= set().union(*named.values())


@pytest.mark.parametrize("label", [*CHOSEN, *TYPED])
def test_a_control_changes_what_is_shown_and_undo_brings_it_back(page: Page, label: str) -> None:
    value, what = (CHOSEN | TYPED)[label]
    before = {one: page.evaluate(one) for one in what}
    shown(page, label)
    with changing(page, *what):
        if label in CHOSEN:
            lab.choose(page, label, value)
        else:
            lab.fill(page, whole(page, label), value)
    lab.press(page, "Undo")
    for one, value_before in before.items():
        driving.await_value(page, one, value_before)
    with changing(page, what[0]):
        lab.press(page, "Redo")


def test_the_batch_moves_by_keys_and_is_split(page: Page) -> None:
    with changing(page, ANSWER, DRAWN):
        page.locator(".explorer-app .widget-hslider .noUi-handle").focus()
        page.keyboard.press("ArrowRight")
    with changing(page, ANSWER):
        lab.fill(page, whole(page, "Micro-batch"), "1")


def test_a_scheme_of_ones_own_is_given_by_its_parts(page: Page) -> None:
    lab.press(page, "More settings")
    page.wait_for_selector(lab.label("biases"))
    with changing(page, ANSWER):
        lab.fill(page, "scheme", "")
    with changing(page, ANSWER):
        lab.fill(page, "biases", "22")
    with changing(page, ANSWER):  # every channel of them
        lab.fill(page, "layers", "21-24")
    lab.fill(page, "shares", "1")
    page.wait_for_selector(".explorer-error:has-text('shares: got')")
    with changing(page, ANSWER):
        lab.fill(page, "shares", "1-0.5")
    page.wait_for_selector(ERROR, state="detached")
    with changing(page, ANSWER):
        lab.choose(page, "criterion", "random")


def test_a_combination_that_cannot_be_is_one_sentence_and_the_view_stays(page: Page) -> None:
    before = driving.answer(page), driving.drawn(page)
    lab.fill(page, whole(page, "Micro-batch"), "3")
    page.wait_for_selector(".explorer-error:has-text('micro_batch')")
    assert (driving.answer(page), driving.drawn(page)) == before
    lab.fill(page, whole(page, "Micro-batch"), "0")
    page.wait_for_selector(ERROR, state="detached")


def test_rare_settings_open_and_are_counted(page: Page) -> None:
    lab.press(page, "More settings")
    page.wait_for_selector(lab.label("Weight update"))
    lab.choose(page, "Weight update", "deferred")
    page.wait_for_selector("button:has-text('Fewer (1 set)')")
    lab.press(page, "Fewer")
    page.wait_for_selector(lab.label("Weight update"), state="hidden")


def test_what_was_chosen_is_given_up_at_once(page: Page) -> None:
    before = driving.answer(page)
    with changing(page, ANSWER):
        lab.choose(page, "Optimizer", "adam")
    with changing(page, ANSWER):
        lab.choose(page, "Precision", "fp16")
    lab.press(page, "More")
    lab.press(page, "As published")
    driving.await_value(page, ANSWER, before)


@pytest.mark.parametrize("title", TABS)
def test_a_tab_describes_the_selected_design(page: Page, title: str) -> None:
    lab.open_tab(page, title)
    page.wait_for_selector(f".explorer-below {TABS[title]}", state="attached")
    if title not in ("Compare", "Evidence"):
        with changing(page, tab_of(title)):
            driving.select_point(page, "full")


def tab_of(title: str) -> str:
    """What the open tab shows: its text, or where its figure puts things."""
    if title == "Layers":
        return "document.querySelector('.explorer-below .explorer-details').innerText"
    return (
        "JSON.stringify([...document.querySelectorAll('.explorer-below .js-plotly-plot')]"
        ".filter(plot => plot.offsetParent).map(plot => plot.data))"
    )


def test_the_strip_of_the_network_shows_another_measure(page: Page) -> None:
    lab.open_tab(page, "Network")
    page.wait_for_selector(f".explorer-below {TABS['Network']}", state="attached")
    with changing(page, tab_of("Network")):
        lab.choose(page, "Strip", "MACs")


@pytest.mark.parametrize(("label", "value"), {"Cell, mAh": "100", "V": "1.5"}.items())
def test_another_cell_pays_for_another_number_of_sessions(
    page: Page, label: str, value: str
) -> None:
    lab.open_tab(page, "Battery")
    page.wait_for_selector(f".explorer-below {TABS['Battery']}", state="attached")
    with changing(page, tab_of("Battery")):
        lab.fill(page, label, value)


def test_points_are_selected_by_click_list_and_buttons(page: Page) -> None:
    with changing(page, ANSWER):
        driving.click_known(page, "full")
    assert not driving.answer(page).startswith("your choice")
    with changing(page, ANSWER):
        lab.press(page, "▶")
    with changing(page, ANSWER):
        lab.press(page, "◀")
    with changing(page, ANSWER):
        driving.select_point(page, "last-layer")
    assert driving.answer(page).startswith("last-layer")


def test_pinned_designs_stand_side_by_side_and_leave(page: Page) -> None:
    lab.open_tab(page, "Compare")
    pin = page.locator(driving.PIN)
    pin.click()
    page.wait_for_selector(f"{driving.PIN}:disabled")
    driving.select_point(page, "full")
    page.wait_for_selector(f"{driving.PIN}:enabled")
    pin.click()
    page.wait_for_selector(".explorer-compare td.differs")
    assert page.locator(".explorer-compare th[scope=col]").count() == 2
    for count in (1, 0):
        lab.press(page, "Unpin")
        page.wait_for_function(
            "count => document.querySelectorAll('.explorer-compare th[scope=col]').length"
            " === count",
            arg=count,
        )
    page.wait_for_selector(".explorer-below .explorer-empty")


def test_a_search_pauses_goes_on_stops_and_comes_to_its_end(page: Page) -> None:
    progress = page.locator(".explorer-run, .explorer-text:has-text('hypervolume')").first
    lab.fill(page, "Trials", "100000")
    lab.fill(page, "Seed", "5")
    with changing(page, DRAWN):
        lab.press(page, "Search")
        driving.await_status(page, "trials/s")  # start designs take longer than a batch
    lab.press(page, "Pause")
    driving.await_status(page, "paused")
    with changing(page, ANSWER):  # whatever was on its way has come
        lab.press(page, "▶")
    held = progress.inner_text()
    with changing(page, ANSWER):
        lab.press(page, "◀")
    assert progress.inner_text() == held
    with changing(page, DRAWN):
        lab.press(page, "Resume")
    driving.await_status(page, "running")
    lab.press(page, "Stop")
    driving.await_stopped(page)

    lab.fill(page, "Trials", TRIALS)
    lab.choose(page, "Sampler", "random")
    lab.press(page, "Search")
    driving.await_status(page, f"done {TRIALS}/{TRIALS}")
    lab.choose(page, "Sampler", "nsga2")
    lab.fill(page, "Seed", "0")
    with changing(page, DRAWN):
        lab.press(page, "Search")
        driving.await_status(page, "running")
    driving.await_status(page, f"done {TRIALS}/{TRIALS}")

    # The front is points to select, and the filter leaves out what does not fit.
    with changing(page, ANSWER):
        lab.click_point(page, driving.trace(page, "front"), 3)
    assert "candidate" in driving.answer(page)
    fits_only = page.locator(".explorer-app .widget-checkbox input")
    with changing(page, DRAWN):
        fits_only.check()
    with changing(page, DRAWN):
        fits_only.uncheck()


def test_a_misfit_ends_in_fixes_that_a_button_applies(page: Page) -> None:
    with changing(page, ANSWER):
        lab.choose(page, "Update policy", "full")
    page.wait_for_selector(".explorer-side .explorer-answer b.misfit")
    fix = page.locator(".explorer-changes button").first
    fix.wait_for()
    with changing(page, ANSWER):
        fix.click()
    lab.press(page, "Undo")
    with changing(page, ANSWER):
        lab.press(page, "Undo")
    lab.press(page, "What would fit?")
    driving.await_status(page, "for your choice")


def test_a_policy_is_really_fine_tuned_or_cancelled(page: Page) -> None:
    with changing(page, ANSWER):
        lab.choose(page, "Model", "digits-cnn")
    with changing(page, ANSWER):  # last-k stands there already: the scheme of the other is none
        lab.choose(page, "Update policy", "last-layer")
    lab.fill(page, "Episodes", "1000")
    measure = page.locator(".explorer-app button:text-is('Measure')")
    measure.click()
    driving.await_status(page, "fine-tunings")
    lab.press(page, "Cancel")
    driving.await_status(page, "stopped after")
    lab.fill(page, "Episodes", "1")
    measure.click()
    driving.await_status(page, "(measured, 1 episode,")
    assert "(measured, trained in fp32)" in driving.answer(page)

    lab.fill(page, "Trials", "20")
    lab.press(page, "Search")
    driving.await_status(page, "done 20/20")
    lab.fill(page, "Episodes", "1000")
    lab.press(page, "Measure picks")
    driving.await_status(page, "measuring knee")
    lab.press(page, "Cancel")
    driving.await_status(page, "stopped after")


def test_export_writes_a_document_that_the_terminal_accepts(page: Page, folder: Path) -> None:
    place = driving.own_folder(page, folder) / "exports" / "policy.json"
    lab.fill(page, "File", str(place))
    lab.press(page, "Export policy")
    if driving.is_visited(page):
        driving.saved_download(page, ".explorer-panels a[download]", place)
    else:
        page.wait_for_selector(f".explorer-panels .explorer-text:has-text('saved {place}')")
    assert json.loads(place.read_text())["model"]["name"] == "mcunet-5fps"
    validated = subprocess.run(
        [sys.executable, "-m", "explorer", "validate", str(place)],
        cwd=lab.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stderr
    lab.fill(page, "File", "" if driving.is_visited(page) else "/dev/null/policy.json")
    lab.press(page, "Export policy")
    wrong = "needs a file name" if driving.is_visited(page) else "/dev/null"
    page.wait_for_selector(f".explorer-error:has-text('{wrong}')")


def test_every_button_says_what_it_does(page: Page) -> None:
    def words(button: Locator) -> str | None:
        return button.get_attribute("title")

    buttons = page.locator(".explorer-app button.jupyter-button:visible").all()
    assert len(buttons) > 10
    assert [button.inner_text() for button in buttons if not words(button)] == []


def test_every_field_says_in_a_line_what_it_is_for(page: Page) -> None:
    driving.open_all(page)
    said = page.evaluate(SAID)
    assert len(said) > len(CHOSEN) + len(TYPED)
    assert [label for label, words in said if len(words) < len(label) + 8 or "\n" in words] == []
