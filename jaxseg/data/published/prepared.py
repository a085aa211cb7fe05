"""Opens the data sets that `jaxseg.prepare` has built, by way of TFDS and without TensorFlow."""

import contextlib
import importlib
import shlex
from collections.abc import Callable, Iterator

from jaxseg.config import DataConfig
from jaxseg.config.datasets import data_set
from jaxseg.data.examples import Example, Examples
from jaxseg.data.images import decode_image, decode_mask
from jaxseg.data.published.place import data_dir_of, folder_of, is_prepared
from jaxseg.errors import UserError, one_line


def builder_of(name: str, data_dir: str, source: str | None = None):
    """Returns the TFDS builder of a published set, a `jaxseg.data.published.builder.PublishedBuilder`.

    Args:
      name: the set's name, as "ph2".
      data_dir: folder of prepared TFDS data sets; empty: TFDS' own.
      source: the publisher's folder or archive to build from.
    """
    module, _, builder = data_set(name).builder.partition(":")
    # TFDS takes a second to import: only whoever opens a prepared set waits for it.
    kind = getattr(importlib.import_module(module), builder)
    return kind(data_dir=str(data_dir_of(data_dir)), source=source)


def open_prepared(config: DataConfig, name: str, split: str) -> Examples:
    """Opens a split of a prepared set, without reading an image.

    Args:
      config: says where the prepared sets are.
      name: the set's name, as "ph2".
      split: a split as it is stored, or "all".

    Returns:
      Its examples in the order of their names; groups are diagnoses where they are
      published, else "".

    Raises:
      UserError: the set is not prepared, or was prepared from a copy without this split.
    """
    command = f"python -m jaxseg.prepare {name} --source DIR_OR_ARCHIVE"
    command += f" --data-dir {shlex.quote(config.data_dir)}" if config.data_dir else ""
    if not is_prepared(name, config.data_dir):
        raise UserError(f"{name} is not prepared in {data_dir_of(config.data_dir)}; run: {command}")
    with damage_explained(str(folder_of(name, config.data_dir)), f"{command} --force"):
        builder = builder_of(name, config.data_dir)
        stored = builder.info.metadata["splits"]
        parts = list(stored) if split == "all" else [split]
        instead = "; or hold out a fold of the training images: --data.folds 5" if split == "validation" else ""
        if missing := [part for part in parts if part not in stored]:
            raise UserError(
                f"{name} was prepared from a copy without the split {missing[0]} (there are: {', '.join(stored)}); "
                f"prepare a full copy: {command} --force{instead}"
            )
        names = tuple(n for part in parts for n in stored[part]["names"])
        contents = [f"{part} {stored[part]['sha256'][:16]}" for part in parts]
        version = f"{builder.version}, {', '.join(contents)}"
        read = _reader(builder, "+".join(parts), names, f"{command} --force")
        return Examples(
            dataset=name,
            split=split,
            names=names,
            groups=tuple(g for part in parts for g in stored[part]["groups"]),
            load=_loader(read, name, names),
            version=version,
            read_image=lambda index: read(index)[0],
            stamp=lambda index: version,
            kept_together=tuple(unit for part in parts for unit in stored[part].get("kept_together", ())),
        )


@contextlib.contextmanager
def damage_explained(what: str, remedy: str) -> Iterator[None]:
    """Turns the errors of TFDS, array_record and the protobuf reader on damaged files into a UserError of one line.

    Args:
      what: the data set, as the message names it.
      remedy: command that prepares the set again.

    Raises:
      UserError: the block raised any other error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each has half a dozen kinds of its own
        raise UserError(
            f"{what}: the prepared data set is damaged ({one_line(error)}); prepare it again: {remedy}"
        ) from None


def _reader(builder, split: str, names: tuple[str, ...], remedy: str) -> Callable[[int], tuple[bytes, bytes]]:
    """Returns what reads the encoded image and mask at an index."""
    from tensorflow_datasets import decode

    raw = {"image": decode.SkipDecoding(), "mask": decode.SkipDecoding()}
    source = builder.as_data_source(split, decoders=raw)

    def read(index: int) -> tuple[bytes, bytes]:
        name = f"{builder.name} {names[index]}"
        with damage_explained(name, remedy):
            record = source[index]
        if not record["name"] or record["name"].decode() != names[index]:
            raise UserError(f"{name}: the prepared data set is damaged (found {record['name']}); prepare it: {remedy}")
        return record["image"], record["mask"]

    return read


def _loader(read: Callable[[int], tuple[bytes, bytes]], dataset: str, names: tuple[str, ...]):
    """Returns what loads the example at an index; the images are decoded by jaxseg and not by TFDS."""

    def load(index: int) -> Example:
        image, mask = read(index)
        name = f"{dataset} {names[index]}"
        return Example(decode_image(image, name), decode_mask(mask, f"{name}, mask"))

    return load
