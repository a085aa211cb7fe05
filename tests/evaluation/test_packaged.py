"""The end of the demo: the model inside the package on a few generated images."""

from jaxseg import evaluate
from jaxseg.data.images import decode_image
from jaxseg.evaluation.packaged import PICTURE


def test_the_demo_ends_with_the_model_inside(tiny, tiny_run, tmp_path, monkeypatch, capsys):
    """If broken, who has tried the demo does not learn that photographs can be segmented without training."""
    evaluate.main(["--workdir", str(tiny_run), "--out", str(tmp_path / "usual")])
    assert not (tmp_path / "usual" / PICTURE).exists()
    monkeypatch.setattr("jaxseg.config.demo", lambda: tiny)
    evaluate.main(["--workdir", str(tiny_run), "--out", str(tmp_path / "demo")])
    said = capsys.readouterr().err
    assert "the model inside, on 4 of these generated images: Dice 0." in said
    assert "python -m jaxseg.predict --input photo.jpg --output masks" in said
    assert decode_image(tmp_path / "demo" / PICTURE).std() > 10
