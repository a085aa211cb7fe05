"""The list of a run's images: written at the start, compared when the run goes on, found again by content."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg import data
from jaxseg.config import Config
from jaxseg.data.identity import Identity, identify
from jaxseg.errors import UserError
from jaxseg.runs import images, splits, workdir
from jaxseg.runs.images import Entry, ImageList
from tests.helpers.drawn_folders import draw_folder, reencode, remove, rename
from tests.helpers.paths import FIXTURES


def config_of(folder, **changes):
    return Config().updated({"data.name": str(folder), **{f"data.{name}": value for name, value in changes.items()}})


def start(config, run, *, with_list=True):
    """Leaves what a run that took its first steps does, as far as it matters for its images."""
    opened = splits.open_splits(config, run)
    if with_list:
        splits.register(opened, config, run, (lambda *_: None, lambda *_: None), lambda: False)
    (run / "checkpoints" / "3").mkdir(parents=True)
    prints = {"train": opened.train.fingerprint(), "validation": opened.validation.fingerprint()}
    about = {"dataset": opened.train.dataset, "fingerprints": prints}
    (run / "config.json").write_text(json.dumps({"config": config.to_dict(), "data": about}))
    return opened


def go_on(config, run):
    opened = splits.open_splits(config, run)
    splits.register(opened, config, run, (lambda *_: None, lambda *_: None), lambda: False)
    return opened


@pytest.fixture
def folder(tmp_path):
    return draw_folder(tmp_path / "set", range(10))


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def paint(path):
    """Turns one pixel of a file around."""
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(path)


def names(opened):
    return opened.train.names, opened.validation.names


def test_the_list_holds_what_trains_and_what_validates(folder, run):
    """If broken, nobody can tell later what a model was trained on."""
    opened = start(config_of(folder), run)
    stored = images.read(run)
    assert tuple(entry.name for entry in stored.train) == opened.train.names
    assert tuple(entry.name for entry in stored.validation) == opened.validation.names
    assert [entry.identity for entry in stored.train] == identify(opened.train)
    assert stored.earlier_train == stored.earlier_validation == ()
    assert len(stored.trained() & stored.validated()) == 0


@pytest.mark.parametrize("content", ["[]", "{}", '{"version": 2}', '{"version": 1, "train": [["a", 1]]}', '{"version'])
def test_a_damaged_list_is_refused_in_a_line(run, content):
    """If broken, half a list makes trained images pass for unseen ones, or ends in a traceback."""
    run.mkdir()
    (run / "images.json").write_text(content)
    with pytest.raises(UserError, match=r"images\.json") as error:
        images.read(run)
    assert "\n" not in str(error.value)


CHANGES = {
    "added": (lambda f: draw_folder(f, [10, 11, 12]), "3 added (img10, img11, img12)"),
    "many added": (lambda f: draw_folder(f, range(10, 15)), "5 added (img10, img11, img12, …)"),
    "removed": (lambda f: remove(f, "img03"), "1 removed (img03)"),
    "image edited": (lambda f: paint(f / "images" / "img05.png"), "1 edited (img05)"),
    "mask edited": (lambda f: paint(f / "masks" / "img05.png"), "1 edited (mask of img05)"),
    "exchanged": (lambda f: (remove(f, "img00"), draw_folder(f, [20])), "1 added (img20), 1 removed (img00)"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_a_set_that_changed_is_refused(folder, run, change, said):
    """If broken, a run goes on with other images than it began with, and nobody knows what it was trained on."""
    start(config_of(folder), run)
    change(folder)
    with pytest.raises(UserError) as error:
        splits.open_splits(config_of(folder), run)
    assert f"the images have changed since {run} was started: {said}; put them back" in str(error.value)
    assert "--data.keep-split true" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_on_request_the_stored_split_goes_on(folder, run, change, said, caplog):
    """If broken, images change sides between training and validation, or what was trained on is forgotten."""
    before = start(config_of(folder), run)
    first = images.read(run)
    change(folder)
    config = config_of(folder, keep_split=True)
    after = go_on(config, run)
    there = set(data.open_split(config.data, "all").names)
    assert names(after) == tuple(tuple(n for n in part if n in there) for part in names(before))
    assert said in caplog.text
    now = images.read(run)
    assert first.trained() <= now.trained()
    assert first.validated() <= now.validated()
    assert [entry.identity for entry in now.train] == identify(after.train)
    if "added" not in said:  # else what was added is refused again
        assert names(go_on(config_of(folder), run)) == names(after)


def test_images_that_the_user_moved_to_the_other_side_are_told(run, tmp_path, caplog):
    """If broken, a run goes on with images in training that its user has put into validation, without a word."""
    for side, numbers in (("train", range(4)), ("validation", range(4, 6))):
        draw_folder(tmp_path / "own" / side, numbers)
    start(config_of(tmp_path / "own"), run)
    for part in ("images", "masks"):
        path = tmp_path / "own" / "train" / part / "img03.png"
        path.rename(tmp_path / "own" / "validation" / part / "img03.png")
    opened = go_on(config_of(tmp_path / "own"), run)
    assert set(names(opened)[0]) == {"train/img00", "train/img01", "train/img02", "validation/img03"}
    assert "1 images lie on the other side of the split than when this run was started (train/img03)" in caplog.text


def test_without_a_change_the_split_is_the_same(folder, run):
    """If broken, a resumed run trains in another order than one that was never stopped."""
    before = start(config_of(folder), run)
    written = (run / "images.json").read_bytes()
    after = go_on(config_of(folder), run)
    assert names(after) == names(before)
    assert after.train.fingerprint() == before.train.fingerprint()
    assert (run / "images.json").read_bytes() == written


@pytest.mark.parametrize("how", ["moved", "reencoded", "renamed"])
def test_images_are_found_again_by_content(folder, run, tmp_path, how):
    """If broken, a run cannot go on once its folder was moved, its files were renamed or stored as another kind."""
    before = start(config_of(folder), run)
    kept = [before.train.load(i).image for i in range(len(before.train))]
    place = tmp_path / "moved"
    if how == "reencoded":
        reencode(folder, place)
    else:
        folder.rename(place)
    if how == "renamed":
        for i in range(10):
            rename(place, f"img{i:02d}", f"new{9 - i}")
    after = go_on(config_of(place), run)
    assert [len(part) for part in names(after)] == [8, 2]
    for i, image in enumerate(kept):
        np.testing.assert_array_equal(after.train.load(i).image, image)
    values = json.loads((run / "config.json").read_text())
    assert values["config"]["data"]["name"] == values["data"]["dataset"] == str(place)
    assert values["data"]["fingerprints"]["train"] == after.train.fingerprint()


def test_another_set_is_another_run(folder, run, tmp_path):
    """If broken, a run goes on with the images of another set."""
    start(config_of(folder), run)
    other = draw_folder(tmp_path / "other", range(20, 30))
    for keep in (False, True):
        with pytest.raises(
            UserError, match=r"holds (a run with data.name = .*none of its|none of the training) images"
        ):
            splits.open_splits(config_of(other, keep_split=keep), run)


def test_data_that_are_gone_are_asked_for(folder, run, tmp_path):
    """If broken, nobody is told how a run goes on whose data were moved."""
    start(config_of(folder), run)
    folder.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"if the data of .*run have moved, give --data NEWPLACE"):
        splits.open_splits(config_of(folder), run)


def test_a_start_that_failed_binds_nobody(folder, run):
    """If broken, the second start is held to the images of the first, which never trained."""
    start(config_of(folder), run)
    (run / "checkpoints" / "3").rmdir()
    (run / "checkpoints" / "3.orbax-checkpoint-tmp-1").mkdir()
    draw_folder(folder, [10])
    opened = go_on(config_of(folder), run)
    assert sum(map(len, names(opened))) == 11
    assert len(images.read(run).train) == len(opened.train)


def test_an_old_run_is_held_to_its_fingerprints(folder, run, caplog):
    """If broken, a run of an older release goes on with other images, or does not go on at all."""
    before = start(config_of(folder), run, with_list=False)
    assert names(splits.open_splits(config_of(folder), run)) == names(before)
    draw_folder(folder, [10])
    with pytest.raises(UserError, match=r"have changed since .* by an older jaxseg, which did not keep a list"):
        splits.open_splits(config_of(folder), run)
    go_on(config_of(folder, keep_split=True), run)
    assert "may have changed sides" in caplog.text
    assert not (run / "images.json").exists(), "of a run whose images nobody knows there is no list"
    remove(folder, "img10")
    go_on(config_of(folder), run)
    assert len(images.read(run).train) == 8


def test_a_run_goes_on_without_its_file_of_groups(folder, run, tmp_path):
    """If broken, a run whose data and groups moved cannot go on, or is split anew without the groups."""
    groups = tmp_path / "groups.csv"
    groups.write_text("".join(f"img{i:02d},p{i // 4}\n" for i in range(10)))
    before = names(start(config_of(folder, groups=str(groups)), run))
    assert before != names(splits.open_splits(config_of(folder), tmp_path / "new"))
    groups.rename(tmp_path / "elsewhere.csv")
    for lost in (groups, tmp_path / "elsewhere.csv"):
        assert names(go_on(config_of(folder, groups=str(lost)), run)) == before
    config = config_of(folder, groups=str(groups))
    assert splits.open_split(run, config, config.data, "validation").names == before[1]
    assert len(splits.open_split(run, config, config.data, "all")) == 10
    with pytest.raises(UserError, match=r"--data\.groups .*gone\.csv: cannot be read"):
        splits.open_split(run, config, config_of(folder, groups="gone.csv").data, "all")


def test_an_edited_file_of_groups_is_told_and_blocks_nothing(folder, run, tmp_path, caplog):
    """If broken, a patient stands on both sides in silence, or a run cannot go on for a split that it does not use."""
    groups = tmp_path / "groups.csv"
    config = config_of(folder, groups=str(groups))
    groups.write_text("".join(f"img{i:02d},p{i // 2}\n" for i in range(10)))
    before = names(start(config, run))
    assert names(go_on(config, run)) == before
    assert not caplog.records
    sides = [*before[0][:1], *before[1][:1]]
    groups.write_text("".join(f"img{i:02d},{'one' if f'img{i:02d}' in sides else i}\n" for i in range(10)))
    assert names(go_on(config, run)) == before
    assert "groups.csv: 1 groups now have images in training and in validation (one); " in caplog.text
    assert f"{run} keeps the split that it was started with" in caplog.text
    groups.write_text("".join(f"img{i:02d},one\n" for i in range(10)))
    assert names(go_on(config, run)) == before
    assert splits.open_split(run, config, config.data, "validation").names == before[1]
    groups.write_text("img00,p0\n")
    assert names(go_on(config, run)) == before
    assert "9 of 10 images have no line in it" in caplog.text


def test_equal_images_are_told_by_name():
    """If broken, of two copies of an image the training one is taken for the validation one."""
    same, other = Identity("p", "m"), Identity("q", "m")
    there = ["x", "a", "b", "c"]
    entries = [Entry("b", same), Entry("y", same), Entry("c", other), Entry("a", same), Entry("z", same)]
    assert images.find(entries, there, [same, same, same, other]) == [2, 0, 3, 1, None]
    assert images.find([Entry("a", Identity("p", "n"))], there[:1], [same]) == [None]
    assert images.find([Entry("a", Identity("p", "n"))], there[:1], [same], masks=False) == [0]
    assert images.find([Entry("a", Identity("r", "m", "f"))], there[:1], [Identity("p", "m", "f")]) == [0]


def test_twins_across_the_split_are_told(folder, run, caplog):
    """If broken, copies of training images validate without a word."""
    validated = splits.open_splits(config_of(folder), run).validation.names[0]
    trained = splits.open_splits(config_of(folder), run).train.names[0]
    for part in ("images", "masks"):
        (folder / part / f"{validated}.png").write_bytes((folder / part / f"{trained}.png").read_bytes())
    start(config_of(folder), run)
    assert f"1 of the validation images are training images too, of the same content: {validated}" in caplog.text


def recognised(run, folder, split="all", data_dir=""):
    config = workdir.read_config(run) if "schema_version" in (run / "config.json").read_text() else None
    config = config or Config.from_dict(json.loads((run / "config.json").read_text())["config"])
    result = images.recognise([(run, config)], data.open_split(config_of(folder).data, split), data_dir)
    return result.trained_on, result.validated_on


@pytest.mark.parametrize("gone", [False, True])
def test_trained_images_are_told_wherever_they_lie(folder, run, tmp_path, gone):
    """If broken, images that were trained on score as unseen, and the reviewer is told a wrong number."""
    start(config_of(folder), run)
    other = reencode(folder, tmp_path / "other")
    draw_folder(other, range(30, 33))
    if gone:
        folder.rename(tmp_path / "gone")
    assert recognised(run, other) == (8, 2)
    rename_all = draw_folder(tmp_path / "new", range(40, 45))
    assert recognised(run, rename_all) == (0, 0)


def test_an_old_run_tells_what_it_can(folder, run, tmp_path):
    """If broken, images of an older release's run whose folder has changed or is gone count as unseen."""
    start(config_of(folder), run, with_list=False)
    other = reencode(folder, tmp_path / "other")
    assert recognised(run, other) == (8, 2)
    draw_folder(folder, [10])
    assert recognised(run, other) == (None, None)
    folder.rename(tmp_path / "gone")
    assert recognised(run, other) == (None, None)


