"""A journal gives back the entries that were written whole, and nothing of what was not."""

from __future__ import annotations

import pytest

from kinopaint.journal import Journal

ENTRIES = [{"kind": "start", "text": "ü \n \u2028"}, {"kind": "window", "frames": 2, "share": 0.1}, {"kind": "painted"}]


@pytest.fixture
def path(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for entry in ENTRIES:
        journal.add(entry)
    return journal.path


def test_entries_come_back_in_order(path):
    journal = Journal(path)
    assert list(journal.entries) == ENTRIES
    assert not journal.damaged


def test_a_file_cut_off_anywhere_gives_the_whole_lines(path):
    data = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        journal = Journal(path)
        whole = sum(end <= length for end in ends)
        assert list(journal.entries) == ENTRIES[:whole]
        assert journal.damaged == (length not in (0, *ends))


def test_one_wrong_bit_anywhere_ends_what_is_trusted(path):
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        journal = Journal(path)
        assert list(journal.entries) == ENTRIES[: data[:place].count(b"\n")]
        assert journal.damaged


def test_an_entry_after_damage_takes_the_place_of_the_damage(path):
    path.write_bytes(path.read_bytes()[:-3])
    Journal(path).add({"kind": "other"})
    assert list(Journal(path).entries) == [*ENTRIES[:2], {"kind": "other"}]


def test_entries_can_be_taken_back(path):
    journal = Journal(path)
    journal.keep(1)
    journal.add({"kind": "other"})
    assert list(Journal(path).entries) == list(journal.entries) == [ENTRIES[0], {"kind": "other"}]


def test_reading_changes_nothing(path):
    path.write_bytes(damaged := path.read_bytes()[:-3])
    Journal(path)
    assert path.read_bytes() == damaged
