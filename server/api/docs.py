"""`GET /docs`: the OpenAPI document as a page to read and to try things on. Works without a network.

Swagger UI's files come from a package that carries them; nothing is loaded from elsewhere, and the page's
Content-Security-Policy says so to the browser too. It needs no key: it shows what the source shows.
"""

from functools import cache
from importlib import resources
from importlib.metadata import version

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from server.errors import NotFound

router = APIRouter(include_in_schema=False)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Perennial</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, persistAuthorization: false, validatorUrl: null,
  docExpansion: "list", defaultModelsExpandDepth: 0, tryItOutEnabled: true, displayRequestDuration: true,
});
"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CARRIED = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


@router.get("/docs")
async def page() -> Response:
    """The page."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})


@router.get("/docs/{name}")
async def file(name: str) -> Response:
    """What the page is made of."""
    if name == "start.js":
        return Response(START, media_type="text/javascript")
    if name not in CARRIED:
        raise NotFound("There is no such path here.")
    # It changes with the package alone.
    headers = {"Cache-Control": "public, max-age=3600", "ETag": f'"{version("fastapi-swagger")}"'}
    return Response(_carried(name), media_type=CARRIED[name], headers=headers)


@cache
def _carried(name: str) -> bytes:
    return resources.files("fastapi_swagger.resources").joinpath(name).read_bytes()
