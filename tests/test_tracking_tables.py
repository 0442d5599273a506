"""The tables of docs/tracking.md and docs/video.md say what the results say, or that there are none yet."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import tracking_tables

from featherpose.evaluate_track import COLUMNS

HOST = {"cpu": "a cpu", "cores": 2, "system": "a system", "load": 0.5, "versions": {"python": "3"}}
FIGURES = dict.fromkeys(COLUMNS, 0.5) | {"lag_ms": None, "jitter_px_s2": 1234.4}
FACTS = {
    "date": "2026-01-02", "machine": HOST, "model": "toy", "clips": 2, "first_seed": 1000, "photos": True,
    "ways": {"tracker": {"all": FIGURES, "still": FIGURES | {"AR": 0.25}}, "official crop": {"all": FIGURES, "still": FIGURES}},
    "filters": [{"family": "none", "settings": "", "jitter_px_s2": 1000.0, "jitter_body_s2": 23.14, "spread": 0.0123,
                 "lag_ms": 0.0, "moving_error": 0.03}],
    "several": {"one look": {"found": 0.75, "changes": 0.5, "extra": 0.01}},
    "costs": [{"clip": "alone", "way": "tracker", "network_ms": 4.0, "all_ms": 5.0, "looks": 1.0}],
}  # fmt: skip


def test_every_way_is_a_column_and_every_figure_a_row():
    lines = tracking_tables.ways(FACTS)
    assert lines[0] == "| figure | tracker | official crop |"
    assert "| AR | 0.500 | 0.500 |" in lines and "| lag ms | - | - |" in lines and "| wrong | 50.0 % | 50.0 % |" in lines
    assert len(lines) == 2 + len(COLUMNS) + 2
    assert "Model toy, 2 clips of each of 1 kinds and 2 photos of each motion, seeds from 1000." in lines[-1]


TABLES = {
    "kinds": "| still | 0.250, 50.0 % | 0.500, 50.0 % |",
    "filters": "| none |  | 1000 | 23.1 | 1.23 % | 0.0 | 3.00 % |",
    "several": "| one look | 75.00 % | 0.50 | 0.010 |",
    "costs": "| alone | tracker | 4.00 | 5.00 | 1.25 | 1.00 |",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_its_figures(name):
    head, line, *rows = getattr(tracking_tables, name)(FACTS)
    assert rows == [TABLES[name]]
    assert head.count("|") == line.count("|") == rows[0].count("|")


def test_without_results_a_table_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking_tables, "RESULTS", tmp_path)
    for make in (tracking_tables.TRACKING | tracking_tables.VIDEO).values():
        assert make() == [tracking_tables.NOT_YET]
