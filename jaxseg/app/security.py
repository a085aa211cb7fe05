"""Who may use the page: the token, the names of this machine, requests from other sites, and the answers' headers.

A browser lets any site send requests to 127.0.0.1, and lets a site whose name suddenly means 127.0.0.1 read the answers
(DNS rebinding). So a request must carry the token, name this machine as its host, and come from the page itself.
"""

import dataclasses
import hmac
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer: nothing is loaded from elsewhere, framed, guessed, or kept."""

_NO_TOKEN = (
    "This page opens with the address that `python -m jaxseg.app` has printed in the terminal: its end, ?token=..., is "
    "missing or belongs to another start of the program.\n"
)


@dataclasses.dataclass(frozen=True)
class Gate:
    """Decides which requests are answered.

    Attributes:
      token: what a request must carry, in the page's address or in a cookie.
      names: host names and addresses, in lower case, by which a request may call this machine.
      any_address: whether it may also call it by any IP address: where the server listens on all of them.
      cookie: name of the cookie; another for each port, because cookies are shared by all ports of a host.
    """

    token: str
    names: frozenset[str]
    any_address: bool
    cookie: str

    @classmethod
    def new(cls, names: frozenset[str], any_address: bool, port: int) -> "Gate":
        """Returns a gate with a new random token.

        Args:
          names: host names and addresses of this machine.
          any_address: whether any IP address is one of this machine.
          port: the server's port.
        """
        return cls(secrets.token_urlsafe(24), names, any_address, f"jaxseg-{port}")

    def refusal(self, scope: Scope) -> Response | None:
        """Returns the answer to a request that is refused; None for one that may pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_this_machine(host):
            return JSONResponse({"error": "this server is not called by that name"}, 403)
        is_page = scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        # A link on another site may lead to the page: that shows nothing to the site.
        is_foreign = site not in ("same-origin", "none") and not is_page
        if is_foreign or (origin is not None and urlsplit(origin).netloc != host):
            return JSONResponse({"error": "requests from other pages are refused"}, 403)
        if self.has_token(scope):
            return None
        return PlainTextResponse(_NO_TOKEN, 403) if is_page else JSONResponse({"error": _NO_TOKEN.strip()}, 403)

    def has_token(self, scope: Scope) -> bool:
        """Tells whether a request carries the token."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        try:
            cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        if self.cookie in cookies:
            given.append(cookies[self.cookie].value)
        return any(hmac.compare_digest(value.encode(), self.token.encode()) for value in given)

    def admit(self, response: Response) -> None:
        """Lets the browser that receives an answer send the token from then on, in a cookie that no script sees."""
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")

    def _is_this_machine(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self.names:
            return True
        if not self.any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address cannot be rebound, as a name can


class GateMiddleware:
    """Refuses requests that do not pass a gate, and gives every answer its headers.

    Args:
      app: the application behind.
      gate: the gate.
    """

    def __init__(self, app: ASGIApp, gate: Gate):
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._gate.refusal(scope) or self._app
        await answer(scope, receive, send_with_headers)
