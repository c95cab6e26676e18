"""Colours of the page: one meaning each, safe for colour-blind readers."""

from bokeh.palettes import Greens256, RdBu11, interp_palette

WEIGHTS = tuple(reversed(Greens256))
"""White to dark green: weights, from 0 on."""

SIGNED = tuple(interp_palette(tuple(RdBu11), 255))
"""Blue over white to red: couplings and fields, 0 in the middle."""

WEIGHT, ALONE, UP, DOWN, INK = "#238b45", "#d0d0d0", "#c0392b", "#2f6fb0", "#222222"
"""Bars: weights, those at J = 0, what is above 0 and below it; lines and letters."""

UNSEEN = "#eeeeee"
"""Where a query does not see a position."""
