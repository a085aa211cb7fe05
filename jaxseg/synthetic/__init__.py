"""Drawn dermoscopic images, without end: pure functions of a key, on the device."""

from jaxseg.synthetic.scene import draw, draw_one

__all__ = ["draw", "draw_one"]
