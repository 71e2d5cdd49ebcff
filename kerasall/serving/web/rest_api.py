"""The routes for programs: predict, the model, TensorFlow Serving's calls, health and metrics.

TensorFlow Serving's own clients work unchanged: the predict call, status, metadata. Source:
https://www.tensorflow.org/tfx/serving/api_rest. One thing is finer here: of several instances in row form a bad
image costs its own answer only, which then holds ``error`` in place of the outputs.
"""

from __future__ import annotations

import asyncio
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from kerasall.serving.graph import Interface
from kerasall.serving.predictor import SIGNATURE
from kerasall.serving.web.answers import (
    INTENDED_USE,
    Answer,
    ErrorBody,
    ExplainBody,
    ModelBody,
    ModelFacts,
    PredictBody,
    describe_answer,
)
from kerasall.serving.web.following import Newer, Watch
from kerasall.serving.web.limits import Refusal, WebLimits
from kerasall.serving.web.service import Metrics, ModelService
from kerasall.serving.web.uploads import Upload, read_body, read_form, read_images

_INPUT = "image_bytes"
_DTYPES = {"float32": "DT_FLOAT", "int64": "DT_INT64", "string": "DT_STRING", "uint8": "DT_UINT8",
           "bool": "DT_BOOL", "int32": "DT_INT32"}  # fmt: skip
_BLANKS = b" \t\n\v\f\r"
_TO_USUAL = bytes.maketrans(b"-_", b"+/")
_GATE = (401, 421)
_POSTED = (400, *_GATE, 403, 408, 413, 415, 503, 504)


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
_FORM["requestBody"]["content"]["application/octet-stream"] = {"schema": _FILE}
_EXPLAIN = _body(
    "multipart/form-data",
    ["files", "label"],
    files=_FILE,
    label={"type": "string"},
    version={"type": "string"},
)
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
    409: "Another version answers now.",
    413: "Too many bytes, pixels or images.",
    415: "Another kind of content, or another Content-Encoding than gzip.",
    421: "Addressed to another host.",
    503: "Loading, or busy; see Retry-After.",
    504: "The answer took too long.",
}

Result = TypeVar("Result")


def make_rest_router(service: ModelService, limits: WebLimits, metrics: Metrics, watch: Watch) -> APIRouter:
    """All routes that answer programs."""
    router = APIRouter()
    _add_predict(router, service, limits, watch)
    _add_explain(router, service, limits)
    _add_tfserving(router, service, limits, watch)
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


