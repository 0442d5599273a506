"""Reading, following and writing at the same time; however a video ends, what was done is kept."""

import json
import os
import signal
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from colour_model import COLOURS

from featherpose.pose import Pose
from featherpose.runtime.video import pipeline
from featherpose.runtime.video.channel import Channel
from featherpose.runtime.video.pipeline import draw_seen, run_video
from featherpose.runtime.video.reader import Frame, SourceFacts
from featherpose.runtime.video.tables import Seen, TableWriter, mirrored, row_of

LONG = 20.0
"""Seconds until a test that hangs gives up."""


def _frame(i, audio=()):
    return Frame(i, i / 10, np.full((4, 6, 3), i, np.uint8), 0.1, audio)


def _pose(x=1.0, box=(0, 0, 4, 4)):
    return Pose(np.array([[x, 1], [2, 2], [3, 3]]), np.array([0.9, 0.8, 0.1]), COLOURS, 0.7, np.array(box, float))


class FakeSource:
    """Frames out of a list; says how many were taken."""

    audio, late_audio = None, ()

    def __init__(self, frames, live=False, problem=None, error=None):
        self.frames, self.error, self._problem = frames, error, problem
        self.facts = SourceFacts("fake", "file", (6, 4), live=live, fps=10.0, time_base=Fraction(1, 10))
        self.problem, self.taken, self.closed = None, 0, False
        self.exhausted = threading.Event()

    def __iter__(self):
        for frame in self.frames:
            self.taken += 1
            yield frame
        self.exhausted.set()
        self.problem = self._problem
        if self.error is not None:
            raise self.error

    def close(self):
        self.closed = True


class FakeTrack:
    """Finds somebody in every frame but those in `lost`; `at` maps a frame's number to what happens there."""

    state = "lost"

    def __init__(self, lost=(), at=None):
        self.lost, self.at, self.times = lost, at or {}, []

    def __call__(self, image, timestamp):
        i = int(image[0, 0, 0])
        self.times.append(timestamp)
        if i in self.at:
            self.at[i]()
        self.state = "lost" if i in self.lost else "found"
        return None if i in self.lost else _pose(i)


class FakeSink:
    def __init__(self, fail_at=None, error=None):
        self.seen, self.ended, self.fail_at, self.error = [], [], fail_at, error

    def write(self, seen):
        if len(self.seen) == self.fail_at:
            raise self.error
        self.seen.append(seen)

    def finish(self):
        self.ended.append("finished")

    def abort(self):
        self.ended.append("aborted")


def _raise(error):
    def do():
        raise error

    return do


