"""The playground: the page that `GET /` answers to a browser, and what it is made of.

Its files lie in `server/web` and are answered as they are: nothing is built, nothing is loaded from elsewhere, and the
page's Content-Security-Policy holds the browser to that. The policy lets no text become a script or a style, and none
become HTML (trusted types): what a model says can only ever be text. The page needs no key, since it shows what the
source shows; what it then asks for does.
"""

from functools import cache
from hashlib import sha256
from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from server.errors import NotFound

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
KINDS = {".js": "text/javascript", ".css": "text/css"}
# A new version must not meet modules of the old one; asking whether a file has changed costs little.
FRESH = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def wanted(request: Request) -> bool:
    """Whether a browser asks, which wants a page to look at; programs name no HTML."""
    return "text/html" in request.headers.get("accept", "").lower()


def page() -> Response:
    """The page."""
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Vary": "Accept"}
    return HTMLResponse(_files()["index.html"][0], headers=headers | FRESH)


@router.get("/web/{name}")
async def file(name: str, request: Request) -> Response:
    """What the page is made of."""
    dot = name.rfind(".")
    if name not in _files() or name[dot:] not in KINDS:
        raise NotFound("There is no such path here.")
    content, tag = _files()[name]
    headers = FRESH | {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=KINDS[name[dot:]], headers=headers)


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Name → content and entity tag. They change with the package alone."""
    found = {}
    for entry in resources.files("server").joinpath("web").iterdir():
        if entry.is_file():
            content = entry.read_bytes()
            found[entry.name] = content, f'"{sha256(content).hexdigest()[:16]}"'
    return found
