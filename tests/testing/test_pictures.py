"""Pictures: which look the same, and how those that do not are told apart."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import warnings
from typing import Any

import PIL
import pytest
from PIL import Image

from nbreplay.testing.outputs.images import compare_images, describe_image


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return base64.encodebytes(buffer.getvalue()).decode("ascii")


def plot(values: list[float], title: str = "a plot", **settings: Any) -> str:
    mpl = pytest.importorskip("matplotlib", reason="it draws: pip install -e '.[plot]'")
    matplotlib_figure = pytest.importorskip("matplotlib.figure")
    buffer = io.BytesIO()
    with mpl.rc_context(settings):
        figure = matplotlib_figure.Figure()
        axes = figure.add_subplot()
        axes.plot(values)
        axes.set_title(title)
        figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def test_pictures_of_the_same_pixels_are_the_same_however_they_are_written() -> None:
    image = Image.open(io.BytesIO(base64.b64decode(plot([1, 2, 3])))).convert("RGB")
    small, large = encoded(image, compress_level=9), encoded(image, compress_level=0)
    assert len(small) < len(large)
    assert compare_images("image/png", small, large, 0) is None
    assert compare_images("image/png", small, "".join(small.split()), 0) is None
    assert compare_images("image/png", small, encoded(image.convert("RGBA")), 0) is None


def test_pillow_may_warn_while_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "PIL.ImageSequence":
                warnings.warn("an old function", DeprecationWarning, stacklevel=1)

    data = encoded(Image.new("RGB", (3, 2)))
    monkeypatch.delitem(sys.modules, "PIL.ImageSequence", raising=False)
    monkeypatch.delattr(PIL, "ImageSequence", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.warns(DeprecationWarning, match="an old function"):
        assert describe_image("image/png", data) == "image/png 3×2"


def test_a_plot_drawn_again_is_the_same_and_one_of_other_numbers_is_not() -> None:
    first = plot([1, 2, 3])
    assert compare_images("image/png", first, plot([1, 2, 3]), 0) is None
    assert compare_images("image/png", first, plot([1, 2, 3], **{"lines.linewidth": 1.51}), 0), "another picture"
    assert compare_images("image/png", first, plot([1, 2, 3], **{"lines.linewidth": 1.51}), 0.02) is None
    for other in (plot([3, 2, 1]), plot([1, 2.1, 3]), plot([1, 2, 3], "another plot")):
        found = compare_images("image/png", first, other, 0.02)
        assert found
        assert found[0] == "image/png 640×480"
        assert found[1].startswith("image/png 640×480, up to ")
        assert found[1].endswith("% different; 2.00% is tolerated")


def test_what_another_encoder_makes_of_a_picture_is_tolerated() -> None:
    image = Image.open(io.BytesIO(base64.b64decode(plot([1, 2, 3])))).convert("RGB")
    first, second = (encoded(image, "JPEG", quality=quality) for quality in (95, 90))
    assert compare_images("image/jpeg", first, second, 0)
    assert compare_images("image/jpeg", first, second, 0.02) is None


def test_how_far_apart_pictures_are() -> None:
    grey, lighter = Image.new("RGB", (64, 64), (100,) * 3), Image.new("RGB", (64, 64), (151,) * 3)
    assert compare_images("image/png", encoded(grey), encoded(lighter), 0.201) is None
    found = compare_images("image/png", encoded(grey), encoded(lighter), 0.19)
    assert found == ("image/png 64×64", "image/png 64×64, up to 20.00% different; 19.00% is tolerated")
    lighter = grey.copy()
    lighter.putpixel((63, 0), (101, 100, 100))
    assert compare_images("image/png", encoded(grey), encoded(lighter), 0), "one pixel, where nothing is tolerated"
    assert compare_images("image/png", encoded(grey), encoded(lighter), 0.001) is None


def test_a_size_is_never_tolerated() -> None:
    found = compare_images("image/png", encoded(Image.new("L", (3, 2))), encoded(Image.new("L", (2, 3))), 1)
    assert found == ("image/png 3×2", "image/png 2×3")


def test_what_cannot_be_seen_through_and_what_can() -> None:
    clear, also_clear, white = (Image.new("RGBA", (8, 8), fill) for fill in ((255, 0, 0, 0), (0, 255, 0, 0), "white"))
    assert compare_images("image/png", encoded(clear), encoded(also_clear), 0) is None
    assert compare_images("image/png", encoded(clear), encoded(white), 0.5)
    assert compare_images("image/png", encoded(clear), encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 255))), 0.5)


def test_more_than_eight_bits_are_not_tolerated_to_differ() -> None:
    deep = [encoded(Image.new("I;16", (4, 4), value)) for value in (1000, 2000)]
    assert compare_images("image/png", *deep, 0.9)
    assert compare_images("image/png", deep[0], deep[0], 0) is None


def test_every_frame_counts() -> None:
    black, white = Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 255)
    films = [
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
        for frames in ([black, white], [black, white, black], [white, black])
    ]
    assert compare_images("image/gif", films[0], films[0], 0) is None
    assert compare_images("image/gif", films[0], films[1], 1) == ("image/gif 8×8, 2 frames", "image/gif 8×8, 3 frames")
    assert compare_images("image/gif", films[0], films[2], 0.5)


@pytest.mark.parametrize("broken", ["", "not base64!", base64.b64encode(b"no picture").decode(), "ü", "iVBORw0KGgo="])
def test_a_picture_that_is_none_is_no_picture_of_anything(broken: str) -> None:
    found = compare_images("image/png", broken, encoded(Image.new("L", (3, 2))), 1)
    assert found
    assert found[0].endswith(" bytes")
    assert found[1] == "image/png 3×2"
    assert compare_images("image/png", broken, broken, 0) is None


def test_a_picture_that_would_fill_the_memory_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    image = encoded(Image.new("L", (50, 50)))
    assert describe_image("image/png", image) == "image/png 50×50"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert describe_image("image/png", image).endswith(" bytes")


def test_without_pillow_pictures_differ_and_say_what_would_help() -> None:
    """A process of its own, where Pillow cannot be imported."""
    one, other = (encoded(Image.new("L", (8, 8), value), compress_level=9).replace("\n", "") for value in (0, 1))
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from nbreplay.testing.outputs.images import compare_images\n"
        f"same = compare_images('image/png', {one!r}, {one!r}, 0)\n"
        f"print(same, *compare_images('image/png', {one!r}, {other!r}, 0.02), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    same, old, new = done.stdout.rstrip().split("|")
    assert same == "None"
    assert old.startswith("image/png, ")
    assert old.endswith(" bytes")
    assert new.endswith(" bytes; install Pillow to tolerate small differences")
