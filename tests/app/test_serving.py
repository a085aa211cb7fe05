"""The page's process: its port, its names, its address, and its end."""

import os
import re
import signal
import socket as sockets
import subprocess
import sys
import urllib.request

import pytest

from jaxseg.app import __main__ as command
from jaxseg.app import serving
from jaxseg.errors import UserError


def test_a_port_in_use_is_told(monkeypatch):
    """If broken, two pages at once fail with a traceback, or the second one answers for the first."""
    with serving.listen("127.0.0.1", 0) as socket:
        port = socket.getsockname()[1]
        with pytest.raises(UserError, match=rf"^--port {port}: in use by another program; give another --port$"):
            serving.listen("127.0.0.1", port)
        monkeypatch.setattr(serving, "FIRST_PORT", port)
        with serving.listen("127.0.0.1", None) as other:
            assert port < other.getsockname()[1] < port + 50
        monkeypatch.setattr(serving, "_TRIES", 1)
        with pytest.raises(UserError, match=f"all of {port} to {port}"):
            serving.listen("127.0.0.1", None)


@pytest.mark.parametrize("host", ["no such host", "192.0.2.7", "a" * 300, "ü.invalid"])
def test_a_host_of_another_machine_is_told(host):
    """If broken, a wrong --host ends in a traceback."""
    with pytest.raises(UserError, match=f"^--host {host}: "):
        serving.listen(host, 0)


@pytest.mark.parametrize("text", ["-1", "65536", "http", "1.5", ""])
def test_a_port_that_is_none_is_told(text, capsys):
    """If broken, a slip in --port ends in a traceback."""
    with pytest.raises(SystemExit) as left:
        command.main(["--port", text])
    assert left.value.code == 2
    assert "is not a port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "public", "shown"),
    [("127.0.0.1", False, "127.0.0.1"), ("localhost", False, "127.0.0.1|\\[::1\\]"), ("0.0.0.0", True, "127.0.0.1")],
)
def test_names_by_which_the_server_is_called(host, public, shown):
    """If broken, the page refuses its own user, or a page for this machine alone answers to other names."""
    with serving.listen(host, 0) as socket:
        gate = serving.gate_for(host, socket)
        assert serving.is_public(socket) == gate.any_address == public
        assert (sockets.gethostname().lower() in gate.names) == public
        assert {"localhost", "127.0.0.1", "::1"} <= gate.names
        pattern = rf"http://({shown}):{socket.getsockname()[1]}/\?token={re.escape(gate.token)}"
        assert re.fullmatch(pattern, serving.address_of(socket, gate))
        assert len(gate.token) >= 32
        assert gate.token != serving.gate_for(host, socket).token


def test_missing_packages_are_told(monkeypatch):
    """If broken, who has not installed the extra gets a traceback instead of the line that installs it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"needs the package uvicorn: pip install 'jaxseg\[app\]'"):
        command.main(["--no-browser"])


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_the_command_serves_until_it_is_stopped():
    """If broken, the command does not start, or Ctrl-C and SIGTERM leave a traceback or a wrong exit code."""
    arguments = ["--no-browser", "--host", "0.0.0.0", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxseg.app", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        said = []
        while not (address := re.search(r"http://127\S+", said[-1] if said else "")):
            said.append(process.stderr.readline())
            assert said[-1], said
        with urllib.request.urlopen(address[0], timeout=120) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        stdout, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, stdout) == (0, f"{address[0].rstrip(';')}\n")
    assert rest.endswith(" stopped\n")
    assert len(rest.splitlines()) == 1
    assert "other machines can reach this page. Only the token" in "".join(said)
