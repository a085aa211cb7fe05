"""The page to drop photographs on: a server for this machine, and the page itself in `static/`."""