def test_the_first_releases_run_trained_on_its_own_images(tmp_path):
    """If broken, a run of release 0.1 forgets what it was trained on."""
    run = FIXTURES / "run-0.1.0" / "run"
    config = workdir.read_config(run)
    train, validation = data.training_splits(config.data)
    assert images.recognise([(run, config)], train, "")[1:] == (len(train), 0)
    assert images.recognise([(run, config)], validation, "")[1:] == (0, len(validation))
    pictures = data.open_split(config_of(FIXTURES / "run-0.1.0" / "pictures").data, "all")
    assert images.recognise([(run, config)], pictures, "")[1:] == (0, 0)
    saved = tmp_path / "saved"
    for part in ("images", "masks"):
        (saved / part).mkdir(parents=True)
    for i in range(2):
        image, mask = train.load(i)
        Image.fromarray(image).save(saved / "images" / f"{i}.png")
        Image.fromarray(mask[..., 0] * np.uint8(255)).save(saved / "masks" / f"{i}.png")
    assert images.recognise([(run, config)], data.open_split(config_of(saved).data, "all"), "")[1:] == (2, 0)


def test_a_list_that_is_written_is_read(tmp_path):
    """If broken, a list comes back with its columns exchanged, or without its earlier images."""
    one, other = Entry("a", Identity("1", "2", "3")), Entry("ü b", Identity("5", "6"))
    written = ImageList((one,), (other,), (other, one), (one,))
    images.write(tmp_path, written)
    assert images.read(tmp_path) == written
    assert written.trained() == {"1", "3", "5"}
