"""Where the model's grid lies on a photo, and the way back from the grid to the photo's own pixels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ROWS_AT_ONCE = 512
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Placement:
    """The part of a photo that the model saw.

    `image_size` (H, W) is that of the photo, `size` (h, w) that of the model's grid. `box` (left, top, right, bottom)
    is what the grid covers, in pixels of the photo: fractions count, and (0, 0, W, H) is all of it. It goes beyond the
    photo where something was put around that.
    """

    image_size: tuple[int, int]
    box: Box
    size: tuple[int, int]

    def to_image(self, relevance: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """A map (..., h, w) on the pixels of the photo (..., H, W), float32; its total stays the same.

        The relevance of a cell is spread evenly over the area that the cell covers, whole pixels and parts of pixels
        alike; outside the box there is none. What lies around the photo has no pixel in it: its relevance is missing
        from the total. Computed in float64. ValueError if the map is not on this grid.
        """
        values = np.asarray(relevance, dtype=np.float64)
        if values.shape[-2:] != self.size:
            raise ValueError(
                f"A map of shape {values.shape} does not lie on this grid of {self.size[0]} x {self.size[1]} cells; "
                "its last two axes must be the grid's height and width."
            )
        left, top, right, bottom = self.box
        rows = spread(self.image_size[0], top, bottom, self.size[0])
        wide = values @ spread(self.image_size[1], left, right, self.size[1]).T  # (..., h, W)
        result = np.empty((*values.shape[:-2], *self.image_size), dtype=np.float32)
        # In blocks, so that a photo of 90 million pixels does not need a float64 copy of itself.
        for start in range(0, self.image_size[0], ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            result[..., block, :] = rows[block] @ wide
        return result

    @property
    def centres(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(h,) and (w,): where the centres of the grid's rows and columns lie, in pixels of the photo.

        >>> from lrpcli.images.placement import Placement
        >>> rows, columns = Placement((4, 8), (0.0, 0.0, 8.0, 4.0), (2, 2)).centres
        >>> rows.tolist(), columns.tolist()
        ([1.0, 3.0], [2.0, 6.0])
        """
        (height, width), (left, top, right, bottom) = self.size, self.box
        rows = top + (np.arange(height) + 0.5) * (bottom - top) / height
        return rows, left + (np.arange(width) + 0.5) * (right - left) / width

    @property
    def seen(self) -> tuple[Box, Box]:
        """The part of the photo that the model saw, in pixels of the photo, and the same in cells of the grid."""
        (height, width), (rows, columns), (left, top, right, bottom) = self.image_size, self.size, self.box
        seen = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
        across, down = columns / (right - left), rows / (bottom - top)
        return seen, (
            (seen[0] - left) * across,
            (seen[1] - top) * down,
            (seen[2] - left) * across,
            (seen[3] - top) * down,
        )

    def as_dict(self) -> dict[str, Any]:
        """Numbers and lists for a JSON line; from_dict reads them."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Placement":
        """The placement that as_dict wrote down."""
        height, width = fields["image_size"]
        left, top, right, bottom = fields["box"]
        rows, columns = fields["size"]
        return cls((int(height), int(width)), (float(left), float(top), float(right), float(bottom)), (rows, columns))


def spread(pixels: int, start: float, stop: float, cells: int) -> npt.NDArray[np.float64]:
    """(pixels, cells): the part of each cell that lies on each pixel, cells cutting [start, stop] into equal lengths.

    A column sums to one where the cell lies on the line of pixels.
    """
    edges = np.linspace(start, stop, cells + 1)
    pixel = np.arange(pixels, dtype=np.float64)[:, None]
    shared = np.minimum(pixel + 1, edges[1:]) - np.maximum(pixel, edges[:-1])
    parts: npt.NDArray[np.float64] = np.maximum(shared, 0) / np.diff(edges)
    return parts
