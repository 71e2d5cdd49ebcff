"""The command ``kerasall serve``. Heavy imports stand inside it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli.console import RESEARCH_ONLY, ModelArgument, note
from kerasall.cli.predict import PrecisionOption, RuntimeOption, choose_runtime, note_model
from kerasall.errors import SettingsError
from kerasall.studies.finished_run import Run

_Host = Annotated[str, typer.Option(help="Address to listen on; a public one needs a token.")]
_TokenFile = Annotated[Path | None, typer.Option(help="File with the token that clients must show.")]
_AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Further host name of requests, behind a proxy; repeat it."),
]
_RootPath = Annotated[
    str, typer.Option(metavar="PATH", help="Path below which a proxy shows the server, such as /kerasall.")
]
_Follow = Annotated[
    bool,
    typer.Option(
        "--follow", help="Let newer versions of the model take over once they are checked and warm."
    ),
]
_BatchSize = Annotated[int, typer.Option(min=1, max=512, help="Images per call of the model at most.")]
_MaxSide = Annotated[int, typer.Option(min=1, help="Width and height of an image at most, in pixels.")]


def serve(
    model: ModelArgument,
    host: _Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8501,
    token_file: _TokenFile = None,
    allow_host: _AllowHost = None,
    root_path: _RootPath = "",
    follow: _Follow = False,
    batch_size: _BatchSize = 16,
    queue: Annotated[int, typer.Option(min=1, help="Images waiting at most; more are answered 503.")] = 256,
    max_files: Annotated[int, typer.Option(min=1, help="Images in one request at most.")] = 64,
    max_side: _MaxSide = 4096,
    max_mib: Annotated[int, typer.Option(min=1, max=1024, help="Size of one request at most, in MiB.")] = 16,
    runtime: RuntimeOption = "tensorflow",
    precision: PrecisionOption = "float32",
) -> None:
    """Serve a page, REST and TensorFlow Serving's predict calls from one model."""
    from kerasall.decoding import Limits
    from kerasall.runtime import quiet_tensorflow

    try:
        from kerasall.serving.web.limits import MEBIBYTE, WebLimits
        from kerasall.serving.web.server import read_token, require_token_for
        from kerasall.serving.web.server import serve as serve_model
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"serving needs the extra web, but {error.name} is missing: pip install 'kerasall[web]'"
        ) from None

    choice = choose_runtime(runtime, precision)
    token = read_token(token_file) if token_file else None
    require_token_for(host, token)
    limits = WebLimits(
        max_body_bytes=max_mib * MEBIBYTE,
        max_held_bytes=max(8 * max_mib, 256) * MEBIBYTE,
        max_files=min(max_files, queue),
        image=Limits(max_side, max_side**2, max_mib * MEBIBYTE),
        queue_images=queue,
        batch_images=batch_size,
    )
    folder = Run.find(model).pushed
    note_model(folder, choice)
    note(RESEARCH_ONLY)
    with quiet_tensorflow() if choice.name == "tensorflow" else nullcontext():
        serve_model(
            folder, host, port, token=token, hosts=tuple(allow_host or ()), limits=limits, runtime=choice,
            root=root_path, follow=follow,
        )  # fmt: skip
