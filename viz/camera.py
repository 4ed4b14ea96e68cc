"""Where the eye stands: an orbit about a target, with z upwards. Values only; no window, no GL.

The map lies within a sphere of radius 1 about the origin (``core.data.scenes``). Zoom 1 shows that whole sphere
whatever the picture's proportions; positions in a picture are pixels from its top left corner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyglm import glm

from core.errors import SettingsError
from viz.choices import PROJECTIONS

__all__ = ["ZOOM_LIMITS", "Camera", "Matrices"]

ZOOM_LIMITS = (0.2, 400.0)
HALF_VIEW_RAD = math.radians(20.0)
MARGIN = 1.06
REACH = 2.2  # the farthest that anything lies from a target within the scene, plus some room
FARTHEST_TARGET = 1.2


@dataclass(frozen=True, slots=True)
class Matrices:
    """A camera for one picture size.

    Attributes:
        view, projection: column vectors, as GL and PyGLM have them; give their ``to_bytes()`` to GL.
        distance: from the eye to the target, world units.
        near: distance of the near plane.
        is_perspective: whether far things are smaller.
    """

    view: glm.mat4
    projection: glm.mat4
    distance: float
    near: float
    is_perspective: bool
    size: tuple[int, int]

    def project(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Where points are seen.

        Args:
            points: (n, 3), world.

        Returns:
            (n, 3): x and y in pixels from the top left, and the distance from the eye's plane in world units; not
            positive behind the eye, where x and y mean nothing.
        """
        # np.array of a PyGLM matrix reads as mathematics does: rows first.
        homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        seen = homogeneous @ np.array(self.view, np.float64).T
        clip = seen @ np.array(self.projection, np.float64).T
        width, height = self.size
        divisor = np.where(np.abs(clip[:, 3]) < 1e-12, 1e-12, clip[:, 3])
        ndc = clip[:, :2] / divisor[:, None]
        return np.stack([(ndc[:, 0] + 1) * width / 2, (1 - ndc[:, 1]) * height / 2, -seen[:, 2]], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """An eye that looks at ``target``.

    Attributes:
        azimuth_deg: direction of the eye about the vertical axis, 0 to 360.
        elevation_deg: of the eye over the horizon, -90 to 90; 90 looks straight down.
        zoom: 1 shows the whole map.
    """

    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    azimuth_deg: float = 35.0
    elevation_deg: float = 22.0
    zoom: float = 1.0
    projection: str = "perspective"

    def __post_init__(self) -> None:
        values = (*self.target, self.azimuth_deg, self.elevation_deg, self.zoom)
        if len(self.target) != 3 or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            raise SettingsError(
                f"the camera holds {values}, wanted three numbers for the target and finite angles and zoom"
            )
        if self.projection not in PROJECTIONS:
            raise SettingsError(f"the projection is {self.projection!r}, wanted {' or '.join(PROJECTIONS)}")
        if self.zoom <= 0:
            raise SettingsError(f"the zoom is {self.zoom:g}, wanted more than 0")
        # 0 and 360 degrees must give the same picture to the bit, so an angle has one form only.
        object.__setattr__(self, "azimuth_deg", float(self.azimuth_deg) % 360.0)
        object.__setattr__(self, "elevation_deg", min(90.0, max(-90.0, float(self.elevation_deg))))
        object.__setattr__(self, "zoom", min(ZOOM_LIMITS[1], max(ZOOM_LIMITS[0], float(self.zoom))))
        object.__setattr__(self, "target", tuple(float(v) for v in self.target))

    def matrices(self, size: tuple[int, int]) -> Matrices:
        """What GL needs to draw a picture of that (width, height)."""
        aspect = size[0] / size[1]
        half_view = _narrower_half_view(aspect)
        distance = MARGIN / math.sin(half_view) / self.zoom
        turned = glm.rotate(glm.mat4(1), math.radians(self.elevation_deg - 90.0), glm.vec3(1, 0, 0))
        turned = glm.rotate(turned, math.radians(-self.azimuth_deg - 90.0), glm.vec3(0, 0, 1))
        moved = glm.translate(turned, -glm.vec3(self.target))
        view: Any = glm.translate(glm.mat4(1), glm.vec3(0, 0, -distance)) * moved
        far = distance + REACH
        if self.projection == "perspective":
            near = max(distance * 0.02, 1e-3)
            projection = glm.perspective(2 * HALF_VIEW_RAD, aspect, near, far)
        else:
            near = distance - REACH
            half_height = self._half_height(aspect)
            half_width = half_height * aspect
            projection = glm.ortho(-half_width, half_width, -half_height, half_height, near, far)
        return Matrices(view, projection, distance, near, self.projection == "perspective", size)

    def orbited(self, azimuth_deg: float, elevation_deg: float) -> Camera:
        """The eye moved about the target by these angles."""
        return replace(
            self, azimuth_deg=self.azimuth_deg + azimuth_deg, elevation_deg=self.elevation_deg + elevation_deg
        )

    def panned(self, dx_px: float, dy_px: float, size: tuple[int, int]) -> Camera:
        """The target moved so that what lies at its depth follows a pointer that moves by (dx, dy)."""
        right, up = self._axes()
        world_per_px = 2 * self._half_height(size[0] / size[1]) / size[1]
        moved = np.array(self.target) + (-dx_px * right + dy_px * up) * world_per_px
        reach = float(np.linalg.norm(moved))
        if reach > FARTHEST_TARGET:  # or one could lose the map
            moved *= FARTHEST_TARGET / reach
        return replace(self, target=tuple(moved.tolist()))

    def zoomed(self, factor: float, at_px: tuple[float, float], size: tuple[int, int]) -> Camera:
        """Nearer by ``factor``; what lies under ``at_px`` at the target's depth stays there."""
        zoom = min(ZOOM_LIMITS[1], max(ZOOM_LIMITS[0], self.zoom * factor))
        off_px = (at_px[0] - size[0] / 2, at_px[1] - size[1] / 2)
        share = 1 - self.zoom / zoom
        return replace(self.panned(-off_px[0] * share, -off_px[1] * share, size), zoom=zoom)

    def fitted(self, points: NDArray[np.floating[Any]]) -> Camera:
        """The same direction, looking at the middle of ``points``, (n, 3), so near that they fill the picture."""
        if len(points) == 0:
            return replace(self, target=(0.0, 0.0, 0.0), zoom=1.0)
        low, high = points.min(axis=0), points.max(axis=0)
        middle = (low + high) / 2
        radius = max(0.03, float(np.linalg.norm(points - middle, axis=1).max()))
        return replace(self, target=tuple(middle.tolist()), zoom=1 / radius)

    def blended(self, other: Camera, share: float) -> Camera:
        """Between this camera and ``other``; turns the shorter way round, and zooms evenly to the eye."""
        turn = (other.azimuth_deg - self.azimuth_deg + 180.0) % 360.0 - 180.0
        x, y, z = (a + (b - a) * share for a, b in zip(self.target, other.target, strict=True))
        return replace(
            other,
            target=(x, y, z),
            azimuth_deg=self.azimuth_deg + turn * share,
            elevation_deg=self.elevation_deg + (other.elevation_deg - self.elevation_deg) * share,
            zoom=self.zoom * (other.zoom / self.zoom) ** share,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "target": list(self.target),
            "azimuth_deg": self.azimuth_deg,
            "elevation_deg": self.elevation_deg,
            "zoom": self.zoom,
            "projection": self.projection,
        }

    def _axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """World directions of the picture's right and up."""
        turn, lift = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        right = np.array([-math.sin(turn), math.cos(turn), 0.0])
        up = np.array([-math.sin(lift) * math.cos(turn), -math.sin(lift) * math.sin(turn), math.cos(lift)])
        return right, up

    def _half_height(self, aspect: float) -> float:
        """Half of what the picture's height shows at the target's depth, world units."""
        distance = MARGIN / math.sin(_narrower_half_view(aspect)) / self.zoom
        return distance * math.tan(HALF_VIEW_RAD)


def _narrower_half_view(aspect: float) -> float:
    """Half of the smaller angle that a picture of these proportions shows, radians: a narrow window shows all too."""
    return min(HALF_VIEW_RAD, math.atan(math.tan(HALF_VIEW_RAD) * aspect))
