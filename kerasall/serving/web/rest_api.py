"""The routes for programs: predict, the model, TensorFlow Serving's calls, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from kerasall.serving.web import tfserving_api
from kerasall.serving.web.answers import (
    INTENDED_USE,
    ErrorBody,
    ExplainBody,
    ModelBody,
    ModelFacts,
    PredictBody,
    describe_answer,
)
from kerasall.serving.web.limits import Refusal, WebLimits
from kerasall.serving.web.service import Metrics, ModelService
from kerasall.serving.web.uploads import read_body, read_form

_GATE = (401, 421)
_POSTED = (400, *_GATE, 403, 408, 413, 503, 504)


def _body(kind: str, required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


_BASE64 = {
    "type": "object",
    "required": ["b64"],
    "properties": {"b64": {"type": "string", "minLength": 4, "description": "Base64 of an image file."}},
}
_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "minItems": 1, "items": _FILE}
_FORM = _body("multipart/form-data", ["files"], files=_FILES)
_EXPLAIN = _body("multipart/form-data", ["files", "label"], files=_FILE, label={"type": "string"})
_CALL = _body(
    "application/json", ["instances"], signature_name={"type": "string", "enum": ["serving_default"]},
    instances={"type": "array", "minItems": 1, "items": _BASE64},
)  # fmt: skip
_REFUSALS = {
    400: "Not an image that can be read, or not such a request.",
    401: "A token must be shown.",
    403: "Sent by a page that is not this server's.",
    404: "There is no such model.",
    408: "The body took too long.",
    413: "Too many bytes, pixels or images.",
    415: "Another kind of content.",
    421: "Addressed to another host.",
    503: "Loading, or busy; see Retry-After.",
    504: "The answer took too long.",
}

Result = TypeVar("Result")


def make_rest_router(service: ModelService, limits: WebLimits, metrics: Metrics) -> APIRouter:
    """All routes that answer programs."""
    router = APIRouter()
    _add_predict(router, service, limits)
    _add_tfserving(router, service, limits)
    _add_health(router, service, metrics)
    return router


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """Awaits ``work``, and drops it when the client leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_leaving(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(400, "the client left")  # nobody reads this
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()


async def _wait_for_leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of the given refusals, for a route."""
    return {status: {"model": ErrorBody, "description": _REFUSALS[status]} for status in statuses}


def _add_predict(router: APIRouter, service: ModelService, limits: WebLimits) -> None:
    @router.post(
        "/v1/predict", tags=["predict"], summary="Predict one or more image files",
        responses={200: {"model": PredictBody}, **_refusals(*_POSTED, 415)}, openapi_extra=_FORM,
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        """Multipart form, images (BMP, PNG, JPEG, TIFF) in the field `files`.

        A bad image alone is answered 400 with its reason; among several it has an `error` of its own.
        """
        facts = service.facts
        form = await read_form(request, limits)
        answers = await while_connected(request, service.predict(form.uploads))
        if len(answers) == 1 and answers[0].error:
            raise Refusal(400, answers[0].error)
        return JSONResponse(
            {
                "model": {"name": facts.name, "version": facts.version},
                "intended_use": INTENDED_USE,
                "results": [describe_answer(answer, facts) for answer in answers],
            }
        )

    @router.post(
        "/v1/explain", tags=["predict"], summary="Where in one image the evidence for a class lies",
        responses={200: {"model": ExplainBody}, **_refusals(*_POSTED, 404, 415)},
        openapi_extra=_EXPLAIN,
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        """Multipart form: one image in the field `files`, and `label`, the class to explain."""
        facts = service.facts
        form = await read_form(request, limits)
        if not facts.explains:
            raise Refusal(
                404, "this model was exported without the signature explain: it cannot say where it looked"
            )
        label = form.fields.get("label")
        if len(form.uploads) != 1 or label not in facts.labels:
            raise Refusal(400, f"a form must hold one image and a label of {', '.join(facts.labels)}")
        explained = await while_connected(
            request, service.explain(form.uploads[0], facts.labels.index(label))
        )
        return JSONResponse({"name": form.uploads[0].name, "label": label, **explained})

    @router.get(
        "/v1/model", tags=["predict"], summary="Which model answers, and what it was trained on",
        responses={200: {"model": ModelBody}, **_refusals(*_GATE, 503)},
    )  # fmt: skip
    async def model() -> Response:
        return JSONResponse(service.facts.model_dump())


def _add_tfserving(router: APIRouter, service: ModelService, limits: WebLimits) -> None:
    def require(model: str, version: str | None) -> ModelFacts:
        facts = service.facts
        if model != facts.name or version not in (None, facts.version):
            raise Refusal(404, f"the model served here is {facts.name}, version {facts.version}")
        return facts

    async def newest(model: str) -> ModelFacts:
        return require(model, None)

    async def versioned(model: str, version: str) -> ModelFacts:
        return require(model, version)

    _add_model(router, service, limits, "/v1/models/{model}", newest)
    _add_model(router, service, limits, "/v1/models/{model}/versions/{version}", versioned)


def _add_model(
    router: APIRouter, service: ModelService, limits: WebLimits, path: str, find: Callable[..., Any]
) -> None:
    seen, posted = _refusals(*_GATE, 404, 503), _refusals(*_POSTED, 404)
    named = Depends(find)
    tags: list[str | Enum] = ["TensorFlow Serving"]

    # Before the plain path, whose {model} would take ":predict" for a part of the name.
    @router.post(f"{path}:predict", tags=tags, responses=posted, openapi_extra=_CALL)
    async def predict(request: Request, facts: ModelFacts = named) -> Response:
        """`{"instances": [{"b64": "..."}]}`, as TensorFlow Serving takes it."""
        uploads, rows = tfserving_api.read_instances(await read_body(request), limits)
        answers = await while_connected(request, service.predict(uploads))
        return JSONResponse(tfserving_api.format_predictions(answers, rows))

    @router.get(f"{path}/metadata", tags=tags, responses=seen)
    async def metadata(facts: ModelFacts = named) -> Response:
        """Names, types and shapes of the signatures."""
        return JSONResponse(tfserving_api.format_metadata(facts, service.signatures))

    @router.get(path, tags=tags, responses=seen)
    async def status(facts: ModelFacts = named) -> Response:
        """Whether the model answers."""
        return JSONResponse(tfserving_api.format_status(facts.version))


def _add_health(router: APIRouter, service: ModelService, metrics: Metrics) -> None:
    @router.get("/livez", tags=["health"], summary="The process answers", response_class=PlainTextResponse)
    async def livez() -> str:
        return "alive\n"

    @router.get(
        "/readyz", tags=["health"], summary="The model is loaded and warm",
        response_class=PlainTextResponse, responses=_refusals(503),
    )  # fmt: skip
    async def readyz() -> str:
        service.facts  # noqa: B018  refuses while the model loads, and once it was given up
        return "ready\n"

    @router.get(
        "/metrics", tags=["health"], summary="Counts and times for Prometheus",
        response_class=PlainTextResponse, responses=_refusals(*_GATE),
    )  # fmt: skip
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)
