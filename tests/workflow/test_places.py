"""Where in a run something is called: its label, and its seed, which no two places share."""

from __future__ import annotations

from itertools import product

from modelcompose_jupyter.workflow.job_graph import SEEDS_OF_A_JOB
from modelcompose_jupyter.workflow.runner import is_first_seed
from modelcompose_jupyter.workflow.scope import Place, derived_seed

ROOT = Place("a", "a")


def seed(place: Place, of_job: int = 7) -> int:
    """That of the first generation there."""
    return place.seed(of_job) + (place.repeat or 0)


def test_repeats_count_up_from_the_seed_of_the_job() -> None:
    assert [seed(ROOT.at(n), 7) for n in range(3)] == [7, 8, 9]
    assert is_first_seed(seed(ROOT), 7)
    assert not is_first_seed(seed(ROOT.at(1)), 7)
    assert is_first_seed(7 + 3 * SEEDS_OF_A_JOB, 7)  # of another job


def test_no_two_places_of_thousands_have_one_seed() -> None:
    places = [ROOT.at(n) for n in range(1000)]
    places += [ROOT.at(n).at(m) for n, m in product(range(100), range(100))]
    places += [ROOT.at(n).at(m).at(0) for n, m in product(range(50), range(50))]
    tries = [outer.tried(n) for outer in (ROOT, *places[:50]) for n in (2, 3)]
    places += [each.at(n).tried(m) for each in tries for n, m in product((0, 1), (1, 2))]
    seeds = [seed(each) for each in places]
    assert len(set(seeds)) == len(seeds) > 13_000
    assert max(seeds) < 2**53


def test_jobs_of_workflows_that_are_called_often_have_seeds_of_their_own() -> None:
    called = Place("a", "a/b", (), ())
    seeds = [
        seed(called, derived_seed(7, n) + m * SEEDS_OF_A_JOB) for n in range(300) for m in (0, 1)
    ]
    assert len(set(seeds)) == len(seeds) == 600


def test_attempts_within_attempts_differ_from_those_around_them() -> None:
    inner = ROOT.at(3)
    places = [ROOT.tried(outer).at(3).tried(n) for outer, n in product((1, 2, 3), (1, 2, 3))]
    assert len({seed(each) for each in places}) == 9
    assert ROOT.tried(1).at(3).tried(1) == inner
    assert {each.label for each in places} == {"a"}


def test_the_label_of_a_place_says_where_it_is() -> None:
    assert (ROOT.label, ROOT.repeat) == ("a", None)
    assert (ROOT.at(3).label, ROOT.at(3).repeat) == ("a", 3)
    assert (ROOT.at(3).at(1).label, ROOT.at(3).at(1).repeat) == ("a[3]", 1)
    assert ROOT.at(3).at(1).path == "a[3][1]"
