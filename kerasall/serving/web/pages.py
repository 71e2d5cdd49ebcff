"""The routes for people: the page, its answers without JavaScript, its two static files, and the API's page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader

from kerasall.serving.web.answers import ModelFacts, describe_answer
from kerasall.serving.web.limits import Refusal, WebLimits
from kerasall.serving.web.rest_api import while_connected
from kerasall.serving.web.service import ModelService
from kerasall.serving.web.uploads import read_form

_TEMPLATES = Path(__file__).parent / "templates"
_STATIC = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}


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
        return render("page.html", limits=limits, facts=facts.to_json(), results=None)

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
            "page.html", limits=limits, facts=facts.to_json(), results=results,
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
