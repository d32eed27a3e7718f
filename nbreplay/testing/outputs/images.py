"""Comparing images in outputs."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import io
import warnings
from typing import Any

_TILE = 32


def compare_images(kind: str, old: str, new: str, tolerance: float) -> tuple[str, str] | None:
    """Return one line describing each of two images, which are base64, or None if they look the same.

    They look the same if their sizes are equal and in every tile of 32 by 32 pixels the mean absolute difference is at
    most `tolerance`, from 0 to 1. A mean over the whole image would hide a changed line in a plot.
    """
    first, second = _bytes(old), _bytes(new)
    if first == second:
        return None
    frames, others = _frames(first), _frames(second)
    before, after = _describe(kind, first, frames), _describe(kind, second, others)
    if not importlib.util.find_spec("PIL"):
        return before, f"{after}; install Pillow to tolerate small differences"
    if not frames or not others or [frame.size for frame in frames] != [frame.size for frame in others]:
        return before, after
    share = max(map(_distance, frames, others))
    return (
        (before, f"{after}, up to {share:.2%} different; {tolerance:.2%} is tolerated") if share > tolerance else None
    )


def describe_image(kind: str, data: str) -> str:
    """Return a line that describes an image: ``image/png 640×480``."""
    raw = _bytes(data)
    return _describe(kind, raw, _frames(raw))


def _describe(kind: str, raw: bytes, frames: list[Any]) -> str:
    if not frames:
        return f"{kind}, {len(raw):,} bytes"
    number = f", {len(frames)} frames" if len(frames) > 1 else ""
    return f"{kind} {frames[0].width}×{frames[0].height}{number}"


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return data.encode("utf-8", "surrogatepass")


def _frames(raw: bytes) -> list[Any]:
    """Return the frames of an image; empty without Pillow, or if the image cannot be read or is too large."""
    try:
        from PIL import Image, ImageSequence

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(raw)) as image:
                # Those of more than 8 bits a pixel stay as they are.
                return [
                    frame.copy() if frame.mode.startswith(("I", "F")) else frame.convert("RGBA").convert("RGBa")
                    for frame in ImageSequence.Iterator(image)
                ]
    except Exception:  # the readers of Pillow raise all kinds of them for broken files
        return []


def _distance(old: Any, new: Any) -> float:
    """Return the greatest mean absolute difference of a tile, from 0 to 1."""
    from PIL import ImageChops, ImageStat

    if old.mode == new.mode and old.tobytes() == new.tobytes():
        return 0.0
    if old.mode != "RGBa" or new.mode != "RGBa":
        return 1.0
    difference = ImageChops.difference(old, new)
    worst = 0.0
    for left in range(0, old.width, _TILE):
        for top in range(0, old.height, _TILE):
            tile = (left, top, min(left + _TILE, old.width), min(top + _TILE, old.height))
            *colours, alpha = (mean / 255 for mean in ImageStat.Stat(difference.crop(tile)).mean)
            worst = max(worst, sum(colours) / 3, alpha)
    return worst
