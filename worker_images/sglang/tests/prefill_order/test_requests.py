import pytest

from dopd_sglang.prefill_order.requests import NEW_MATCHES, OLD_MATCHES, Requests, arrived_seconds

from .fakes import request


class Cache:
    """Looks up what it was told to hold; remembers who asked."""

    def __init__(self):
        self.cached, self.asked = {}, []

    def __call__(self, req):
        self.asked.append(req.rid)
        req.num_matched_prefix_tokens = self.cached.get(req.rid, 0)


@pytest.fixture
def cache():
    return Cache()


def test_a_prompt_is_what_the_cache_does_not_hold_in_whole_pages(cache):
    requests, req = Requests(16, cache), request(1000, arrived=5.0)
    cache.cached[req.rid] = 480
    requests.refresh([req])
    [(position, prompt)] = requests.waiting([req])
    assert (position, prompt.tokens, prompt.context_tokens, prompt.arrived_seconds) == (0, 528, 480, 5.0)


def test_without_a_cache_a_prompt_is_all_of_it():
    requests, req = Requests(1, None), request(1000)
    requests.refresh([req])
    assert requests.waiting([req])[0][1].tokens == 1000


def test_prompts_stand_in_order_of_arrival_with_their_place_in_the_queue():
    requests = Requests(1, None)
    queue = [request(10, arrived=3.0), request(10, arrived=1.0), request(10, arrived=2.0)]
    assert [position for position, _ in requests.waiting(queue)] == [1, 2, 0]


def test_the_arrival_is_when_the_scheduler_read_it_where_none_came_along():
    req = request(10)
    req.time_stats.scheduler_recv_time = 7.0
    assert arrived_seconds(req) == 7.0


def test_an_unfinished_prompt_is_the_rest_after_what_is_computed():
    requests, req = Requests(16, None), request(1000)
    req.prefix_len = 512
    prompt = requests.unfinished(req)
    assert (prompt.tokens, prompt.context_tokens) == (496, 512)


def test_lookups_in_a_pass_are_bounded_and_all_get_their_turn(cache):
    requests, queue = Requests(1, cache), [request(40) for _ in range(300)]
    requests.refresh(queue)
    assert len(cache.asked) == NEW_MATCHES + OLD_MATCHES
    for _ in range(300 // OLD_MATCHES + 1):
        requests.refresh(queue)
    assert set(cache.asked) == {req.rid for req in queue}


def test_of_duplicates_the_shortest_goes_first_and_the_others_wait_a_pass(cache):
    requests = Requests(1, cache)
    queue = [request(500, start=7), request(200, start=7), request(300, start=7), request(50)]
    requests.refresh(queue)
    assert [position for position, _ in requests.waiting(queue)] == [1, 3]


def test_duplicates_are_looked_up_again_when_the_first_is_computed(cache):
    requests = Requests(1, cache)
    queue = [request(500, start=7), request(200, start=7)]
    requests.refresh(queue)
    requests.waiting(queue)
    requests.chosen({1})
    first = queue.pop(1)
    requests.computing([first])
    cache.cached[queue[0].rid] = 200
    requests.refresh(queue)
    [(_, prompt)] = requests.waiting(queue)
    assert (prompt.tokens, prompt.context_tokens) == (300, 200)


def test_duplicates_do_not_wait_for_one_that_is_not_chosen(cache):
    requests = Requests(1, cache)
    queue = [request(500, start=7), request(200, start=7)]
    requests.refresh(queue)
    requests.waiting(queue)
    requests.chosen(set())
    assert len(requests.waiting(queue)) == 2


def test_a_shared_start_that_the_cache_holds_makes_no_duplicates(cache):
    requests = Requests(1, cache)
    queue = [request(500, start=7), request(200, start=7)]
    cache.cached = {req.rid: 100 for req in queue}
    requests.refresh(queue)
    assert len(requests.waiting(queue)) == 2


def test_a_request_holds_no_reference_to_itself():
    requests, req = Requests(1, None), request(10)
    assert requests.know(req).prompt.key == req.rid
