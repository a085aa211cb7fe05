"""The page's server: what it refuses, what it answers, and that it answers what `predict` writes."""

import csv
import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxseg import predict
from jaxseg.app import server as server_module
from jaxseg.app.about import about
from jaxseg.app.model import PageModel
from jaxseg.app.recent import Recent
from jaxseg.data.identity import Identity, hash_bytes
from jaxseg.data.images import decode_image
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter
from jaxseg.runs import images as run_images
from tests.helpers.bad_files import BAD_IMAGES, HARMLESS_IMAGES, encoded
from tests.helpers.paths import ROOT
from tests.helpers.pictures import pixels
from tests.helpers.skin import pair

PHOTO = encoded(pair(3, 120, 90)[0], "jpeg")

PATHS = ("/", "/static/page.js", "/api/model", "/api/photographs", "/gone")


def maps(served, found: dict, kind: str) -> np.ndarray:
    """Returns a map of a photograph, uint8 [H, W]."""
    answer = served.ask(f"/api/photographs/{found['key']}/{kind}")
    assert answer.status == 200
    assert answer.headers["content-encoding"] == "gzip"
    return np.frombuffer(gzip.decompress(answer.body), np.uint8).reshape(found["height"], found["width"])


def measured(served, found: dict, mask: np.ndarray, query: str):
    bits = np.packbits(mask).tobytes()
    return served.ask(f"/api/photographs/{found['key']}/measure?{query}", "POST", bits)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_answered_without_the_token(served, path):
    """If broken, every program and user of the machine reads the photographs on the page."""
    for cookie in ("", "a=b", f"{served.gate.cookie}=wrong", f"other={served.gate.token}"):
        answer = served.ask(path, cookie=cookie)
        assert answer.status == 403
        assert b"token" in answer.body
        assert served.gate.token.encode() not in answer.body
    assert served.ask(f"{path}?token=wrong", cookie="").status == 403


def test_the_address_gives_a_cookie_that_scripts_do_not_see(served):
    """If broken, the page cannot be opened, or its token can be read by a script or sent along by another site."""
    answer = served.ask(f"/?token={served.gate.token}", cookie="")
    assert answer.status == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert b"jaxseg" in answer.body


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:80"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "192.0.2.7"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_are_refused_even_with_the_token(served, headers):
    """If broken, any page that the user visits sends photographs to the server, or reads what is there."""
    for path, method in (("/api/model", "GET"), ("/api/photographs?name=a.png", "POST")):
        assert served.ask(path, method, PHOTO if method == "POST" else b"", **headers).status == 403


def test_the_page_itself_is_answered(served):
    """If broken, the checks above refuse everybody."""
    own = {"origin": f"http://127.0.0.1:{served.port}", "sec_fetch_site": "same-origin"}
    assert served.ask("/api/model", **own).status == 200
    assert served.ask("/", sec_fetch_site="cross-site").status == 200  # a link that leads here shows nothing there
    for host in ("localhost:1234", "[::1]:1234", "LOCALHOST"):  # another port: forwarded by ssh
        assert served.ask("/api/model", host=host).status == 200


def test_every_answer_has_its_headers(served):
    """If broken, the page can be framed, loads from elsewhere, or leaves photographs in the browser's cache."""
    for path in PATHS:
        for cookie in ({}, {"cookie": ""}):
            headers = served.ask(path, **cookie).headers
            assert headers["content-security-policy"].startswith("default-src 'self'")
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers


