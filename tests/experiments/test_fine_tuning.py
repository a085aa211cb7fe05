"""The experiment of few images: which images train, which are scored, from what each run starts."""

import pytest

from experiments import fine_tuning
from jaxseg.data.folds import committed_split
from jaxseg.errors import UserError


@pytest.fixture
def ph2(tmp_path):
    """Returns a folder with a file for each image and mask of PH2."""
    split = committed_split("ph2")
    for name in split["train"] + split["validation"]:
        for kind, file in (("images", f"{name}.jpg"), ("masks", f"{name}_lesion.png")):
            (tmp_path / "ph2" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "ph2" / kind / file).write_text(name)
    return tmp_path / "ph2"


def test_no_scored_image_trains_and_more_images_hold_the_fewer(ph2, tmp_path):
    """If broken, runs are scored on images that they learned from, or 40 images are others than 20 and 20 more."""
    names = {
        count: {path.stem for path in (fine_tuning.lay_out(ph2, tmp_path, count) / "images").iterdir()}
        for count in (0, *fine_tuning.COUNTS)
    }
    assert [len(names[count]) for count in (0, 20, 40, 80)] == [40, 20, 40, 80]
    assert names[20] < names[40] < names[80]
    assert not names[0] & names[80]
    assert names[0] == set(committed_split("ph2")["validation"])


def test_a_missing_mask_is_named(ph2, tmp_path):
    """If broken, a run trains on fewer images than its row says."""
    (ph2 / "masks" / f"{committed_split('ph2')['validation'][3]}_lesion.png").unlink()
    with pytest.raises(UserError, match=r"0 files masks/IMD\d+_lesion\.\*, not one"):
        fine_tuning.lay_out(ph2, tmp_path, 0)


@pytest.mark.parametrize("start", fine_tuning.STARTS)
def test_runs_differ_in_their_start_alone(start, tmp_path):
    """If broken, a row is trained for longer, or on other images, than the ones beside it."""
    config = fine_tuning.settings(start, 40, tmp_path, "weights.h5")
    assert config.model.init_from == ("builtin" if start == "builtin" else "")
    assert config.model.pretrained == ("weights.h5" if start == "imagenet" else "none")
    assert config.train.epochs * (32 // fine_tuning.BATCH_SIZE) == fine_tuning.STEPS
    shared = fine_tuning.settings("random", 40, tmp_path, None)
    assert (config.data, config.augment, config.loss) == (shared.data, shared.augment, shared.loss)


def test_the_table_has_a_row_for_each_run():
    """If broken, numbers stand beside another start."""
    run = {"images": 20, "dice": 0.9, "dice_interval": [0.8, 0.95], "dice_pooled": 0.91, "jaccard": 0.82}
    table = fine_tuning.table({"runs": [{"start": start, **run} for start in fine_tuning.STARTS]})
    assert len(table.splitlines()) == 5
    assert "| the model inside the package | 20 | 0.900 [0.800, 0.950] | 0.910 | 0.820 |" in table
