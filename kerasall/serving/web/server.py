"""The server: its application, the listening socket, and the process' signals.

The application is the routes behind the door, and the model that is loaded while the server already answers. The
routes for people are here: the page, its answers without JavaScript, its two static files, and the API's page.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader
from starlette.exceptions import HTTPException
from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import DefaultFormatter

from kerasall.csv_tables import csv_line
from kerasall.errors import SettingsError
from kerasall.evaluation.class_names import name_columns
from kerasall.serving.predictor import newest_version, version_folder
from kerasall.serving.runtimes import RuntimeChoice
from kerasall.serving.web.answers import ModelFacts, describe_answer
from kerasall.serving.web.connections import BACKLOG, give_memory_back, make_protocol, spare_log
from kerasall.serving.web.following import Watch
from kerasall.serving.web.limits import Refusal, WebLimits
from kerasall.serving.web.middleware import Door, host_name
from kerasall.serving.web.rest_api import make_rest_router, while_connected
from kerasall.serving.web.service import Metrics, ModelService
from kerasall.serving.web.uploads import read_form
from kerasall.shown_text import tell, terminal_text
from kerasall.version import __version__

_TEMPLATES = Path(__file__).parent / "templates"
_STATIC = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
# FastAPI would otherwise report to whatever collector the environment names.
_NO_TELEMETRY: Any = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}
_SHORTEST_TOKEN = 16
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def serve(
    folder: str | Path,
    host: str,
    port: int,
    *,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    limits: WebLimits | None = None,
    runtime: RuntimeChoice | None = None,
    root: str = "",
    follow: bool = False,
) -> None:
    """Serves one SavedModel until SIGTERM or SIGINT, then finishes what is under way and returns.

    Args:
        folder: ``savedmodels/<name>[/<version>]``.
        host: address to listen on.
        port: 0 takes a free one.
        token: what clients must show; needed where ``host`` is not a loopback address.
        hosts: further names under which clients reach a loopback address, through a proxy for example.
        limits: sizes, counts and times.
        runtime: what computes the answers; default TensorFlow, in float32.
        root: path below which a proxy shows the server, ``/kerasall``; "" at the top of its address.
        follow: whether newer versions of the model take over once they are checked and warm.

    Raises:
        SettingsError: a public address without a token, an address that cannot be listened on, a path or host name
            that is none, or a model without versions to follow.
        KerasallError: the model is broken or does not fit.
    """
    limits = limits or WebLimits()
    require_token_for(host, token)
    root = read_root(root)
    allowed = {host.lower(), *map(read_host, hosts)}
    names = LOOPBACK_NAMES | allowed if is_loopback(host) else None
    if follow and not version_folder(newest_version(folder)).name.isdecimal():
        raise SettingsError(
            f"--follow needs a model in numbered versions, such as savedmodels/NAME/1, but {folder} is none: push it first"
        )
    listening = _listen(host, port)
    give_memory_back()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it tells of every broken form
    faults: list[BaseException] = []

    def stop_failed(error: BaseException) -> None:
        faults.append(error)
        server.should_exit = True

    app = create_app(
        folder,
        limits=limits,
        token=token,
        hosts=names,
        runtime=runtime,
        failed=stop_failed,
        root=root,
        follow=follow,
    )
    server = uvicorn.Server(_configure(app, limits))
    # uvicorn ends by raising the signal anew: a stop that was asked for shall end with status 0.
    kept = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        below = f", behind a proxy at {root}/" if root else ""
        tell(f"serving on {describe_address(listening)}{below} (Ctrl+C stops)")
        server.run(sockets=[listening])
    finally:
        listening.close()
        for number, handler in kept.items():
            signal.signal(number, handler)
    if faults:
        raise faults[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def require_token_for(host: str, token: str | None) -> None:
    """Refuses to open a public address to everybody.

    Raises:
        SettingsError: ``host`` is no loopback address and there is no token.
    """
    if token is None and not is_loopback(host):
        raise SettingsError(
            f"a token must guard a public address, but --host {host} came without one: give --token-file, "
            "or listen on 127.0.0.1"
        )


def read_root(text: str) -> str:
    """The path below which a proxy shows the server, without a slash at its end; "" for the top.

    Raises:
        SettingsError: it is no such path.
    """
    root = text.removesuffix("/")
    if not re.fullmatch(r"(/[\w.~-]+)*", root, re.ASCII) or {".", ".."} & set(root.split("/")):
        raise SettingsError(f"--root-path must be a path such as /kerasall, but is {text!r}")
    return root


def read_host(text: str) -> str:
    """The name in ``--allow-host``, as it is compared with that in the header Host.

    Raises:
        SettingsError: it is an address with more than a name and a port.
    """
    name = text.lower() if text.count(":") > 1 and "[" not in text else host_name(text)
    if "//" in text or not re.fullmatch(r"[\w.:-]+", name, re.ASCII):
        raise SettingsError(
            f"--allow-host must be the name of a host, such as cells.example.org, but is {text!r}"
        )
    return name


def read_token(path: Path) -> str:
    """The token in a file: one line of at least 16 visible ASCII characters.

    Raises:
        SettingsError: it is not such a line.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} must hold the token, but reading it failed: {error}") from None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            f"{path} must hold one word of at least {_SHORTEST_TOKEN} ASCII characters: "
            "make one with `openssl rand -hex 32`"
        )
    return token


