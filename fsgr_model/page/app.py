"""The addresses of the page, and what answers each."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fsgr_model.datasets.image_file import BadImage
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.page.captions import CaptionEndpoint, Limits
from fsgr_model.page.comparing import compared
from fsgr_model.page.curves import curves_of, live_runs
from fsgr_model.page.guard import LOOPBACK, Guard, refused
from fsgr_model.page.project import SIDES, Project
from fsgr_model.page.revisions import revisions
from fsgr_model.runtime.errors import UserError

STATIC = Path(__file__).with_name("static")
MOST_AT_ONCE = 64
A_DAY = 24 * 3600


@dataclass(frozen=True)
class Access:
    """Who may use the page: under which host names (None: any) and with which token (None: without)."""

    hosts: frozenset[str] | None = LOOPBACK
    token: str | None = None


@dataclass(frozen=True)
class Served:
    """What the page serves: a model, a project, or both. `title` names the model."""

    title: str
    captioner: ImageCaptioner | None
    project: Project | None
    limits: Limits = field(default_factory=Limits)


def make_app(served: Served, access: Access, most_at_once: int = MOST_AT_ONCE) -> ASGIApp:
    """The page as an ASGI application."""
    routes: list[Route | Mount] = [
        Route("/", lambda request: FileResponse(STATIC / "index.html")),
        Route("/api/about", lambda request: JSONResponse(about(served))),
    ]
    endpoint = None
    if served.captioner is not None:
        records = served.project.records() if served.project and served.project.scored_phases() else {}
        endpoint = CaptionEndpoint(served.captioner, records, served.limits)
        routes.append(Route("/api/caption", endpoint.post, methods=["POST"]))
    if served.project is not None:
        routes += project_routes(served.project)
    routes.append(Mount("/static", StaticFiles(directory=STATIC)))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        if endpoint is not None:
            endpoint.batches.close()

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            404: lambda request, error: refused(404, "there is nothing at this address"),
            405: not_this_way,
        },
    )
    return Guard(app, hosts=access.hosts, token=access.token, most_at_once=most_at_once)


async def not_this_way(request: Request, error: Exception) -> Response:
    """The answer to a method that the address does not take; `Allow` says which it does."""
    assert isinstance(error, HTTPException), "Starlette raises nothing else for this status"
    allowed = dict(error.headers or {})
    answer = refused(405, f"{request.url.path} is not answered to {request.method}; use {allowed['Allow']}")
    answer.headers.update(allowed)
    return answer


def about(served: Served) -> dict[str, Any]:
    """What the page has to know at first: the model, the phases that have scores."""
    decode = served.captioner.own_decode.model_dump() if served.captioner else None
    return {
        "title": served.title,
        "decode": decode,
        "most_bytes": served.limits.bytes,
        "phases": served.project.scored_phases() if served.project else [],
        "project": served.project is not None,
    }


def project_routes(project: Project) -> list[Route | Mount]:
    """The addresses of the tabs Look, Compare and Train; pictures go by id."""

    def look(request: Request) -> Any:
        return project.columns[request.path_params["phase"]]()

    def image(request: Request) -> Any:
        return project.image(request.path_params["image_id"])

    def picture(request: Request) -> Response:
        side = request.path_params["side"]
        if side not in SIDES:
            raise KeyError(side)
        data = project.thumbnail(request.path_params["image_id"], side=side)
        # The address has the hash of the picture, so it may be kept.
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": f"private, max-age={A_DAY}"})

    def compare(request: Request) -> Any:
        return compared(project, *(request.query_params.get(name, "") for name in ("a", "b")))

    def curves(request: Request) -> Any:
        return curves_of(project, request.query_params.get("revision", ""))

    return [
        Route("/api/revisions", answering(lambda request: revisions(project.root))),
        Route("/api/compare", answering(compare)),
        Route("/api/curves", answering(curves)),
        Route("/api/live", answering(lambda request: live_runs(project))),
        Route("/api/look/{phase}", answering(look)),
        Route("/api/image/{image_id:int}", answering(image)),
        Route("/api/picture/{image_id:int}/{side:int}", answering(picture)),
    ]


def answering(function: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """An endpoint that runs `function` in a thread; what it refuses becomes a status and one line."""

    async def endpoint(request: Request) -> Response:
        try:
            found = await to_thread.run_sync(function, request)
        except KeyError:
            return refused(404, "there is nothing of this name or id")
        except BadImage as error:
            return refused(415, str(error))
        except UserError as error:
            return refused(409, str(error))
        return found if isinstance(found, Response) else JSONResponse(found)

    return endpoint
