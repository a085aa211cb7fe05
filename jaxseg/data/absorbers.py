"""What colours drawn skin: the optical density of each absorber per unit, float32 [3] for R, G, B.

By Beer and Lambert densities of absorbers add up, and light falls with the exponential of their sum. Melanin's rise
towards blue, blood's towards green.
"""

import numpy as np

MELANIN = np.float32([0.45, 0.72, 1.0])

SURFACE_MELANIN = np.float32([0.14, 0.45, 0.95])
"""Shallow pigment: orange."""

DENSE_MELANIN = np.float32([0.75, 0.9, 1.0])
"""Much pigment: nearly black."""

DEEP_MELANIN = np.float32([0.95, 0.8, 0.62])
"""Pigment deep in the skin looks blue-grey."""

BLOOD = np.float32([0.06, 0.62, 0.5])
