"""Shards on paper: what is played is what is told."""

import pytest

from e2e.scale import shards


def test_resources_hold_all_gpus_and_few_hold_most() -> None:
    found = sorted(shards.sizes(10_000, 16, 1), reverse=True)
    assert 10_000 <= sum(found) < 10_000 + shards.FEWEST_GPUS
    assert sum(found[: len(found) // 10]) > 10_000 * 0.35
    assert min(found) >= shards.FEWEST_GPUS


def test_a_shard_is_nobody_s_until_its_lease_has_expired_and_a_short_time_after_a_stop() -> None:
    played = shards.play(3, 12, 1)
    duration = shards.LEASE_SECONDS
    assert played.after_death
    assert duration * 2 / 3 < min(played.after_death)
    assert max(played.after_death) < 2 * duration
    assert max(played.after_stop) < duration / 2
    for shares in played.shares:
        assert sorted(shard for held in shares.values() for shard in held) == list(range(12))
        assert {len(held) for held in shares.values()} == {4}
    for shares in played.shares_of_others:
        assert {len(held) for held in shares.values()} == {6}


def test_the_table_has_a_line_for_each_case(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "CASES", ((1_000, 16, 15), (2_000, 16, 4)))
    shards.main(["--pass-seconds", "0.03"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(shards.HEADS) + 1}
