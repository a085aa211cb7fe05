"""`python -m jaxseg.inspect`: its numbers, its page, and what it finds suspicious."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxseg import inspect
from jaxseg.data.examples import Example
from jaxseg.data.looks import alike, contrast, fingerprint
from jaxseg.errors import UserError
from tests.helpers.skin import folder, grey, pair, save, two_colours


def inspected(data, out, *flags: str) -> tuple[dict, str]:
    inspect.main(["--data", str(data), "--out", str(out), *flags])
    return json.loads((out / "inspect.json").read_text()), (out / "inspect.html").read_text()


def test_the_page_stands_alone_and_the_numbers_are_right(tmp_path):
    """If broken, the look at a data set shows other counts than training will see, or needs the network."""
    numbers, page = inspected(folder(tmp_path / "data"), tmp_path / "out", "--pictures", "4")
    assert (numbers["images"], numbers["splits"]) == (10, {"train": 8, "validation": 2})
    assert numbers["sizes"] == {"64x48": 10}
    shares = {row["name"]: row["lesion_share"] for row in numbers["rows"]}
    assert shares == pytest.approx({f"img{i:02d}": pair(i)[1].mean() for i in range(10)}, abs=1e-5)
    assert numbers["suspicious"] == numbers["near_duplicates"] == []
    assert page.count('<img src="data:image/jpeg;base64,') == 4
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_only_the_inspection_of_the_same_set_is_replaced(tmp_path):
    """If broken, the page of one data set takes the place of another's, or of a file of the user's."""
    first, second = folder(tmp_path / "first", 5), folder(tmp_path / "second", 6)
    for _ in range(2):
        assert inspected(first, tmp_path / "out")[0]["images"] == 5
    with pytest.raises(UserError, match=r"holds the inspection of another data set, .*first; give another folder"):
        inspected(second, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "inspect.html").write_text("mine")
    with pytest.raises(UserError, match=r"holds inspect\.html, which is not of an inspection"):
        inspected(second, tmp_path / "mine")
    with pytest.raises(UserError, match=r"inspect\.html: is a file; give a folder"):
        inspected(second, tmp_path / "mine" / "inspect.html")
    with pytest.raises(UserError, match=r"looks: lies among the masks of .*second"):
        inspected(second, second / "masks" / "looks")
    assert not (second / "masks" / "looks").exists()


def test_suspicious_masks_are_named_and_shown_first(tmp_path):
    """If broken, the one inverted mask among many is not seen before training."""
    data = folder(tmp_path / "data")
    save(data / "masks" / "img07.png", grey(~pair(7)[1]))
    save(data / "masks" / "img03.png", grey(pair(3)[1] & False))
    save(data / "masks" / "img05.png", np.where(pair(5)[1], 255, 200).astype(np.uint8))
    numbers, page = inspected(data, tmp_path / "out", "--pictures", "2")
    doubts = {item["name"]: item["doubt"] for item in numbers["suspicious"]}
    assert doubts.keys() == {"img03", "img05", "img07"}
    assert doubts["img07"] == "lesion in all four corners"
    assert doubts["img03"] == "no lesion"
    assert "no black" in doubts["img05"]
    assert (numbers["masks"]["corners"], numbers["masks"]["empty"], numbers["masks"]["unreadable"]) == (1, 1, 1)
    assert page.count("<figure>") == 2
    assert page.count("with the outline of its mask") == 2


def test_what_only_all_masks_together_tell_is_on_the_page(tmp_path):
    """If broken, training warns of masks in another colour, or of one mask for two images, and the page hides them."""
    data = folder(tmp_path / "data", draw=lambda mask: two_colours(mask, (255, 0, 0), (0, 0, 0)))
    save(data / "masks" / "img02.png", two_colours(pair(2)[1], (0, 255, 0), (0, 0, 0)))
    save(data / "masks" / "img06.png", two_colours(pair(4)[1], (255, 0, 0), (0, 0, 0)))
    numbers, page = inspected(data, tmp_path / "out", "--pictures", "3")
    doubts = {item["name"]: item["doubt"] for item in numbers["suspicious"]}
    assert doubts == {
        "img02": "the lesion is #00ff00 here and #ff0000 elsewhere; --data.mask-lesion says which one is lesion",
        "img04": "pixel by pixel the mask of img06 too",
        "img06": "pixel by pixel the mask of img04 too",
    }
    assert page.count("<figure>") == page.count('<br><span class="doubt">') == 3
    for flag in (("--data.mask-lesion", "255"), ("--data.mask-invert", "true")):
        decided = inspected(data, tmp_path / "out", *flag)[0]["suspicious"]
        assert not any("elsewhere" in item["doubt"] for item in decided), flag


def test_near_duplicates_across_the_split_are_found(tmp_path):
    """If broken, a picture that was scaled and compressed is trained on and scored."""
    data = tmp_path / "data"
    # Larger pictures than elsewhere: the noise of small ones is most of what they show.
    for side, numbers in (("train", range(6)), ("validation", range(6, 9))):
        for number in numbers:
            image, mask = pair(number, 320, 240)
            save(data / side / "images" / f"{number}.png", image)
            save(data / side / "masks" / f"{number}.png", grey(mask))
    image, mask = pair(2, 320, 240)
    save(data / "validation" / "images" / "copy.jpg", Image.fromarray(image).resize((160, 120)), quality=70)
    save(data / "validation" / "masks" / "copy.png", Image.fromarray(grey(mask)).resize((160, 120)))
    turned = data / "validation" / "images" / "turned.png", data / "validation" / "masks" / "turned.png"
    for path, picture in zip(turned, pair(4, 320, 240), strict=True):
        save(path, np.ascontiguousarray(np.rot90(picture if picture.ndim == 3 else grey(picture))[:, ::-1]))
    numbers, page = inspected(data, tmp_path / "out")
    assert [(p["train"], p["validation"], p["different_bits"] is None) for p in numbers["near_duplicates"]] == [
        ("train/2", "validation/copy", False),
        ("train/4", "validation/turned", True),
    ]
    assert "train/2 and validation/copy" in page


def test_a_fingerprint_outlasts_scaling_and_compression():
    """If broken, copies of a picture are taken for different ones."""
    buffer = io.BytesIO()
    image = pair(1, 640, 480)[0]
    Image.fromarray(image).resize((300, 225)).save(buffer, "jpeg", quality=60)
    first, second = fingerprint(image), fingerprint(np.asarray(Image.open(buffer)))
    other = fingerprint(pair(2, 640, 480)[0])
    [(place, its, distance)] = alike([other, first], [second])
    assert (place, its) == (1, 0)
    assert distance < 100
    assert alike([other], [second]) == alike([], [second]) == []


def test_a_lesion_brighter_than_its_skin_is_doubted():
    """If broken, a mask that belongs to another image is not told from one that fits."""
    image, mask = pair(0)
    true = mask[..., None].astype(np.uint8)
    assert contrast(Example(image, true)) > 0.3
    assert contrast(Example(255 - image, true)) < -0.3
    assert np.isnan(contrast(Example(image, true * 0)))


def test_outlines_are_not_said_to_be_left_out(tmp_path):
    """If broken, the page says of masks that are read that they are not."""
    data = folder(tmp_path / "data", 6)
    for path in (data / "masks").iterdir():
        path.unlink()
        corners = {"label": "lesion", "points": [[4, 4], [30, 4], [30, 30]], "shape_type": "polygon"}
        values = {"shapes": [corners], "imagePath": "", "imageHeight": 48, "imageWidth": 64}
        path.with_suffix(".json").write_text(json.dumps(values))
    assert inspected(data, tmp_path / "out")[0]["left_out"] == {}


def test_fewer_pictures_than_none_are_refused(tmp_path, capsys):
    """If broken, a slip in a flag is a traceback."""
    with pytest.raises(SystemExit) as left:
        inspected(folder(tmp_path / "data"), tmp_path / "out", "--pictures", "-1")
    assert left.value.code == 2
    assert "--pictures: '-1' must be at least 0" in capsys.readouterr().err
