"""What clients get: answers as the model gives them, in each of the forms that are asked for."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import requests
from web_server import BOUNDARY, CARD, LABELS, LIMITS, NAME, export_plain_model, form, picture, serving

from kerasall.errors import ModelError
from kerasall.evaluation.safeguards import REASONS
from kerasall.files import write_json
from kerasall.serving.card import write_manifest
from kerasall.serving.predictor import Predictor
from kerasall.serving.web.server import format_share


@pytest.fixture(scope="module")
def predictor(web_model) -> Predictor:
    return Predictor(web_model)


def test_answers_equal_the_predictor(web, predictor):
    kinds = ("PNG", "BMP", "JPEG", "TIFF")
    files = [(f"{kind}.x", picture(seed, kind)) for seed, kind in enumerate(kinds)]
    reply = web.predict(*files)
    assert reply.status == 200
    want = predictor.predict([data for _, data in files])
    results = reply.json["results"]
    assert [result["name"] for result in results] == [name for name, _ in files]
    for row, result in enumerate(results):
        assert result["label"] == LABELS[want.label_indices[row]]
        shown = [result["probabilities"][label] for label in LABELS]
        np.testing.assert_allclose(shown, want.probabilities[row], atol=1e-6)
        members = [[m["probabilities"][label] for label in LABELS] for m in result["members"]]
        np.testing.assert_allclose(members, want.extras["member_probabilities"][row], atol=1e-6)
        assert [m["name"] for m in result["members"]] == ["first", "second"]
        assert result["refer"] == bool(want.extras["refer"][row])
        assert result["refer_reason"] == REASONS[int(want.extras["refer_reason"][row])]
        assert len(result["prediction_set"]) == want.extras["prediction_set"][row].sum()
        assert result["probability"] == pytest.approx(
            want.extras["calibrated_probabilities"][row].max(), abs=1e-6
        )


def test_a_bad_image_alone_is_refused_and_among_others_passed_over(web):
    alone = web.predict(("broken.png", picture(1)[:90]))
    assert alone.status == 400
    assert "broken.png" in alone.json["error"]
    together = web.predict(("a.png", picture(1)), ("broken.png", picture(1)[:90]), ("b.png", picture(2)))
    assert together.status == 200
    first, second, third = together.json["results"]
    assert {first["label"], third["label"]} <= set(LABELS)
    assert second == {"name": "broken.png", "error": alone.json["error"]}


def test_a_client_of_tensorflow_serving_works_unchanged(web, predictor):
    """The client of TensorFlow Serving's tutorial, but for the address."""
    address = f"http://127.0.0.1:{web.port}/v1/models/{NAME}"
    state = requests.get(address, timeout=30).json()["model_version_status"][0]
    assert (state["state"], state["version"], state["status"]["error_code"]) == ("AVAILABLE", "1", "OK")
    jpeg_bytes = base64.b64encode(picture(5, "JPEG")).decode("utf-8")
    predict_request = f'{{"instances" : [{{"b64": "{jpeg_bytes}"}}]}}'
    response = requests.post(f"{address}:predict", data=predict_request, timeout=30)
    response.raise_for_status()
    prediction = response.json()["predictions"][0]
    want = predictor.predict([picture(5, "JPEG")])
    np.testing.assert_allclose(prediction["probabilities"], want.probabilities[0], atol=1e-6)
    assert prediction["label_index"] == want.label_indices[0]


def test_columns_names_versions_and_metadata_as_in_tensorflow_serving(web):
    encoded = {"b64": base64.b64encode(picture(1)).decode()}
    rows = web.call(picture(1), model=f"{NAME}/versions/1").json["predictions"]
    named = web.call(body={"signature_name": "serving_default", "instances": [{"image_bytes": encoded}]})
    assert named.json["predictions"] == rows
    for inputs in ({"image_bytes": [encoded]}, [encoded], encoded):
        outputs = web.call(body={"inputs": inputs}).json["outputs"]
        assert {name: values[0] for name, values in outputs.items()} == rows[0]
    metadata = web.ask("GET", f"/v1/models/{NAME}/metadata").json
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signature["outputs"]["probabilities"]["tensor_shape"]["dim"][1]["size"] == "2"


def test_a_bad_instance_among_several_has_an_error(web):
    reply = web.call(picture(1), b"nothing", picture(2))
    assert reply.status == 200
    first, second, third = reply.json["predictions"]
    assert set(second) == {"error"}
    assert len(first["probabilities"]) == len(third["probabilities"]) == 2
    assert web.call(b"nothing").status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"[]", b"{}", b'{"instances": []}', b'{"instances": 3}', b'{"instances": [3]}',
        b'{"instances": [{"b64": 3}]}', b'{"instances": [{"b64": "*"}]}', b'{"instances": [{"b64": "QQ"}]}',
        b'{"instances": [{"b64": "\xc3\xa9"}]}', b"[" * 100_000, b'{"instances": ' + b"9" * 5000 + b"}",
        b'{"inputs": [], "instances": []}', b'{"inputs": {"other": []}}', b"\xff\xfe{}",
        b'{"signature_name": "explain", "instances": [{"b64": ""}]}',
    ],
)  # fmt: skip
def test_calls_of_another_form_are_refused_with_words(web, body):
    reply = web.ask("POST", f"/v1/models/{NAME}:predict", body)
    assert reply.status in (400, 413)
    assert reply.json["error"]


def test_other_models_versions_and_paths_are_not_found(web):
    for path in ("/v1/models/other", f"/v1/models/{NAME}/versions/2", "/v1/models/..%2f..", "/etc/passwd"):
        assert web.ask("GET", path).status == 404
    assert web.call(picture(1), model="other").status == 404
    assert web.ask("GET", "/static/..%2fapp.py").status == 404
    assert web.ask("DELETE", "/v1/predict").status == 405


