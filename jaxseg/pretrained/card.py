"""What is told about a packed model: a line for the log, and the model card as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxseg.config import network_title

Card = Mapping[str, Any]
"""Content of `card.json`."""

WARNING = "not a medical device"


def line(card: Card) -> str:
    """Returns one line: name, what the model was trained on, scores, and what it must not be used for."""
    trained = ", ".join(f"{part['title']} ({part['images']:,} images)" for part in card["trained_on"])
    scores = "; ".join(f"Dice {score['dice']:.3f} on {score['title']}" for score in card["scores"] or ())
    return f"{card['name']}, trained on {trained}; {scores or 'no scores yet'}; {WARNING}"


def markdown(card: Card) -> str:
    """Returns the model card."""
    config, weights = card["config"], card["weights"]
    network = network_title(config["model"]["encoder"])
    widths = config["model"]["unet_channels" if config["model"]["encoder"] == "none" else "decoder_channels"]
    size = config["data"]["image_size"]
    lines = [
        f"# {card['name']}",
        "",
        f"**{WARNING[0].upper()}{WARNING[1:]}.** {card['description']}",
        "",
        "| | |",
        "| --- | --- |",
        f"| Network | {network} of {', '.join(map(str, widths))} channels, {weights['parameters']:,} parameters |",
        f"| Input | RGB, resized to {size} x {size} pixels |",
        f"| Mask | where the probability of lesion is above {card['threshold']:g}, at the image's own size |",
        f"| Weights | `{weights['file']}`, {weights['bytes'] / 1e6:.1f} MB, {weights['types']} |",
        f"| SHA-256 | `{weights['sha256']}` |",
        f"| Licence of the weights | {card['licence']} |",
        "",
        "## Trained on",
        "",
        *_table(
            ["Data", "Images", "Licence"],
            [[part["title"], f"{part['images']:,}", part["licence"]] for part in card["trained_on"]],
        ),
        "",
        "Which images these are, `images.json.gz` tells by content: `evaluate` counts those that it meets again.",
        "",
        "## Scores",
        "",
        *(_scores(card["scores"]) if card["scores"] else ["Not measured yet."]),
        "",
        "## Limits",
        "",
        *[f"- {limit}" for limit in card["limits"]],
        "",
        "## Made by",
        "",
        f"jaxseg {card['versions']['jaxseg']}, commit {card['commit']}, started {card['started']}, seed "
        f"{card['seed']}; all settings are in `card.json`.",
    ]
    return "\n".join(lines) + "\n"


def _scores(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the table of scores, then one by lesion size."""
    scores = list(scores)
    head = ["Scored on", "Images", "Trained on", "Dice per image", "Dice, pooled", "Jaccard, pooled", "Failures"]
    rows = [
        [
            score["title"],
            str(score["images"]),
            "cannot be told" if score["trained_on"] is None else str(score["trained_on"]),
            f"{score['dice']:.3f} [{score['dice_interval'][0]:.3f}, {score['dice_interval'][1]:.3f}]",
            f"{score['dice_pooled']:.3f}",
            f"{score['jaccard_pooled']:.3f}",
            f"{score['failures']} ({100 * score['failures'] / score['images']:.0f} %)",
        ]
        for score in scores
    ]
    by_size = [
        [score["title"], quarter, f"{100 * part['from']:.1f} to {100 * part['to']:.1f} %", f"{part['dice']:.3f}"]
        for score in scores
        for quarter, part in score["by_lesion_size"].items()
    ]
    return [
        "At the images' own size; in brackets a 95 % bootstrap interval over images; failures: Jaccard below 0.65.",
        "",
        *_table(head, rows),
        "",
        *_table(["Scored on", "Lesions by size", "Share of the image", "Dice per image"], by_size),
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
