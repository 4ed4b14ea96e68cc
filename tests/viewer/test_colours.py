"""Palettes as people with the common kinds of colour blindness see them; a legend that adds up and spoils nothing."""

import numpy as np
import pytest

from core.data.palette import CIVIDIS, CLASS_COLOURS, VIRIDIS, class_colour, ramp, scale_on
from viz.choices import MODES
from viz.colours import THEMES, class_of, colour_passages

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of colour vision deficiency", 2009:
# linear RGB, severity 1.
BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
JUST_SEEN = 2.3  # of the distance in CIELAB, Mahy et al. 1994


def linear(colours):
    shares = np.asarray(colours, float) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(colours, kind):
    """CIELAB under D65, as someone with that kind of vision sees the colours."""
    seen = np.clip(linear(colours) @ BLINDNESS[kind].T, 0, 1)
    xyz = seen @ np.array(
        [[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920], [0.1804375, 0.0721750, 0.9503041]]
    )
    shares = xyz / np.array([0.95047, 1.0, 1.08883])
    f = np.where(shares > 216 / 24389, np.cbrt(shares), (24389 / 27 * shares + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("theme", THEMES)
def test_the_eight_colours_of_classes_differ_for_everyone(theme, kind):
    seen = lab([*CLASS_COLOURS[theme], THEMES[theme].noise], kind)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 1e9 * np.eye(len(seen))
    assert apart.min() > 3 * JUST_SEEN


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("theme", THEMES)
def test_what_a_question_finds_stands_out_from_every_class_and_from_the_ground(theme, kind):
    colours = THEMES[theme]
    found, ground, *classes = lab([colours.found, colours.background, *CLASS_COLOURS[theme]], kind)
    assert abs(found[0] - ground[0]) > 35  # lightness alone tells it from the ground
    assert min(np.linalg.norm(found - each) for each in classes) > 2 * JUST_SEEN


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("anchors", [VIRIDIS, CIVIDIS])
@pytest.mark.parametrize("theme", THEMES)
def test_scales_rise_in_lightness_for_everyone(theme, anchors, kind):
    lightness = lab(ramp(np.linspace(0, 1, 21), scale_on(theme, anchors)), kind)[:, 0]
    assert (np.diff(lightness) > 0).all()


def test_classes_beyond_the_palette_take_other_shades():
    colours = [class_colour("dark", number) for number in range(24)]
    assert len(set(colours)) == 24 and class_colour("dark", 24) == colours[0]
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("until", [None, 3])
def test_the_legend_counts_every_readable_passage_once_and_nothing_else(cloud, mode, until):
    coloured = colour_passages(cloud, mode, THEMES["dark"], until_chapter=until, scores={0: 0.5, 1: 0.9})
    assert coloured.colours.shape == (len(cloud), 3)
    if mode != "score":
        assert sum(entry.count for entry in coloured.legend) == cloud.readable(until).sum()
        keys = class_of(cloud, mode)[cloud.readable(until)]
        assert {entry.key for entry in coloured.legend} == set(keys.tolist())


def test_a_cluster_s_name_tells_no_word_that_is_first_met_later(cloud):
    names = [entry.label for entry in colour_passages(cloud, "cluster", THEMES["dark"], until_chapter=3).legend]
    assert names and not any("后来" in name for name in names)
    whole = [entry.label for entry in colour_passages(cloud, "cluster", THEMES["dark"]).legend]
    assert any("后来" in name for name in whole)