def test_ctrl_c_while_the_files_are_finished_lets_them_be_finished():
    class SlowlyFinished(FakeSink):
        def finish(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            super().finish()

    source, sink = FakeSource([_frame(i) for i in range(3)]), SlowlyFinished()
    outcome = run_video(source, FakeTrack(), [sink])
    assert outcome.interrupted and sink.ended == ["finished"] and source.closed and outcome.frames == 3


def _indices(sink):
    return [seen.frame.index for seen in sink.seen]


def test_every_frame_goes_through_in_order_with_its_time_and_state():
    source, sink, track, told = FakeSource([_frame(i) for i in range(30)]), FakeSink(), FakeTrack(lost=(3, 4)), []
    outcome = run_video(source, track, [sink], progress=lambda outcome: told.append(outcome.frames))
    assert _indices(sink) == list(range(30)) and sink.ended == ["finished"]
    assert track.times == [i / 10 for i in range(30)] and told == list(range(1, 31))
    assert [seen.state for seen in sink.seen[2:6]] == ["found", "lost", "lost", "found"]
    assert sink.seen[3].pose is None and sink.seen[5].pose.xy[0, 0] == 5
    assert (outcome.frames, outcome.states) == (30, {"found": 28, "lost": 2})
    assert outcome.video_seconds == pytest.approx(3.0)
    assert outcome.problem is None and not outcome.interrupted and source.closed


def test_the_reader_runs_ahead_of_the_network_but_not_far():
    source = FakeSource([_frame(i) for i in range(50)])
    ahead = []

    def wait_for_the_reader():
        deadline = time.monotonic() + LONG
        while source.taken < pipeline.QUEUE + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # in which it must not go on
        ahead.append(source.taken)

    run_video(source, FakeTrack(at={0: wait_for_the_reader}), [FakeSink()])
    assert ahead == [pipeline.QUEUE + 2]  # one in the network, a full queue, one in the reader's hand


def test_the_writer_works_while_the_network_does():
    source, written = FakeSource([_frame(i) for i in range(5)]), threading.Event()
    sink = FakeSink()
    sink.write = lambda seen: written.set()

    def wait_for_the_writer():
        assert written.wait(LONG), "frame 0 was not written while frame 1 was tracked"

    run_video(source, FakeTrack(at={1: wait_for_the_writer}), [sink])


def test_a_slow_writer_holds_the_others_up_instead_of_filling_the_memory():
    source, go = FakeSource([_frame(i) for i in range(100)]), threading.Event()
    most = []

    class SlowSink(FakeSink):
        def write(self, seen):
            if not self.seen:
                assert not go.wait(0.3)
                most.append(source.taken)
            super().write(seen)

    sink = SlowSink()
    run_video(source, FakeTrack(), [sink])
    assert most[0] <= 2 * pipeline.QUEUE + 4 and len(sink.seen) == 100


def test_of_a_live_source_only_the_newest_frame_waits_and_no_sound_is_lost():
    frames = [_frame(i, audio=(f"packet {i}",)) for i in range(20)]
    source, sink = FakeSource(frames, live=True), FakeSink()
    outcome = run_video(source, FakeTrack(at={0: lambda: source.exhausted.wait(LONG)}), [sink])
    assert _indices(sink)[-1] == 19 and len(sink.seen) <= 3
    assert outcome.dropped == 20 - len(sink.seen)
    assert [packet for seen in sink.seen for packet in seen.frame.audio] == [f"packet {i}" for i in range(20)]


def test_a_source_that_breaks_off_is_told_and_what_was_done_is_kept():
    sink = FakeSink()
    outcome = run_video(FakeSource([_frame(0), _frame(1)], problem="it is cut off"), FakeTrack(), [sink])
    assert outcome.problem == "it is cut off" and _indices(sink) == [0, 1] and sink.ended == ["finished"]


def test_ctrl_c_keeps_what_was_done():
    sink, source = FakeSink(), FakeSource([_frame(i) for i in range(50)], problem="never reached")
    outcome = run_video(source, FakeTrack(at={7: _raise(KeyboardInterrupt())}), [sink])
    assert outcome.interrupted and outcome.problem is None
    assert _indices(sink) == list(range(7)) and sink.ended == ["finished"] and outcome.frames == 7


def test_closing_the_window_ends_it():
    sink = FakeSink()
    outcome = run_video(
        FakeSource([_frame(i) for i in range(50)]), FakeTrack(), [sink], show=lambda seen: seen.frame.index < 4
    )
    assert _indices(sink) == [0, 1, 2, 3, 4] and outcome.problem is None


def test_a_full_disk_ends_it_in_order_and_the_other_files_are_finished():
    full, other = FakeSink(fail_at=3, error=OSError(28, "No space left on device")), FakeSink()
    outcome = run_video(FakeSource([_frame(i) for i in range(50)]), FakeTrack(), [full, other])
    assert outcome.problem == (
        "writing broke off at 0.3 s (No space left on device); what was written until then is kept"
    )
    assert full.ended == other.ended == ["finished"] and outcome.frames == len(other.seen) == 3


MISTAKES = {
    "in the network": {"track": FakeTrack(at={5: _raise(ZeroDivisionError("here"))})},
    "in a sink": {"sink": FakeSink(fail_at=5, error=ZeroDivisionError("here"))},
    "in the source": {"source": FakeSource([_frame(i) for i in range(5)], error=ZeroDivisionError("here"))},
}


@pytest.mark.parametrize("parts", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_program_is_not_hidden_in_a_thread(parts):
    source = parts.get("source", FakeSource([_frame(i) for i in range(50)]))
    sink = parts.get("sink", FakeSink())
    with pytest.raises(ZeroDivisionError, match="here"):
        run_video(source, parts.get("track", FakeTrack()), [sink])
    assert sink.ended == ["finished"] and len(sink.seen) == 5 and source.closed


def test_a_first_frame_that_is_refused_leaves_nothing():
    sink = FakeSink()
    with pytest.raises(ValueError, match="outside"):
        run_video(FakeSource([_frame(0)]), FakeTrack(at={0: _raise(ValueError("outside"))}), [sink])
    assert sink.ended == ["aborted"]


def test_a_mirror_moves_places_and_keeps_sides():
    sink = FakeSink()
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 0] = 7
    run_video(FakeSource([Frame(0, 0.0, image, 0.1)]), _always(_pose(1.0, (0, 0, 4, 4))), [sink], mirror=True)
    (seen,) = sink.seen
    assert (seen.frame.image[:, 5] == 7).all() and not seen.frame.image[:, :5].any()
    assert seen.pose.xy.tolist() == [[5, 1], [4, 2], [3, 3]]  # x becomes 6 - x, in the same order of joints
    assert seen.pose.box_xyxy.tolist() == [2, 0, 6, 4]


def _always(pose):
    def track(image, timestamp):
        return pose

    track.state = "found"
    return track


def test_a_mirror_moves_everybody():
    sink = FakeSink()
    run_video(FakeSource([_frame(0)]), _always({2: _pose(1.0)}), [sink], mirror=True)
    (seen,) = sink.seen
    assert seen.pose is None and seen.people[2].xy.tolist() == [[5, 1], [4, 2], [3, 3]]


def test_a_persons_number_stands_in_the_picture():
    image = np.zeros((360, 640, 3), np.uint8)
    pose = Pose(np.array([[100, 200], [120, 220], [140, 240]]), np.array([0.9, 0.8, 0.7]), COLOURS)
    one, two = (draw_seen(Seen(Frame(0, 0.0, image, 0.1), None, "found", {n: pose}), 0.2) for n in (1, 2))
    where = np.argwhere((one != two).any(axis=2))
    assert len(where) and (where.max(axis=0) < (200, 140)).all() and (where.min(axis=0) > (150, 90)).all()
    assert not image.any()


def test_mirroring_twice_changes_nothing():
    pose = _pose(2.5, (1, 0, 4, 4))
    again = mirrored(mirrored(pose, 6), 6)
    assert np.allclose(again.xy, pose.xy) and np.allclose(again.box_xyxy, pose.box_xyxy)


def test_a_state_that_is_not_found_is_written_into_the_picture():
    image = np.zeros((90, 160, 3), np.uint8)
    found, lost = (draw_seen(Seen(Frame(0, 0.0, image, 0.1), None, state), 0.2) for state in ("found", "lost"))
    assert not found.any() and lost[:20, :60].any() and not image.any()


# --- rows -------------------------------------------------------------------------------------------------------------


def _tables(folder):
    return TableWriter(folder / "a.jsonl", folder / "a.csv")


def test_a_row_holds_the_frame_its_time_and_every_joint():
    assert row_of(Seen(_frame(3), _pose(1.5), "found")) == {
        "frame": 3,
        "time": 0.3,
        "state": "found",
        "pose_score": 0.7,
        "box_xyxy": [0, 0, 4, 4],
        "joints": {
            "red": {"x": 1.5, "y": 1, "score": 0.9},
            "left_green": {"x": 2, "y": 2, "score": 0.8},
            "right_blue": {"x": 3, "y": 3, "score": 0.1},
        },
    }


def test_tables_hold_a_line_per_frame_and_a_row_per_joint(tmp_path):
    tables = _tables(tmp_path)
    tables.write(Seen(_frame(0), _pose(1.5), "found"))
    tables.write(Seen(_frame(1), None, "lost"))
    tables.finish()
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {
        "frame": 1, "time": 0.1, "state": "lost", "pose_score": None, "box_xyxy": None, "joints": None,
    }  # fmt: skip
    assert (tmp_path / "a.csv").read_bytes().decode().split("\r\n") == [
        "frame,time,state,pose_score,x1,y1,x2,y2,joint,x,y,score",
        "0,0.0,found,0.7,0.0,0.0,4.0,4.0,red,1.5,1.0,0.9",
        "0,0.0,found,0.7,0.0,0.0,4.0,4.0,left_green,2.0,2.0,0.8",
        "0,0.0,found,0.7,0.0,0.0,4.0,4.0,right_blue,3.0,3.0,0.1",
        "1,0.1,lost,,,,,,,,,",
        "",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.jsonl"]


def test_tables_of_several_people_hold_their_numbers(tmp_path):
    tables = TableWriter(tmp_path / "a.jsonl", tmp_path / "a.csv", several=True)
    tables.write(Seen(_frame(0), None, "found", {1: _pose(1.5), 3: _pose(2.5)}))
    tables.write(Seen(_frame(1), None, "lost", {}))
    tables.finish()
    first, second = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    assert [(one["person"], one["joints"]["red"]["x"]) for one in first["people"]] == [(1, 1.5), (3, 2.5)]
    assert second == {"frame": 1, "time": 0.1, "state": "lost", "people": []}
    rows = (tmp_path / "a.csv").read_bytes().decode().split("\r\n")
    assert rows[0] == "frame,time,state,person,pose_score,x1,y1,x2,y2,joint,x,y,score"
    assert rows[1] == "0,0.0,found,1,0.7,0.0,0.0,4.0,4.0,red,1.5,1.0,0.9"
    assert rows[4] == "0,0.0,found,3,0.7,0.0,0.0,4.0,4.0,red,2.5,1.0,0.9"
    assert rows[7:] == ["1,0.1,lost,,,,,,,,,,", ""]


@pytest.mark.parametrize("which", [0, 1], ids=["JSON lines", "CSV"])
def test_a_frame_that_did_not_fit_the_disk_is_in_neither_table(tmp_path, which):
    tables = _tables(tmp_path)
    for i in range(3):
        tables.write(Seen(_frame(i), _pose(i), "found"))
    file = tables._files[which]

    class Full:
        def write(self, data):
            file.write(data[:20])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(file, name)

    tables._files[which] = Full()
    with pytest.raises(OSError, match="No space"):
        tables.write(Seen(_frame(3), _pose(3), "found"))
    tables.finish()
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 1, 2]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 3 * 3


def test_aborted_tables_leave_nothing(tmp_path):
    tables = _tables(tmp_path)
    tables.write(Seen(_frame(0), _pose(), "found"))
    tables.abort()
    assert list(tmp_path.iterdir()) == []


# --- the queue --------------------------------------------------------------------------------------------------------


def test_a_channel_gives_everything_in_order_and_then_none():
    channel, got = Channel(2), []
    taker = threading.Thread(target=lambda: got.extend(iter(channel.get, None)))
    taker.start()
    assert all(channel.put(i) for i in range(1, 20))
    channel.end()
    taker.join(LONG)
    assert got == list(range(1, 20))


def test_a_stopped_channel_frees_whoever_waits_to_put():
    channel, answers = Channel(1), []
    channel.put("first")
    giver = threading.Thread(target=lambda: answers.append(channel.put("second")))
    giver.start()
    channel.stop()
    giver.join(LONG)
    assert answers == [False] and channel.get() is None


def test_a_full_channel_that_merges_keeps_the_newest_and_all_of_their_sums():
    channel = Channel(2, merge=lambda dropped, following: dropped + following)
    for i in (1, 2, 4, 8, 16):
        channel.put([i])
    channel.end()
    assert list(iter(channel.get, None)) == [[1, 2, 4, 8], [16]] and channel.dropped == 3
