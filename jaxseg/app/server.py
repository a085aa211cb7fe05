"""The page's routes: its files, the model, and photographs that come in and results that go out."""

import asyncio
import gzip
import logging
import math
import mimetypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jaxseg.app.model import PageModel, Photograph, Settings
from jaxseg.app.security import Gate, GateMiddleware
from jaxseg.cli import printable_line
from jaxseg.errors import UserError
from jaxseg.inference.measurements import is_scale

log = logging.getLogger("jaxseg.app")

STATIC = Path(__file__).resolve().parent / "static"
"""The page's files, which any server may serve as they are."""

MAX_UPLOAD_BYTES = 256 * 2**20
"""Largest file that is taken: an uncompressed photograph of 89 million pixels, the reader's own limit."""

_MAX_NAME = 255

T = TypeVar("T")


def create_app(model: PageModel, gate: Gate) -> Starlette:
    """Returns the application.

    Args:
      model: the model behind the page.
      gate: who may use it.
    """
    mimetypes.add_type("text/javascript", ".js")  # Windows may call it otherwise, and browsers then refuse modules
    routes = _Routes(model, gate)
    app = Starlette(
        routes=[
            Route("/", routes.page),
            Route("/api/model", routes.about),
            Route("/api/photographs", routes.add, methods=["POST"]),
            Route("/api/photographs/{key}/picture", routes.picture),
            Route("/api/photographs/{key}/levels", routes.levels),
            Route("/api/photographs/{key}/uncertainty", routes.uncertainty),
            Route("/api/photographs/{key}/measure", routes.measure, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(GateMiddleware, gate=gate)],
        exception_handlers={HTTPException: _http_error, ClientDisconnect: _gone, Exception: _unforeseen},
    )
    app.state.gate = gate
    return app


def _http_error(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


def _gone(_: Request, __: Exception) -> Response:
    """Answers nobody: the page was closed while it sent a photograph."""
    return Response(status_code=400)


def _unforeseen(_: Request, __: Exception) -> Response:
    """Answers where the program has a bug; its traceback, with the machine's paths, stays in the terminal."""
    return JSONResponse({"error": "the server failed; its terminal says why"}, 500)


class _Routes:
    """Answers requests. What takes time runs in threads: one segments in the order of arrival, others do the rest."""

    def __init__(self, model: PageModel, gate: Gate):
        self._model = model
        self._gate = gate
        self._segmenting = ThreadPoolExecutor(1, "segment")
        self._rest = ThreadPoolExecutor(2, "rest")

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call, *arguments)

    async def page(self, _: Request) -> Response:
        response = FileResponse(STATIC / "index.html")
        self._gate.admit(response)
        return response

    async def about(self, _: Request) -> Response:
        return JSONResponse(self._model.about())

    async def add(self, request: Request) -> Response:
        name = printable_line(request.query_params.get("name", "")[:_MAX_NAME]) or "photograph"
        too_large = f"{name}: more than {MAX_UPLOAD_BYTES // 2**20} MiB; shrink the image"
        content = await _body(request, MAX_UPLOAD_BYTES, too_large)
        try:
            key = await self._run(self._segmenting, self._model.segment, content, name)
        except UserError as error:
            return JSONResponse({"error": printable_line(str(error))}, 422)
        except MemoryError:
            return JSONResponse({"error": f"{name}: needs more memory than there is; shrink the image"}, 422)
        photograph = self._model.photograph(key)
        height, width = photograph.size
        return JSONResponse(
            {
                "key": key,
                "width": width,
                "height": height,
                "ending": photograph.ending,
                "turned_unseen": photograph.turned_unseen,
                "notes": photograph.notes,
            }
        )

    def _photograph(self, request: Request) -> tuple[str, Photograph]:
        key = request.path_params["key"]
        photograph = self._model.photograph(key)
        if photograph is None:
            raise HTTPException(404, "this photograph is not kept any more; send it again")
        return key, photograph

    async def picture(self, request: Request) -> Response:
        content = await self._run(self._rest, self._model.picture, *self._photograph(request))
        is_png = content.startswith(b"\x89PNG")
        return Response(content, media_type="image/png" if is_png else "image/jpeg")

    async def levels(self, request: Request) -> Response:
        return await self._map(request, self._model.levels)

    async def uncertainty(self, request: Request) -> Response:
        return await self._map(request, self._model.uncertainty)

    async def _map(self, request: Request, compute: Callable[[Photograph], np.ndarray]) -> Response:
        """Answers with one byte for each pixel, row by row."""
        _, photograph = self._photograph(request)
        content = await self._run(self._rest, lambda: gzip.compress(compute(photograph).tobytes(), 1))
        return Response(content, media_type="application/octet-stream", headers={"content-encoding": "gzip"})

    async def measure(self, request: Request) -> Response:
        key, photograph = self._photograph(request)
        settings = _settings(request, len(self._model.stops))
        height, width = photograph.size
        length = math.ceil(height * width / 8)
        must = f"the mask must have {length} bytes"
        bits = await _body(request, length, must)
        if len(bits) != length:
            raise HTTPException(400, must)
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width).reshape(height, width).astype(bool)
        return JSONResponse(await self._run(self._rest, self._model.measure, key, photograph, mask, settings))


def _settings(request: Request, stops: int) -> Settings:
    """Reads the settings of a measurement from a request's address."""
    query = request.query_params
    try:
        scale = float(query["scale"]) if query.get("scale") else None
        settings = Settings(int(query["stop"]), query.get("largest") == "1", query.get("holes") == "1", scale)
    except (KeyError, ValueError):
        raise HTTPException(400, "the address must say stop, and may say largest, holes and scale") from None
    if not 0 <= settings.stop < stops or (scale is not None and not is_scale(scale)):
        raise HTTPException(400, "stop or scale is out of range")
    return settings


async def _body(request: Request, limit_bytes: int, too_large: str) -> bytes:
    """Returns the body of a request; stops reading one that is too large, and says so in the text given."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise HTTPException(413, too_large)
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit_bytes:
            raise HTTPException(413, too_large)
    return bytes(content)
