"""Encoder weights as training asks for them: by name, from Keras' cache, or downloaded; and `port_weights`."""

import chex
import pytest

from experiments.parity.reference.keras_files import write_by_name
from jaxseg import port_weights, weights
from jaxseg.errors import UserError
from jaxseg.weights.download import md5_of
from jaxseg.weights.pretrained import KERAS_URL
from jaxseg.weights.published import PUBLISHED
from tests.helpers.tiny_weights import TOP, V2, seeded

pytestmark = pytest.mark.usefixtures("tiny_encoders")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Keras cache, and a published file of tiny weights as `cache.parent / "published.h5"`."""
    source = write_by_name(tmp_path / "published.h5", seeded()[0])
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for module in (weights.published, weights.pretrained):
        monkeypatch.setattr(module, "PUBLISHED", {md5_of(source): (V2, "v2.h5")})
    return tmp_path / "keras" / "models"


def test_pretrained_names(tmp_path):
    """If broken, a mistyped name starts from random weights, as only `none` may."""
    assert weights.load_pretrained("none", V2) is None
    with pytest.raises(UserError, match=r"model.pretrained = 'imagnet': no such file.*did you mean 'imagenet'"):
        weights.load_pretrained("imagnet", V2)


def test_imagenet_comes_from_the_cache_if_it_is_whole(cache, monkeypatch, caplog):
    """If broken, a user who has Keras' file needs the network, or a cut-off file is used."""
    cache.mkdir(parents=True)
    source = cache.parents[1] / "published.h5"
    fetched = []
    monkeypatch.setattr(
        weights.pretrained, "download", lambda url, path, md5, _: fetched.append(url) or path.write_bytes(whole)
    )
    whole = source.read_bytes()
    for content in (whole, whole[:-1]):
        (cache / "v2.h5").write_bytes(content)
        chex.assert_trees_all_equal(weights.load_pretrained("imagenet", V2), seeded()[1])
    assert fetched == [f"{KERAS_URL}v2.h5"]
    assert "is not the file that Keras publishes" in caplog.text
    with pytest.raises(UserError, match="no published weights"):
        weights.load_pretrained("imagenet", "resnet50")


def test_without_network_one_line_says_what_to_do(cache, monkeypatch):
    """If broken, a user without network, who trains with `imagenet` by default, sees a traceback first of all."""
    import requests

    def no_network(*args, **kwargs):
        assert kwargs["timeout"] <= 10
        raise requests.ConnectionError("a long story")

    monkeypatch.setattr(requests.Session, "get", no_network)
    with pytest.raises(UserError, match=r"download https://storage.*v2\.h5 .* put it at .* --model\.pretrained none"):
        weights.load_pretrained("imagenet", V2)


def test_the_folder_of_a_run_is_answered_with_how_to_port_it(tiny_run):
    """If broken, who wants to start from a run's encoder is told only that it is a folder."""
    with pytest.raises(UserError, match=r"is the folder of a run; .*jaxseg\.port_weights --source .*tiny --output"):
        weights.load_pretrained(str(tiny_run), V2)


def test_port_weights_says_what_went_where(tmp_path, capsys, monkeypatch):
    """If broken, users cannot see whether every layer arrived, or whether the file is the published one."""
    tensors, variables = seeded()
    source, output = write_by_name(tmp_path / "w.h5", tensors | TOP), tmp_path / "w.npz"
    port_weights.main(["--source", str(source), "--output", str(output)])
    out = capsys.readouterr().out
    assert "post_bn                  256              gamma -> params/scale, beta -> params/bias, moving_mean" in out
    assert f"142 tensors, {sum(v.size for v in tensors.values()):,} parameters" in out
    assert "not a file that Keras publishes" in out
    chex.assert_trees_all_equal(weights.load_pretrained(str(output), V2), variables)

    with pytest.raises(UserError, match="--force"):
        port_weights.main(["--source", str(source), "--output", str(output)])
    monkeypatch.setitem(PUBLISHED, md5_of(source), (V2, "published.h5"))
    port_weights.main(["--source", str(source), "--output", str(output), "--force"])
    assert "the ImageNet weights that Keras publishes as published.h5" in capsys.readouterr().out

    back = tmp_path / "back.h5"
    port_weights.main(["--source", str(output), "--output", str(back), "--to", "keras"])
    chex.assert_trees_all_equal(weights.load_keras(back), variables)


def test_port_weights_checks_its_arguments_first(tmp_path, monkeypatch):
    """If broken, a mistake is told after minutes of work, or something is written nevertheless."""
    monkeypatch.chdir(tmp_path)
    for output, more, message in (
        ("missing/w.npz", [], "there is no folder"),
        (".", [], "is a folder"),
        ("w.npz", ["--encoder", "resnet50v"], "did you mean 'resnet50v2'"),
        ("w.npz", [], "w.h5: no such file; give a Keras .h5 or a ported .npz file"),
    ):
        with pytest.raises(UserError, match=message):
            port_weights.main(["--source", "w.h5", "--output", output, *more])
    assert not list(tmp_path.iterdir())
