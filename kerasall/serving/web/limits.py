"""How much one client may ask of the server, and what refuses it when it asks more."""

from __future__ import annotations

from dataclasses import dataclass, field

from kerasall.decoding import Limits

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class WebLimits:
    """Bounds of requests, queue and time. All memory a client can claim follows from them.

    Attributes:
        max_body_bytes: body of one request.
        max_files: images in one request.
        max_held_bytes: bodies of all requests under way.
        image: what the header of an image may say before anything is decoded.
        queue_images: images accepted and not yet answered, over all clients.
        batch_images: images in one call of the model.
        batch_pixels: decoded pixels in one call of the model; a larger image goes alone.
        small_pixels: up to which an image does not wait for larger ones.
        delay_seconds: how long a lone image waits for company.
        header_seconds: from a connection's first byte to the end of the request's headers.
        body_seconds: from there to the end of the body.
        answer_seconds: from there to the answer.
        reading_seconds: how long a client may leave its answer unread.
        drain_seconds: how long a stopping server waits for requests under way.
        requests: requests under way.
        connections: open connections, most of them idle; fewer where the system allows fewer open files.
    """

    max_body_bytes: int = 16 * MEBIBYTE
    max_files: int = 64
    max_held_bytes: int = 256 * MEBIBYTE
    image: Limits = field(default_factory=lambda: Limits(4096, 4096 * 4096, 16 * MEBIBYTE))
    queue_images: int = 256
    batch_images: int = 16
    batch_pixels: int = 4096 * 4096
    small_pixels: int = 1 << 20
    delay_seconds: float = 0.005
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    answer_seconds: float = 60.0
    reading_seconds: float = 20.0
    drain_seconds: float = 20.0
    requests: int = 512
    connections: int = 1024


class Refusal(Exception):
    """A request that is not answered, with the HTTP status that says why.

    Args:
        status: HTTP status code, 4xx or 5xx.
        message: what must hold and what was found; shown to the client.
        headers: sent along, such as ``Retry-After``.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


def busy(message: str, seconds: int = 1) -> Refusal:
    """503: the same request may succeed ``seconds`` later."""
    return Refusal(503, message, {"Retry-After": str(seconds)})
