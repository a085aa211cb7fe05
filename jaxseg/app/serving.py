"""The server's process: its port, its address with the token, the browser, and its end."""

import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket as sockets
import sys
import threading
import webbrowser
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from jaxseg.app.security import Gate
from jaxseg.errors import UserError

log = logging.getLogger("jaxseg.app")

FIRST_PORT = 8765
"""The port that is taken where none is asked for, or the next one that is free."""

_TRIES = 50

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_STOP_SECS = 3
"""Time for answers that are on their way when the server stops."""


def listen(host: str, port: int | None) -> sockets.socket:
    """Opens the server's socket.

    Args:
      host: name or address to listen on.
      port: the port; None for the first free one from `FIRST_PORT` on.

    Returns:
      The socket, which listens.

    Raises:
      UserError: the address is not one of this machine, or the port is in use or not allowed.
    """
    ports = range(FIRST_PORT, FIRST_PORT + _TRIES) if port is None else (port,)
    for number in ports:
        with contextlib.suppress(_PortInUseError):
            return _bound(host, number)
    where = f"--port {port}" if port is not None else f"--port: all of {ports[0]} to {ports[-1]}"
    raise UserError(f"{where}: in use by another program; give another --port")


class _PortInUseError(Exception):
    """Raised for a port that another program listens on."""


def _bound(host: str, port: int) -> sockets.socket:
    try:
        family, kind, protocol, _, address = sockets.getaddrinfo(
            host, port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE
        )[0]
        result = sockets.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise UserError(f"--host {host}: no address of this machine; leave it out, or give 0.0.0.0 for all") from None
    try:
        if os.name == "posix":  # else a port stays closed for a minute after a server's end
            result.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        result.bind(address)
        result.listen(128)
        return result
    except OSError as error:
        result.close()
        if error.errno == errno.EADDRINUSE:
            raise _PortInUseError from None
        if error.errno == errno.EACCES:
            raise UserError(f"--port {port}: needs more rights; give one above 1023") from None
        raise UserError(f"--host {host}: cannot be listened on ({error.strerror}); leave it out") from None


def is_public(socket: sockets.socket) -> bool:
    """Tells whether other machines can reach a socket."""
    return not ipaddress.ip_address(socket.getsockname()[0]).is_loopback


def gate_for(host: str, socket: sockets.socket) -> Gate:
    """Returns a gate that knows by which names the server is called.

    Args:
      host: name or address that the server was told to listen on.
      socket: its socket.
    """
    address, port = socket.getsockname()[:2]
    names = {*_LOOPBACK_NAMES, host.lower(), address}
    if is_public(socket):
        names |= {sockets.gethostname().lower(), sockets.getfqdn().lower()}
    return Gate.new(frozenset(names), ipaddress.ip_address(address).is_unspecified, port)


def address_of(socket: sockets.socket, gate: Gate) -> str:
    """Returns the page's address on this machine, with the token.

    Args:
      socket: the server's socket.
      gate: the gate with the token.
    """
    name, port = socket.getsockname()[:2]
    address = ipaddress.ip_address(name)
    if address.is_unspecified:
        name = "127.0.0.1" if address.version == 4 else "::1"
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/?token={gate.token}"


class Server(uvicorn.Server):
    """A uvicorn server that ends with exit code 0 when it is asked to, and sends no signal to itself.

    Attributes:
      socket: the socket that it listens on.
    """

    def __init__(self, app: ASGIApp, socket: sockets.socket):
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # the token is in the first address
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=_STOP_SECS,
            )
        )
        self.socket = socket

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles Ctrl-C and SIGTERM while the server runs; only the main thread may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def serve_forever(self) -> None:
        """Answers requests until the server is asked to stop."""
        self.run(sockets=[self.socket])


def serve(app: ASGIApp, socket: sockets.socket, *, open_browser: bool) -> None:
    """Says where the page is, opens it, and serves it until Ctrl-C or SIGTERM.

    Args:
      app: the application, from `create_app`.
      socket: a socket from `listen`.
      open_browser: whether to open the page in the user's browser.
    """
    # uvicorn's own notices, such as of requests that are no HTTP, concern nobody here.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    address = address_of(socket, app.state.gate)
    if not sys.stdout.isatty():  # for programs that start the page; a terminal shows the log already
        print(address, flush=True)
    log.info("open %s in a browser; Ctrl-C ends the server", address)
    if open_browser and _has_display():
        # In a thread: some browsers block. The socket listens already, so the browser finds the server.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    Server(app, socket).serve_forever()
    log.info("stopped")


def _has_display() -> bool:
    """Tells whether a browser can open a window; without one, a browser for the terminal would take the terminal."""
    if os.environ.get("BROWSER") or sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
