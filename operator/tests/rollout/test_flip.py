"""A flip: who changes its role, and each of its steps."""

from dataclasses import replace

from dopd.api.names import Role
from dopd.rollout import Act, Goal, Side, Turn, Worker, move, next_act

NOW, DEADLINE = 1000.0, 60.0
SERVING = Worker("", labelled=True, ready=True, scheduled=True, created_seconds=0, registered=True, may_flip=True)


def worker(name: str, **changes: object) -> Worker:
    return replace(SERVING, name=name, **changes)


def moved(prefill: list[Worker], decode: list[Worker], want: tuple[int, int], flips: int = 9, **goal: object):
    sides = {
        Role.PREFILL: Side(prefill, Goal(want[0], **goal)),
        Role.DECODE: Side(decode, Goal(want[1], **goal)),
    }
    steps = move(
        sides, 4, now_seconds=NOW, drain_deadline_seconds=DEADLINE, flips={Role.PREFILL: flips, Role.DECODE: flips}
    )
    return steps[Role.PREFILL], steps[Role.DECODE]


def test_a_shift_of_the_ratio_is_a_flip_of_the_least_loaded_worker():
    decode = [worker("busy", load=9), worker("calm", load=1), worker("d", load=5)]
    prefill_step, decode_step = moved([worker("p")], decode, (2, 2))
    assert (prefill_step.create, decode_step.flip, decode_step.drain) == (0, ("calm",), ())


def test_a_worker_that_is_drained_already_changes_first():
    drained = worker("z", labelled=False, draining_since_seconds=NOW - 9, registered=False, idle=True)
    _, step = moved([worker("p")], [worker("a"), worker("b"), drained], (2, 1))
    assert (step.flip, step.release, step.drain) == (("z",), (), ("b",))


def test_no_more_than_the_plan_says_changes_and_nobody_who_can_not():
    decode = [worker("a"), worker("b"), worker("c")]
    assert moved([worker("p")], decode, (3, 1), flips=1)[1].flip == ("b",)
    assert moved([worker("p")], decode, (3, 1), flips=0)[1].flip == ()
    fixed = [replace(w, may_flip=False) for w in decode]
    assert moved([worker("p")], fixed, (2, 2))[1].drain == ("c",)
    assert moved([worker("p")], decode, (2, 2), may_start=False)[1].flip == ("c",), "what needs no GPU needs no node"
    starting = [worker("a"), worker("b"), worker("c", ready=False, registered=False)]
    assert moved([worker("p")], starting, (2, 2))[1].flip == ()


def test_nobody_changes_while_a_rollout_runs():
    old = [worker("a", revision="old"), worker("b", revision="old"), worker("c", revision="old")]
    assert moved([worker("p", revision="new")], old, (2, 2), revision="new")[1].flip == ()


TURNING = worker("t", labelled=False, turning=True, in_role=False, draining_since_seconds=NOW - 5, registered=False)


def test_one_on_its_way_counts_for_its_new_role_and_serves_when_its_engine_says_so():
    prefill_step, _ = moved([worker("p"), TURNING], [worker("d")], (2, 1))
    assert (prefill_step.create, prefill_step.serve) == (0, ())
    silent = replace(TURNING, in_role=None)
    assert moved([worker("p"), silent], [worker("d")], (2, 1))[0].serve == ()
    listed = replace(TURNING, registered=True)
    assert moved([worker("p"), listed], [worker("d")], (2, 1))[0].create == 0
    turned_back = replace(TURNING, registered=True, in_role=True)
    assert moved([worker("p"), turned_back], [worker("d")], (2, 1))[0].serve == (), "no gateway would notice"
    changed = replace(TURNING, in_role=True)
    assert moved([worker("p"), changed], [worker("d")], (2, 1))[0].serve == ("t",)


def test_one_on_its_way_goes_back_when_it_is_wanted_there_again():
    step, _ = moved([worker("p"), TURNING], [worker("d")], (1, 2))
    assert step.flip == ("t",)


def act(**changes: object) -> Act:
    turn = Turn(TURNING, idle_seconds=NOW - 2)
    ours = {name: changes.pop(name) for name in list(changes) if hasattr(turn, name)}
    return next_act(replace(turn, worker=replace(TURNING, **changes), **ours), NOW, DEADLINE)


def test_an_engine_is_told_once_no_gateway_lists_it_and_it_is_idle_for_a_while():
    assert act() is Act.SWITCH
    assert act(idle_seconds=None) is Act.WAIT
    assert act(idle_seconds=NOW - 0.5) is Act.WAIT
    assert act(asked=True) is Act.WAIT
    assert act(ready=False) is Act.WAIT
    assert act(in_role=None) is Act.WAIT


def test_a_changed_engine_is_settled_and_then_proved():
    assert act(in_role=True) is Act.SETTLE
    assert act(in_role=True, settled=True) is Act.WAIT
    assert act(in_role=True, settled=True, failures=3) is Act.RESTART


def test_a_refusal_leads_back_or_to_a_new_engine():
    assert act(refused="insufficient decode CUDA graph headroom") is Act.BACK
    assert act(refused="instance unhealthy", restorable=False) is Act.RESTART
    assert act(refused="insufficient decode CUDA graph headroom", settled=True) is Act.RESTART


def test_one_that_never_gets_there_is_started_anew():
    assert act(idle_seconds=None, draining_since_seconds=NOW - DEADLINE) is Act.RESTART
    assert act(in_role=None, draining_since_seconds=NOW - DEADLINE) is Act.RESTART
    assert act(asked=True, draining_since_seconds=NOW - DEADLINE) is Act.WAIT, "it captures its graphs"


def test_an_engine_that_is_not_what_its_label_says_loses_it():
    assert act(labelled=True, turning=False) is Act.WITHDRAW
    assert act(labelled=True, turning=False, in_role=True) is Act.WAIT
    assert act(labelled=True, turning=False, in_role=None) is Act.WAIT
