"""Why a deployed model answered as it did: the numbers, and a picture of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelry.client.predictions import Media, Tensor
from modelry.core.errors import InvalidInput, UnsupportedTask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

#: From the Okabe-Ito palette, told apart by everybody: orange speaks for the label, blue against it.
FOR, AGAINST = "#D55E00", "#0072B2"
#: How pale the picture under the colours is, and how little of a colour still shows.
_PALENESS, _FADE = 0.72, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What each part of one input gave to the score of a label."""

    #: `occlusion` or `kernel-shap`.
    method: str
    label: str
    #: The label's score for the input, and for the input with everything absent.
    score: float
    base: float
    #: height × width for pictures, else one number for each of `columns`; what is positive speaks for the label.
    attributions: NDArray[np.float64]
    #: The columns of a table, the weightiest first; empty for pictures.
    columns: tuple[str, ...]
    #: |sum of the attributions - (score - base)|.
    residual: float
    #: How often the model was asked.
    evaluations: int
    #: The method's settings as they were used.
    parameters: Mapping[str, Any]
    #: The version of the model that answered.
    version: int
    #: What was explained, and how a picture was fitted to the model; for `picture`.
    source: Media | Tensor = field(repr=False)
    seen: Mapping[str, Any] | None = field(default=None, repr=False)

    def shown(self) -> NDArray[np.uint8]:
        """The part of the input picture that the model saw, height × width × 3, in its own size."""
        import numpy as np

        if self.columns:
            raise _no_picture()
        if isinstance(self.source, Tensor):
            return _as_colours(np.asarray(self.source.values, np.float64), self.attributions.shape)
        picture = _open(self.source.content)
        if self.seen is not None and self.seen["resize"] == "crop":
            picture = picture.crop(_cropped(picture.size, self.seen))
        return np.asarray(picture)

    def picture(self, side: int = 448) -> Image.Image:
        """The picture with the attributions over it, its longer side so many pixels: orange for, blue against.

        Raises `UnsupportedTask` for a table; `plot` draws one.
        """
        import numpy as np
        from PIL import Image

        shown = Image.fromarray(self.shown())
        scale = side / max(shown.size)
        size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        smooth = Image.Resampling.BILINEAR if scale < 4 else Image.Resampling.NEAREST
        grey = np.asarray(shown.convert("L").resize(size, smooth), np.float64)[..., None]
        pale = 255 - (255 - grey) * (1 - _PALENESS)
        strength = _stretched(self.attributions / self.largest, size, self.method)[..., None]
        colours = np.where(strength > 0, _rgb(FOR), _rgb(AGAINST))
        opacity = np.abs(strength) ** _FADE
        return Image.fromarray((pale + (colours - pale) * opacity).round().astype(np.uint8))

    @property
    def largest(self) -> float:
        """The largest size of an attribution, by which the colours are scaled; never 0."""
        import numpy as np

        return float(np.abs(self.attributions).max()) or 1.0

    def plot(self, axes: Any, *, most: int = 20) -> None:
        """Draws onto matplotlib axes: the picture, or the `most` weighty columns as bars."""
        if not self.columns:
            axes.imshow(self.picture())
            axes.set(xticks=[], yticks=[])
            return
        values = self.attributions[:most][::-1]
        colours = [FOR if value > 0 else AGAINST for value in values]
        axes.barh([*self.columns[:most]][::-1], values, color=colours)
        axes.axvline(0, color="0.3", linewidth=0.8)

    def _repr_png_(self) -> bytes | None:
        """For notebooks."""
        if self.columns:
            return None
        out = io.BytesIO()
        self.picture().save(out, format="PNG")
        return out.getvalue()


def read_explanation(answer: dict[str, Any], source: Media | Tensor) -> Explanation:
    """The explanation in an answer of the explain call."""
    import numpy as np

    columns: Sequence[dict[str, Any]] = answer.get("columns") or []
    values = [entry["attribution"] for entry in columns] if columns else answer["attributions"]
    return Explanation(
        method=answer["method"],
        label=answer["label"],
        score=answer["score"],
        base=answer["base"],
        attributions=np.asarray(values, np.float64),
        columns=tuple(entry["column"] for entry in columns),
        residual=answer["residual"],
        evaluations=answer["evaluations"],
        parameters=answer["parameters"],
        version=int(answer["version"]),
        source=source,
        seen=answer.get("seen"),
    )


def to_query(settings: Mapping[str, Any]) -> dict[str, str]:
    """A method's settings as texts: several numbers with commas between them."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in settings.items()
        if value is not None
    }


def _as_colours(values: NDArray[np.float64], sides: tuple[int, ...]) -> NDArray[np.uint8]:
    """A tensor's numbers as colours, from the smallest to the largest."""
    import numpy as np

    height, width = sides
    if values.size % (height * width):
        raise InvalidInput(reason="it is no picture of this size", expected=f"{height}×{width}")
    is_first = values.ndim == 3 and values.shape[1:] == (height, width)
    shaped = np.moveaxis(values, 0, 2) if is_first else values.reshape(height, width, -1)
    if shaped.shape[2] != 3:
        shaped = np.repeat(shaped.mean(axis=2, keepdims=True), 3, axis=2)
    low, high = float(shaped.min()), float(shaped.max())
    return np.asarray(((shaped - low) / ((high - low) or 1.0) * 255).round().astype(np.uint8))


def _open(content: bytes) -> Image.Image:
    """As the service reads it: upright, and on white where it is transparent."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    return picture.convert("RGB")


def _cropped(size: tuple[int, int], seen: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """The middle that is left when the shorter side has become `resize_to`, in the picture's own pixels."""
    width, height = size
    scale = min(size) / max(seen["resize_to"] or 0, seen["width"], seen["height"])
    across, down = min(width, seen["width"] * scale), min(height, seen["height"] * scale)
    left, top = (width - across) / 2, (height - down) / 2
    return round(left), round(top), round(left + across), round(top + down)


def _stretched(
    values: NDArray[np.float64], size: tuple[int, int], method: str
) -> NDArray[np.float64]:
    """Over the whole picture: smooth where windows overlap, in squares where patches are the features."""
    import numpy as np
    from PIL import Image

    way = Image.Resampling.NEAREST if method == "kernel-shap" else Image.Resampling.BICUBIC
    stretched = Image.fromarray(values.astype(np.float32)).resize(size, way)
    return np.clip(np.asarray(stretched, np.float64), -1, 1)


def _rgb(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def _no_picture() -> UnsupportedTask:
    return UnsupportedTask(
        "The explanation is of a table and has no picture.",
        remedy="Its `plot(axes)` draws bars, and `columns` and `attributions` are the numbers.",
    )
