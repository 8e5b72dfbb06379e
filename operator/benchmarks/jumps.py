"""A load that jumps between two rates at random times. Prints it as a trace.

python operator/benchmarks/jumps.py [--hours 4] [--low 60] [--high 180] [--seed 7] > jumps.csv
dopd replay jumps.csv --policies dopd,dopd-paper,dynamo-sla,hpa,static-peak,oracle
"""

import argparse

import numpy as np

INPUT_TOKENS, OUTPUT_TOKENS = 1155, 211
LOW_SECONDS, HIGH_SECONDS = 300.0, 120.0
"""Mean times between two jumps, exponentially distributed."""
INTERVAL_SECONDS = 10


def main() -> None:
    """Print the rates of each interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--low", type=float, default=60.0, help="requests per second")
    parser.add_argument("--high", type=float, default=180.0, help="requests per second")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    generator = np.random.default_rng(args.seed)
    rates, sojourns = (args.low, args.high), (LOW_SECONDS, HIGH_SECONDS)
    level, jump_seconds = 0, generator.exponential(sojourns[0])
    print("t_s,rate_rps_with_tokens,input_tok_per_s,output_tok_per_s")
    for at_seconds in range(0, round(args.hours * 3600), INTERVAL_SECONDS):
        while jump_seconds <= at_seconds:
            level = 1 - level
            jump_seconds += generator.exponential(sojourns[level])
        print(f"{at_seconds},{rates[level]:g},{rates[level] * INPUT_TOKENS:g},{rates[level] * OUTPUT_TOKENS:g}")


if __name__ == "__main__":
    main()
