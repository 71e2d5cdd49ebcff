"""Images out of a multipart form, in memory: nothing of an upload ever touches a disk.

Starlette's own reader spools file parts to temporary files without a limit; this one keeps to the limits
while the bytes arrive and stops at the first that is too much.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from kerasall.serving.web.limits import Refusal, WebLimits

FIELD = "files"
_LONGEST_NAME = 150
_MAX_HEADER_BYTES = 2048
_MAX_PARAMETERS = 64
"""Of one header: they are taken apart in quadratic time."""
_MAX_FIELDS = 8
_MAX_FIELD_BYTES = 1024
_PARAMETER = re.compile(r';[ \t]*([^\s=;]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)')
_CHARSETS = frozenset({"utf-8", "iso-8859-1", "us-ascii"})


@dataclass(frozen=True)
class Upload:
    """An image as it was sent.

    Attributes:
        name: what to call it in answers; shown, never used as a path.
        data: the file's bytes.
    """

    name: str
    data: bytes


@dataclass
class Form:
    """A form that was read: images under ``files`` and short text fields by name."""

    uploads: list[Upload] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(request: Request, limits: WebLimits) -> Form:
    """Reads ``multipart/form-data`` from the request as it streams in.

    Raises:
        Refusal: 415 another kind of content; 413 too many files; 400 broken, or without an image.
    """
    told = request.headers.get("content-type", "")
    kind, options = parse_options_header(told if told.count(";") <= _MAX_PARAMETERS else "")
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        found = told[:100] or "nothing"
        raise Refusal(
            415,
            f"images must be sent as multipart/form-data in the field {FIELD}, but Content-Type is {found}",
        )
    parts = _Parts(limits)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise _broken() from None
    if not parts.ended:
        raise _broken()
    if not parts.form.uploads:
        raise Refusal(400, f"a form must hold at least one image in the field {FIELD}, but holds none")
    return parts.form


async def read_body(request: Request) -> bytearray:
    """The request's body, held once and not in pieces besides."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return body


async def read_images(request: Request, limits: WebLimits) -> list[Upload]:
    """The images of a form, or the one that is the whole body, as Content-Type says.

    Raises:
        Refusal: as ``read_form``.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/octet-stream" or kind.startswith("image/"):
        return [Upload(display_name("", 1), bytes(await read_body(request)))]
    return (await read_form(request, limits)).uploads


def read_disposition(header: bytes) -> tuple[str, str | None]:
    """Names of a part's field and of its file by Content-Disposition; None for the file: it is a plain field.

    ``filename*=`` (RFC 5987) is for mail and downloads, not for forms (RFC 7578), but many programs send it, alone or
    beside a plain name that only stands in for it: it comes first here.
    """
    _, options = parse_options_header(header)
    name = options.get(b"name", b"").decode("utf-8", "replace")
    plain = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None
    extended = {key: value for key, value in _parameters(header) if key.startswith("filename*")}
    if extended:  # as one value, or in numbered pieces
        whole = extended.get("filename*", "".join(extended.values()))
        charset, told, text = whole.partition("'")
        known = charset.lower() if charset.lower() in _CHARSETS else "utf-8"
        encoded = text.partition("'")[2] if told else whole
        return name, unquote_to_bytes(encoded).decode(known, "replace") or plain or ""
    return name, plain


def _parameters(header: bytes) -> Iterator[tuple[str, str]]:
    """Parameters of a header with their values, in order; what stands in quotation marks is no parameter."""
    for found in _PARAMETER.finditer(header.decode("latin-1")):
        yield found[1].lower(), found[2].strip().strip('"')


def display_name(name: str, number: int) -> str:
    """A file's name fit to be shown: no folders, no control or direction marks, not endless."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in last
    )
    return f"{shown[:_LONGEST_NAME]}..." if len(shown) > _LONGEST_NAME else shown or f"image {number}"


def _broken() -> Refusal:
    return Refusal(400, "the form must be whole multipart/form-data, but is broken or cut off: send it again")


class _Parts:
    """Takes the parser's calls and keeps what is asked for."""

    def __init__(self, limits: WebLimits):
        self.form, self.ended = Form(), False
        self._limits, self._number = limits, 0
        self._begin()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._number += 1
        if self._number > 1 + self._limits.max_files + _MAX_FIELDS:  # also those that hold nothing
            raise Refusal(
                413, f"a form must hold at most {self._limits.max_files} images and {_MAX_FIELDS} fields"
            )
        self._name, self._filename = "", None
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._header_bytes = 0
        self._content = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise Refusal(400, f"the headers of a part must have at most {_MAX_HEADER_BYTES} bytes")

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
            if self._disposition.count(b";") > _MAX_PARAMETERS:
                raise _broken()
        self._header, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        self._name, self._filename = read_disposition(self._disposition)
        if self._filename is not None and self._name != FIELD:
            raise Refusal(400, f"images must be in the field {FIELD}, but one is in another")
        if len(self.form.uploads) >= self._limits.max_files and self._filename is not None:
            raise Refusal(
                413, f"a form must hold at most {self._limits.max_files} images: send the rest apart"
            )
        if len(self.form.fields) >= _MAX_FIELDS:
            raise Refusal(400, f"a form must hold at most {_MAX_FIELDS} fields besides the images")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._filename is None and len(self._content) + end - start > _MAX_FIELD_BYTES:
            raise Refusal(400, f"a field besides the images must have at most {_MAX_FIELD_BYTES} bytes")
        self._content += data[start:end]

    def _end(self) -> None:
        if self._filename is None:
            self.form.fields[self._name] = self._content.decode("utf-8", "replace")
        elif self._filename or self._content:  # a browser sends an empty part where no file was chosen
            name = display_name(self._filename, len(self.form.uploads) + 1)
            self.form.uploads.append(Upload(name, bytes(self._content)))
        self._content = bytearray()

    def _finish(self) -> None:
        self.ended = True
