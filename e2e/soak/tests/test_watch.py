"""What a look reads."""

from datetime import UTC, datetime

import pytest

from e2e.soak.agreement import Decision
from e2e.soak.watch import MEMORY, STARTED, decisions, process_memory

BEGAN = datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_decisions_are_read_from_the_status_oldest_first() -> None:
    newer = {"time": "2026-11-24T10:01:40Z", "from": "2+2", "to": "3+2", "reason": "DemandRose"}
    older = {"time": "2026-11-24T09:59:30Z", "from": "0+0", "to": "2+2", "reason": "Start"}
    found = decisions({"decisions": [newer, older]}, BEGAN)
    assert found == [Decision(-30.0, (0, 0), (2, 2), "Start"), Decision(100.0, (2, 2), (3, 2), "DemandRose")]
    assert decisions({}, BEGAN) == []


def test_memory_and_process_are_read_from_the_metrics() -> None:
    text = f"# TYPE {MEMORY} gauge\n{MEMORY} 1.048576e+08\n# TYPE {STARTED} gauge\n{STARTED} 1.7e+09\nother 3\n"
    process, mib = process_memory("dopd-a", text)
    assert mib == 100.0
    assert process.startswith("dopd-a since ")
    assert process_memory("dopd-a", text.replace("1.7e+09", "1.7001e+09"))[0] != process
    with pytest.raises(ValueError, match="metrics of dopd-a"):
        process_memory("dopd-a", "other 3\n")
