"""What people look at: curves, overlays, charts, the page."""
