"""Loading: the same batches whatever the number of workers, processes and stops; errors come with their path."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherpose.codecs.movenet import MoveNetCodec
from featherpose.data.augment import NO_AUGMENTATION, Augmentation
from featherpose.data.loader import Loader, Part, Photos, collate, epoch_order, make_example
from featherpose.data.sample import Sample, without_people
from featherpose.evaluation import truth_of
from featherpose.metrics.oks import oks_per_joint
from featherpose.runtime.photos import read_photo
from featherpose.skeletons import Skeleton

PAIR = Skeleton("pair", ("left_hand", "right_hand"), flip_pairs=(("left_hand", "right_hand"),))
CODEC = MoveNetCodec((32, 32), 2)


@pytest.fixture
def samples(tmp_path):
    """Ten photos of 40 x 30 pixels; photo n is of the grey level 10 n + 50, so that pictures can be told apart."""
    made = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((30, 40, 3), 50 + 10 * number, np.uint8)).save(path)
        made.append(
            Sample(
                photo=path,
                size_wh=(40, 30),
                skeleton=PAIR,
                photo_id=str(number),
                sample_id=number,
                target=0,
                xy=np.array([[[10, 8], [25 + number / 4, 22]]], np.float32),
                visibility=np.full((1, 2), 2, np.int8),
                box_xyxy=np.array([[9, 7, 28, 23]], np.float32),
                area=np.array([300], np.float32),
            )
        )
    return made


def loader(samples, *, rules=None, **changes):
    facts = {"batch": 3, "seed": 1, "workers": 0, "photos": Photos()}
    parts = samples if samples and isinstance(samples[0], Part) else [Part(samples)]
    return Loader(parts, CODEC, rules or Augmentation(), **{**facts, **changes})


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert list(a) == list(b)
        for name in a:
            assert np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f"), name


# --- the order -----------------------------------------------------------------------------------------------------


def test_an_epoch_holds_everything_once(samples):
    order = epoch_order([Part(samples), Part(samples[:4])], seed=0, epoch=0)
    assert order.shape == (14, 2)
    assert sorted(map(tuple, order.tolist())) == [(0, i) for i in range(10)] + [(1, i) for i in range(4)]
    assert not np.array_equal(order, np.sort(order, axis=0))


def test_the_order_depends_on_seed_and_epoch_alone(samples):
    first = epoch_order([Part(samples)], seed=0, epoch=3)
    assert np.array_equal(first, epoch_order([Part(list(samples))], seed=0, epoch=3))
    assert not np.array_equal(first, epoch_order([Part(samples)], seed=0, epoch=4))
    assert not np.array_equal(first, epoch_order([Part(samples)], seed=1, epoch=3))


@pytest.mark.parametrize(
    ("repeat", "least", "most", "total"),
    [(1, 1, 1, 10), (2, 2, 2, 20), (0.3, 0, 1, 3), (1.5, 1, 2, 15), (2.2, 2, 3, 22)],
)
def test_repeat_says_how_often_a_sample_is_seen(samples, repeat, least, most, total):
    counts = np.bincount(epoch_order([Part(samples, repeat)], seed=0, epoch=0)[:, 1], minlength=10)
    assert counts.min() == least
    assert counts.max() == most
    assert counts.sum() == total


def test_a_fraction_is_drawn_anew_each_epoch(samples):
    seen = [frozenset(epoch_order([Part(samples, 0.3)], seed=0, epoch=e)[:, 1].tolist()) for e in range(20)]
    assert len(set(seen)) > 10
    assert frozenset().union(*seen) == set(range(10))


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("repeat", [0.5, 1.5, 2.5, 0.3, 1.7])
def test_the_length_is_what_an_epoch_gives(samples, count, repeat):
    """Five samples one and a half times: halves are rounded the same way in both places."""
    parts = [Part(samples[:count], repeat), Part(samples[:1])]
    assert len(loader(parts, batch=1)) == len(epoch_order(parts, seed=1, epoch=0))


def test_batches_hold_what_the_order_says(samples):
    """Photos are of one grey level each, seen in the middle of the crop."""
    order = epoch_order([Part(samples)], seed=1, epoch=0)
    batches = list(loader(samples, rules=NO_AUGMENTATION).epoch(0))
    assert len(batches) == 3
    seen = np.concatenate([batch["image"][:, 16, 16, 0] for batch in batches])
    assert seen.tolist() == (50 + 10 * order[:9, 1]).tolist()


def test_photos_are_read_in_advance_as_far_as_they_fit(samples):
    photos = Photos(limit=4 * 40 * 30 * 3)
    samples[0].photo.write_bytes(b"not a picture")
    photos.read_all([*samples, *samples], threads=2)
    kept = dict(photos._kept)
    assert len(kept) == 4 and samples[0].photo not in kept
    assert photos._bytes == 4 * 40 * 30 * 3
    nothing = Photos(keep=False)
    nothing.read_all(samples, threads=2)
    assert not nothing._kept


def test_a_photo_that_two_threads_decode_at_once_is_counted_once(samples, monkeypatch):
    photos, meet = Photos(), threading.Barrier(2)
    read = read_photo

    def together(path):
        meet.wait(timeout=30)
        return read(path)

    monkeypatch.setattr("featherpose.data.loader.read_photo", together)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(photos, [samples[0]] * 2))
    assert photos._bytes == 40 * 30 * 3


# --- batches -------------------------------------------------------------------------------------------------------


def test_a_batch_is_pictures_and_targets(samples):
    batch = next(loader(samples).epoch(0))
    assert (batch["image"].shape, batch["image"].dtype) == ((3, 32, 32, 3), np.uint8)
    assert batch["center"].shape == (3, 1, 8, 8)
    assert batch["regression"].shape == (3, 2, 2, 8, 8)
    maps = CODEC.encode(np.zeros((0, 2, 2)), np.zeros((0, 2)))
    told = {f"target_{fact}" for fact in ("cells", "middle", "box", "spread", "trust")}
    assert set(batch) == {"image", "taught", *told, *maps}


def test_beside_a_bad_camera_stands_the_clean_picture(samples):
    """It is the picture of the same rules without a camera."""
    rules = Augmentation(camera=0.5)
    without, batch = (next(loader(samples, batch=9, rules=r).epoch(0)) for r in (Augmentation(), rules))
    assert np.array_equal(batch["clean"], without["image"])
    faulty = (batch["image"] != batch["clean"]).any(axis=(1, 2, 3))
    assert 0 < faulty.sum() < 9
    assert "clean" not in without


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_processes_give_the_same_batches(samples):
    rules = Augmentation(paste_people=0.5, camera=0.3)
    with contextlib.closing(loader(samples, rules=rules, processes=2)) as by_processes:
        for epoch, start in ((0, 0), (1, 1)):
            copies = [{n: v.copy() for n, v in batch.items()} for batch in by_processes.epoch(epoch, start=start)]
            wanted = list(loader(samples, rules=rules).epoch(epoch, start=start))
            assert len(copies) == 3 - start
            for one, other in zip(copies, wanted, strict=True):
                assert_equal([one], [other])


def test_outlines_have_places_for_whoever_is_pasted(samples, tmp_path):
    """Two people and a region in one photo: up to four people when another is pasted into it, and its own as regions."""
    crowd = []
    for number, sample in enumerate(samples):
        path = tmp_path / f"large{number}.png"
        Image.fromarray(np.full((120, 160, 3), 99, np.uint8)).save(path)
        xy, box, right = sample.xy * 3, sample.box_xyxy * 3, np.array([60, 10], np.float32)
        crowd.append(
            replace(
                sample, photo=path, size_wh=(160, 120), xy=np.concatenate([xy, xy + right]).astype(np.float32),
                visibility=np.full((2, 2), 2, np.int8), box_xyxy=np.concatenate([box, box + np.tile(right, 2)]),
                area=np.full(2, 2700, np.float32), ignore_xyxy=np.array([[0, 0, 40, 40]], np.float32),
            )
        )  # fmt: skip
    batch = next(loader(crowd, outlines=True).epoch(0))
    assert batch["people_cells"].shape == (3, 2, 2, 2) and batch["people_ignored"].shape == (3, 1, 4)
    assert "heatmap" not in batch and "target_cells" in batch
    rules = Augmentation(paste_people=1.0, crop_scale=(1.5, 3.0), other_target=0)
    seen = [batch for epoch in range(8) for batch in loader(crowd, rules=rules, outlines=True, batch=10).epoch(epoch)]
    assert all(batch["people_cells"].shape == (10, 4, 2, 2) for batch in seen)
    most = max(int(batch["people_trust"].any(axis=2).sum(axis=1).max()) for batch in seen)
    regions = [batch["people_ignored"] for batch in seen]
    assert most > 2 and max((box[..., 2:] > box[..., :2]).all(axis=2).sum(axis=1).max() for box in regions) > 2


def test_targets_belong_to_their_pictures(samples):
    """Without augmentation the wrists decode to where the crop has put them: the box and the joints, 1.25 times."""
    parts = [Part(samples)]
    order = epoch_order(parts, seed=1, epoch=0)
    batch = next(loader(samples, rules=NO_AUGMENTATION).epoch(0))
    for b in range(3):
        sample = samples[order[b, 1]]
        x1, y1, x2, y2 = sample.target_box()
        side = 1.25 * max(x2 - x1, y2 - y1)
        expected = (sample.xy[0] - [(x1 + x2) / 2, (y1 + y2) / 2]) * 32 / side + 16
        xy, _, _ = CODEC.decode({name: values[b] for name, values in batch.items()})
        assert xy == pytest.approx(expected, abs=1e-3)
        assert 4 * batch["target_cells"][b] == pytest.approx(expected, abs=1e-3)
        moved = (np.array([x1, y1, x2, y2]) - [(x1 + x2) / 2, (y1 + y2) / 2] * 2) * 32 / side + 16
        assert 4 * batch["target_box"][b] == pytest.approx(moved, abs=1e-3)


@pytest.mark.parametrize("center", ["box", "mean"])
def test_the_middle_of_a_target_is_where_its_center_is_drawn(samples, center):
    """Of the joints in the picture: the crop is so narrow that it may lose some."""
    codec = replace(CODEC, center=center, subcell=True, sigma_range=(2.0, 2.0))
    rules = replace(NO_AUGMENTATION, crop_scale=(0.6, 1.0), shift=0.3)
    middles = 0
    for position in range(20):
        part = [Part(samples[:1])]
        made = make_example(part, Photos(), codec, rules, part=0, index=0, seed=3, epoch=0, position=position)
        if np.isnan(made["target_middle"]).any():
            assert not made["center"].any()
        else:
            row, column = divmod(int(made["center"].argmax()), 8)
            assert made["target_middle"] == pytest.approx([column + 0.5, row + 0.5], abs=0.5 + 1e-6)
            middles += 1
    assert middles > 5


@pytest.mark.parametrize("turned", [0, 1])
def test_the_spread_of_a_target_is_that_of_its_oks(samples, turned):
    """A joint that is off by its spread has an OKS of exp(-1/2), measured in the photo; turning changes nothing."""
    rules = replace(NO_AUGMENTATION, crop_scale=(1.4, 1.4), upside_down=turned)
    made = make_example([Part(samples)], Photos(), CODEC, rules, part=0, index=1, seed=3, epoch=0, position=0)
    sample = samples[1]
    x1, y1, x2, y2 = sample.target_box()
    photo_pixels = made["target_spread"] * 4 * 1.4 * max(x2 - x1, y2 - y1) / 32
    truth = truth_of([sample], sample.skeleton)
    off = truth.xy + photo_pixels[None, :, None] * [0.6, -0.8]
    assert oks_per_joint(off, truth)[0] == pytest.approx(np.exp(-0.5), rel=1e-4)


def test_how_far_a_label_is_trusted_comes_along(samples):
    guessed = replace(samples[0], weight=np.array([[1.0, 0.25]], np.float32))
    made = make_example([Part([guessed])], Photos(), CODEC, NO_AUGMENTATION, part=0, index=0, seed=0, epoch=0, position=0)
    assert made["target_trust"].tolist() == [1, 0.25]


def test_unlabelled_joints_and_pictures_without_a_target_are_nan(samples):
    """A photo of nobody has no target; a data set that is not taught says so in each of its pictures."""
    visibility = samples[0].visibility.copy()
    visibility[0, 1] = 0
    half, nobody = replace(samples[0], visibility=visibility), without_people(samples[1])
    parts = [Part([half, nobody]), Part([samples[2]], taught=False)]
    made = [
        make_example(parts, Photos(), CODEC, NO_AUGMENTATION, part=part, index=index, seed=0, epoch=0, position=0)
        for part, index in ((0, 0), (0, 1), (1, 0))
    ]
    assert np.isnan(made[0]["target_cells"]).tolist() == [[False, False], [True, True]]
    assert made[0]["target_trust"].tolist() == [1, 0]
    assert all(np.isnan(made[1][f"target_{name}"]).all() for name in ("cells", "middle", "box", "spread"))
    assert not made[1]["target_trust"].any()
    assert np.isfinite(made[2]["target_cells"]).all()
    assert [bool(one["taught"]) for one in made] == [True, True, False]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ahead", [1, 4])
def test_workers_change_nothing(samples, workers, ahead):
    for epoch in (0, 1):
        alone = list(loader(samples, batch=2).epoch(epoch))
        assert_equal(alone, list(loader(samples, batch=2, workers=workers, ahead=ahead).epoch(epoch)))
        assert len(alone) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_start_leaves_out_exactly_the_first_batches(samples, workers):
    whole = list(loader(samples, batch=2).epoch(5))
    for start in range(6):
        assert_equal(whole[start:], list(loader(samples, batch=2, workers=workers).epoch(5, start=start)))


def test_two_processes_see_what_one_with_the_double_batch_sees(samples):
    together = list(loader(samples, batch=4).epoch(2))
    ranks = [list(loader(samples, batch=2, rank=rank, world=2).epoch(2)) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == len(together) == 2
    for number, batch in enumerate(together):
        for name, values in batch.items():
            assert np.array_equal(values, np.concatenate([ranks[0][number][name], ranks[1][number][name]])), name


def test_a_last_short_batch_is_left_out(samples):
    assert len(loader(samples, batch=4)) == 2
    assert len(list(loader(samples, batch=4).epoch(0))) == 2
    assert len(loader(samples, batch=3, world=2)) == 1
    assert len(loader(samples, batch=10)) == 1


def test_a_sample_seen_twice_in_an_epoch_is_augmented_twice(samples):
    parts = [Part(samples[:1], repeat=4)]
    batch = next(loader(parts, batch=4).epoch(0))
    assert len({batch["image"][b].tobytes() for b in range(4)}) == 4


def test_epochs_and_seeds_differ(samples):
    first = next(loader(samples, batch=10).epoch(0))["image"]
    assert not np.array_equal(first, next(loader(samples, batch=10).epoch(1))["image"])
    assert not np.array_equal(first, next(loader(samples, batch=10, seed=2).epoch(0))["image"])


def test_an_example_is_a_row_of_its_batch(samples):
    order = epoch_order([Part(samples)], seed=1, epoch=0)
    examples = [
        make_example(
            [Part(samples)],
            Photos(),
            CODEC,
            Augmentation(),
            part=0,
            index=int(order[p, 1]),
            seed=1,
            epoch=0,
            position=p,
        )
        for p in range(3)
    ]
    assert_equal([collate(examples)], [next(loader(samples).epoch(0))])


@pytest.mark.parametrize(("batch", "world", "sentence"), [(11, 1, "11;"), (6, 2, "6 in each of 2 processes")])
def test_an_epoch_smaller_than_a_batch_is_refused(samples, batch, world, sentence):
    with pytest.raises(ValueError, match=f"an epoch has 10 samples, fewer than one batch of .*{sentence}"):
        loader(samples, batch=batch, world=world)


# --- photos and errors ---------------------------------------------------------------------------------------------


def test_photos_are_read_once(samples):
    photos = Photos()
    first = photos(samples[0])
    samples[0].photo.unlink()
    assert photos(samples[0]) is first


def test_photos_are_read_each_time_when_not_kept(samples):
    for photos in (Photos(keep=False), Photos(limit=30 * 40 * 3 - 1)):
        assert photos(samples[0]) is not photos(samples[0])
        assert np.array_equal(photos(samples[0]), photos(samples[0]))


def test_no_more_photos_are_kept_than_the_limit(samples):
    photos = Photos(limit=2 * 30 * 40 * 3)
    first, second, third = (photos(sample) for sample in samples[:3])
    assert photos(samples[0]) is first
    assert photos(samples[1]) is second
    assert photos(samples[2]) is not third


def broken(sample: Sample, how: str) -> Path:
    if how == "missing":
        sample.photo.unlink()
    elif how == "truncated":
        sample.photo.write_bytes(sample.photo.read_bytes()[:60])
    elif how == "text":
        sample.photo.write_text("not a picture")
    else:
        Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(sample.photo)
    return sample.photo


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("how", ["missing", "truncated", "text", "turned"])
def test_a_broken_photo_is_named(samples, how, workers):
    path = broken(samples[4], how)
    with pytest.raises((ValueError, OSError)) as error:
        list(loader(samples, batch=2, workers=workers).epoch(0))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_photo_of_another_size_says_both_sizes(samples):
    broken(samples[0], "turned")
    with pytest.raises(ValueError, match="the photo is 30x40 but its labels were made for 40x30"):
        Photos()(samples[0])


def test_batches_before_the_broken_photo_still_come(samples):
    order = epoch_order([Part(samples)], seed=1, epoch=0)
    broken(samples[order[7, 1]], "missing")
    batches = loader(samples, batch=2, workers=2).epoch(0)
    for _ in range(3):
        next(batches)
    with pytest.raises(FileNotFoundError):
        next(batches)


@pytest.mark.parametrize("taken", [1, 3])
def test_a_loop_that_ends_early_leaves_no_thread_behind(samples, taken):
    before = set(threading.enumerate())
    batches = loader([Part(samples, 20)], batch=2, workers=3, ahead=2).epoch(0)
    for _ in range(taken):
        next(batches)
    assert set(threading.enumerate()) - before
    batches.close()
    assert not set(threading.enumerate()) - before


def test_a_photo_without_people_gives_an_empty_target(samples):
    empty = replace(
        samples[0], xy=np.zeros((0, 2, 2), np.float32), visibility=np.zeros((0, 2), np.int8),
        box_xyxy=np.zeros((0, 4), np.float32), area=np.zeros(0, np.float32), target=-1,
    )  # fmt: skip
    batch = next(loader([empty] * 3).epoch(0))
    assert batch["image"].shape == (3, 32, 32, 3)
    assert not batch["center"].any()
    assert (batch["center_weight"] == 1).all()


# --- levers on the data --------------------------------------------------------------------------------------------

LINE = Skeleton("line", ("left_hand", "right_hand"), flip_pairs=(("left_hand", "right_hand"),),
                bones=(("left_hand", "right_hand"),))  # fmt: skip


def with_bones(samples):
    return [replace(sample, skeleton=LINE) for sample in samples]


@pytest.mark.parametrize("choices", [1, 3])
def test_pasted_limbs_come_from_one_bank_whatever_the_workers(samples, choices):
    rules = Augmentation(paste_parts=1, paste_choices=choices, drop_joints=0.5, background=0.3)
    alone = list(loader(with_bones(samples), rules=rules, batch=2).epoch(0))
    assert alone[0]["image"].shape == ((2, 32, 32, 3) if choices == 1 else (2, 3, 32, 32, 3))
    assert_equal(alone, list(loader(with_bones(samples), rules=rules, batch=2, workers=3).epoch(0)))
    plain = next(loader(with_bones(samples), batch=2).epoch(0))
    assert set(plain) == set(alone[0])


def test_no_bank_is_built_where_nothing_is_pasted(samples):
    assert loader(with_bones(samples)).bank is None
    with pytest.raises(ValueError, match="skeleton 'pair' has none; set paste_parts to 0"):
        loader(samples, rules=Augmentation(paste_parts=0.5))


def test_background_has_empty_targets_of_full_weight(samples):
    """Photos of 40 x 30 with somebody in the middle: their upper right corner is free."""
    corner = [
        replace(s, xy=s.xy * 0.3, box_xyxy=s.box_xyxy * np.float32(0.3)) for s in samples
    ]
    batch = next(loader(corner, rules=replace(NO_AUGMENTATION, background=1), batch=8).epoch(0))
    assert not batch["center"].any() and not batch["heatmap"].any()
    assert (batch["center_weight"] == 1).all() and (batch["heatmap_weight"] == 1).all()
