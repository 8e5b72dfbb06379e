"""How often dopd turns on a load that is flat: Poisson arrivals at a constant rate, lengths as varied as usual.

OMP_NUM_THREADS=1 python operator/benchmarks/flat_load.py [--hours 2] [--rates 20,60,150]
    [--like TRACE --rate-scale K --slo-ttft 15 --slo-itl 0.1: requests drawn from a trace, at its mean rate]
"""

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.profiles import load_profile
from dopd.replay.runner import run
from dopd.replay.trace import Trace, load
from dopd.replay.workers import Settings

RATES = "15,20,25,35,40,45,55,60,65,75,80,85,95,100,105,115,125,135,150"
"""Many, as a load turns most where it stands just below what a number of workers can carry."""
PROFILE, INPUT_TOKENS, OUTPUT_TOKENS = "llama-3.1-8b-h100", 1155, 211


def rates(text: str) -> list[float]:
    """The numbers of a list.

    Raises:
        argparse.ArgumentTypeError: one is no number above 0.
    """
    try:
        numbers = [float(rate) for rate in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise argparse.ArgumentTypeError(f"{text}: expected numbers above 0, separated by commas, like 20,60,150")
    return numbers


def flat(rate: float, hours: float) -> Trace:
    """A trace of equal minutes."""
    minute = f"{rate * 60:.0f},{rate * 60 * INPUT_TOKENS:.0f},{rate * 60 * OUTPUT_TOKENS:.0f}"
    rows = [f"{60 * k},{minute}" for k in range(round(60 * hours))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.csv"
        path.write_text("\n".join(["t_s,requests,input_tokens,output_tokens", *rows]))
        return load(path)


def like(path: str, rate_scale: float, hours: float) -> Trace:
    """Requests of a trace, each drawn at random, at its mean rate."""
    source, generator = load(path, rate_scale), np.random.default_rng(3)
    count = round(len(source) / source.duration_seconds * hours * 3600)
    drawn = generator.integers(0, len(source), count)
    arrivals = np.sort(generator.uniform(0, hours * 3600, count))
    return Trace(f"like {source.name}", arrivals, source.input_tokens[drawn], source.output_tokens[drawn], "requests")


def main() -> None:
    """Print a line for each rate and start-up time, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rates", type=rates, default=RATES, help="requests per second, comma separated")
    parser.add_argument("--like", metavar="TRACE", help="a request trace to draw requests from")
    parser.add_argument("--rate-scale", type=float, default=1.0, help="copies of that trace")
    parser.add_argument("--slo-ttft", type=float, default=Objectives.ttft_seconds, help="seconds")
    parser.add_argument("--slo-itl", type=float, default=Objectives.itl_seconds, help="seconds")
    args = parser.parse_args()
    profile, objectives = load_profile(PROFILE), Objectives(args.slo_ttft, args.slo_itl)
    if args.like:
        traces = [like(args.like, args.rate_scale, args.hours)]
    else:
        traces = [flat(rate, args.hours) for rate in args.rates]
    found = []
    for trace in traces:
        for start_up in (60.0, 180.0):
            model = replace(EngineModel.from_profile(profile), startup_seconds={role.value: start_up for role in Role})
            setting = Setting(model, objectives, start_up)
            settings = Settings({role: start_up for role in Role})
            start = static.first_counts(setting, trace)
            result = run(trace, model, setting.objectives, start, settings, Dopd(setting))
            found.append(result.reversals / args.hours)
            rate = len(trace) / args.hours / 3600
            print(
                f"{rate:.3g} requests/s, start-up {start_up:g} s: {found[-1]:.1f} reversals per hour, "
                f"{result.attainment:.2%}, {result.gpu_hours:.2f} GPU-hours",
                flush=True,
            )
    print(f"mean {sum(found) / len(found):.2f}, most {max(found):.1f}")


if __name__ == "__main__":
    main()
