"""Settings from a file: JSON or YAML by section, or the `config.json` of a run."""

import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxseg.config.presets import PRESETS
from jaxseg.config.sections import SCHEMA_VERSION, Config
from jaxseg.errors import UserError, shown

_YAML = (".yaml", ".yml")
_LIMIT = 2**20
"""Largest file that is read, bytes: settings take a few thousand."""

_ODD_NUMBER = r"[-+]?0\d+|[-+]?\d+(:\d+)+(\.\d*)?"
"""What looks like a decimal number, but is another one to YAML."""

_COMMENT = " (in YAML # begins a comment: put '#…' in quotes)"

_DEPTH = 10
"""Deepest nesting of brackets in YAML; settings have sections of lists."""


def is_meant(chosen: str) -> bool:
    """Tells whether a `--config` that is no preset is a file, by its ending or because there is one."""
    path = Path(chosen)
    return path.suffix.lower() in (".json", *_YAML) or "/" in chosen or path.exists()


def read(path: Path) -> Config:
    """Reads settings; settings that the file leaves out keep their defaults.

    The file holds sections of settings (`optim: {learning_rate: 0.001}`), or settings by dotted name
    (`optim.learning_rate: 0.001`), with dashes or underscores. The settings in a run's `config.json` are found too.

    Args:
      path: a JSON file, or a YAML file that ends in .yaml or .yml; the folder of a run means its `config.json`.

    Returns:
      The settings.

    Raises:
      UserError: the file cannot be read, is of a newer jaxseg, or holds an unknown setting or a value that a setting
        does not allow.
    """
    return read_chosen(path)[0]


def read_chosen(path: Path) -> tuple[Config, frozenset[str]]:
    """Returns the settings of a file, as `read` does, and the dotted names of those that somebody chose in it.

    In a record of a run, and in a file of most settings, as `--print-config` writes one, nobody has chosen each. If
    such a file says what to start from, its image size counts as chosen: it may be another than the parent's.

    Args:
      path: as for `read`.

    Raises:
      UserError: as `read`.
    """
    if path.is_dir():
        path = path / "config.json"
    values = _object_in(path)
    is_record = "schema_version" in values
    if is_record:
        if values["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"--config {path}: schema_version {shown(values['schema_version'])} is not the one that this jaxseg "
                f"reads ({SCHEMA_VERSION}); update jaxseg"
            )
        _refuse_settings_beside(values, path)
        values = values.get("config")
    try:
        if not isinstance(values, Mapping):
            raise UserError(f"config is {type(values).__name__}: must be an object of names and values")
        changes = _changes_in(values, words=path.suffix.lower() in _YAML)
        config = Config().updated(changes)
        if not is_record and len(changes) < len(list(Config.settings())) / 2:
            return config, frozenset(changes)
        return config, frozenset(["data.image_size"] if config.model.init_from else ())
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from error


def _refuse_settings_beside(record: Mapping[str, Any], path: Path) -> None:
    """Refuses settings that somebody wrote into a run's record beside "config", which holds those that count."""
    names = {dotted for dotted, _ in Config.settings()}
    if beside := [name for name in record if str(name).replace("-", "_") in names]:
        raise UserError(f"--config {path}: {beside[0]} stands beside config, where it is not read; put it into config")
    config = record.get("config")
    train = config.get("train") if isinstance(config, Mapping) else None
    if isinstance(train, Mapping) and "seed" in record and record["seed"] != train.get("seed", record["seed"]):
        raise UserError(
            f"--config {path}: seed is {shown(record['seed'])}, and {shown(train['seed'])} in config.train, which is "
            "the one that is read; make them equal"
        )


