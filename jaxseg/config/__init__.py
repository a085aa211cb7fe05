"""Settings: frozen dataclasses, one per concern, named presets, JSON in and out."""

from jaxseg.config.fields import Section, setting
from jaxseg.config.presets import PRESETS, demo, generalise, paper, preset
from jaxseg.config.sections import (
    ENCODER_TITLES,
    LOSSES,
    SCHEMA_VERSION,
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    network_title,
)

__all__ = [
    "ENCODER_TITLES",
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
    "network_title",
    "paper",
    "preset",
    "setting",
]
