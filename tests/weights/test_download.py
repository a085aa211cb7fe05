"""Downloads from an HTTPS server on this machine: whole or not at all, resumed, and never without https."""

import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxseg.errors import RunError, UserError
from jaxseg.weights import download as module
from jaxseg.weights.download import download

CONTENT = os.urandom(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
REMEDY = "fetch it elsewhere"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `CONTENT` in parts, and what the path says otherwise; notes what was asked for."""

    def do_GET(self):
        """Answers."""
        name, _, argument = self.path.strip("/").partition("/")
        asked = self.headers.get("Range", "")
        self.server.asked.append((name, asked))
        start = int(asked.removeprefix("bytes=").split("-")[0] or 0) if asked else 0
        content, stop = CONTENT, None
        if name == "elsewhere":
            self.send_response(302)
            self.send_header("Location", argument.replace("=", "/"))
            self.end_headers()
            return
        if name == "absent":
            self.send_error(404)
            return
        if name == "whole":
            start = 0
        if name == "other":
            content = CONTENT[::-1]
        if name == "breaking":  # after 100,000 bytes more
            stop = start + 100_000
        if name == "dead" or start >= len(content):
            self.send_error(416) if start >= len(content) else self.connection.close()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if name == "slow":
            time.sleep(1)
        self.wfile.write(content[start:stop])

    def log_message(self, *args):
        """Says nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Says nothing of connections that break, as the tests break them."""

    def handle_error(self, *args):
        """Says nothing."""


def serve(server: Server):
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def plain():
    """A server without https, and a list of what it was asked for."""
    yield from serve(Server(("127.0.0.1", 0), Handler))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for localhost, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    names = ["-keyout", "k.pem", "-out", "c.pem", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    (folder / "both.pem").write_text((folder / "k.pem").read_text() + (folder / "c.pem").read_text())
    return folder / "both.pem"


@pytest.fixture
def server(certificate, monkeypatch):
    """A server with https."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    yield from serve(secure)


def url_of(server: Server, name: str) -> str:
    return f"https://localhost:{server.server_port}/{name}"


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_arrives_is_what_was_sent(server, tmp_path):
    """If broken, there are no weights for those who have none."""
    download(url_of(server, "file"), tmp_path / "new" / "w.h5", MD5, REMEDY)
    assert (tmp_path / "new" / "w.h5").read_bytes() == CONTENT
    assert parts(tmp_path / "new") == ["w.h5"]


def test_another_file_is_not_kept(server, tmp_path):
    """If broken, whatever the server sends is taken for the weights, now or at the next try."""
    for name in ("other", "other"):
        with pytest.raises(UserError, match=rf"MD5 is \w+ and should be {MD5}; {REMEDY}"):
            download(url_of(server, name), tmp_path / "w.h5", MD5, REMEDY)
        assert parts(tmp_path) == []


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server, tmp_path):
    """If broken, 94 MB start from the beginning with every hiccup of the network, or are patched together wrongly."""
    download(url_of(server, "breaking"), tmp_path / "w.h5", MD5, REMEDY)
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked in server.asked]
    assert starts == sorted(set(starts))
    assert len(starts) > 2


@pytest.mark.parametrize("name", ["file", "whole"])
def test_a_later_try_goes_on_from_an_earlier_one(name, server, tmp_path, monkeypatch):
    """If broken, an evening's download is lost with the night's network; or a server without parts spoils the file."""
    (tmp_path / ".w.h5.part").write_bytes(CONTENT[:123_456])
    with pytest.raises(UserError, match=r"cannot download w\.h5 \(\w+\), 123,456 bytes of it are kept .*; fetch it"):
        download(url_of(server, "dead"), tmp_path / "w.h5", MD5, REMEDY)
    assert parts(tmp_path) == [".w.h5.part"]
    assert len(server.asked) == module.TRIES
    download(url_of(server, name), tmp_path / "w.h5", MD5, REMEDY)
    assert server.asked[module.TRIES :] == [(name, "bytes=123456-")]
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert parts(tmp_path) == ["w.h5"]


@pytest.mark.parametrize(
    "left", [CONTENT[::-1][:1000], CONTENT + b"more", b"x" * 300_000], ids=["other bytes", "too long", "as long"]
)
def test_what_an_earlier_try_left_wrongly_is_thrown_away(left, server, tmp_path, caplog):
    """If broken, a rest of another file's download makes every later one fail."""
    (tmp_path / ".w.h5.part").write_bytes(left)
    download(url_of(server, "file"), tmp_path / "w.h5", MD5, REMEDY)
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert "from the beginning" in caplog.text


def test_a_whole_rest_is_not_fetched_again(server, tmp_path):
    """If broken, a process that ended before it could rename the file has fetched it for nothing."""
    (tmp_path / ".w.h5.part").write_bytes(CONTENT)
    download(url_of(server, "file"), tmp_path / "w.h5", MD5, REMEDY)
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert server.asked == []


def test_only_https_is_spoken(server, plain, tmp_path):
    """If broken, a redirect takes the download where anybody on the way can change it, or learn of it."""
    address = f"http:==127.0.0.1:{plain.server_port}=file"
    for url in (url_of(server, f"elsewhere/{address}"), f"http://127.0.0.1:{plain.server_port}/file"):
        with pytest.raises(UserError, match=r"cannot download w\.h5 \(redirected to an address without https\); fetch"):
            download(url, tmp_path / "w.h5", MD5, REMEDY)
    assert plain.asked == []
    assert parts(tmp_path) == []
    download(url_of(server, f"elsewhere/https:==localhost:{server.server_port}=file"), tmp_path / "w.h5", MD5, REMEDY)


def test_a_server_without_a_good_certificate_is_not_asked(server, tmp_path, monkeypatch):
    """If broken, anybody may pass for the server."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(UserError, match=r"cannot download w\.h5 \(SSLError\)"):
        download(url_of(server, "file"), tmp_path / "w.h5", MD5, REMEDY)
    assert server.asked == []


def test_what_the_server_says_is_told(server, tmp_path):
    """If broken, nobody learns that the address has changed."""
    with pytest.raises(UserError, match=r"cannot download w\.h5 \(the server says 404 Not Found\); fetch it elsewhere"):
        download(url_of(server, "absent"), tmp_path / "w.h5", MD5, REMEDY)
    assert parts(tmp_path) == []


def test_an_endless_file_ends(server, tmp_path, monkeypatch):
    """If broken, a server can fill the disk."""
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    with pytest.raises(UserError, match="cannot download"):
        download(url_of(server, "file"), tmp_path / "w.h5", MD5, REMEDY)


def test_two_at_once_fetch_it_once(server, tmp_path):
    """If broken, ten runs that start at once on a new machine spoil one another's download."""
    program = (
        "import sys; from pathlib import Path; from jaxseg.weights.download import download;"
        f"download({url_of(server, 'slow')!r}, Path(sys.argv[1]), {MD5!r}, '')"
    )
    several = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "w.h5")]) for _ in range(3)]
    assert [process.wait() for process in several] == [0, 0, 0]
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert parts(tmp_path) == ["w.h5"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    """If broken, a home folder that is read-only, as on some clusters, ends training in a traceback."""
    (tmp_path / "file").write_text("where the folder should be")
    with pytest.raises(RunError, match="cannot write"):
        download("https://localhost:1/", tmp_path / "file" / "w.h5", MD5, REMEDY)
