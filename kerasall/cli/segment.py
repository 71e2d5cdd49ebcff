"""The command ``kerasall segment``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kerasall.cli import console
from kerasall.errors import SettingsError, count_of

_HIGHEST = {"hue": 179, "saturation": 255, "value": 255}


def segment(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks or segmented images under the images' names; else Otsu's threshold makes them."),
    ] = None,
    hue: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", help="Hues to keep, 0:179; 170:10 runs through red.")
    ] = None,
    saturation: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", help="Saturations to keep, 0:255.")
    ] = None,
    value: Annotated[str | None, typer.Option(metavar="LOW:HIGH", help="Brightnesses to keep, 0:255.")] = None,
    otsu: Annotated[
        str, typer.Option(metavar="CHANNEL", help="Channel of Otsu's threshold, where it makes the masks.")
    ] = "saturation",
    above: Annotated[
        int, typer.Option(min=0, max=254, help="A pixel of a mask is kept where it is brighter than this.")
    ] = 60,
    swap: Annotated[bool, typer.Option("--swap", help="Fit to the half of the subjects that is scored otherwise.")] = False,
    opening: Annotated[int, typer.Option(min=0, max=50, help="Remove specks that no square of 2 R + 1 fits into.")] = 0,
    closing: Annotated[int, typer.Option(min=0, max=50, help="Then close gaps narrower than 2 R + 1.")] = 0,
    fill_holes: Annotated[bool, typer.Option("--fill-holes", help="Then keep what the kept parts enclose.")] = False,
    most: Annotated[int, typer.Option(min=1, max=100, help="Images of every class on the page.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(callback=console.require_place, help="Folder of page and config; default runs/segmentation/<name>."),
    ] = None,
    source: console.SourceOption = "auto",
    set_: console.SetOption = None,
    as_json: console.JsonOption = False,
) -> None:  # fmt: skip
    """Find colour bounds that cut out the cells of all classes, show them beside the originals, write them for a config.

    With --masks every second subject (or block) of a class is fitted to, and the overlap is that of the others.
    """
    from kerasall.paths import runs_folder, shorten_name
    from kerasall.runtime import quiet_tensorflow
    from kerasall.studies.stated_images import read_stated, settle_images

    given = {"hue": hue, "saturation": saturation, "value": value}
    bounds = {channel: read_bounds(channel, text) for channel, text in given.items() if text is not None}
    cleaning: dict[str, Any] = {"opening": opening, "closing": closing, "fill_holes": fill_holes}
    collection = read_stated(settle_images(path, source, None, set_ or []), lenient=True)
    folder = out or runs_folder() / "segmentation" / shorten_name(collection.root.name)
    with quiet_tensorflow():
        from kerasall.studies.masks import StatedMasks
        from kerasall.studies.segmentation import segment as find_bounds

        console.note(f"looking at {count_of(len(collection.examples), 'image')} ...")
        found = find_bounds(collection, StatedMasks(masks, above, otsu, bounds, cleaning, swap))
        command = console.spell(
            "segment", path, masks=masks, hue=hue, saturation=saturation, value=value,
            otsu=None if otsu == "saturation" else otsu, above=None if above == 60 else above, opening=opening or None,
            closing=closing or None, most=None if most == 4 else most, out=out, source=None if source == "auto" else source,
            set=set_,
        ) + " --fill-holes" * fill_holes + " --swap" * swap  # fmt: skip
        page, config = found.write(folder, most, command)
    files = [f"page:   {page}", f"config: {config}"]
    document = found.to_json() | {"page": str(page), "config": str(config)}
    console.print_found(as_json, document, lambda: [*found.describe(), *found.settings.splitlines(), *files])


def read_bounds(channel: str, text: str) -> tuple[int, int]:
    """Bounds of a channel as a person writes them.

    Raises:
        SettingsError: they are not two whole numbers of the channel's range.
    """
    low, colon, high = text.partition(":")
    highest = _HIGHEST[channel]
    if not colon or not all(part.strip().isdecimal() and int(part) <= highest for part in (low, high)):
        raise SettingsError(
            f"--{channel} must be LOW:HIGH, whole numbers from 0 to {highest}, but is {text!r}: for example "
            f"--{channel} 40:{highest}"
        )
    if channel != "hue" and int(low) > int(high):
        raise SettingsError(
            f"--{channel} must be LOW:HIGH, the lower bound first, but is {text!r}: swap them; only hue runs in a circle"
        )
    return int(low), int(high)