def _object_in(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as error:
        raise UserError(f"--config {path}: cannot be read ({error.strerror}); give a preset or a file") from error
    if len(content) > _LIMIT:
        raise UserError(f"--config {path}: is larger than 1 MiB, so it holds no settings; give another file")
    parse: Callable[[str], Any] = _parse_yaml if path.suffix.lower() in _YAML else _parse_json
    try:
        values = parse(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        kind, reason = "YAML" if parse is _parse_yaml else "JSON", " ".join(str(error).split())[:200]
        other = "" if path.suffix.lower() in (".json", *_YAML) else ", or name it .yaml if it is YAML"
        raise UserError(f"--config {path}: is not {kind} ({reason}); mend the file{other}") from error
    if not isinstance(values, Mapping):
        raise UserError(f"--config {path}: holds no settings by name, as optim.learning_rate; mend the file")
    return values


def _parse_json(text: str) -> Any:
    """Parses JSON, and refuses an object that gives a name twice."""
    return json.loads(text, object_pairs_hook=_without_doubles)


def _without_doubles(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    """Returns a dictionary; of a name that is given twice, parsers would take the last without a word."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is given twice; keep one of the two")
    return result


def _parse_yaml(text: str) -> Any:
    """Parses YAML.

    Refused are aliases, of which a few lines can stand for a value that fills the memory, and brackets within brackets
    without end, on which the parser spends hours.
    """
    import yaml  # not at the top: `--help` must not wait for it

    opening = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)
    closing = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)
    depth = 0
    try:
        for token in yaml.scan(text, yaml.SafeLoader):
            depth += isinstance(token, opening) - isinstance(token, closing)
            if depth > _DEPTH:
                raise ValueError(f"more than {_DEPTH} brackets within one another")
            if isinstance(token, yaml.AliasToken):
                raise ValueError("aliases, as *name, are not taken")
            # YAML 1.1 reads 010 as 8 and 1:30 as 90.
            if isinstance(token, yaml.ScalarToken) and token.plain and re.fullmatch(_ODD_NUMBER, token.value):
                raise ValueError(f"{token.value} is no plain number; write it in decimal digits, or text in quotes")
        return _loader(yaml)(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    # PyYAML's own: of a list or mapping as a name, and of text that a tag, as !!int, does not fit.
    except (TypeError, AttributeError, LookupError) as error:
        raise ValueError("a name that is a list or mapping, or a !!tag that does not fit its text") from error


def _loader(yaml: ModuleType) -> type:
    """Returns PyYAML's safe loader, which refuses a mapping that gives a name twice."""

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            _without_doubles([(self.construct_object(key, deep=True), None) for key, _ in node.value])
            return super().construct_mapping(node, deep)

    return Loader


def _changes_in(values: Mapping[str, Any], *, words: bool) -> dict[str, Any]:
    """Returns the settings that sections or dotted names hold; `words` reads numbers that YAML takes for text."""
    kinds = {dotted: field.type for dotted, field in Config.settings()}
    sections = {dotted.split(".")[0] for dotted in kinds}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        for dotted, inside in _dotted(str(name).replace("-", "_"), value, sections):
            if dotted in changes:
                raise UserError(f"{dotted} is given twice; keep one of the two")
            if inside is None and dotted in kinds:
                raise UserError(f"{dotted} has no value{_COMMENT if words else ''}; give one, or leave the line out")
            changes[dotted] = _as_meant(dotted, inside, kinds.get(dotted)) if words else inside
    return changes


def _dotted(name: str, value: Any, sections: Container[str]) -> list[tuple[str, Any]]:
    """Returns the dotted names and values of an entry, which is a section or has a dotted name itself."""
    if name in sections and isinstance(value, Mapping):
        return [(f"{name}.{field}".replace("-", "_"), inside) for field, inside in value.items()]
    if name in PRESETS or (name == "config" and isinstance(value, str)):
        raise UserError(
            f"{name} names a preset, which a file cannot start from; copy the preset's settings into it, as "
            "--print-config shows them"
        )
    if name in sections and value is None:
        raise UserError(f"{name} holds no settings; give some, or leave the line out")
    if "." not in name:
        Config.from_dict({name: value})  # answers an unknown section, or a section that holds no settings
    return [(name, value)]


def _as_meant(dotted: str, value: Any, kind: Any) -> Any:
    """Returns a value of a YAML file as its writer means it, where YAML reads it as of another type."""
    if kind is float and isinstance(value, str):
        return _number(value)
    if kind is str and isinstance(value, bool):
        word = str(value).lower()
        raise UserError(f"{dotted} is {word}, which YAML also reads in yes, no, on and off; put the word in quotes")
    if kind is str and isinstance(value, int):
        return str(value)  # `mask_lesion: 128`
    return value


def _number(text: str) -> float | str:
    """Reads `1e-3`, which YAML 1.1 takes for text because it has no decimal point; other text stays as it is."""
    try:
        return float(text)
    except ValueError:
        return text
