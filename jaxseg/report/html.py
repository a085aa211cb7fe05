"""What the pages share: the template engine, and pictures within the file."""

import base64
import functools

from jinja2 import ChainableUndefined, Environment, PackageLoader


@functools.cache
def environment() -> Environment:
    """Returns the template engine: it escapes every value, and a missing value is empty at any depth."""
    return Environment(
        loader=PackageLoader("jaxseg.report"),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def jpeg_uri(content: bytes) -> str:
    """Returns a JPEG file as the `src` of an `<img>`, so that a page needs no file beside it.

    Args:
      content: the file's bytes.
    """
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
