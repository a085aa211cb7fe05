"""Compiled programs, and shapes of arrays, kept between processes: a start that finds them traces and lowers nothing.

JAX keeps programs too, but names them by what was lowered: each start traces and lowers a function to find its program.
Here the name is a hash of jaxseg's code, of settings, versions and devices. It does not tell code that a notebook has
put in the place of jaxseg's. So only processes that run nothing else, the commands, keep and find anything.

A program is machine code: who may write into the folder can make the process run anything. That holds for the programs
that JAX keeps there too.
"""

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.experimental import serialize_executable

from jaxseg.system import kept_files, machine

_FILES = kept_files.KeptFiles("programs", 2**28)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")

_OWN_CODE = ("jaxseg", "experiments")
"""Packages of whose modules a process may consist, run by `python -m`."""


def value(name: str, parts: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """Returns what `make` returns, kept from an earlier process or newly made.

    Args:
      name: says what it is.
      parts: what it is made of besides jaxseg's code, as JSON values.
      make: makes it, of JSON types.
    """
    if not _applies():
        return make()
    key = _key(name, parts, sources=("**/*.py",))
    if content := _FILES.find(key):
        return json.loads(content)
    made = make()
    _FILES.keep(key, json.dumps(made).encode())
    return made


def compiled(
    name: str,
    parts: Mapping[str, Any],
    function: Callable[..., Any],
    *args: Any,
    result: Any,
    devices: Sequence[jax.Device],
    options: Mapping[str, Any] | None = None,
    elsewhere: Callable[[], None] | None = None,
) -> jax.stages.Compiled:
    """Returns a jitted function compiled for arguments, kept from an earlier process or newly compiled.

    Args:
      name: says what it is.
      parts: what the function and its arguments' shapes are made of besides jaxseg's code, as JSON values.
      function: what `jax.jit` or `jax.pmap` returns.
      args: the arguments, or their shapes, types and placement.
      result: a tree of the form that the function returns; the leaves do not matter.
      devices: the devices that it is compiled for, in order.
      options: the compiler's options that the function brings along.
      elsewhere: has another process call this function, before it returns. It is called if nothing is kept yet; should
        nothing be kept afterwards either, this process compiles.
    """
    if not _applies() or devices[0].platform != "cpu":  # elsewhere it has not been tried
        return function.lower(*args).compile()
    where = {"devices": [repr(device) for device in devices], "options": dict(options or {})}
    key = _key(name, {**parts, **where}, sources=("**/*.py",))
    trees = jax.tree.structure((args, {})), jax.tree.structure(result)
    content = _kept(key)
    if not content and elsewhere and _FILES.usable():
        elsewhere()
        content = _kept(key)
    if not content:
        # Other code may lower to the same program: a newer jaxseg need not compile it again.
        lowered = function.lower(*args)
        if (lowered.in_tree, lowered.out_tree) != trees:  # its results would get other names
            return lowered.compile()
        text = {**where, "text": lowered.as_text(), "trees": [str(tree) for tree in trees]}
        program = _key("program", text, sources=()).encode()
        content = _FILES.find(program.decode())
        if not content:
            with _CacheHits() as hits:
                made = lowered.compile()
            # A program that XLA read from JAX's cache lacks functions when it is written once more.
            if not hits.any:
                _FILES.keep(program.decode(), serialize_executable.serialize(made)[0])
                _FILES.keep(key, program)
            return made
        _FILES.keep(key, program)
    return serialize_executable.deserialize_and_load(content, *trees, execution_devices=devices)


def _kept(key: str) -> bytes | None:
    """Returns the program that a key names."""
    program = _FILES.find(key)
    return _FILES.find(program.decode()) if program else None


def by_shape(
    name: str,
    parts: Mapping[str, Any],
    function: Callable[..., Any],
    *,
    result: Any,
    devices: Sequence[jax.Device],
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Returns a function that takes the compiled forms of another from earlier processes, as its calls need them.

    Args:
      name: says what it is.
      parts: what the function and the shapes of all arguments but the last are made of besides jaxseg's code.
      function: what `jax.jit` or `jax.pmap` returns; the shapes of its last argument may differ from call to call.
      result: a tree of the form that the function returns; the leaves do not matter.
      devices: the devices that it is compiled for, in order.
      options: the compiler's options that the function brings along.
    """
    if not _applies():
        return function
    programs = {}

    def call(*args: Any) -> Any:
        shapes = str(jax.tree.map(lambda leaf: leaf.shape, args[-1]))
        if shapes not in programs:
            made_of = {**parts, "shapes": shapes}
            kinds = {"result": result, "devices": devices, "options": options}
            programs[shapes] = compiled(name, made_of, function, *args, **kinds)
        return programs[shapes](*args)

    call.lower, call.trace = function.lower, jax.jit(function).trace  # for those who ask what a call costs
    return call


def surroundings() -> str:
    """Returns a hash of what takes part in every name: processes with another one share no programs."""
    return _key("surroundings", {}, sources=("**/*.py",))


def _applies() -> bool:
    """Returns whether this process runs no code but the project's own."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name.split(".")[0] in _OWN_CODE and jax.process_count() == 1


def _key(name: str, parts: Mapping[str, Any], sources: Sequence[str]) -> str:
    # All of JAX's settings that may change a program. JAX also reads XLA's flags from the environment.
    flags = {k: repr(v) for k, v in jax.config.values.items() if "cache" not in k and "transfer_guard" not in k}
    about = {"name": name, "flags": flags, "xla": os.environ.get("XLA_FLAGS", ""), "processor": machine.processor()}
    return kept_files.key_of({**about, **parts}, packages=_PACKAGES, sources=sources)


@dataclasses.dataclass
class _CacheHits:
    """Tells whether this thread read a program from JAX's cache within a block.

    Attributes:
      any: whether it did.
    """

    any: bool = False
    _thread: int = dataclasses.field(default_factory=threading.get_ident)

    def __enter__(self) -> "_CacheHits":
        jax.monitoring.register_event_listener(self._heard)
        return self

    def __exit__(self, *exception: object) -> None:
        jax.monitoring.unregister_event_listener(self._heard)

    def _heard(self, event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits" and threading.get_ident() == self._thread:
            self.any = True
