"""Shards: no two act for one, whoever joins, leaves or stands still, and none is nobody's for long."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import event, given
from hypothesis import strategies as st

from dopd.cluster.shares import LAYOUT, Candidate, Put, Seen, shard_of
from e2e.scale.shards import Server

DURATION_SECONDS = 15.0
ROUND_SECONDS = DURATION_SECONDS / 7.5
KEYS = [("team", f"m-{number}") for number in range(12)]


@dataclass
class Process:
    """One process, that goes on by one step at a time: a request is asked, done and answered in three."""

    server: Server
    candidate: Candidate
    leaves: bool = False
    gone: bool = False
    ending: int = 2
    """Steps in which a pass that was cancelled comes to its end."""

    def __post_init__(self) -> None:
        self.steps = self._run()

    def step(self) -> None:
        if not self.gone:
            self.gone = next(self.steps, "end") == "end"

    def acts_for(self, key: tuple[str, str]) -> bool:
        me = self.candidate
        return not self.gone and not self.leaves and me.may_act(shard_of(*key, me.shards), self.server.now)

    def _run(self) -> Iterator[str]:
        me = self.candidate
        while True:
            asked = self.server.now
            yield "ask"
            found = dict(self.server.leases)
            yield "read"
            me.saw(found, asked, self.server.now)
            if self.leaves:
                yield from self._write(me.farewell(), found)
                return
            me.review(self.server.now)
            giving = [shard for shard in range(me.shards) if found.get(shard, Seen()).holder == me.me]
            giving = [shard for shard in giving if not me.may_act(shard, self.server.now)]
            for _ in range(self.ending if giving else 0):
                yield "ending"
            for shard in giving:
                me.ended(shard)
            puts = me.puts(self.server.now)
            yield from self._write(puts, found)
            if any(put.slot == LAYOUT for put in puts):
                yield from self._write([put for put in me.puts(self.server.now) if put not in puts], found)
            yield "rest"

    def _write(self, puts: list[Put], found: dict[int, Seen]) -> Iterator[str]:
        for put in puts:
            asked = self.server.now
            yield "write"
            written = self.server.put(put, found.get(put.slot, Seen()), self.candidate.duration_seconds)
            yield "written"
            if written:
                self.candidate.wrote(put, written, asked, self.server.now)
                found[put.slot] = written


def until_rest(process: Process) -> None:
    """A whole look, while no time passes."""
    while not process.gone and next(process.steps, "rest") != "rest":
        pass


def holders(processes: list[Process], key: tuple[str, str]) -> list[str]:
    return [process.candidate.me for process in processes if process.acts_for(key)]


@given(st.data())
def test_no_resource_has_two_that_write_for_it(data: st.DataObject):
    """Processes join, leave and die; they stand still anywhere in a look for any time, and go on; answers are lost."""
    server, still, acted = Server(), set[str](), False
    settings = st.sampled_from([(3, DURATION_SECONDS)] * 3 + [(5, DURATION_SECONDS), (3, 3.0)])
    processes = [Process(server, Candidate(f"p{number}", *data.draw(settings))) for number in range(2)]

    def alone() -> None:
        nonlocal acted
        for key in KEYS:
            writers = holders(processes, key)
            assert len(writers) <= 1, writers
            acted = acted or bool(writers)

    def steps(process: Process, many: int) -> None:
        for _ in range(many):
            process.step()
            alone()

    names = st.sampled_from(
        ["join", "rounds", "rounds", "rounds", "steps", "still", "still", "go", "lose", "leave", "die"]
    )
    for number, action in enumerate(data.draw(st.lists(names, min_size=5, max_size=25))):
        process = data.draw(st.sampled_from(processes))
        if action == "join":
            processes.append(Process(server, Candidate(f"late{number}", *data.draw(settings))))
        elif action == "rounds":
            for _ in range(data.draw(st.integers(1, 10))):
                for each in processes:
                    if each.candidate.me not in still:
                        until_rest(each)
                        alone()
                server.now += data.draw(st.sampled_from([ROUND_SECONDS / 2, ROUND_SECONDS]))
                alone()
        elif action == "still":
            steps(process, data.draw(st.integers(0, 8)))
            still.add(process.candidate.me)
        elif action == "lose":  # it begins a new look without the answer of what was under way
            process.steps = process._run()
        elif action == "leave":
            process.leaves = True
        elif action == "die" and len(processes) > 1:
            processes.remove(process)
        elif action in ("steps", "go"):
            server.now += (
                data.draw(st.sampled_from([0.0, ROUND_SECONDS, DURATION_SECONDS])) if action == "steps" else 0.0
            )
            steps(process, data.draw(st.integers(1, 8)))
            still.discard(process.candidate.me)
    event(f"somebody acted: {acted}")


@given(
    shards=st.integers(2, 12),
    alive=st.integers(1, 5),
    changes=st.lists(st.sampled_from(["join", "die", "leave", "rounds"]), max_size=8),
    data=st.data(),
)
def test_each_resource_has_one_soon_and_processes_have_equal_shares(
    shards: int, alive: int, changes: list[str], data: st.DataObject
):
    server = Server()
    processes = [Process(server, Candidate(f"p{number}", shards, DURATION_SECONDS)) for number in range(alive)]

    def rounds(many: int) -> None:
        for _ in range(many):
            for process in data.draw(st.permutations(processes)) if len(processes) > 1 else processes:
                until_rest(process)
            server.now += ROUND_SECONDS

    rounds(data.draw(st.integers(0, 10)))
    for number, change in enumerate(changes):
        if change == "join":
            processes.append(Process(server, Candidate(f"late{number}", shards, DURATION_SECONDS)))
        elif change == "rounds":
            rounds(3)
        elif len(processes) > 1:
            process = data.draw(st.sampled_from(processes))
            processes.remove(process)
            if change == "leave":
                process.leaves = True
                until_rest(process)
    rounds(int(2 * DURATION_SECONDS / ROUND_SECONDS) + 1)
    for key in KEYS:
        assert len(holders(processes, key)) == 1
    rounds(2 * shards)
    shares = Counter({process.candidate.me: 0 for process in processes})
    shares.update(lease.holder for slot, lease in server.leases.items() if slot != LAYOUT)
    assert max(shares.values()) - min(shares.values()) <= 1, shares
    before = dict(server.leases)
    rounds(5)
    assert {slot: lease.holder for slot, lease in server.leases.items()} == {s: one.holder for s, one in before.items()}


def test_what_was_given_away_is_taken_in_the_next_look():
    server = Server()
    first, second = (Process(server, Candidate(name, 4, DURATION_SECONDS)) for name in ("first", "second"))
    for _ in range(6):
        for process in (first, second):
            until_rest(process)
        server.now += ROUND_SECONDS
    assert {len(holders([first], key)) + len(holders([second], key)) for key in KEYS} == {1}
    first.leaves = True
    until_rest(first)
    server.now += ROUND_SECONDS
    until_rest(second)
    server.now += ROUND_SECONDS
    until_rest(second)
    until_rest(second)
    assert {tuple(holders([first, second], key)) for key in KEYS} == {("second",)}


def test_what_is_asked_for_is_not_acted_for_before_it_is_given():
    server = Server()
    first, second = (Process(server, Candidate(name, 2, DURATION_SECONDS)) for name in ("first", "second"))
    until_rest(first)
    assert all(first.acts_for(key) for key in KEYS)
    until_rest(second)
    asked = [shard for shard in range(2) if server.leases[shard].wanted_by == "second"]
    assert len(asked) == 1
    assert [next(first.steps) for _ in range(3)][-1] == "ending"
    assert server.leases[asked[0]].holder == "first"
    assert {shard_of(*key, 2) for key in KEYS if not first.acts_for(key)} == set(asked)


def test_a_lease_that_somebody_deletes_is_its_holder_s_still():
    server = Server()
    first, second = (Process(server, Candidate(name, 2, DURATION_SECONDS)) for name in ("first", "second"))
    for _ in range(8):
        until_rest(first)
        until_rest(second)
        server.now += ROUND_SECONDS
    held = {key: holders([first, second], key) for key in KEYS}
    assert {len(names) for names in held.values()} == {1}
    server.leases.clear()
    for process in (second, first):
        until_rest(process)
        assert {key: holders([first, second], key) for key in KEYS} == held
    assert len(server.leases) == 3


def test_a_layout_that_another_renewed_counts_from_the_look_before():
    """When it did so is not known: it may have died at once, and processes with another number wait since then."""
    server = Server()
    me = Candidate("me", 1, DURATION_SECONDS)
    until_rest(Process(server, me))
    server.now = 9.0
    renewed = Seen(me.layout, "", "by another", DURATION_SECONDS, "x")
    me.saw({LAYOUT: renewed, 0: server.leases[0]}, 9.0, 9.0)
    me.wrote(Put(0, "me"), server.leases[0], 9.0, 9.0)
    assert me.may_act(0, 9.5)
    assert not me.may_act(0, 10.5)


def test_the_shard_of_a_resource_is_the_same_for_ever():
    """Two versions of the operator beside each other must agree."""
    assert [shard_of("team", f"m-{number}", 16) for number in range(6)] == [4, 5, 5, 0, 6, 11]
    assert shard_of("a", "b", 1) == 0
