"""Settings: frozen dataclasses, one per concern, named presets, JSON in and out."""

from jaxseg.config.presets import PRESETS, demo, generalise, paper, preset
from jaxseg.config.sections import (
    SCHEMA_VERSION,
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

__all__ = [
    "PRESETS",
    "SCHEMA_VERSION",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainConfig",
    "demo",
    "generalise",
    "paper",
    "preset",
]
