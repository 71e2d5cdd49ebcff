"""Requests made up from the OpenAPI document, right and wrong ones: none may end in a server error.

Needs the command ``schemathesis`` (KERASALL_TEST_SCHEMATHESIS, or on the PATH): a tool of its own, as inside
pytest it would take part in every test of this project.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from web_server import NAME, TOLERANT_LIMITS, serving

COMMAND = os.environ.get("KERASALL_TEST_SCHEMATHESIS") or shutil.which("schemathesis")
CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance,content_type_conformance"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMMAND is None, reason="tests of the OpenAPI document need the command schemathesis"),
]


def test_made_up_requests_find_no_fault(web_model, tmp_path):
    # Else nearly all would ask for a model that is not there.
    (tmp_path / "schemathesis.toml").write_text(
        f'[parameters]\n"path.model" = "{NAME}"\n"path.version" = "1"\n'
    )
    with serving(web_model, TOLERANT_LIMITS) as running:
        address = f"http://127.0.0.1:{running.port}/openapi.json"
        command = [str(COMMAND), "run", address, "--checks", CHECKS, "--max-examples", "50", "--seed", "1"]
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert told.returncode == 0, told.stdout[-5000:]
        assert running.failures == []
