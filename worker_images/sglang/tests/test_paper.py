from dopd_scheduling import Prompt, Settings
from dopd_scheduling.paper import WAITING_CAP, PaperRules

from .simulation import TIMES

SETTINGS = Settings(1.5, TIMES, predicted_tokens=1000)


def keys(now, waiting, unfinished=(), room=8192):
    return [prompt.key for prompt, _ in PaperRules(SETTINGS).next_pass(now, waiting, unfinished, room)]


def test_a_long_one_goes_at_once_and_alone():
    assert keys(0.1, [Prompt("short", 0.0, 100), Prompt("long", 0.05, 2000)]) == ["long"]


def test_short_ones_go_together_the_shortest_first_and_no_more_than_fit():
    waiting = [Prompt("a", 0.0, 600), Prompt("b", 0.01, 300), Prompt("c", 0.02, 400)]
    assert keys(0.1, waiting) == ["b", "c", "a"]
    assert keys(0.1, waiting, room=700) == ["b", "c"]


def test_a_short_one_that_has_waited_its_time_goes_before_everything():
    cap = WAITING_CAP * SETTINGS.ttft_seconds
    waiting = [Prompt("due", 0.0, 500), Prompt("long", 0.01, 2000), Prompt("new", cap, 10)]
    assert keys(cap, waiting)[0] == "due"
    assert keys(cap - 0.01, waiting) == ["long"]


def test_what_is_begun_goes_on():
    begun = Prompt("begun", 0.0, 3000, 4000)
    assert keys(0.1, [Prompt("long", 0.05, 2000)], [begun]) == ["begun"]
