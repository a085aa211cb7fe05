"""The rows that several sections share: the paper's three models, and the steps to the preset `generalise`."""

from experiments.paper.rows import Row

UNET = Row("unet_augmented", "U-Net + augmentation", {"model.encoder": "none"})
BARE = Row("resnet_unaugmented", "ResNet-U-Net + focal, no augmentation", {"augment.enabled": False})
FULL = Row("resnet_augmented", "ResNet-U-Net + focal + augmentation (the full model)")

STEPS = {
    "wide zoom, shifts, any rotation": {
        "augment.rotation": 180.0,
        "augment.zoom_min": 0.5,
        "augment.zoom_max": 1.5,
        "augment.translation": 0.15,
    },
    "colour and light": {
        "augment.brightness": 0.2,
        "augment.contrast": 0.3,
        "augment.saturation": 0.4,
        "augment.gamma": 0.3,
        "augment.colour_cast": 0.15,
        "augment.illumination": 0.3,
    },
    "drawn artefacts": {"augment.artefacts": 0.15},
    "averaged weights": {"optim.ema": 0.97},
    "batch norm that keeps up": {"model.encoder_bn_momentum": 0.9},
    "decoder ten times faster": {"optim.learning_rate": 1e-3, "optim.encoder_rate": 0.1},
    "colour constancy": {"model.colour_constancy": "shades_of_gray"},
}
"""Steps from the paper's recipe to the preset, in the order in which they were tried."""

TOGETHER = 6
"""How many of the steps, from the first, made the preset before some were left out again."""

DOUBTED = (1, 3, 4)
"""Numbers of the steps that gained nothing on plain validation images: the six are also trained without each one."""


def step_rows() -> list[Row]:
    """Returns the row of the paper's recipe and a row per step, each with all steps before it."""
    result, changes = [FULL], {}
    for i, (title, step) in enumerate(STEPS.items(), start=1):
        changes = {**changes, **step}
        result.append(Row(f"generalise_{i}", f"+ {title}", changes))
    return result


def left_out_rows() -> dict[int, Row]:
    """Returns rows of the first six steps without one of them, by the number of the step left out."""
    result = {}
    for left_out in DOUBTED:
        changes, title = {}, list(STEPS)[left_out - 1]
        for i, step in enumerate(list(STEPS.values())[:TOGETHER], start=1):
            changes.update(step if i != left_out else {})
        result[left_out] = Row(f"generalise_without_{left_out}", f"without: {title}", changes)
    return result


PHOTOGRAPHS = left_out_rows()[1]
"""The preset without drawn images, which it was when most rows were trained. Without the first step both validation
columns rise; the last step changes them by less than the seeds do."""

FINAL = Row("generalise_drawn", "with half of every batch drawn", PHOTOGRAPHS.changes | {"data.synthetic_share": 0.5})
"""The row of the preset: a pass over the training images takes twice as many steps, as half of every batch is drawn."""

ON_PHOTOGRAPHS, PRESET = "generalise on photographs alone", "the preset generalise"
"""What tables call them."""

GENERALISE = {ON_PHOTOGRAPHS: PHOTOGRAPHS, PRESET: FINAL}
"""The two by these titles."""

RECIPES = {"the paper's recipe": FULL} | GENERALISE
"""The rows of the recipes, by how tables call them."""

NETWORKS = {f"ResNet-U-Net, {title}": row for title, row in GENERALISE.items()}
"""The two beside the paper's models."""
