"""A hundred mutants of benchmarks/fuzz.py: each ends in a whole copy or in one clear error."""

import pytest
from benchmarks.fuzz import SOURCES, open_in_this_process, open_isolated, outcome_of, write_sources

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"))


def test_mutants_are_copied_or_refused(sources, tmp_path):
    outcomes = [
        outcome_of(number, 0, sources, tmp_path, open_in_this_process if number % 10 else open_isolated)
        for number in range(100)
    ]
    assert [each for each in outcomes if each.fault] == []
    assert sum(each.opened for each in outcomes) >= 30
    assert {each.name for each in outcomes} == {name for name, *_ in SOURCES}


def test_the_sources_themselves_are_copied(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.fuzz.mutate", lambda data, rng: data)
    outcomes = [outcome_of(number, 0, sources, tmp_path, open_in_this_process) for number in range(len(sources))]
    assert [(each.name, each.said, each.fault) for each in outcomes if each.said != "delivered"] == []


@pytest.mark.parametrize(("seed", "number"), [(0, 185), (1, 1093)])
def test_mutants_that_were_faults_once(sources, tmp_path, seed, number):
    assert outcome_of(number, seed, sources, tmp_path, open_in_this_process).fault == ""