def _add_predict(router: APIRouter, service: ModelService, limits: WebLimits, watch: Watch) -> None:
    @router.post(
        "/v1/predict", tags=["predict"], summary="Predict one or more image files",
        responses={200: {"model": PredictBody}, **_refusals(*_POSTED)}, openapi_extra=_FORM,
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        """Multipart form, images (BMP, PNG, JPEG, TIFF, WebP) in the field `files`; or one image as the whole body.

        A bad image alone is answered 400 with its reason; among several it has an `error` of its own.
        """
        service.facts  # noqa: B018  refuses before the body is read
        uploads = await read_images(request, limits)
        facts, answers = await while_connected(request, service.predict(uploads))
        if len(answers) == 1 and answers[0].error:
            raise Refusal(400, answers[0].error)
        return JSONResponse(
            {
                "model": _name(facts),
                "intended_use": INTENDED_USE,
                "results": [describe_answer(answer, facts) for answer in answers],
            }
        )

    @router.get(
        "/v1/model", tags=["predict"], summary="Which model answers, and what it was trained on",
        responses={200: {"model": ModelBody}, **_refusals(*_GATE, 503)},
    )  # fmt: skip
    async def model() -> Response:
        return JSONResponse(service.facts.model_dump() | {"newer": watch.newer.words if watch.newer else ""})


def _add_explain(router: APIRouter, service: ModelService, limits: WebLimits) -> None:
    @router.post(
        "/v1/explain", tags=["predict"], summary="Where in one image the evidence for a class lies",
        responses={200: {"model": ExplainBody}, **_refusals(*_POSTED, 404, 409)},
        openapi_extra=_EXPLAIN,
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        """Multipart form: one image in the field `files`, and `label`, the class to explain.

        With `version` another version does not answer: the map is then of the model whose answer it explains.
        """
        service.facts  # noqa: B018  refuses before the body is read
        form = await read_form(request, limits)
        loaded = service.loaded
        facts, asked = loaded.facts, form.fields.get("version")
        if asked not in (None, facts.version):
            raise Refusal(
                409,
                f"the answer to explain is of version {asked[:20]}, but version {facts.version} answers now: predict it anew",
            )
        if not facts.explains:
            raise Refusal(
                404, "this model was exported without the signature explain: it cannot say where it looked"
            )
        label = form.fields.get("label")
        if len(form.uploads) != 1 or label not in facts.labels:
            raise Refusal(400, f"a form must hold one image and a label of {', '.join(facts.labels)}")
        explained = await while_connected(
            request, service.explain(loaded, form.uploads[0], facts.labels.index(label))
        )
        return JSONResponse(
            {"model": _name(facts), "name": form.uploads[0].name, "label": label, **explained}
        )


def _name(facts: ModelFacts) -> dict[str, str]:
    return {"name": facts.name, "version": facts.version}


def _add_tfserving(router: APIRouter, service: ModelService, limits: WebLimits, watch: Watch) -> None:
    def require(model: str, version: str | None) -> ModelFacts:
        facts = service.facts
        if model != facts.name or version not in (None, facts.version):
            raise _not_served(facts)
        return facts

    async def newest(model: str) -> ModelFacts:
        return require(model, None)

    async def versioned(model: str, version: str) -> ModelFacts:
        return require(model, version)

    _add_model(router, service, limits, watch, "/v1/models/{model}", newest)
    _add_model(router, service, limits, watch, "/v1/models/{model}/versions/{version}", versioned)


def _not_served(facts: ModelFacts) -> Refusal:
    return Refusal(404, f"the model served here is {facts.name}, version {facts.version}")


def _add_model(
    router: APIRouter,
    service: ModelService,
    limits: WebLimits,
    watch: Watch,
    path: str,
    find: Callable[..., Any],
) -> None:
    seen, posted = _refusals(*_GATE, 404, 503), _refusals(*_POSTED, 404)
    named = Depends(find)
    tags: list[str | Enum] = ["TensorFlow Serving"]

    # Before the plain path, whose {model} would take ":predict" for a part of the name.
    @router.post(f"{path}:predict", tags=tags, responses=posted, openapi_extra=_CALL)
    async def predict(request: Request, facts: ModelFacts = named) -> Response:
        """`{"instances": [{"b64": "..."}]}`, as TensorFlow Serving takes it."""
        uploads, rows = read_instances(await read_body(request), limits)
        answering, answers = await while_connected(request, service.predict(uploads))
        if answering.version != facts.version and "version" in request.path_params:
            raise _not_served(answering)  # another followed while the body came
        names = answers[0].outputs if answers else service.loaded.predictor.output_shapes
        return JSONResponse(format_predictions(answers, rows, list(names)))

    @router.api_route(f"{path}:{{verb}}", methods=["GET", "POST"], include_in_schema=False)
    async def other_verb(request: Request, verb: str, facts: ModelFacts = named) -> Response:
        """TensorFlow Serving answers these calls 400 too, where the model's signature is for predict."""
        if request.method != "POST":
            raise Refusal(405, f"{path.replace('{model}', facts.name)}:predict takes POST", {"Allow": "POST"})
        raise Refusal(400, f"the signature {SIGNATURE} answers :predict, but the call was :{verb[:80]}")

    @router.get(f"{path}/metadata", tags=tags, responses=seen)
    async def metadata(facts: ModelFacts = named) -> Response:
        """Names, types and shapes of the signatures."""
        return JSONResponse(format_metadata(facts, service.loaded.predictor.interface))

    @router.get(path, tags=tags, responses=seen)
    async def status(facts: ModelFacts = named) -> Response:
        """Whether the model answers."""
        return JSONResponse(format_status(facts.version, watch.newer))


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


def read_instances(body: bytearray, limits: WebLimits) -> tuple[list[Upload], bool]:
    """Images of a predict call, and whether they came in row form. Empties ``body``.

    Raises:
        Refusal: 400 not such a call; 413 too many images.
    """
    # Before parsing: a body of empty objects becomes thirty times its size in memory. Base64 has none of these.
    if sum(map(body.count, (b"{", b"[", b","))) > 64 + 8 * limits.max_files:
        raise Refusal(413, f"a call must hold at most {limits.max_files} images and little else")
    call = _parse(body)
    signature = call.get("signature_name", SIGNATURE)
    if signature not in ("", SIGNATURE):
        raise Refusal(
            400, f'signature_name must be "{SIGNATURE}" or be left out, but is {json.dumps(signature)[:80]}'
        )
    rows = "instances" in call
    if rows == ("inputs" in call):
        raise Refusal(400, 'the body must hold either "instances" or "inputs"')
    values = call["instances"] if rows else _column(call["inputs"])
    if not isinstance(values, list) or (rows and not values):
        raise Refusal(400, 'images must be a list of at least one {"b64": "..."}')
    if len(values) > limits.max_files:
        raise Refusal(413, f"a call must hold at most {limits.max_files} images: send the rest apart")
    return [Upload(f"instance {i}", _decode(value, i)) for i, value in enumerate(values)], rows


def _parse(body: bytearray) -> Mapping[str, Any]:
    try:
        text = body.decode("utf-8-sig")
        body.clear()  # megabytes that are not needed twice
        call = json.loads(text, strict=False)  # line ends inside of base64, as shells put them there
    except (ValueError, RecursionError):
        raise Refusal(400, "the body must be JSON, but cannot be read as such") from None
    if not isinstance(call, Mapping):
        raise Refusal(400, "the body must be a JSON object")
    return call


def _column(inputs: Any) -> Any:
    named = inputs.get(_INPUT) if isinstance(inputs, Mapping) and "b64" not in inputs else inputs
    return [named] if isinstance(named, Mapping) else named


def _decode(value: Any, number: int) -> bytes:
    if isinstance(value, Mapping) and isinstance(value.get(_INPUT), Mapping):
        value = value[_INPUT]
    text = value.get("b64") if isinstance(value, Mapping) else None
    if not isinstance(text, str):
        raise Refusal(
            400, f'instance {number} must be {{"b64": "..."}} with base64 of an image file, but is not'
        )
    try:
        return decode_base64(text)
    except ValueError:
        raise Refusal(
            400,
            f'instance {number} must be {{"b64": "..."}} with base64 of an image file, but its text is no base64',
        ) from None


def decode_base64(text: str) -> bytes:
    """Base64 as TensorFlow Serving reads it: line ends and blanks count for nothing, padding may be left out whole.

    The alphabet for addresses (``-`` and ``_``) is read as well: many clients send it, and it can mean nothing else.

    Raises:
        ValueError: other characters, both alphabets at once, or a length that no bytes have.
    """
    packed = text.encode("ascii").translate(None, _BLANKS)
    if b"-" in packed or b"_" in packed:
        if b"+" in packed or b"/" in packed:
            raise ValueError("two alphabets")
        packed = packed.translate(_TO_USUAL)
    if b"=" not in packed:
        packed += b"=" * (-len(packed) % 4)
    return binascii.a2b_base64(packed, strict_mode=True)


def format_predictions(answers: Sequence[Answer], rows: bool, names: Sequence[str]) -> dict[str, Any]:
    """The body of the answer, in the form the images came in.

    Args:
        answers: one an image.
        rows: whether they came in row form.
        names: of the model's outputs; columns of no images have no rows.

    Raises:
        Refusal: 400, if an image that came alone or in column form is bad.
    """
    failed = next((answer.error for answer in answers if answer.error), None)
    if failed and (len(answers) == 1 or not rows):
        raise Refusal(400, failed)
    if rows:
        return {"predictions": [_row(answer) for answer in answers]}
    return {"outputs": {name: [_numbers(answer.outputs[name]) for answer in answers] for name in names}}


def _row(answer: Answer) -> dict[str, Any]:
    if answer.error:
        return {"error": answer.error}
    return {name: _numbers(values) for name, values in answer.outputs.items()}


def _numbers(values: Any) -> Any:
    """A row of an output for JSON: numbers, lists, text."""
    value = np.asarray(values).tolist()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def format_status(version: str, newer: Newer | None = None) -> dict[str, Any]:
    """The body of a model's status: the version that answers, and one that loads or was refused."""
    states = [_state(version, "AVAILABLE")]
    if newer and newer.loading:
        states.insert(0, _state(newer.version, "LOADING"))
    if newer and newer.error:
        states.insert(0, _state(newer.version, "END", "FAILED_PRECONDITION", newer.error))
    return {"model_version_status": states}


def _state(version: str, state: str, code: str = "OK", error: str = "") -> dict[str, Any]:
    return {"version": version, "state": state, "status": {"error_code": code, "error_message": error}}


def format_metadata(facts: ModelFacts, interface: Interface) -> dict[str, Any]:
    """The body of a model's metadata: its signatures' names, types and shapes."""
    described = {
        name: {
            way: {each: _tensor(each, *tensors[each]) for each in tensors} for way, tensors in ways.items()
        }
        | {"method_name": "tensorflow/serving/predict"}
        for name, ways in interface.items()
    }
    return {
        "model_spec": {"name": facts.name, "signature_name": "", "version": facts.version},
        "metadata": {"signature_def": {"signature_def": described}},
    }


def _tensor(name: str, kind: str, shape: Sequence[int | None]) -> dict[str, Any]:
    sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in shape]
    described = {"dim": sizes, "unknown_rank": False}
    return {"dtype": _DTYPES.get(kind, kind), "tensor_shape": described, "name": name}
