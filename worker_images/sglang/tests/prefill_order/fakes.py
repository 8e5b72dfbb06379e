"""As much of SGLang as the plugin touches: requests, queue and adder; unit tests have no SGLang."""

from itertools import count
from types import SimpleNamespace

_numbers = count()


class Request:
    """One of so many tokens; those with the same `start` share a prefix."""

    def __init__(self, tokens, arrived=0.0, cached=0, start=None, priority=None):
        first = 1_000_000 * (next(_numbers) + 1) if start is None else start
        self.rid = f"r{next(_numbers)}"
        self.origin_input_ids = self.full_untruncated_fill_ids = list(range(first, first + tokens))
        self.output_ids = []
        self.priority = priority
        self.extra_key = self.cache_salt = None
        self.prefix_len = self.num_matched_prefix_tokens = cached
        self.time_stats = SimpleNamespace(
            created_time=arrived, scheduler_recv_time=0.0, wait_queue_entry_time=0.0, prefill_finished_time=0.0
        )
        self.pending_bootstrap = self.return_logprob = self.return_hidden_states = False
        self.multimodal_inputs = self.session = self.input_embeds = self.lora_id = self.beam_group = None
        self.to_finish = self.finished_reason = None
        self.kv = SimpleNamespace(holds_kv=False)

    def init_next_round_input(self):
        pass

    def finished(self):
        return self.finished_reason is not None


request = Request


class Adder:
    """SGLang's PrefillAdder: admits in order while tokens are left, and cuts what does not fit whole."""

    def __init__(self, room, page_size):
        self.page_size, self.rem_chunk_tokens = page_size, room
        self.can_run_list, self.chunked_req_limit = [], None
        self.memory_budget = SimpleNamespace(total_offset=0)

    def add(self, req, limit=None):
        rest = len(req.full_untruncated_fill_ids) - req.prefix_len
        room = self.rem_chunk_tokens if limit is None else min(limit, self.rem_chunk_tokens)
        tokens = min(rest, room)
        assert tokens > 0, "SGLang would have composed an empty piece here"
        self.can_run_list.append(req)
        self.rem_chunk_tokens -= -(-tokens // self.page_size) * self.page_size
        req.prefix_len += tokens
        req.kv.holds_kv = True
        return tokens < rest

    def add_chunked_req(self, req):
        return req if self.add(req, self.chunked_req_limit) else None


class Scheduler:
    """SGLang's Scheduler: composes passes as `_get_new_batch_prefill_raw` does."""

    def __init__(self, chunk=4096, page_size=1):
        self.page_size, self.chunked_prefill_size, self.max_prefill_tokens = page_size, chunk, 4 * chunk
        self.is_mixed_chunk = False
        self.waiting_queue, self.chunked_req, self.control = [], None, None
        self._pending_chunked_abort_req = None
        self.admits = lambda req: True
        self.free_tokens = float("inf")
        self.tree_cache = None
        self.token_to_kv_pool_allocator = SimpleNamespace(
            create_prefill_budget=lambda tree_cache: SimpleNamespace(remaining_total=self.free_tokens)
        )

    def compose(self):
        """One pass: {rid: tokens}."""
        before = {req.rid: req.prefix_len for req in [*self.waiting_queue, *self.control.unfinished.all()]}
        batch = self._compose()
        if not self.control.composed(batch):
            batch = self._compose()
            self.control.composed(batch)
        return {} if batch is None else {req.rid: req.prefix_len - before[req.rid] for req in batch.reqs}

    def _compose(self):
        control = self.control
        if not self.waiting_queue and self.chunked_req is None:
            return None
        control.plan(self.waiting_queue, 0)
        adder = Adder(self.chunked_prefill_size, self.page_size)
        if self.chunked_req is not None:
            adder.chunked_req_limit = control.chunk_limit()
            self.chunked_req = control.go_on(adder, adder.add_chunked_req, self.chunked_req)
        for req in list(self.waiting_queue):
            if adder.rem_chunk_tokens <= 0 or not self.admits(req):
                break
            control.reserve(adder)
            if not control.may_add(adder, req, self.chunked_req is not None):
                break
            if adder.add(req):
                assert self.chunked_req is None, "SGLang would have died here"
                self.chunked_req = req
        if not adder.can_run_list:
            return None
        self.waiting_queue = [req for req in self.waiting_queue if req not in adder.can_run_list]
        return SimpleNamespace(reqs=adder.can_run_list)

    def abort(self):
        """SGLang's `process_pending_chunked_abort`."""
        req = self._pending_chunked_abort_req
        if req is None:
            return
        assert self.chunked_req is req
        req.finished_reason, req.kv.holds_kv = "abort", False
        self.chunked_req = self._pending_chunked_abort_req = None
