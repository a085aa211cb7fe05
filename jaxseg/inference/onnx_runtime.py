"""The networks of a segmenter as ONNX graphs, run on the CPU by ONNX Runtime or OpenVINO.

A graph is what `jaxseg.inference.export` writes of one network. It is kept, so that only the first start with given
weights imports JAX. Test-time augmentation turns the images here: in a graph it would be the network eight times.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxseg.config import Config
from jaxseg.errors import UserError
from jaxseg.inference import kept_graphs
from jaxseg.inference.runtime import LoadedModel
from jaxseg.inference.segmenter import Member, Segmenter
from jaxseg.runs.fingerprint import Fingerprint, fingerprint_of
from jaxseg.system.machine import cores
from jaxseg.system.telemetry import import_openvino

log = logging.getLogger(__name__)

Graph = Callable[[np.ndarray], np.ndarray]
"""A network that is ready to run: uint8 [B, S, S, 3] to float32 [B, S, S]."""


class OnnxRuntime:
    """ONNX Runtime, by its name in records and with its version for the log."""

    package = "onnxruntime"

    def __init__(self):
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # which builds for Windows send
        self._library = onnxruntime
        self.version = onnxruntime.__version__

    def compiled(self, content: bytes) -> Graph:
        """Prepares a graph for all cores that the process may use.

        Args:
          content: an ONNX file.
        """
        options = self._library.SessionOptions()
        options.intra_op_num_threads = cores()
        session = self._library.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(["probability"], {"images": images})[0]


class OpenVino:
    """OpenVINO, likewise."""

    package = "openvino"

    def __init__(self):
        openvino = import_openvino()
        self._core = openvino.Core()
        self.version = openvino.__version__.split("-")[0]

    def compiled(self, content: bytes) -> Graph:
        """Prepares a graph for all cores that the process may use.

        Args:
          content: an ONNX file.
        """
        options = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all threads
            "INFERENCE_PRECISION_HINT": "f32",  # by default bfloat16 where the processor has it
            "INFERENCE_NUM_THREADS": cores(),
        }
        model = self._core.compile_model(self._core.read_model(content), "CPU", options)
        return lambda images: np.array(model([images])[0])  # copied: the next batch reuses the memory


LIBRARIES = (OpenVino, OnnxRuntime)
"""What runs graphs, the fastest first.

On two cores of an AMD EPYC, OpenVINO takes a tenth (ResNet50) to a fifth (ResNet50V2) less time for batches of eight.
ONNX Runtime starts 0.2 s earlier, for which some ten images make up.
"""


class GraphRuntime:
    """A `Runtime` of ONNX graphs.

    Args:
      name: package of the library that runs them.
      graphs: one of each member, at least one.
      tta: whether each network averages over the symmetries of the square.
    """

    fewest = 1
    any_size = True

    def __init__(self, name: str, graphs: Sequence[Graph], *, tta: bool):
        self.name = name
        self._graphs = [_over_symmetries(graph) for graph in graphs] if tta else list(graphs)

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Runs a batch to its end: the libraries use all cores anyway, and images are decoded in other threads."""
        result = _mean([graph(images) for graph in self._graphs])
        return lambda: result


def _over_symmetries(graph: Graph) -> Graph:
    """Returns the mean of a network over the eight symmetries of the square."""
    from jaxseg.models.symmetries import SYMMETRIES, turned, turned_back  # imports JAX

    def mean(images: np.ndarray) -> np.ndarray:
        maps = [turned_back(graph(np.ascontiguousarray(turned(images, *s))), *s) for s in SYMMETRIES]
        return _mean(maps)

    return mean


def _mean(maps: Sequence[np.ndarray]) -> np.ndarray:
    return sum(maps[1:], maps[0]) / np.float32(len(maps))


def load(workdirs: Sequence[Path], configs: Sequence[Config], *, tta: bool) -> LoadedModel:
    """Loads the best weights of runs onto the fastest library that is installed.

    Args:
      workdirs: the runs' folders.
      configs: the runs' settings.
      tta: whether each network averages over the symmetries of the square.

    Raises:
      UserError: no such library is installed, or onnx is missing, which writes the graphs; or a run has no checkpoint.
    """
    library = _fastest()
    log.info("network runs on %s %s, %d threads", library.package, library.version, cores())
    found = [_graph_of(workdir, config) for workdir, config in zip(workdirs, configs, strict=True)]
    graphs = [library.compiled(content) for content, _ in found]
    return LoadedModel(GraphRuntime(library.package, graphs, tta=tta), tuple(step for _, step in found))


def _fastest() -> OpenVino | OnnxRuntime:
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            return library()
    raise UserError("the runtime onnx needs ONNX Runtime or OpenVINO: pip install onnx onnxruntime")


def _graph_of(workdir: Path, config: Config) -> tuple[bytes, int]:
    """Returns the graph of a run's network, kept or newly made, and the training step of its weights."""
    before = fingerprint_of(workdir)
    if before:
        key = kept_graphs.key_of(before, config)
        if content := kept_graphs.FILES.find(key):
            return content, before.step
    content, step = _translated(workdir, config)
    # A run that is still training may have replaced its best weights meanwhile.
    if before and fingerprint_of(workdir) == before == Fingerprint(step, before.sha256):
        kept_graphs.FILES.keep(key, content)
    return content, step


def _translated(workdir: Path, config: Config) -> tuple[bytes, int]:
    """Reads a run's weights and writes its network as ONNX."""
    from jaxseg.inference import jax_runtime
    from jaxseg.inference.export import export_onnx
    from jaxseg.system import startup

    startup.check_platform()
    runtime, (step,) = jax_runtime.load([workdir], [config], tta=False, batch_size=1)
    return export_onnx(Segmenter([Member(workdir, config, step)], runtime, tta=False)), step
