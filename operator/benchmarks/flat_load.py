"""How often dopd turns on a load that is flat: Poisson arrivals at a constant rate, lengths as varied as usual.

OMP_NUM_THREADS=1 python operator/benchmarks/flat_load.py [--hours 2] [--rates 20,40,60,80,100,150]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

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

PROFILE, INPUT_TOKENS, OUTPUT_TOKENS = "llama-3.1-8b-h100", 1155, 211


def flat(rate: float, hours: float) -> Trace:
    """A trace of equal minutes."""
    minute = f"{rate * 60:.0f},{rate * 60 * INPUT_TOKENS:.0f},{rate * 60 * OUTPUT_TOKENS:.0f}"
    rows = [f"{60 * k},{minute}" for k in range(round(60 * hours))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.csv"
        path.write_text("\n".join(["t_s,requests,input_tokens,output_tokens", *rows]))
        return load(path)


def main() -> None:
    """Print a line for each rate and start-up time, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rates", default="20,40,60,80,100,150", help="requests per second, comma separated")
    args = parser.parse_args()
    profile = load_profile(PROFILE)
    found = []
    for rate in map(float, args.rates.split(",")):
        trace = flat(rate, args.hours)
        for start_up in (60.0, 180.0):
            model = replace(EngineModel.from_profile(profile), startup_seconds={role.value: start_up for role in Role})
            setting = Setting(model, Objectives(), start_up)
            settings = Settings({role: start_up for role in Role})
            start = static.first_counts(setting, trace)
            result = run(trace, model, setting.objectives, start, settings, Dopd(setting))
            found.append(result.reversals / args.hours)
            print(
                f"{rate:g} requests/s, start-up {start_up:g} s: {found[-1]:.1f} reversals per hour, "
                f"{result.attainment:.2%}, {result.gpu_hours:.2f} GPU-hours",
                flush=True,
            )
    print(f"mean {sum(found) / len(found):.2f}, most {max(found):.1f}")


if __name__ == "__main__":
    main()
