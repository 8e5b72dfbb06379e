"""The conformance table."""

import pytest

from e2e.sglang.record import BEGIN, END, Note, replace_table, table

NOTES = [
    Note("Probes", "Ready when up", "ready", "real", "yes"),
    Note("Probes", "Ready when up", "ready", "simulated", "yes"),
    Note("Probes", "Loads", "v1_loads.py: a | b", "real", "yes"),
    Note("Probes", "Loads", "v1_loads.py: a | b", "real", "no"),
    Note("Probes", "Loads", "v1_loads.py: a | b", "simulated", "live"),
    Note("Serving", "Flags", "engine_flags", "real", "yes"),
]


def test_a_row_holds_the_worst_of_all_variants_of_each_kind() -> None:
    lines = table(NOTES, "0.5.23").splitlines()
    assert "| Ready when up | ready | yes | yes |" in lines
    assert "| Loads | v1_loads.py: a &#124; b | no | live |" in lines
    assert "| Flags | engine_flags | yes | - |" in lines
    assert [line for line in lines if line.startswith("###")] == ["### Probes", "### Serving"]


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"# Title\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_table(page, "new")
    assert once == f"# Title\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replace_table(once, "new") == once
    with pytest.raises(ValueError, match="has no"):
        replace_table("# Title", "new")
