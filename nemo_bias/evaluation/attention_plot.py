"""A picture of where a biasing adapter attended to which entity of a list."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

NO_BIAS = "no bias"
LONGEST_SECONDS = 300  # wider pictures are more than PNG renderers take
LONGEST_LABEL, LONGEST_WORD = 30, 20  # characters

# Lengths are in inches, font sizes in points.
DOTS_PER_INCH = 120
INCHES_PER_SECOND, LEAST_WIDTH = 1.25, 5.0
ROW, LEAST_HEIGHT = 0.27, 1.6
MARGIN, TITLE, TIME_AXIS = 0.12, 0.4, 0.75
BAR_WIDTH, BAR_ROOM = 0.14, 1.0  # of the colour bar
BAR_HEIGHT, LEADER = 0.06, 0.17  # the bar at the frames of a word, and the end of the line from there to its text
FONT, SMALL_FONT, TITLE_FONT = 9.5, 8.0, 11.0
FARTHEST = 0.25  # that a horizontal word may be moved from its frames
SLOPE = 55  # degrees, of words that are too many to be horizontal
COLOURS = "viridis"
CHANGED, UNCHANGED, FAINT = "#c2410c", "0.15", "0.55"

Measure = Callable[[str], float]


class TimedWord(NamedTuple):
    """A word of a hypothesis.

    Attributes:
        text: the word.
        start: of its first frame, in seconds.
        end: of its last frame's end, in seconds.
    """

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Attention:
    """What an adapter attended to in one utterance of T frames; K of its list's entities are shown.

    Attributes:
        audio: name of the audio file.
        frame_seconds: how long an encoder frame lasts.
        entities: [K] their texts, the one with the highest attention first.
        recognised: [K] whether the hypothesis with the adapter holds them.
        probabilities: [T, 1 + K] attention to no entity, then to each of them; what lacks to 1 went to other entities.
        words: of the hypothesis with the adapter.
        words_without: of the hypothesis without it.
    """

    audio: str
    frame_seconds: float
    entities: tuple[str, ...]
    recognised: tuple[bool, ...]
    probabilities: NDArray[np.float32]
    words: tuple[TimedWord, ...]
    words_without: tuple[TimedWord, ...]

    def __post_init__(self) -> None:
        count = len(self.entities)
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] != 1 + count or len(self.recognised) != count:
            raise ValueError(
                f"probabilities has shape {self.probabilities.shape} and recognised {len(self.recognised)} values; "
                f"expected [T, {1 + count}] and {count} for {count} entities"
            )

    @property
    def seconds(self) -> float:
        """How long the utterance is."""
        return len(self.probabilities) * self.frame_seconds


def plot_attention(attention: Attention, path: str | Path) -> None:
    """Draws a heat map of entities over time, with the words of both hypotheses above it.

    Words that the adapter changed are coloured, and entities that were recognised with it are bold.

    Args:
        attention: what to draw.
        path: of the picture. The suffix says the format; PNG if there is none.

    Raises:
        OSError: the file cannot be written.
        ValueError: the utterance has no frames or is too long, or there is no such format.
    """
    if not 0 < attention.seconds <= LONGEST_SECONDS:
        raise ValueError(
            f"{attention.audio} has {attention.seconds:.0f} seconds of frames; a picture takes more than 0 and at most "
            f"{LONGEST_SECONDS}"
        )
    figure = Figure(dpi=DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    labels = [NO_BIAS, *(shortened(entity) for entity in attention.entities)]
    width = max(LEAST_WIDTH, attention.seconds * INCHES_PER_SECOND)
    measure = _measure(canvas, FONT)
    left = MARGIN + max(_measure(canvas, FONT, "bold")(text) for text in [*labels, "without adapter"]) + 0.1
    lines, line_height, slope = _arranged_lines(attention, width, measure)
    map_height = max(LEAST_HEIGHT, ROW * len(labels))
    total_width = left + width + BAR_ROOM
    total_height = TIME_AXIS + map_height + len(lines) * line_height + TITLE
    figure.set_size_inches(total_width, total_height)

    def axes(x: float, y: float, w: float, h: float) -> Any:
        """Axes at a place that is given in inches from the lower left corner."""
        return figure.add_axes((x / total_width, y / total_height, w / total_width, h / total_height))

    map_axes = axes(left, TIME_AXIS, width, map_height)
    image = _draw_map(map_axes, attention, labels)
    bar = figure.colorbar(image, cax=axes(left + width + 0.15, TIME_AXIS, BAR_WIDTH, map_height))
    bar.set_label("attention probability", size=FONT)
    bar.ax.tick_params(labelsize=SMALL_FONT)
    bar.outline.set_visible(False)
    for k, line in enumerate(lines):
        line_axes = axes(left, TIME_AXIS + map_height + k * line_height, width, line_height)
        _draw_line(line_axes, line, attention.seconds, slope)
    title: dict[str, Any] = {"size": TITLE_FONT, "weight": "bold", "va": "center", "parse_math": False}
    letters = int((width + BAR_ROOM) / _measure(canvas, TITLE_FONT, "bold")("n"))
    figure.text(left / total_width, 1 - TITLE / 2 / total_height, shortened(attention.audio, letters), **title)
    note = "bold: recognised with the adapter     coloured: words that it changed"
    figure.text(left / total_width, 0.1 / total_height, note, size=SMALL_FONT, color=FAINT)
    canvas.print_figure(path, format=Path(path).suffix[1:] or "png", dpi=DOTS_PER_INCH)


def shortened(text: str, longest: int = LONGEST_LABEL) -> str:
    """The text, or its beginning with an ellipsis if it has more than so many characters."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def changed_words(words: Sequence[TimedWord], others: Sequence[TimedWord]) -> list[bool]:
    """For each word, whether the other hypothesis lacks it there."""
    changed = [True] * len(words)
    matcher = difflib.SequenceMatcher(None, [w.text for w in words], [w.text for w in others], autojunk=False)
    for start, _, size in matcher.get_matching_blocks():
        changed[start : start + size] = [False] * size
    return changed


