"""Pages: sections from templates, pictures from figures, one self-contained HTML file.

A page asks nothing of the network and runs no script: it can be mailed, archived and printed. A section is a template
``templates/sections/<id>.html`` that is handed numbers and pictures and finds the words. It sets ``title``, may set
``intro``, and what it puts out beside these is its body; a section that puts out nothing is left out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from PIL import Image

from kerasall.decoding import MINMAX, decode, read_image_bytes
from kerasall.errors import ArtifactError, DecodingError, count_of
from kerasall.evaluation.findings import NUMBERS_VERSION, write_numbers
from kerasall.evaluation.intervals import Interval, wilson_interval
from kerasall.evaluation.paired_tests import Comparison
from kerasall.files import atomic_path, write_text
from kerasall.report.figures_style import figure_to_svg, new_figure
from kerasall.report.format import (
    Score,
    cell,
    difference_words,
    format_count,
    format_duration,
    format_number,
    format_range,
    format_value,
    interval_words,
    is_percent,
    over_groups,
    p_words,
)
from kerasall.shown_text import one_line

_KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}
FOOTER = (
    "Written by kerasall. For research use only: not a diagnostic device. The same numbers for programs: report.json "
    f"(schema version {NUMBERS_VERSION})."
)


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        src: its path beside the page, ending in .svg, .png or .jpg.
        alt: text for those who do not see it.
        content: its bytes.
    """

    src: str
    alt: str
    content: bytes = field(repr=False)

    @property
    def uri(self) -> str:
        """The picture as a data URI, to stand inside the page."""
        content = base64.b64encode(self.content).decode("ascii")
        return f"data:{_kind(self.src)};base64,{content}"


@dataclass(frozen=True)
class Section:
    """A rendered section: its anchor, title, introduction and body, and the pictures it was given."""

    id: str
    title: str
    intro: str
    body: str
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Page:
    """A page of sections.

    Attributes:
        title, subtitle: of the page.
        sections: in order; None, a section that had nothing to say, is passed over.
        facts: label -> value, short lines under the title.
        results: numbers for programs, as JSON.
        protocol: "honest", or "faithful": scores were selected on the data they are reported on.
        kicker, footer: above the title and below everything.
    """

    title: str
    sections: Sequence[Section | None]
    subtitle: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = "honest"
    kicker: str = "kerasall · evaluation report"
    footer: str = FOOTER


def draw_picture(
    name: str, draw: Callable[..., str], *values: Any, width: float = 4.2, height: float = 3.4, of: str = "",
    **options: Any,
) -> Picture:  # fmt: skip
    """A figure as a picture ``figures/<name>.svg``.

    Args:
        name: of the file.
        draw: draws ``values`` with ``options`` on the axes it is given first, and returns alternative text.
        width, height: inches.
        of: what it is a picture of, where the alternative text does not say so.
    """
    figure, axes = new_figure(width, height)
    alt = draw(axes, *values, **options)
    return Picture(f"figures/{name}.svg", f"{of}. {alt}" if of else alt, figure_to_svg(figure))


def encode_picture(name: str, alt: str, pixels: np.ndarray, side: int = 192) -> Picture:
    """Pixels as a JPEG picture ``figures/<name>.jpg``: some 8 kB, so that a page stays light.

    Args:
        name: of the file.
        alt: text for those who do not see it.
        pixels: uint8 [H, W, 3].
        side: most pixels of its longer side.
    """
    picture, buffer = Image.fromarray(np.asarray(pixels, dtype=np.uint8)), io.BytesIO()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=88)
    return Picture(f"figures/{name}.jpg", alt, buffer.getvalue())


def read_picture(name: str, alt: str, path: str | Path, side: int = 192) -> Picture | None:
    """The image of a file as a JPEG picture, for the eye: 16 bits by their own range; None where it cannot be read."""
    try:
        pixels = decode(read_image_bytes(path), name=str(path), sixteen_bit=MINMAX)
        return encode_picture(name, alt, pixels, side)
    except (DecodingError, OSError):
        return None


def render_section(name: str, /, **values: Any) -> Section | None:
    """Renders ``templates/sections/<name>.html``; None where it puts out nothing.

    Args:
        name: of the template, and the section's anchor.
        values: numbers, words and pictures that the template uses. Pictures may stand in lists and mappings.
    """
    module: Any = _environment().get_template(f"sections/{name}.html").make_module(values)
    body = str(module).strip()
    if not body:
        return None
    intro = getattr(module, "intro", "").strip()  # escaped already where the template put it together
    return Section(name.replace("_", "-"), str(module.title), intro, Markup(body), tuple(_pictures(values)))


