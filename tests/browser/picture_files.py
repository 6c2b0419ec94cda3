"""Pictures that are kept, in ``docs/pictures``, as WebP."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import FloatRect, Locator, Page

_ARROW = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))
_MARGIN = 8  # CSS pixels
_FILM = 2  # pixels of a film for each of CSS

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def keep(place: Locator, name: str, pixels: int = 2) -> None:
    """Write what a place shows to the file of this name, with so many pixels for each of CSS."""
    place.scroll_into_view_if_needed()
    path = PICTURES / f"{name}.webp"
    path.parent.mkdir(parents=True, exist_ok=True)
    taken(place.page, _box(place), pixels).save(path, quality=80, method=6)


def taken(page: Page, clip: FloatRect, pixels: int) -> Image.Image:
    """A picture of what is in view, drawn anew, so that its letters are as sharp as it is large."""
    options = {"clip": {**clip, "scale": pixels}, "optimizeForSpeed": True}
    session = page.context.new_cdp_session(page)
    answer = session.send("Page.captureScreenshot", options)
    session.detach()
    return Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")


def _box(place: Locator) -> FloatRect:
    box = place.bounding_box()
    assert box is not None
    return box


class Film:
    """Pictures of a page from the top of a place on, each shown for as long as it took.

    A browser's pictures have no pointer, so it is drawn where `point` has led it.
    """

    def __init__(self, page: Page, place: Locator) -> None:
        size, box = page.viewport_size, _box(place)
        assert size is not None
        height = size["height"] - box["y"]
        self._clip = FloatRect(x=box["x"], y=box["y"], width=box["width"], height=height)
        self._page = page
        self._pictures: list[Image.Image] = []
        self._seconds: list[float] = []
        self._pointer: tuple[float, float] | None = None
        self._bottom = 0.0

    def point(self, control: Locator) -> None:
        """Lead the pointer to a control."""
        control.hover()
        box = self._place(control)
        self._pointer = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def reach(self, place: Locator) -> None:
        """Have the film be as high as it takes for this place to be seen, as it is now."""
        box = self._place(place)
        self._bottom = max(self._bottom, box["y"] + box["height"] + _MARGIN)

    def take(self, seconds: float | None = None) -> None:
        """Take a picture, which is shown for so long; by default as long as it took."""
        began = time.monotonic()
        picture = taken(self._page, self._clip, _FILM)
        if self._pointer is not None:
            left, top = self._pointer
            shape = [(_FILM * (left + x), _FILM * (top + y)) for x, y in _ARROW]
            ImageDraw.Draw(picture).polygon(shape, fill="black", outline="white")
        self._pictures.append(picture)
        self._seconds.append(time.monotonic() - began if seconds is None else seconds)

    def keep(self, name: str) -> None:
        """Write it to the file of this name. What does not change between pictures costs nothing,
        as long as it stays the same to the bit."""
        size = 0, 0, self._pictures[0].width, round(_FILM * self._bottom)
        first, *others = (each.crop(size) for each in self._pictures)
        first.save(
            PICTURES / f"{name}.webp",
            save_all=True,
            append_images=others,
            duration=[round(1000 * each) for each in self._seconds],
            loop=0,
            lossless=True,
            minimize_size=True,
            method=6,
        )

    def _place(self, what: Locator) -> FloatRect:
        box = _box(what)
        x, y = box["x"] - self._clip["x"], box["y"] - self._clip["y"]
        return FloatRect(x=x, y=y, width=box["width"], height=box["height"])
