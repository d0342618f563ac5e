"""A clock that ticks when the browser has painted.

Python raises `seq` behind an update; the browser answers with `ack` once the
frame is on the screen. Waiting for it lets the newest state be sent next and
never builds up a queue of repaints. Its element also watches the width of the
page, because plotly refits itself to the window only, and keeps keys for the app: JupyterLab
would move between cells by the arrows that go through a list, and insert one for an `a`.
"""

import asyncio

import anywidget
import traitlets

ACK_TIMEOUT_S = 1.0
_UNATTENDED_PAUSE_S = 0.05

# Keys with Ctrl and the like, and Shift+Enter, stay shortcuts of the page: to save, to run.
_SCRIPT = """
const keepKey = ({ target, key, ctrlKey, metaKey, altKey, shiftKey }) => {
  const isShortcut = ctrlKey || metaKey || altKey || (shiftKey && key === "Enter");
  if (target.closest?.(".explorer-app"))
    target.toggleAttribute("data-lm-suppress-shortcuts", !isShortcut);
};
function render({ model, el }) {
  const answer = () =>
    requestAnimationFrame(() =>
      setTimeout(() => {
        model.set("ack", model.get("seq"));
        model.save_changes();
      }, 0),
    );
  model.on("change:seq", answer);
  const refit = () => window.dispatchEvent(new Event("resize"));
  const watcher = new ResizeObserver(() => requestAnimationFrame(refit));
  watcher.observe(el);
  window.addEventListener("keydown", keepKey, true);
  answer();
  return () => {
    window.removeEventListener("keydown", keepKey, true);
    watcher.disconnect();
    model.off("change:seq", answer);
  };
}
export default { render };
"""


class FrameClock(anywidget.AnyWidget):
    """Two integers: what was sent and what has been painted."""

    _esm = _SCRIPT
    seq = traitlets.Int(0).tag(sync=True)
    ack = traitlets.Int(-1).tag(sync=True)

    @property
    def is_attended(self) -> bool:
        """Whether a browser has ever answered."""
        return bool(self.ack >= 0)

    async def tick(self) -> None:
        """Wait until what was sent is painted, or for a second; without a browser hardly at all."""
        self.seq += 1
        if not self.is_attended:
            await asyncio.sleep(_UNATTENDED_PAUSE_S)
            return
        painted, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake(_: object) -> None:
            if self.ack >= self.seq:  # some kernels hear widgets in another thread
                loop.call_soon_threadsafe(painted.set)

        self.observe(wake, "ack")
        try:
            await asyncio.wait_for(painted.wait(), ACK_TIMEOUT_S)
        except TimeoutError:
            return
        finally:
            self.unobserve(wake, "ack")
