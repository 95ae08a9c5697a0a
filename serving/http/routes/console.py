"""The console: static pages at `/` that use only the public API, and the bundle's sample images.

The pages come with a policy under which nothing runs that is not one of these files. It knows nothing of what they do.
"""

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from breadcrumbs.serving.http.schemas import Sample, SampleList
from breadcrumbs.serving.http.service import Serving, content, problems
from breadcrumbs.serving.state.store import NotFound
from breadcrumbs.training.report import html

FILES = FilePath(__file__).parents[2] / "console"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    .replace("script-src 'self'", f"script-src 'self' {html.SCRIPT_SOURCE}")
    .replace("blob:", "blob: data:")
)
"""Of the console's page that shows a refit's report in a frame that reaches nothing outside it: the frame has this
policy beside its own, so that it must let the report's pictures and style through, those of older reports too, and the
one script that sorts and searches, known by its digest."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time; unchanged files are not sent again
}

router = APIRouter(tags=["console"])


class Pages(StaticFiles):
    """The console's files, each under the policy."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        if path == "report.html":
            response.headers["Content-Security-Policy"] = REPORT_POLICY
        return response


@router.get("/", include_in_schema=False)
async def index() -> FileResponse:
    """Show the console."""
    return FileResponse(FILES / "index.html", headers=HEADERS)


@router.get("/v1/samples")
async def samples(service: Serving) -> SampleList:
    """List the sample images that the bundle carries, each with its class."""
    classes = service.bundle.manifest.classes
    names = service.bundle.samples()
    return SampleList(samples=[Sample(name=name, **{"class": classes[index]}) for name, index in names.items()])


@router.get(
    "/v1/samples/{name}", response_model=None, response_class=Response,
    responses=content("image/png") | problems(404),
)  # fmt: skip
async def sample(name: Annotated[str, Path(description="as `/v1/samples` lists it")], service: Serving) -> Response:
    """Download a sample image."""
    if name not in service.bundle.samples():
        raise NotFound(f"there is no sample {name!r:.80}")
    path = service.bundle.folder / "samples" / name
    return FileResponse(path, media_type="image/png", headers={"X-Content-Type-Options": "nosniff"})
