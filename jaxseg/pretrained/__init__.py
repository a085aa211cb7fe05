"""The model inside the package: weights, card, and what reads them."""
