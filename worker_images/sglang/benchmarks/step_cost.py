"""Time of one scheduling step in SGLang's own policy class: sorting the queue, with and without dopd's order.

Run where SGLang is installed; no GPU. SGLang wants a model's folder for its settings, and does not load it::

    python worker_images/sglang/benchmarks/step_cost.py --model MODEL

For each number of waiting prompts, in milliseconds of CPU (median of steps, and the step in which all are new):
SGLang's fcfs and shortest-prefill-first, and dopd's order. The prefix cache is SGLang's radix cache; a third of the
prompts continue one that it holds, as the turns of a conversation do. Before each step 16 prompts have left and as many
have come. Prompt lengths are those of a lognormal distribution with a median of 1,500 tokens, cut at 32,000.
"""

import argparse
import json
import random
import statistics
import time
from array import array
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from dopd_sglang.prefill_order.control import Control
from dopd_sglang.prefill_order.decision import Ranks
from dopd_sglang.prefill_order.settings import SettingsFile

STEPS = 25
TURNOVER = 16


class Engine:
    """SGLang's policy over its radix cache, and requests for it."""

    def __init__(self, policy: str) -> None:
        from sglang.srt.managers.schedule_policy import SchedulePolicy
        from sglang.srt.mem_cache.common import match_kv_cache
        from sglang.srt.mem_cache.radix_cache import RadixCache

        self.cache = RadixCache.create_simulated()
        self.policy = SchedulePolicy(policy, self.cache, False, False, False)
        self.match = lambda request: match_kv_cache(request, self.cache)
        self._random = random.Random(7)
        self._stems = [self._ids(self._length()) for _ in range(200)]
        for stem in self._stems:
            self._hold(stem)

    def request(self) -> Any:
        """One that has just arrived."""
        from sglang.srt.managers.schedule_batch import Req
        from sglang.srt.sampling.sampling_params import SamplingParams

        ids = self._ids(self._length())
        if self._random.random() < 1 / 3:
            ids = self._random.choice(self._stems) + ids[:500]
        request = Req(f"r{self._random.getrandbits(64):x}", "", ids, SamplingParams(max_new_tokens=1))
        request.time_stats.set_scheduler_recv_time()
        return request

    def _hold(self, ids: Any) -> None:
        import torch
        from sglang.srt.mem_cache.base_prefix_cache import InsertParams
        from sglang.srt.mem_cache.radix_cache import RadixKey

        key = RadixKey(token_ids=ids, extra_key=None)
        self.cache.insert(InsertParams(key=key, value=torch.zeros(len(ids), dtype=torch.int64)))

    def _length(self) -> int:
        return min(32_000, max(16, int(self._random.lognormvariate(7.3, 1.2))))

    def _ids(self, count: int) -> Any:
        return array("q", [self._random.randrange(100_000) for _ in range(64)] * (count // 64 + 1))[:count]


def steps(engine: Engine, waiting: int, sort: Callable[[list[Any]], None]) -> tuple[float, float]:
    """Median time of a step, and that of the first, in milliseconds."""
    queue = [engine.request() for _ in range(waiting)]
    times = []
    for _ in range(STEPS):
        begin = time.thread_time()
        sort(queue)
        times.append(1000 * (time.thread_time() - begin))
        if waiting > TURNOVER:
            queue = queue[TURNOVER:] + [engine.request() for _ in range(TURNOVER)]
    return statistics.median(times[1:]), times[0]


def own(policy: str) -> Callable[[int], tuple[float, float]]:
    """SGLang's policy alone."""

    def run(waiting: int) -> tuple[float, float]:
        engine = Engine(policy)
        return steps(engine, waiting, engine.policy.calc_priority)

    return run


def ours(waiting: int) -> tuple[float, float]:
    """The plan of dopd, in place of the sort."""
    engine = Engine("fcfs")
    budget = SimpleNamespace(remaining_total=10_000_000)
    scheduler = SimpleNamespace(
        page_size=1,
        chunked_prefill_size=8192,
        max_prefill_tokens=16_384,
        is_mixed_chunk=False,
        chunked_req=None,
        tree_cache=engine.cache,
        token_to_kv_pool_allocator=SimpleNamespace(create_prefill_budget=lambda cache: budget),
    )
    control = Control(scheduler, Ranks(), None, engine.match, file=SettingsFile("/nowhere"))
    return steps(engine, waiting, lambda queue: _planned(control, queue))


def _planned(control: Control, queue: list[Any]) -> None:
    if len(queue) > 1 and not control.plan(queue, 0):
        raise RuntimeError("the plugin left the pass to SGLang: this is no measurement")


def publish_settings(model: str) -> None:
    """SGLang's policy reads the settings of its process."""
    from sglang.srt.runtime_context import SpawnRanks, publish
    from sglang.srt.server_args import ServerArgs

    arguments = ServerArgs(model_path=model, disaggregation_mode="prefill", device="cpu")
    publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=0, dp_rank=None, gpu_id=0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a model, or its name")
    parser.add_argument("--waiting", type=int, nargs="+", default=[1, 100, 1000, 4000])
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    publish_settings(options.model)
    orders = {"fcfs": own("fcfs"), "shortest-prefill-first": own("shortest-prefill-first"), "dopd": ours}
    rows = []
    for waiting in options.waiting:
        row: dict[str, Any] = {"waiting": waiting}
        for name, run in orders.items():
            row[name], row[f"{name}, all new"] = (round(value, 3) for value in run(waiting))
        rows.append(row)
    if options.json:
        print(json.dumps(rows))
        return
    names = list(rows[0])
    print(" | ".join(names))
    for row in rows:
        print(" | ".join(f"{row[name]:>{len(name)}}" for name in names))


if __name__ == "__main__":
    main()
