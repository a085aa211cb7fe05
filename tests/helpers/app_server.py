"""The page's server in a thread, and requests to it with any header."""

import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jaxseg.app import serving
from jaxseg.app.model import PageModel
from jaxseg.app.security import Gate
from jaxseg.app.server import create_app


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server answered.

    Attributes:
      status: the HTTP status.
      headers: by name in lower case.
      body: the content.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        """The content as JSON."""
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
      model: the model behind the page.
      gate: its gate, with the token.
      port: its port.
      address: the page's address, with the token.
    """

    model: PageModel
    gate: Gate
    port: int
    address: str

    def ask(self, path: str, method: str = "GET", body: bytes | Iterator[bytes] = b"", **headers: str) -> Answer:
        """Sends a request with the token's cookie; other headers by name, with underscores, replace the usual ones."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            usual = {"host": f"127.0.0.1:{self.port}", "cookie": f"{self.gate.cookie}={self.gate.token}"}
            connection.request(method, path, body, usual | named)
            answer = connection.getresponse()
            content = answer.read()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
        finally:
            connection.close()

    def add(self, content: bytes, name: str = "a.png") -> Answer:
        """Sends a photograph."""
        return self.ask(f"/api/photographs?name={name}", "POST", content)


@contextmanager
def running(model: PageModel) -> Iterator[Served]:
    """Serves the page in a thread while the block runs.

    Args:
      model: the model behind the page.
    """
    with serving.listen("127.0.0.1", 0) as socket:
        gate = serving.gate_for("127.0.0.1", socket)
        server = serving.Server(create_app(model, gate), socket)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Served(model, gate, socket.getsockname()[1], serving.address_of(socket, gate))
        finally:
            server.should_exit = True
            thread.join()
