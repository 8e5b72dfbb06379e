"""How a pass that mixes prompts and answers compares with the publisher's own composition of kernel times.

python operator/benchmarks/mixed_passes.py     (needs the extra `estimate`: aiconfigurator-core)

For each profile the lowest, mean and highest ratio of three formulas to the publisher's `mixed_step_latency`, over
passes of 256 to 8192 tokens, 8 to 256 answers, prompts and contexts of 1024 and 4096 tokens: that of
`dopd.replay.pass_times` (this one), the longer of both halves (max), and their sum.
"""

from itertools import product
from statistics import mean

from aiconfigurator_core.sdk.engine import EngineHandle

from dopd.perf import EngineModel
from dopd.replay.pass_times import PassTimes
from dopd.replay.profiles import load_profile

PROFILES = (
    ("llama-3.1-8b-h100", "meta-llama/Meta-Llama-3.1-8B", 1),
    ("llama-3.1-70b-fp8-h100", "nvidia/Llama-3.1-70B-Instruct-FP8", 4),
)
CHUNKS, RUNNING, CONTEXTS = (256, 1024, 2048, 4096, 8192), (8, 32, 64, 128, 256), (1024, 4096)


def main() -> None:
    """Print the table."""
    print("| profile | formula | lowest | mean | highest |\n|---|---|---|---|---|")
    for name, model, parallel in PROFILES:
        spec = load_profile(name)
        times = PassTimes(EngineModel.from_profile(spec))
        engine = EngineHandle.compile(model, "h100_sxm", "sglang", backend_version="0.5.14", tp_size=parallel)
        ratios: dict[str, list[float]] = {"this one": [], "max": [], "sum": []}
        for chunk, running, context in product(CHUNKS, RUNNING, CONTEXTS):
            tokens = chunk - running
            if tokens < 64:
                continue
            published = spec.correction * engine.mixed_step_latency(tokens, running, context, 2) / 1e3
            attended = tokens * min(tokens, context)  # prompts as long as the context, the last of them cut
            prompts, answers = times.prefill_seconds(tokens, attended), times.decode_seconds(running, context)
            ratios["this one"].append(times.mixed_seconds(tokens, attended, running, context) / published)
            ratios["max"].append(max(prompts, answers) / published)
            ratios["sum"].append((prompts + answers) / published)
        for formula, values in ratios.items():
            print(f"| {name} | {formula} | {min(values):.2f} | {mean(values):.2f} | {max(values):.2f} |")


if __name__ == "__main__":
    main()
