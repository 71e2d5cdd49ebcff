"""The application: routes behind the door, and the model that is loaded while the server already answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kerasall import __version__
from kerasall.serving.web.door import Door
from kerasall.serving.web.limits import Refusal, WebLimits
from kerasall.serving.web.metrics import Metrics
from kerasall.serving.web.pages import make_page_router
from kerasall.serving.web.rest_api import make_rest_router
from kerasall.serving.web.service import ModelService

if TYPE_CHECKING:
    from kerasall.serving.runtimes import RuntimeChoice

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
