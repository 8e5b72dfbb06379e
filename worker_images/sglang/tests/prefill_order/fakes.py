"""As much of SGLang as the plugin touches: requests, queue and adder; unit tests have no SGLang."""

from itertools import count
from types import SimpleNamespace

_numbers = count()


def request(tokens, arrived=0.0, cached=0, start=None):
    """One of so many tokens; those with the same `start` share a prefix."""
    first = 1_000_000 * (next(_numbers) + 1) if start is None else start
    ids = list(range(first, first + tokens))
    return SimpleNamespace(
        rid=f"r{next(_numbers)}",
        origin_input_ids=ids,
        output_ids=[],
        full_untruncated_fill_ids=ids,
        extra_key=None,
        cache_salt=None,
        prefix_len=cached,
        num_matched_prefix_tokens=cached,
        time_stats=SimpleNamespace(
            created_time=arrived, scheduler_recv_time=0.0, wait_queue_entry_time=0.0, prefill_finished_time=0.0
        ),
    )


class Adder:
    """SGLang's PrefillAdder: admits in order while tokens are left, and cuts what does not fit whole."""

    def __init__(self, room, page_size):
        self.page_size, self.rem_chunk_tokens = page_size, room
        self.can_run_list, self.cut = [], None
        self.memory_budget = SimpleNamespace(total_offset=0)

    def add(self, req, limit=None):
        rest = len(req.full_untruncated_fill_ids) - req.prefix_len
        room = self.rem_chunk_tokens if limit is None else min(limit, self.rem_chunk_tokens)
        tokens = min(rest, room)
        self.can_run_list.append(req)
        self.rem_chunk_tokens -= -(-tokens // self.page_size) * self.page_size
        req.prefix_len += tokens
        return tokens < rest


class Scheduler:
    """SGLang's Scheduler: composes passes as `_get_new_batch_prefill_raw` does."""

    def __init__(self, chunk=4096, page_size=1):
        self.page_size, self.chunked_prefill_size, self.max_prefill_tokens = page_size, chunk, 4 * chunk
        self.is_mixed_chunk = False
        self.waiting_queue, self.chunked_req, self.control = [], None, None

    def compose(self):
        """One pass: {rid: tokens}."""
        control = self.control
        if not self.waiting_queue and self.chunked_req is None:
            return {}
        control.plan(self.waiting_queue, 0)
        adder = Adder(self.chunked_prefill_size, self.page_size)
        before = {}
        if self.chunked_req is not None:
            before[self.chunked_req.rid] = self.chunked_req.prefix_len
            if not adder.add(self.chunked_req, control.chunk_limit()):
                self.chunked_req = None
        for req in list(self.waiting_queue):
            if adder.rem_chunk_tokens <= 0:
                break
            if control.planned() and not control.may_add(adder, req, self.chunked_req is not None):
                break
            before[req.rid] = req.prefix_len
            if adder.add(req):
                assert self.chunked_req is None, "SGLang would have died here"
                self.chunked_req = req
        if not adder.can_run_list:
            control.composed(None)
            return {}
        self.waiting_queue = [req for req in self.waiting_queue if req not in adder.can_run_list]
        batch = SimpleNamespace(reqs=adder.can_run_list)
        control.composed(batch)
        return {req.rid: req.prefix_len - before[req.rid] for req in adder.can_run_list}