def test_no_answer_holds_a_path_of_the_machine(served):
    """If broken, answers show folders and with them the user's name."""
    found = served.add(PHOTO).json
    key = f"/api/photographs/{found['key']}"
    answers = [
        served.ask(path) for path in (*PATHS, f"{key}/levels", f"{key}/picture", f"{key}/gone", f"{key}/measure")
    ]
    answers += [served.add(content, "a.png") for _, content, _ in BAD_IMAGES.values()]
    answers += [
        served.ask(f"/static/{path}") for path in ("gone.js", "../model.py", "..%2fmodel.py", "", "/etc/passwd")
    ]
    answers.append(served.ask(f"{key}/measure?stop=x", "POST", b"\0"))
    shown = (str(ROOT), str(Path.home()), sys.prefix, "site-packages", "Traceback")
    for answer in answers:
        assert not [path for path in shown if path.encode() in answer.body]
        assert answer.status < 500
    assert [answer.status for answer in answers[-6:-1]] == [404] * 5


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_file_is_answered_by_name(served, kind):
    """If broken, the page cannot say which file was bad and why, or the server ends."""
    name, content, said = BAD_IMAGES[kind]
    answer = served.add(content, f"my%20{name}")
    assert answer.status == 422
    assert re.fullmatch(rf"my {name}: .*({said}).*", answer.json["error"])


def test_all_kinds_of_images_are_taken(served):
    """If broken, a photograph that predict takes is refused by the page, or shown with another size."""
    for name, content in HARMLESS_IMAGES.items():
        found = served.add(content, "x").json
        size = maps(served, found, "levels").shape
        picture = served.ask(f"/api/photographs/{found['key']}/picture").body
        assert picture.startswith(b"\xff\xd8\xff"), name
        assert ("turned" in name) == (size == (30, 20)), name
        assert any("pictures" in note for note in found["notes"]) == name.startswith(("animated", "two")), name
        assert any("8 bits" in note for note in found["notes"]) == name.startswith(("16 bit", "float")), name


def test_a_file_that_is_too_large_is_refused(served, monkeypatch):
    """If broken, one upload fills the machine's memory."""
    monkeypatch.setattr(server_module, "MAX_UPLOAD_BYTES", len(PHOTO) - 1)
    for body in (PHOTO, iter([PHOTO[:1000], PHOTO[1000:]])):  # announced, and in pieces
        answer = served.ask("/api/photographs?name=a.png", "POST", body)
        assert answer.status == 413
        assert answer.json["error"].startswith("a.png: more than")
    monkeypatch.setattr(server_module, "MAX_UPLOAD_BYTES", len(PHOTO))
    assert served.add(PHOTO).status == 200


def test_levels_are_the_masks_of_predict(served, tmp_path):
    """If broken, the page shows another mask or uncertainty than predict writes for the same file and threshold."""
    photos = {"a.jpg": PHOTO, "turned.jpg": HARMLESS_IMAGES["turned.jpg"], "deep.png": HARMLESS_IMAGES["16 bit.png"]}
    for name, content in photos.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    stops = served.ask("/api/model").json["stops"]
    assert len(stops) == 100
    found = {name: served.add(content, name).json for name, content in photos.items()}
    for threshold in ("0.03", "0.4321", "0.97"):
        out = tmp_path / threshold
        extras = ["--uncertainty"] if threshold == "0.03" else []
        assert not predict.main(["--input", f"{tmp_path}/in", "--output", str(out), "--threshold", threshold, *extras])
        for name, sent in found.items():
            mask = maps(served, sent, "levels") > stops.index(float(threshold))
            np.testing.assert_array_equal(pixels(out / f"{Path(name).stem}_mask.png"), mask * np.uint8(255))
            if extras:
                expected = pixels(out / f"{Path(name).stem}_uncertainty.png")
                np.testing.assert_array_equal(maps(served, sent, "uncertainty"), expected)


def test_levels_are_exact_at_every_stop(served, segmenter):
    """If broken, the slider shows another mask than `Prediction` makes at some threshold, by rounding."""
    found = served.add(PHOTO).json
    stops = served.ask("/api/model").json["stops"]
    levels = maps(served, found, "levels")
    probability = np.asarray(segmenter(decode_image(PHOTO)))
    for i, stop in enumerate(stops):
        np.testing.assert_array_equal(levels > i, Prediction(stop).mask(probability))
    # Probabilities on a threshold itself, and one step of float32 to its sides.
    edges = np.float32(stops)
    values = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(1))])[None]
    assert values.dtype == np.float32
    at_edges = served.model.to_levels(values)
    for i, stop in enumerate(stops):
        np.testing.assert_array_equal(at_edges > i, Prediction(stop).mask(values))


