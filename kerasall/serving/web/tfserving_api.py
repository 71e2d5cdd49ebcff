"""TensorFlow Serving's REST API, so that its clients work unchanged: the predict call, status, metadata.

Source: https://www.tensorflow.org/tfx/serving/api_rest. One thing is finer here: of several instances in
row form a bad image costs its own answer only, which then holds ``error`` in place of the outputs.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasall.serving.predictor import SIGNATURE
from kerasall.serving.web.answers import Answer, ModelFacts
from kerasall.serving.web.limits import Refusal, WebLimits
from kerasall.serving.web.uploads import Upload

_INPUT = "image_bytes"
_DTYPES = {"float32": "DT_FLOAT", "int64": "DT_INT64", "string": "DT_STRING", "uint8": "DT_UINT8",
           "bool": "DT_BOOL", "int32": "DT_INT32"}  # fmt: skip


def read_instances(body: bytearray, limits: WebLimits) -> tuple[list[Upload], bool]:
    """Images of a predict call, and whether they came in row form. Empties ``body``.

    Raises:
        Refusal: 400 not such a call; 413 too many images.
    """
    _require_few_parts(body, limits)
    call = _parse(body)
    signature = call.get("signature_name", SIGNATURE)
    if signature not in ("", SIGNATURE):
        raise Refusal(400, f'signature_name must be "{SIGNATURE}", or be left out')
    rows = "instances" in call
    if rows == ("inputs" in call):
        raise Refusal(400, 'the body must hold either "instances" or "inputs"')
    values = call["instances"] if rows else _column(call["inputs"])
    if not isinstance(values, list) or not values:
        raise Refusal(400, 'images must be a list of at least one {"b64": "..."}')
    if len(values) > limits.max_files:
        raise Refusal(413, f"a call must hold at most {limits.max_files} images: send the rest apart")
    return [Upload(f"instance {i}", _decode(value, i)) for i, value in enumerate(values)], rows


def _require_few_parts(body: bytearray, limits: WebLimits) -> None:
    # Before parsing: a body of empty objects becomes thirty times its size in memory. Base64 has none of these.
    parts = sum(body.count(mark) for mark in (b"{", b"[", b","))
    if parts > 64 + 8 * limits.max_files:
        raise Refusal(413, f"a call must hold at most {limits.max_files} images and little else")


def _parse(body: bytearray) -> Mapping[str, Any]:
    try:
        text = body.decode("utf-8")
        body.clear()  # megabytes that are not needed twice
        call = json.loads(text)
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
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Refusal(400, f'instance {number} must be {{"b64": "..."}} with base64 of an image file')


def format_predictions(answers: Sequence[Answer], rows: bool) -> dict[str, Any]:
    """The body of the answer, in the form the images came in.

    Raises:
        Refusal: 400, if an image that came alone or in column form is bad.
    """
    failed = next((answer.error for answer in answers if answer.error), None)
    if failed and (len(answers) == 1 or not rows):
        raise Refusal(400, failed)
    if rows:
        return {"predictions": [_row(answer) for answer in answers]}
    names = list(answers[0].outputs)
    return {"outputs": {name: [_numbers(answer.outputs[name]) for answer in answers] for name in names}}


def _row(answer: Answer) -> dict[str, Any]:
    if answer.error:
        return {"error": answer.error}
    return {name: _numbers(values) for name, values in answer.outputs.items()}


def _numbers(values: Any) -> Any:
    """A row of an output for JSON: numbers, lists, text."""
    value = np.asarray(values).tolist()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def format_status(version: str) -> dict[str, Any]:
    """The body of a model's status."""
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": version, "state": "AVAILABLE", "status": status}]}


def format_metadata(facts: ModelFacts, signatures: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a model's metadata: its signatures' names, types and shapes."""
    return {
        "model_spec": {"name": facts.name, "signature_name": "", "version": facts.version},
        "metadata": {
            "signature_def": {
                "signature_def": {name: _signature(function) for name, function in signatures.items()}
            }
        },
    }


def _signature(function: Any) -> dict[str, Any]:
    _, inputs = function.structured_input_signature
    outputs = function.structured_outputs
    return {
        "inputs": {name: _tensor(name, spec) for name, spec in inputs.items()},
        "outputs": {name: _tensor(name, spec) for name, spec in outputs.items()},
        "method_name": "tensorflow/serving/predict",
    }


def _tensor(name: str, spec: Any) -> dict[str, Any]:
    sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape]
    shape = {"dim": sizes, "unknown_rank": False}
    return {"dtype": _DTYPES.get(spec.dtype.name, spec.dtype.name), "tensor_shape": shape, "name": name}
