"""Comparing images in outputs."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import Any

_TILE = 32


def compare_images(kind: str, old: str, new: str, tolerance: float) -> tuple[str, str] | None:
    """Return one line describing each of two images, or None if they look the same.

    They look the same if their sizes are equal and in every tile of 32 by 32 pixels the mean absolute difference is at
    most `tolerance`. A mean over the whole image would hide a changed line in a plot.

    Parameters
    ----------
    kind : str
        MIME type of both.
    old, new : str
        Base64.
    tolerance : float
        From 0 to 1.
    """
    first, second = _bytes(old), _bytes(new)
    if first == second:
        return None
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        hint = "; install Pillow to tolerate small differences"
        return describe_image(kind, old), describe_image(kind, new) + hint
    frames, others = _frames(first), _frames(second)
    if not frames or not others or [frame.size for frame in frames] != [frame.size for frame in others]:
        return describe_image(kind, old), describe_image(kind, new)
    share = max(map(_distance, frames, others))
    if share <= tolerance:
        return None
    return describe_image(
        kind, old
    ), f"{describe_image(kind, new)}, up to {share:.2%} different; {tolerance:.2%} is tolerated"


def describe_image(kind: str, data: str) -> str:
    """Return a line that describes an image: ``image/png 640×480``."""
    raw = _bytes(data)
    try:
        frames = _frames(raw)
    except ImportError:
        frames = []
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
    """Return the frames of an image; empty if it cannot be read or is too large."""
    from PIL import Image, ImageSequence

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with Image.open(io.BytesIO(raw)) as image:
                return [_comparable(frame) for frame in ImageSequence.Iterator(image)]
        # The readers of Pillow raise all kinds of exceptions for broken files.
        except Exception:
            return []


def _comparable(frame: Any) -> Any:
    if frame.mode.startswith(("I", "F")):
        return frame.copy()  # more than 8 bits a pixel
    return frame.convert("RGBA").convert("RGBa")


def _distance(old: Any, new: Any) -> float:
    """Return the greatest mean absolute difference of a tile, from 0 to 1."""
    from PIL import ImageChops, ImageStat

    if old.mode != "RGBa" or new.mode != "RGBa":
        return 0.0 if old.mode == new.mode and old.tobytes() == new.tobytes() else 1.0
    *colours, alpha = ImageChops.difference(old, new).split()
    if not any(band.getbbox() for band in (*colours, alpha)):
        return 0.0
    worst = 0.0
    for left in range(0, old.width, _TILE):
        for top in range(0, old.height, _TILE):
            tile = (left, top, min(left + _TILE, old.width), min(top + _TILE, old.height))
            means = [ImageStat.Stat(band.crop(tile)).mean[0] / 255 for band in (*colours, alpha)]
            worst = max(worst, sum(means[:3]) / 3, means[3])
    return worst