def test_measurements_are_those_of_predict(served, tmp_path):
    """If broken, the table on the page differs from predictions.csv of the same mask."""
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    flags = ["--measure", "--pixels-per-mm", "7.5", "--threshold", "0.3", "--largest-component"]
    assert not predict.main(["--input", f"{tmp_path}/a.jpg", "--output", f"{tmp_path}/out", *flags])
    with (tmp_path / "out" / "predictions.csv").open() as lines:
        (expected,) = csv.DictReader(lines)
    found = served.add(PHOTO, "a").json
    stop = served.ask("/api/model").json["stops"].index(0.3)
    mask = pixels(tmp_path / "out" / "a_mask.png") > 0
    assert measured(served, found, mask, f"stop={stop}&largest=1&scale=7.5").json == expected
    assert measured(served, found, mask * False, f"stop={stop}").json["area_pixels"] == "0"


def test_a_bad_measurement_is_refused(served):
    """If broken, a request with a mask of another size, or without a threshold, ends in a traceback."""
    found = served.add(PHOTO).json
    mask = np.zeros(90 * 120, bool)
    for query in ("", "stop=x", "stop=-1", "stop=100", "stop=1&scale=-1", "stop=1&scale=nan", "stop=1&scale=inf"):
        assert measured(served, found, mask, query).status == 400, query
    assert measured(served, found, mask[8:], "stop=1").status == 400
    answer = measured(served, found, np.zeros(90 * 120 + 8, bool), "stop=1")
    assert (answer.status, answer.json["error"]) == (413, "the mask must have 1350 bytes")
    for what in ("levels", "uncertainty", "picture"):
        assert served.ask(f"/api/photographs/{'0' * 16}/{what}").status == 404


def test_photographs_that_were_trained_on_are_told(segmenter, monkeypatch):
    """If broken, an outline looks good because the model has seen its photograph, and nobody is told."""
    seen = run_images.ImageList((run_images.Entry("", Identity("x", "y", hash_bytes(PHOTO))),), ())
    monkeypatch.setattr(run_images, "read", lambda workdir: seen)
    model = PageModel(segmenter, Prediction())
    notes = [model.photograph(model.segment(content, "a")).notes for content in (PHOTO, encoded(pair(4)[0]))]
    assert "trained on" in notes[0][0]
    assert notes[1] == ()


def test_an_ensemble_of_runs_is_served(tiny_run, other_run):
    """If broken, the page shows where a run lies, hides that it saw no real lesion, or takes packed models alone."""
    runs = Segmenter.load(tiny_run, other_run, tta=True, batch_size=1)
    model = PageModel(runs, Prediction(0.7, None, True, True))
    shown = about(runs, Prediction(0.7, None, True, True))
    assert shown["name"] == f"run {tiny_run.name} and 1 more"
    assert str(tiny_run) not in json.dumps(shown)
    assert shown["synthetic"]
    assert (shown["stops"][shown["stop"]], shown["largest_component"], shown["fill_holes"]) == (0.7, True, True)
    photograph = model.photograph(model.segment(PHOTO, "a"))
    np.testing.assert_array_equal(
        model.levels(photograph) > shown["stop"], Prediction(0.7).mask(runs(decode_image(PHOTO)))
    )


def test_what_was_used_last_is_kept():
    """If broken, the memory grows with every photograph, or the one on show is forgotten first."""
    recent = Recent(10, len)
    for key in "abc":
        recent.put(key, b"1234" if key != "b" else b"12")
    assert recent.get("a") == b"1234"
    recent.put("d", b"12")
    assert [recent.get(key) is not None for key in "abcd"] == [True, False, True, True]
    recent.put("a", b"1" * 50)
    assert [recent.get(key) is not None for key in "abcd"] == [True, False, False, False]


def test_a_threshold_of_almost_one_is_served(segmenter):
    """If broken, `--threshold 0.99999999`, which is 1 in float32, ends in a traceback."""
    model = PageModel(segmenter, Prediction(0.99999999))
    values = np.float32([0.5, 0.9999, 1.0])
    assert [int(np.sum(np.float32(model.stops) < value)) for value in values] == model.to_levels(values).tolist()
