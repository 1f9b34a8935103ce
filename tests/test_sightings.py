"""Sightings: which matches belong together, whatever order they come in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sighting_samples import PATTERN, START, dated, frame, result_of

from qeeps_cli.errors import UsageError
from qeeps_cli.sightings.grouping import FrameTime, Seen, group_seen
from qeeps_cli.sightings.of_result import SightingRules, find_sightings, with_sightings


def seen(camera: str, value, rank: int, clock: str = "start", origin: str = "") -> Seen:
    [match] = result_of([frame(f"{camera}/{rank}.jpg")]).matches
    return Seen(replace(match, rank=rank), camera, FrameTime(clock, value, origin))


def spans(sightings) -> list[tuple]:
    return [(one.camera, one.first, one.last, len(one.matches)) for one in sightings]


@pytest.mark.parametrize(
    ("times", "gap", "expected"),
    [
        ([], 10, []),
        ([3.0], 10, [(3.0, 3.0, 1)]),
        ([0.0, 10.0, 20.0], 10, [(0.0, 20.0, 3)]),
        ([0.0, 10.000001], 10, [(0.0, 0.0, 1), (10.000001, 10.000001, 1)]),
        ([20.0, 0.0, 5.0, 31.0], 10, [(0.0, 5.0, 2), (20.0, 20.0, 1), (31.0, 31.0, 1)]),
        ([4.0, 4.0, 4.0], 0, [(4.0, 4.0, 3)]),
        ([0.1, 0.4, 0.7], 0.3, [(0.1, 0.7, 3)]),  # 0.7 - 0.4 is more than 0.3 in floats
        ([float(second) for second in range(5000)], 1, [(0.0, 4999.0, 5000)]),
    ],
)
def test_what_lies_at_most_the_gap_apart_is_one_sighting(times, gap, expected):
    found = group_seen([seen("a", time, rank) for rank, time in enumerate(times, start=1)], gap)
    assert spans(found) == [("a", *one) for one in expected]


def test_the_gap_counts_frames_where_these_have_no_time():
    places = [seen("a", place, place, "order") for place in (1, 4, 8)]
    assert spans(group_seen(places, 3)) == [("a", 1, 4, 2), ("a", 8, 8, 1)]
    assert all(one.seconds is None for one in group_seen(places, 3))


def test_cameras_are_apart_though_their_frames_alternate():
    frames = [seen("ab"[place % 2], float(place), place + 1) for place in range(10)]
    assert spans(group_seen(frames, 2)) == [("a", 0.0, 8.0, 5), ("b", 1.0, 9.0, 5)]


def test_dates_of_all_cameras_come_by_time_and_other_clocks_by_camera():
    late, early = START, START - timedelta(hours=1)
    frames = [
        *(seen("2", 7.0, 1), seen("10", 3.0, 2), seen("2", 50.0, 3)),
        *(seen("b", late, 4, "date"), seen("a", early, 5, "date"), seen("c", late, 6, "date")),
        seen("2", 1, 7, "number"),
    ]
    order = [(one.clock, one.camera) for one in group_seen(frames, 1)]
    dates = [("date", "a"), ("date", "b"), ("date", "c")]
    assert order == [*dates, ("start", "2"), ("start", "2"), ("start", "10"), ("number", "2")]


def test_times_that_cannot_be_compared_are_apart():
    """Two videos of one camera both start at 0; a time without a zone may be any."""
    videos = [seen("gate", 1.0, 1, origin="2.mp4"), seen("gate", 2.0, 2, origin="1.mp4"), seen("gate", 3.0, 3)]
    assert [one.best.rank for one in group_seen(videos, 10)] == [3, 2, 1]
    naive, aware = seen("gate", START, 1, "date"), seen("gate", START.replace(tzinfo=UTC), 2, "date")
    assert len(group_seen([naive, aware], 10)) == 2


def test_time_zones_are_compared_and_kept():
    east = datetime(2024, 5, 4, 2, 0, tzinfo=timezone(timedelta(hours=2)))
    west = datetime(2024, 5, 3, 19, 0, 5, tzinfo=timezone(timedelta(hours=-5)))
    [found] = group_seen([seen("a", west, 1, "date"), seen("a", east, 2, "date")], 10)
    assert (found.first, found.last, found.seconds) == (east, west, 5.0)
    assert found.first.isoformat() == "2024-05-04T02:00:00+02:00"


# Of a search


def find(frames, scores=(), **rules):
    return find_sightings(result_of(frames, scores), SightingRules(time_pattern=PATTERN, **rules))


def test_of_no_matches_there_are_no_sightings():
    assert find_sightings(result_of([]), SightingRules()) == []


def test_a_sighting_over_midnight():
    [found] = find([dated("gate", seconds) for seconds in (12, 0, 8)])
    assert (found.camera, found.clock, found.seconds) == ("gate", "date", 12.0)
    assert found.first.isoformat() == "2024-05-03T23:59:50" and found.last.isoformat() == "2024-05-04T00:00:02"
    assert [match.rank for match in found.matches] == [2, 3, 1] and found.best.rank == 1


def test_a_frame_counts_once_with_its_best_match_if_that_scores_enough():
    one, weak, two = dated("a", 0), dated("a", 5), dated("a", 15)
    frames, scores = [one, one, two, weak, two], [0.9, 0.8, 0.5, 0.49, 0.4]
    assert [[match.rank for match in found.matches] for found in find(frames, scores)] == [[1], [3]]
    assert [[match.rank for match in found.matches] for found in find(frames, scores, score=0.4)] == [[1, 4, 3]]
    assert find(frames, scores, score=0.91) == []


def test_copies_of_a_frame_and_frames_of_one_second_are_one_sighting():
    """One more pair of names: equal times are ordered by name, naturally."""
    names = ["a/2024-05-03_10-00-00 (10).jpg", "a/2024-05-03_10-00-00 (9).jpg", "a/2024-05-03_10-00-00.jpg"]
    [found] = find_sightings(
        result_of([frame(name) for name in names]), SightingRules(time_pattern="%Y-%m-%d_%H-%M-%S*")
    )
    assert (found.first, found.seconds) == (datetime(2024, 5, 3, 10), 0.0)
    assert [match.frame.name for match in found.matches] == [names[1], names[0], names[2]]


PLACES = st.tuples(st.sampled_from(["a", "b/c"]), st.integers(0, 60), st.sampled_from([0.3, 0.5, 0.9]))


@given(st.lists(PLACES, max_size=30), st.randoms(use_true_random=False), st.integers(0, 20))
def test_any_order_of_matches_and_frames_gives_the_same_sightings(places, random, gap):
    frames = [dated(camera, seconds) for camera, seconds, _ in places]
    result = result_of(frames, [score for *_, score in places])
    rules = SightingRules(gap=gap, time_pattern="%Y-%m-%d_%H-%M-%S")
    found = find_sightings(result, rules)
    shuffled = replace(result, matches=list(result.matches), frames=list(result.frames))
    random.shuffle(shuffled.matches)
    random.shuffle(shuffled.frames)
    assert find_sightings(shuffled, rules) == found
    # And whatever they are: nobody is lost, and the cuts are where they ought to be.
    counted = {one.frame.name for one in result.matches if one.score >= 0.5 and one.rank == first_rank(result, one)}
    assert sorted(match.frame.name for one in found for match in one.matches) == sorted(counted)
    assert all(one.first <= one.last for one in found)
    for camera in {one.camera for one in found}:
        ends = [(one.first, one.last) for one in found if one.camera == camera]
        assert all((after[0] - before[1]).total_seconds() > gap for before, after in zip(ends, ends[1:], strict=False))


def first_rank(result, match) -> int:
    return min(other.rank for other in result.matches if other.frame.name == match.frame.name)


def test_what_is_worth_telling():
    def notes(frames, parameters=None, **rules):
        result = result_of(frames, parameters=parameters or {"top_k": None}, notes=["of the search"])
        rules = SightingRules(**rules)
        told = with_sightings(result, rules, rules.timetable(result.frames))
        assert told.parameters["sightings"] == rules.to_dict() and told.notes[0] == "of the search"
        return told.notes[1:]

    frames = [dated("a", 0), dated("a", 1)]
    assert notes(frames, time_pattern=PATTERN) == []
    [unknown] = notes(frames)
    assert unknown.startswith("the time of 2 of 2 frames with sightings is not known: their order in the camera counts")
    [odd] = notes([*frames, frame("a/later.jpg")], {"top_k": 9}, time_pattern=PATTERN)[:1]
    assert odd == f"1 of 3 names do not fit the time pattern {PATTERN!r}, as 'a/later.jpg'"
    assert "{frame/25} makes seconds" in notes([frame("7.jpg")], time_pattern="{frame}")[0]
    assert "2 best matches" in notes(frames, {"top_k": 2}, time_pattern=PATTERN)[0]
    assert notes(frames, {"top_k": 3}, time_pattern=PATTERN) == []


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"gap": -1.0}, "--sighting-gap expects seconds or frames, 0 or more, got -1.0"),
        ({"gap": float("nan")}, "--sighting-gap"),
        ({"score": float("inf")}, "--sighting-score expects a finite number, got inf"),
        ({"time_pattern": "%H"}, "without year, month and day"),
    ],
)
def test_rules_that_cannot_be(rules, message):
    with pytest.raises(UsageError, match=message):
        SightingRules(**rules)