def spread(places: Sequence[float], gaps: Sequence[float], lowest: float, highest: float) -> NDArray[np.float64]:
    """Moves places apart, as little as possible in the sum of squares.

    Without the gaps before it, the places must not decrease, so this is isotonic regression (pool adjacent violators).

    Args:
        places: [n] in increasing order.
        gaps: [n - 1] from each place to the next, at least. All are reduced alike if there is not enough room.
        lowest: least value of the first.
        highest: greatest value of the last.
    """
    before = np.concatenate([[0.0], np.cumsum(gaps)])[: len(places)]
    if len(places) and before[-1] > highest - lowest:
        before *= max(0.0, highest - lowest) / before[-1]
    pools: list[tuple[float, int]] = []  # mean and size
    for value in np.asarray(places, float) - before:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    flat = np.repeat([mean for mean, _ in pools], [size for _, size in pools]) if pools else np.zeros(0)
    return before + np.clip(flat, lowest, max(lowest, highest - before[-1])) if pools else flat


class _Line(NamedTuple):
    """A hypothesis to be drawn: its words, the places of their texts in inches, and which to colour."""

    label: str
    words: Sequence[TimedWord]
    places: NDArray[np.float64]
    changed: list[bool]


def _measure(canvas: Any, size: float, weight: str = "normal") -> Measure:
    """A function that gives the width of a text in inches."""
    renderer, font = canvas.get_renderer(), FontProperties(size=size, weight=weight)
    return lambda text: float(renderer.get_text_width_height_descent(text, font, False)[0]) / DOTS_PER_INCH