def test_fifty_clients_at_once_get_the_answers_of_one(web, predictor):
    images = [picture(seed, "BMP") for seed in range(20)]
    want = predictor.predict(images).probabilities

    def ask(number: int) -> float:
        reply = web.predict((f"{number}", images[number % 20]))
        while reply.status == 503:
            reply = web.predict((f"{number}", images[number % 20]))
        shown = [reply.json["results"][0]["probabilities"][label] for label in LABELS]
        return float(np.abs(shown - want[number % 20]).max())

    with ThreadPoolExecutor(50) as clients:
        assert max(clients.map(ask, range(200))) < 1e-5
    counted = web.ask("GET", "/metrics").body.decode()
    calls, answered = (
        float(re.search(rf"^kerasall_batch_images_{what} (\S+)", counted, re.M)[1])
        for what in ("count", "sum")
    )
    assert answered / calls > 1.5, "requests were not batched together"


def test_explanation_as_pictures(web):
    reply = web.ask(
        "POST", "/v1/explain", form([("a.png", picture(6))], {"label": "hem"}),
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )  # fmt: skip
    assert reply.status == 200
    assert reply.json["has_evidence"] is True
    shown = {name: base64.b64decode(reply.json[name]) for name in ("picture", "heatmap", "overlay")}
    assert all(data.startswith(b"\x89PNG") for data in shown.values())
    assert len(set(shown.values())) == 3
    for fields, files in (({"label": "cat"}, 1), ({}, 1), ({"label": "hem"}, 2)):
        body = form([("a.png", picture(6))] * files, fields)
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        assert web.ask("POST", "/v1/explain", body, kind).status == 400


def test_the_page_and_its_form_work_without_javascript(web):
    page = web.ask("GET", "/")
    assert page.status == 200
    for said in (
        "not a diagnostic device",
        "tiny, version 1",
        "Rendered cells",
        "did not meet",
        "calibrated",
    ):
        assert said in page.body.decode()
    answered = web.predict(("a.png", picture(1)), ("<b>.png", b"x"), path="/").body.decode()
    assert answered.count('class="card') - answered.count('class="cards"') == 2
    assert "&lt;b&gt;.png" in answered
    assert "<b>.png" not in answered
    assert 'download="predictions.csv"' in answered
    assert "Refer to a person" in answered
    assert web.ask("POST", "/", b"", {"Content-Type": "text/plain"}).status == 415


@pytest.mark.parametrize(
    ("share", "votes", "shown"),
    [(1.0, False, ">99.9%"), (0.99951, False, ">99.9%"), (0.9994, False, "99.9%"), (0.5, False, "50.0%"),
     (1e-9, False, "<0.1%"), (0.0006, False, "0.1%"), (1.0, True, "100.0%"), (0.0, True, "0.0%")],
)  # fmt: skip
def test_no_network_is_shown_as_certain(share, votes, shown):
    assert format_share(share, votes) == shown


def test_pages_ask_for_nothing_outside(web):
    for path in ("/", "/docs", "/static/page.css", "/static/page.js"):
        text = web.ask("GET", path).body.decode()
        outside = {url for url in re.findall(r"(?:src|href|action)=\"([^\"]+)\"", text) if "//" in url}
        assert not outside
        assert not re.search(r"url\(|@import|style=\"|<script>|\son\w+=", text)


def test_the_openapi_document_names_every_route(web):
    document = web.ask("GET", "/openapi.json").json
    assert {"/v1/predict", "/v1/model", "/v1/explain", "/livez", "/readyz", "/metrics",
            "/v1/models/{model}:predict", "/v1/models/{model}/versions/{version}:predict"} <= set(document["paths"])  # fmt: skip
    form_schema = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form_schema["schema"]["required"] == ["files"]


def test_a_model_without_extras_is_served_too(tmp_path):
    with serving(export_plain_model(tmp_path / "plain")) as running:
        result = running.predict(("a.png", picture(1))).json["results"][0]
        assert set(result) == {"name", "label", "label_index", "probability", "probabilities"}
        assert running.ask("GET", "/v1/model").json["probabilities"] == "not_calibrated"
        body = form([("a.png", picture(1))], {"label": "all"})
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        assert running.ask("POST", "/v1/explain", body, kind).status == 404
        assert running.ask("GET", "/").status == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": {"labels": ["hem", "all"]}}, "card's order"),
        ({"model": {"members": {"a": {}, "b": {}, "c": {}}}}, "3 members that its card names"),
        ({"preprocess": [{"op": "resize", "height": 32, "width": 32}]}, "16 x 16 pixels"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused_at_load(web_model, tmp_path, change, message):
    import shutil

    folder = shutil.copytree(web_model, tmp_path / "1")
    write_json(folder / "card.json", CARD | change)
    write_manifest(folder)
    with pytest.raises(ModelError, match=message):
        Predictor(folder)


def test_one_request_may_hold_no_more_than_its_share(web):
    many = web.call(*[picture(0)] * (LIMITS.max_files + 1))
    assert many.status == 413
    assert json.loads(many.body)["error"]


def test_small_things_in_great_number_are_refused_before_they_take_memory(web):
    before = psutil.Process().memory_info().rss
    for part in (b"{},", b"[],", b"0,"):
        body = b'{"instances": [' + part * (LIMITS.max_body_bytes // len(part) - 20) + b"0]}"
        assert web.ask("POST", f"/v1/models/{NAME}:predict", body).status == 413
    assert psutil.Process().memory_info().rss - before < 50 << 20


def test_fixture_models_differ_in_what_they_say(web_model, predictor):
    answers = predictor.predict([picture(seed) for seed in range(20)])
    assert len(np.unique(answers.probabilities[:, 0].round(4))) > 5
