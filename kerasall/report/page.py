"""Writes a report: report.json, its pictures, and one self-contained report.html.

The page asks nothing of the network and runs no script: it can be mailed, archived and printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kerasall.errors import ArtifactError
from kerasall.files import atomic_path, read_json, write_json, write_text
from kerasall.report.document import SCHEMA_VERSION, Report, report_from_json
from kerasall.report.figure_style import data_uri

_KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}


def write_report(
    folder: str | Path,
    report: Report | dict,
    figures: Mapping[str, bytes] | None = None,
    name: str = "report",
) -> Path:
    """Writes ``report.json``, ``report.html`` and the pictures into ``folder``, each atomically.

    Args:
        folder: made where it does not exist; files of the same names are replaced.
        report: the document, or its JSON form.
        figures: path beside report.json -> bytes (SVG, PNG or JPEG), beside those that the blocks
            of ``report`` brought along. Every ``src`` of the document must be among them.
        name: of both files, where they are not called report.

    Returns:
        Path of the page.

    Raises:
        ArtifactError: the document breaks the schema or names a picture that is not given.
    """
    folder = Path(folder)
    document = report if isinstance(report, Report) else report_from_json(report)
    pictures = {**document.figures(), **(figures or {})}
    for picture in pictures:
        _kind(picture)  # refuses paths that lead out of the folder
    page = render_html(document, pictures)
    for picture, content in pictures.items():
        with atomic_path(folder / picture) as temporary:
            temporary.write_bytes(content)
    write_json(folder / f"{name}.json", document.to_json())
    write_text(folder / f"{name}.html", page)
    return folder / f"{name}.html"


def read_report(folder: str | Path) -> tuple[Report, dict[str, bytes]]:
    """Reads what ``write_report`` wrote: the document and its pictures, ready to be rendered again.

    Raises:
        ArtifactError: report.json or a picture it names is missing or broken.
    """
    folder = Path(folder)
    document = report_from_json(read_json(folder / "report.json"))
    return document, {name: _read_picture(folder, name) for name in _sources(document)}


KICKER = "kerasall · evaluation report"
FOOTER = (
    "Written by kerasall. For research use only: not a diagnostic device. The same content for programs: report.json "
    f"(schema version {SCHEMA_VERSION})."
)


def render_html(
    report: Report, figures: Mapping[str, bytes], *, kicker: str = KICKER, footer: str = FOOTER
) -> str:
    """The page as one string: style and pictures inside it.

    Args:
        report: the document.
        figures: path of every picture it names -> bytes.
        kicker: what kind of page it is, above the title.
        footer: below everything.

    Raises:
        ArtifactError: a picture is missing or of an unknown kind.
    """

    def inline(src: str) -> str:
        if src not in figures:
            raise ArtifactError(
                f"every picture of a report must be given, but {src} is not: add it to figures"
            )
        return data_uri(figures[src], _kind(src))

    return _template().render(report=report.to_json(), inline=inline, kicker=kicker, footer=footer)


def _sources(report: Report) -> list[str]:
    blocks = [block for section in report.to_json()["sections"] for block in section["blocks"]]
    items = [block for block in blocks if block["type"] == "figure"]
    items += [item for block in blocks if block["type"] == "gallery" for item in block["items"]]
    return [item["src"] for item in items]


def _read_picture(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{folder} must hold {name}, but reading it failed ({error}): make the report again"
        ) from None


def _kind(src: str) -> str:
    path = PurePosixPath(src)
    if path.suffix not in _KINDS or path.is_absolute() or ".." in path.parts:
        raise ArtifactError(
            f"a picture's src must be a path below the report ending in {sorted(_KINDS)}, but is {src!r}"
        )
    return _KINDS[path.suffix]


@cache
def _template():
    folder = Path(__file__).with_name("templates")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