def render_sentences(name: str, /, **values: Any) -> list[str]:
    """The lines of ``templates/<name>.txt`` that hold text: plain, for a terminal as for a page."""
    # A line break in a name makes no sentence of its own.
    plain = _environment().overlay(
        finalize=lambda value: one_line(value) if isinstance(value, str) else value
    )
    lines = plain.get_template(f"{name}.txt").render(values).splitlines()
    return [line.strip() for line in lines if line.strip()]


def render_page(page: Page, template: str = "page.html", **values: Any) -> str:
    """The page as one string: style and pictures inside it, and what a template that extends ``page.html`` adds."""
    sections = [section for section in page.sections if section is not None]
    return _environment().get_template(template).render(values, page=replace(page, sections=sections))


def write_page(folder: str | Path, page: Page, name: str = "report", *, numbers: bool = True) -> Path:
    """Writes ``<name>.html``, its pictures and the numbers ``<name>.json`` into ``folder``, each atomically.

    Args:
        folder: made where it does not exist; files of the same names are replaced.
        page: what to write.
        name: of both files.
        numbers: whether the JSON file is written, too.

    Returns:
        Path of the page.
    """
    folder = Path(folder)
    for picture in (picture for section in page.sections if section for picture in section.pictures):
        with atomic_path(folder / picture.src) as temporary:
            temporary.write_bytes(picture.content)
    if numbers:
        write_numbers(folder / f"{name}.json", page.title, page.protocol, page.results)
    write_text(folder / f"{name}.html", render_page(page))
    return folder / f"{name}.html"


def score_cell(found: Score | Interval | None, percent: bool = True) -> dict[str, Any] | str:
    """A value with its interval, and the groups that are behind it, below; a dash where there is none."""
    if found is None or found.value is None:
        return "–"
    percent = found.percent if isinstance(found, Score) else percent
    ends = format_range(found.low, found.high, percent)
    over = f", {found.over}" if ends and found.over else ""
    return cell(format_value(found.value, percent), f"{ends}{over}")


def scores_of(found: Mapping[str, Interval], names: Sequence[str]) -> list[dict[str, Any] | str]:
    """Cells of several metrics."""
    return [score_cell(found[name], is_percent(name)) for name in names]


def difference(metric: str, found: Comparison) -> dict[str, Any]:
    """A paired difference with its interval below it."""
    return cell(*difference_words(metric, found))


def right(names: Iterable[Any], before: str = "") -> list[str]:
    """Headings of columns that stand at the right, each with the same words before it."""
    return [f">{before}{name}" for name in names]


def wilson(right: int, total: int) -> str:
    """The 95% interval of a share that knows its single images alone."""
    return format_range(*wilson_interval(right, total))


def small_share(value: float) -> str:
    """A percentage with at least two digits that say something: 4.2%, 0.13%, 0.0021%."""
    digits = max(1, 1 - int(np.floor(np.log10(100 * value)))) if value > 0 else 1
    return f"{100 * value:.{min(digits, 6)}f}%"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def keep_exact(text: str) -> Markup:
    """A text that a script reads again: in an attribute a browser takes a carriage return for a line feed."""
    return Markup(str(escape(text)).replace("\r", "&#13;"))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "cell": cell, "difference": difference, "interval_words": interval_words, "over_groups": over_groups, "is_percent": is_percent, "score": Score,
    "score_cell": score_cell, "scores_of": scores_of, "sentence": sentence, "wilson": wilson,
}  # fmt: skip
_FILTERS: dict[str, Callable[..., Any]] = {
    "count_of": count_of, "digits": format_number, "duration": format_duration, "exact": keep_exact, "merge": lambda first, second: {**first, **second},
    "p_words": p_words, "range": format_range, "right": right, "sentence": sentence, "small_share": small_share,
    "thousands": format_count, "value": format_value, "zip": zip,
}  # fmt: skip
"""What templates may call and apply beside Jinja's own; ``m`` are the macros of ``macros.html``."""


def _pictures(values: Any) -> Iterator[Picture]:
    if isinstance(values, Picture):
        yield values
    elif isinstance(values, Mapping):
        yield from _pictures(list(values.values()))
    elif isinstance(values, list | tuple):
        for each in values:
            yield from _pictures(each)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )  # fmt: skip
    environment.globals |= _FUNCTIONS
    environment.filters |= _FILTERS
    environment.globals["m"] = environment.get_template("macros.html").module
    return environment


def _kind(src: str) -> str:
    path = PurePosixPath(src)
    if path.suffix not in _KINDS or path.is_absolute() or ".." in path.parts:
        raise ArtifactError(
            f"a picture's src must be a path below the report ending in {sorted(_KINDS)}, but is {src!r}"
        )
    return _KINDS[path.suffix]
