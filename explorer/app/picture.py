"""A picture of the panels, taken in the page: the one place where they are drawn.

What the page has drawn already is put together and painted once, which takes a fraction of
drawing it anew. It is the drawing for a light page, on white, also where the page is dark.
WebP is a third of PNG here, and SVG twice as large; a browser that writes no WebP sends PNG.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

PICTURE = "picture"  # the kind of the message that asks for one, and of its answer
_TYPES = frozenset({"image/webp", "image/png"})

# The answer without a picture says that the page cannot take one.
SCRIPT = """
const SCALE = 1.5, QUALITY = 0.9, LARGEST_BYTES = 700000;
const sheetOf = plot => {
  const { width, height } = plot._fullLayout;
  const sheet = svg("svg", document.createDocumentFragment(), { width, height });
  sheet.append(...(plot.marks?.svg.cloneNode(true).childNodes ?? []));
  for (const layer of plot.querySelectorAll("svg.main-svg")) sheet.append(layer.cloneNode(true));
  for (const hover of sheet.querySelectorAll(".hoverlayer")) hover.remove();
  return new Blob([new XMLSerializer().serializeToString(sheet)], { type: "image/svg+xml" });
};
const pictureOf = async plot => {
  const { width, height } = plot._fullLayout;
  const canvas = document.createElement("canvas"), image = new Image();
  const url = URL.createObjectURL(sheetOf(plot));
  try {
    await new Promise((onload, onerror) => Object.assign(image, { onload, onerror, src: url }));
  } finally { URL.revokeObjectURL(url); }
  Object.assign(canvas, { width: width * SCALE, height: height * SCALE });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const picture = await new Promise(done => canvas.toBlob(done, "image/webp", QUALITY));
  if (picture.size > LARGEST_BYTES) throw new Error(`a picture of ${picture.size} bytes`);
  return { type: picture.type, width, bytes: await picture.arrayBuffer() };
};
const sendPictures = (model, plot) => {
  let newest, taken = Promise.resolve();
  const quiet = () => new Promise(done => (window.requestIdleCallback ?? setTimeout)(done));
  const take = async number => {
    await quiet();
    if (number !== newest) return;
    let picture = {};
    try { picture = await pictureOf(plot); } catch (error) { console.warn(error); }
    const { bytes, ...said } = picture;
    model.send({ kind: "KIND", number, ...said }, undefined, bytes ? [bytes] : []);
  };
  const heard = message => {
    if (message.kind !== "KIND") return;
    newest = message.number;
    taken = taken.then(() => take(message.number));
  };
  model.on("msg:custom", heard);
  return () => model.off("msg:custom", heard);
};
""".replace("KIND", PICTURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image as a page sent it; `width` is in pixels of the page."""

    type: str
    width: int
    content: bytes

    def html(self, words: str) -> str:
        """The image with everything in it, and in words what it shows."""
        return (
            f'<img src="data:{self.type};base64,{b64encode(self.content).decode()}" '
            f'alt="{escape(words)}" width="{self.width}" style="max-width: 100%; height: auto">'
        )


def picture_of(said: Mapping[str, Any], buffers: Sequence[memoryview]) -> Picture | None:
    """The picture in the answer of a page, or None where it could not take one."""
    if not buffers or said.get("type") not in _TYPES:
        return None
    return Picture(type=said["type"], width=round(said["width"]), content=bytes(buffers[0]))
