"""What is noted of an engine, and how it is kept."""

from pathlib import Path
from typing import Any

from e2e.sglang.surface import differences, metrics_shape, read, shape, write

SCRAPE = """# TYPE sglang:a_total counter
sglang:a_total{mode="x",pid="7"} 3
sglang:a_total{mode="y",pid="8"} 4
# TYPE sglang:b histogram
sglang:b_bucket{le="1"} 1
sglang:b_bucket{le="1e+06"} 1
sglang:b_bucket{le="+Inf"} 1
sglang:b_sum 1
sglang:b_count 1
"""


def test_a_scrape_is_noted_without_its_numbers_and_process_ids() -> None:
    assert metrics_shape(SCRAPE) == {
        "sglang:a": {"type": "counter", "labels": {"mode": ["x", "y"], "pid": ["*"]}},
        "sglang:b": {"type": "histogram", "labels": {}, "le": ["1", "1e+06", "+Inf"]},
    }


def test_json_is_noted_by_its_types() -> None:
    assert shape({"b": [{"x": 1.5}, {}], "a": None, "c": True, "d": "text", "e": []}) == {
        "a": "null",
        "b": [{"x": "number"}],
        "c": "bool",
        "d": "text",
        "e": [],
    }


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    noted: dict[str, Any] = {"version": "1", "metrics": metrics_shape(SCRAPE), "loads": {"loads": [{"x": "number"}]}}
    assert write("decode", noted, tmp_path / "recorded") == tmp_path / "recorded" / "decode.json"
    assert read("decode", tmp_path / "recorded") == noted
    assert list(differences(noted, read("decode", tmp_path / "recorded"))) == []
