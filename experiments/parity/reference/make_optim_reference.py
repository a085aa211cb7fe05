"""Writes `optim_reference.npz`: results of Keras' callbacks and Adam on the first sequences of `schedules`.

    python -m experiments.parity.reference.make_optim_reference      (needs `.[keras]`; seconds on a CPU)

The committed file was made with Keras 3.15.1 on its JAX 0.10.2 backend.
"""

from pathlib import Path

import numpy as np

from experiments.parity.reference import keras_optim, schedules

PATH = Path(__file__).with_name("optim_reference.npz")


def main() -> None:
    """Writes the reference."""
    model = keras_optim.model_of_one_weight()
    results = [keras_optim.schedule(model, *schedules.case(seed)) for seed in range(schedules.STORED)]
    rates, stopped, best = zip(*results, strict=True)
    np.savez_compressed(
        PATH,
        rates=np.array(rates, np.float32),
        stopped=np.array(stopped, np.int8),
        best=np.array(best, np.int8),
        adam=keras_optim.adam(schedules.gradients(schedules.STEPS))[schedules.KEPT],
    )
    print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
