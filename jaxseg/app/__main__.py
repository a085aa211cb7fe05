"""Opens a page to drop photographs on: `python -m jaxseg.app --workdir runs/full`."""

import argparse
import logging
from collections.abc import Sequence

from jaxseg import cli
from jaxseg.errors import UserError


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "app",
        "Opens a page in the browser to drop photographs on. It shows the outline of each lesion, moves its threshold, "
        "corrects it with a brush, measures it, and saves masks and outlines. The server is this process: photographs "
        "do not leave the machine, and nothing is written to its disk.",
        "[--workdir W] [--ensemble W ...] [--tta] [--threshold VALUE|auto] [--largest-component] [--fill-holes] "
        "[--data-dir DIR] [--host ADDRESS] [--port N] [--no-browser]",
    )
    cli.add_model_arguments(result)
    cli.add_mask_arguments(result)
    result.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; another than the default lets other machines reach the page, if they have the "
        "token (default: 127.0.0.1, this machine alone)",
    )
    result.add_argument(
        "--port", type=_port, metavar="N", help="port to listen on (default: the first free one from 8765 on)"
    )
    result.add_argument("--no-browser", action="store_true", help="print the page's address, and open no browser")
    # Images come one at a time. A batch of one gives the same probabilities as predict's batches, bit for bit.
    result.set_defaults(batch_size=1)
    return result


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")


log = logging.getLogger("jaxseg.app")


def _check_packages() -> None:
    """Checks that the packages of the extra `app` are installed.

    Raises:
      UserError: one is missing.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"the page needs the package {error.name}: pip install 'jaxseg[app]'") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and serves the page until the process is asked to stop; returns 0."""
    args = _parser().parse_args(argv)
    _check_packages()

    from jaxseg.app import serving

    cli.start_logging()
    # Before the model is loaded, which takes seconds: a port in use is told at once.
    with serving.listen(args.host, args.port) as socket:
        from jaxseg.app.model import PageModel
        from jaxseg.app.server import create_app
        from jaxseg.system import startup

        startup.tune()
        model = PageModel(*cli.segmenter_from(args))
        model.warm_up()
        app = create_app(model, serving.gate_for(args.host, socket))
        if serving.is_public(socket):
            log.warning(
                "--host %s: other machines can reach this page. Only the token in its address keeps them out, and "
                "photographs travel unencrypted",
                args.host,
            )
        serving.serve(app, socket, open_browser=not args.no_browser)
    return 0


if __name__ == "__main__":
    cli.run("app", main)