def _arranged_lines(attention: Attention, width: float, measure: Measure) -> tuple[list[_Line], float, int]:
    """Both hypotheses, the lower one first; the height of each, and the slope of the words in degrees."""
    both = {"with adapter": attention.words, "without adapter": attention.words_without}
    scale = width / attention.seconds
    centres = {label: [scale * (w.start + w.end) / 2 for w in words] for label, words in both.items()}
    sizes = {label: [measure(shortened(w.text, LONGEST_WORD)) for w in words] for label, words in both.items()}
    letter = FONT / 72  # height of a line of text
    places: dict[str, NDArray[np.float64]] = {}
    slope = 0
    for label, own in sizes.items():
        gaps = [(a + b) / 2 + letter / 2 for a, b in pairwise(own)]
        ends = (own[0] / 2, width - own[-1] / 2) if own else (0.0, width)
        places[label] = spread(centres[label], gaps, *ends)
        crowded = own and sum(gaps) > ends[1] - ends[0]
        if crowded or np.abs(places[label] - centres[label]).max(initial=0) > FARTHEST:
            slope = SLOPE
    height = LEADER + 1.7 * letter
    if slope:
        sine = float(np.sin(np.radians(slope)))
        for label, own in sizes.items():
            gaps = [1.05 * letter / sine] * (len(own) - 1)
            places[label] = spread(centres[label], gaps, 0, width)
        height = LEADER + letter + sine * max((max(own, default=0) for own in sizes.values()), default=0)
    lines = [
        _Line(label, both[label], places[label] / scale, changed_words(both[label], both[other]))
        for label, other in zip(both, reversed(both), strict=True)
    ]
    return lines, height, slope


def _draw_map(axes: Any, attention: Attention, labels: Sequence[str]) -> Any:
    rows = len(labels)
    image = axes.imshow(
        attention.probabilities.T,
        extent=(0, attention.seconds, rows, 0),
        aspect="auto",
        interpolation="nearest",
        cmap=COLOURS,
        vmin=0,
        vmax=1,
    )
    axes.axhline(1, color="white", linewidth=1.5)  # below the no-bias entry
    axes.set_yticks([k + 0.5 for k in range(rows)], labels, size=FONT, parse_math=False)
    for text, bold in zip(axes.get_yticklabels(), [False, *attention.recognised], strict=True):
        text.set_weight("bold" if bold else "normal")
    axes.get_yticklabels()[0].set_style("italic")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SMALL_FONT)
    axes.xaxis.get_major_locator().set_params(nbins=max(4, int(2 * attention.seconds)), steps=[1, 2, 5, 10])
    axes.set_xlabel("seconds", size=FONT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _draw_line(axes: Any, line: _Line, seconds: float, slope: int) -> None:
    """Words over the frames that they were heard in; y is 0 at these, in inches."""
    axes.set_axis_off()
    axes.set_xlim(0, seconds)
    width, height = axes.get_position().size * axes.figure.get_size_inches()
    axes.set_ylim(0, height)
    label = {"size": FONT, "ha": "right", "va": "center", "style": "italic"}
    axes.annotate(line.label, (0, LEADER + FONT / 144), (-4, 0), textcoords="offset points", **label)
    turned = {"rotation": slope, "rotation_mode": "anchor", "ha": "left" if slope else "center"}
    starts, ends = (np.array([getattr(word, name) for word in line.words]) for name in ("start", "end"))
    colours = [CHANGED if changed else UNCHANGED for changed in line.changed]
    inset = seconds / width / 60  # so that one sees where a word ends and the next one starts
    axes.hlines([BAR_HEIGHT] * len(starts), starts + inset, ends - inset, colors=colours, linewidth=2)
    leaders = [((x, BAR_HEIGHT), (place, LEADER)) for x, place in zip((starts + ends) / 2, line.places, strict=True)]
    axes.add_collection(LineCollection(leaders, colors=FAINT, linewidths=0.6), autolim=False)
    for word, place, colour in zip(line.words, line.places, colours, strict=True):
        text = shortened(word.text, LONGEST_WORD)
        axes.text(place, LEADER + 0.02, text, size=FONT, color=colour, va="baseline", parse_math=False, **turned)