def describe_address(listening: socket.socket) -> str:
    """``http://...`` of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"port {port} of {host} must be free to listen on, but is not ({error.strerror or error}): "
            "stop what listens there, or give another --port"
        ) from None


def _configure(app: Any, limits: WebLimits) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=make_protocol(limits),
        ws="none",
        lifespan="on",
        log_level="warning",
        log_config=_shown_log(),
        access_log=False,  # addresses and file names are nobody's business
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(limits.drain_seconds),
    )
    spare_log()
    return config


class _ShownText(DefaultFormatter):
    """What a request brought along can only be read in the log: it makes no lines of its own and moves no cursor."""

    def format(self, record: logging.LogRecord) -> str:
        return terminal_text(super().format(record))


def _shown_log() -> dict[str, Any]:
    formatters = LOGGING_CONFIG["formatters"]
    plain = {**formatters["default"], "()": _ShownText, "use_colors": False}
    return {**LOGGING_CONFIG, "formatters": {**formatters, "default": plain}}


def create_app(
    folder: str | Path,
    *,
    limits: WebLimits | None = None,
    token: str | None = None,
    hosts: frozenset[str] | None = None,
    runtime: RuntimeChoice | None = None,
    failed: Callable[[BaseException], None] = lambda error: None,
    root: str = "",
    follow: bool = False,
) -> Door:
    """Builds the ASGI application that serves one SavedModel.

    Args:
        folder: ``savedmodels/<name>[/<version>]``.
        limits: sizes, counts and times; None takes the defaults.
        token: what clients must show; None asks for none.
        hosts: names that requests may address; None allows all.
        runtime: what computes the answers; default TensorFlow, in float32.
        failed: told when the model cannot be loaded; the server then never becomes ready.
        root: path below which a proxy shows the server, as ``read_root`` gives it.
        follow: whether newer versions of the model take over.
    """
    limits = limits or WebLimits()
    metrics = Metrics()
    service = ModelService(folder, limits, metrics, runtime)
    watch = Watch(service, follow, limits.look_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_load(service, failed)), asyncio.create_task(watch.run())]
        yield
        for task in tasks:
            task.cancel()
        await service.stop()

    app = FastAPI(
        title="kerasall", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Answers of one image classifier. Research use only: not a diagnostic device.",
        servers=[{"url": root}] if root else None, redirect_slashes=False, telemetry=_NO_TELEMETRY,
    )  # fmt: skip
    app.include_router(make_rest_router(service, limits, metrics, watch))
    app.include_router(make_page_router(app, service, limits, watch, root), include_in_schema=False)
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_fault)
    return Door(app, limits, token, hosts, metrics.count_request, root)


def make_page_router(
    app: FastAPI, service: ModelService, limits: WebLimits, watch: Watch, root: str
) -> APIRouter:
    """All routes that answer people."""
    router = APIRouter()
    pages = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters |= {"percent": format_share, "name_columns": name_columns}
    pages.globals["root"] = root

    def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(pages.get_template(template).render(**values), status)

    @router.get("/")
    async def page() -> Response:
        try:
            facts = service.facts
        except Refusal as refusal:
            # It is worth another try while the model loads, not once it was given up.
            template = "loading.html" if "Retry-After" in refusal.headers else "refused.html"
            return render(template, 503, message=refusal.message)
        return render("page.html", limits=limits, facts=facts, newer=watch.newer, results=None)

    @router.post("/")
    async def answer_form(request: Request) -> Response:
        try:
            service.facts  # noqa: B018  refuses before the body is read
            form = await read_form(request, limits)
            facts, answers = await while_connected(request, service.predict(form.uploads))
        except Refusal as refusal:
            return render("refused.html", refusal.status, message=refusal.message)
        results = [describe_answer(answer, facts) for answer in answers]
        return render(
            "page.html", limits=limits, facts=facts, newer=watch.newer, results=results,
            table=_table_link(results, facts), now=datetime.now().astimezone(),
        )  # fmt: skip

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _STATIC:
            raise Refusal(404, "there is no such file")
        return Response((_TEMPLATES / name).read_bytes(), media_type=_STATIC[name])

    @router.get("/docs")
    async def docs() -> Response:
        return render("docs.html", document=app.openapi())

    return router


def _table_link(results: Sequence[Mapping[str, Any]], facts: ModelFacts) -> str:
    """A data address of the answers as CSV; the page with JavaScript makes the same table."""
    told = [name for name in ("refer", "refer_reason") if any(name in result for result in results)]
    lines = [csv_line(["path", "label", *name_columns(facts.labels), "error", *told])]
    for result in results:
        shares = result.get("probabilities", {})
        shown = [f"{shares[label]:.9f}" if shares else "" for label in facts.labels]
        extras = [str(result.get(name, "")) for name in told]
        named = [result["name"], result.get("label", "")]
        lines.append(csv_line([*named, *shown, result.get("error", ""), *extras]))
    return "data:text/csv;charset=utf-8," + quote("".join(lines))


def format_share(share: float, exact: bool = False) -> str:
    """A share in per cent; of votes (``exact``) all or none may speak, but no network is certain."""
    if not exact and share > 0.9995:
        return ">99.9%"
    return "<0.1%" if not exact and share < 0.0005 else f"{math.floor(1000 * share + 0.5) / 10:.1f}%"


async def _load(service: ModelService, failed: Callable[[BaseException], None]) -> None:
    try:
        await service.load()
    except Exception as error:
        failed(error)


async def _answer_refusal(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _answer_http_error(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _answer_fault(request: Request, error: Exception) -> JSONResponse:
    # The trace is for the server's log alone.
    return JSONResponse({"error": "the server failed at this request; its log says why"}, 500)
