"""`python -m dopd_forecasting backtest FILE ...`."""

from __future__ import annotations

import os
import sys

THREADS = "OMP_NUM_THREADS"

if __name__ == "__main__":
    if THREADS not in os.environ:
        # The matrices are tiny: with more than one BLAS thread an estimation takes ten times as long. Numpy
        # reads this once, at import.
        os.environ[THREADS] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "dopd_forecasting", *sys.argv[1:]])
    from dopd_forecasting.backtest.command import main

    sys.exit(main())
