"""The application: routes behind the door, and the model that is loaded while the server already answers.

The routes for people: the page, its answers without JavaScript, its two static files, and the API's page.
"""

from __future__ import annotations

import asyncio
import csv
import io
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader
from starlette.exceptions import HTTPException

from kerasall import __version__
from kerasall.serving.runtimes import RuntimeChoice
from kerasall.serving.web.answers import ModelFacts, describe_answer
from kerasall.serving.web.limits import Refusal, WebLimits
from kerasall.serving.web.middleware import Door
from kerasall.serving.web.rest_api import make_rest_router, while_connected
from kerasall.serving.web.service import Metrics, ModelService
from kerasall.serving.web.uploads import read_form

_TEMPLATES = Path(__file__).parent / "templates"
_STATIC = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
# FastAPI would otherwise report to whatever collector the environment names.
_NO_TELEMETRY: Any = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}


def create_app(
    folder: str | Path,
    *,
    limits: WebLimits | None = None,
    token: str | None = None,
    hosts: frozenset[str] | None = None,
    runtime: RuntimeChoice | None = None,
    failed: Callable[[BaseException], None] = lambda error: None,
) -> Door:
    """Builds the ASGI application that serves one SavedModel.

    Args:
        folder: ``savedmodels/<experiment>[/<version>]``.
        limits: sizes, counts and times; None takes the defaults.
        token: what clients must show; None asks for none.
        hosts: names that requests may address; None allows all.
        runtime: what computes the answers; default TensorFlow, in float32.
        failed: told when the model cannot be loaded; the server then never becomes ready.
    """
    limits = limits or WebLimits()
    metrics = Metrics()
    service = ModelService(folder, limits, metrics, runtime)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(service, failed))
        yield
        loading.cancel()
        await service.stop()

    app = FastAPI(
        title="kerasall", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Answers of one image classifier. Research use only: not a diagnostic device.",
        telemetry=_NO_TELEMETRY,
    )  # fmt: skip
    app.include_router(make_rest_router(service, limits, metrics))
    app.include_router(make_page_router(app, service, limits), include_in_schema=False)
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_fault)
    return Door(app, limits, token, hosts, metrics.count_request)


def make_page_router(app: FastAPI, service: ModelService, limits: WebLimits) -> APIRouter:
    """All routes that answer people."""
    router = APIRouter()
    pages = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["percent"] = format_share

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
        return render("page.html", limits=limits, facts=facts, results=None)

    @router.post("/")
    async def answer_form(request: Request) -> Response:
        try:
            facts = service.facts
            form = await read_form(request, limits)
            answers = await while_connected(request, service.predict(form.uploads))
        except Refusal as refusal:
            return render("refused.html", refusal.status, message=refusal.message)
        results = [describe_answer(answer, facts) for answer in answers]
        return render(
            "page.html", limits=limits, facts=facts, results=results,
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
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["path", "label", *facts.labels, "error", *told])
    for result in results:
        shares = result.get("probabilities", {})
        shown = [f"{shares[label]:.9f}" if shares else "" for label in facts.labels]
        extras = [str(result.get(name, "")) for name in told]
        named = [_harmless(result["name"]), result.get("label", "")]
        writer.writerow([*named, *shown, result.get("error", ""), *extras])
    return "data:text/csv;charset=utf-8," + quote(file.getvalue())


def _harmless(name: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


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
