"""What stays of the app without a kernel: a picture from the page, or a figure drawn late."""

import asyncio
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from explorer.app import App
from explorer.app.keeper import Keeper
from explorer.app.picture import Picture, picture_of
from explorer.app.static import drawn_html, static_html
from explorer.session import Session

SESSION = Session(model="digits-cnn")
CONTENT = b"RIFF\x00 not really a picture"
SAID = {"kind": "picture", "type": "image/webp", "width": 1064}


class Output:
    """A display that remembers the HTML it shows."""

    def __init__(self, bundle: dict[str, str]) -> None:
        self.shown = [bundle["text/html"]]

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(bundle["text/html"])


class Page:
    """A page as the kernel sees it: what it is sent, and what it says."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.asked: list[int] = []
        self.outputs: list[Output] = []
        monkeypatch.setattr(type(app.figure), "send", lambda _, message: self._hear(message))
        monkeypatch.setattr("IPython.display.display", self._display)

    def draws(self) -> None:
        self.says({"kind": "drawn"})

    def answers(self, number: int, content: bytes | None = CONTENT) -> None:
        buffers = [] if content is None else [memoryview(content)]
        self.says({**SAID, "number": number}, buffers)

    def says(self, content: dict[str, Any], buffers: Any = ()) -> None:
        self.app.figure._handle_custom_msg(content, list(buffers))

    @property
    def stands(self) -> list[str]:
        return self.outputs[0].shown

    def _hear(self, message: dict[str, Any]) -> None:
        if message["kind"] == "picture":
            self.asked.append(message["number"])

    def _display(self, bundle: dict[str, str], **how: Any) -> Output | None:
        if "display_id" not in how:
            return None
        self.outputs.append(Output(bundle))
        return self.outputs[-1]


Steps = Callable[[App, Keeper, Page], Awaitable[None]]


def shown(steps: Steps, monkeypatch: pytest.MonkeyPatch, session: Session = SESSION) -> None:
    """Run steps on an app that a page shows."""

    async def main() -> None:
        app = App(session)
        page = Page(app, monkeypatch)
        try:
            keeper = Keeper(app, None)
            app._ipython_display_()
            await app.wait(30)
            await steps(app, keeper, page)
        finally:
            app.close()

    asyncio.run(main())


def is_picture(html: str) -> bool:
    return "<img " in html and "<script" not in html


def test_without_a_page_the_figure_is_drawn_when_somebody_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def steps(app: App, keeper: Keeper, page: Page) -> None:
        app.select("known:full")
        await app.wait(30)
        keeper.keep()
        keeper.keep()
        assert page.asked == []
        assert len(page.stands) == 2  # as it was first, and once for the change
        assert "Plotly.newPlot" in page.stands[1]
        assert "where the network is reached" in page.stands[1]
        assert "full" in page.stands[1]

    shown(steps, monkeypatch)


def test_a_page_is_asked_once_for_each_view_and_its_picture_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def steps(app: App, keeper: Keeper, page: Page) -> None:
        page.draws()
        await app.wait(30)
        keeper.keep()
        assert len(page.stands) == 1  # until it comes
        page.answers(page.asked[0])
        await asyncio.sleep(0)
        assert is_picture(page.stands[1])
        assert "fits" in page.stands[1]
        assert "What trains" in page.stands[1]
        sent = re.search(r'src="data:image/webp;base64,([^"]+)"', page.stands[1])
        assert sent is not None
        assert b64decode(sent[1]) == CONTENT
        words = re.search(r'alt="([^"]+)"', page.stands[1])
        assert words is not None
        assert words[1].startswith(f"digits-cnn on {SESSION.device}: ")
        assert "energy of a step" in words[1]
        assert words[1].endswith(f"Selected: your choice: {SESSION.policy}.")
        keeper.keep()
        assert page.asked == [1]

        page.draws()  # loaded again: a picture of this page
        await app.wait(30)
        keeper.keep()
        assert page.asked == [1, 2]

    shown(steps, monkeypatch)


def test_a_picture_of_what_has_changed_since_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(app: App, keeper: Keeper, page: Page) -> None:
        page.draws()
        keeper.keep()
        app.select("known:full")
        await app.wait(30)
        page.answers(1)
        await asyncio.sleep(0)
        assert len(page.stands) == 1
        keeper.keep()
        page.answers(1)  # late, from a second page
        await asyncio.sleep(0)
        assert len(page.stands) == 1
        page.answers(2)
        page.answers(2, b"another")
        await asyncio.sleep(0)
        assert len(page.stands) == 2
        assert "Selected: full." in page.stands[1]

    shown(steps, monkeypatch)


def test_no_picture_is_asked_for_while_a_search_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(app: App, keeper: Keeper, page: Page) -> None:
        page.draws()
        app.search(trials=100_000, seed=0)
        keeper.keep()
        assert page.asked == []
        app.stop()
        await app.wait(60)
        keeper.keep()
        assert page.asked == [1]

    shown(steps, monkeypatch)


def test_a_page_that_can_take_no_picture_leaves_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def steps(app: App, keeper: Keeper, page: Page) -> None:
        page.draws()
        keeper.keep()
        page.answers(1, None)
        await asyncio.sleep(0)
        assert "Plotly.newPlot" in page.stands[1]

    shown(steps, monkeypatch)


def test_nothing_stays_of_the_page_of_a_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")

    async def steps(app: App, keeper: Keeper, page: Page) -> None:
        page.draws()
        keeper.keep()
        assert page.outputs == []
        assert page.asked == []

    shown(steps, monkeypatch)


@pytest.mark.parametrize("kind", ["text/html", 'image/png" onerror="alert()', None])
def test_only_images_are_pictures(kind: str | None) -> None:
    assert picture_of({**SAID, "type": kind}, [memoryview(CONTENT)]) is None


def test_words_of_a_picture_are_text() -> None:
    picture = Picture(type="image/png", width=10, content=CONTENT)
    assert 'alt="a &quot;b&quot; &lt;c&gt;" width="10"' in picture.html('a "b" <c>')


def test_the_figure_drawn_late_runs_no_text_as_script() -> None:
    figure = go.Figure(go.Scatter(x=[1], y=[2], text=["</script><b>x</b>"]), layout={"height": 300})
    html = static_html(drawn_html(figure), ["<p>the answer</p>"], "a & b")
    assert html.count("</script>") == 1
    assert "Plotly.newPlot" in html
    assert "a &amp; b" in html
    assert html.endswith("<p>the answer</p></div>")
