import math

import numpy as np
import pytest

from catchment.errors import BadTensors
from catchment.models.tensors import read_tensors, write_tensors
from catchment.privacy.site import privatise
from catchment.wire.messages import SitePrivacy


def written(tmp_path, **tensors):
    path = tmp_path / "update.safetensors"
    write_tensors(path, tensors, {"format": "pt"})
    return path


def test_an_update_is_clipped_as_a_whole(tmp_path):
    path = written(tmp_path, w=np.full((2, 2), 3.0, np.float32), b=np.array([4.0, 0.0, 0.0]))
    found = read_tensors(privatise(path, SitePrivacy(clip_norm=1.0)))
    norm = math.sqrt(4 * 9 + 16)
    np.testing.assert_allclose(found["w"], 3.0 / norm, rtol=1e-6)
    np.testing.assert_allclose(found["b"], [4.0 / norm, 0.0, 0.0], rtol=1e-6)
    assert found["w"].dtype == np.float32
    assert found["b"].dtype == np.float64


def test_the_clear_update_is_gone(tmp_path):
    path = written(tmp_path, w=np.ones(3, np.float32))
    private = privatise(path, SitePrivacy(clip_norm=1.0, noise_std=1.0))
    assert private.parent == path.parent
    assert not path.exists()


def test_each_element_gets_noise_of_its_own(tmp_path):
    path = written(tmp_path, w=np.zeros(400_000, np.float32), v=np.zeros(400_000, np.float32))
    found = read_tensors(privatise(path, SitePrivacy(clip_norm=1.0, noise_std=2.0)))
    for values in found.values():
        assert values.std() == pytest.approx(2.0, rel=0.01)
    assert abs(np.corrcoef(found["w"], found["v"])[0, 1]) < 0.01


def test_same_noise_is_one_draw_for_each_tensor(tmp_path):
    path = written(tmp_path, w=np.zeros(300_000), v=np.zeros(3))
    found = read_tensors(privatise(path, SitePrivacy(noise_std=1.0, same_noise=True)))
    assert len(set(found["w"].tolist())) == 1
    assert len(set(found["v"].tolist())) == 1
    assert found["w"][0] != found["v"][0]


def test_counters_and_masks_do_not_leave_the_site(tmp_path):
    path = written(tmp_path, n=np.array(173), mask=np.array([True, False]), w=np.ones(2))
    found = read_tensors(privatise(path, SitePrivacy(clip_norm=1.0, noise_std=0.1)))
    assert found["n"] == 0
    assert found["mask"].tolist() == [False, False]


def test_an_update_without_elements_passes(tmp_path):
    path = written(tmp_path, w=np.zeros((0, 4), np.float32))
    assert read_tensors(privatise(path, SitePrivacy(clip_norm=1.0, noise_std=1.0)))["w"].shape == (0, 4)


def test_noise_that_does_not_fit_is_refused_and_nothing_is_left(tmp_path):
    path = written(tmp_path, w=np.zeros(100, np.float32))
    with pytest.raises(BadTensors):
        privatise(path, SitePrivacy(noise_std=1e300))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
