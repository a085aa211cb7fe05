"""The paper's tables and figures: one study folder, one page."""
