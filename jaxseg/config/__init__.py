"""Settings: frozen dataclasses, one per concern, named presets, JSON in and out."""

from jaxseg.config.fields import Section, setting
from jaxseg.config.presets import PRESETS, demo, generalise, paper, preset
from jaxseg.config.sections import (
    LOSSES,
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
    "LOSSES",
    "PRESETS",
    "SCHEMA_VERSION",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "Section",
    "TrainConfig",
    "demo",
    "generalise",
    "paper",
    "preset",
    "setting",
]
