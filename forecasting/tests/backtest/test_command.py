import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from dopd_forecasting.backtest import command
from dopd_forecasting.backtest.measures import pinball, ratio_interval
from dopd_forecasting.backtest.reading import BadFile, read_series
from dopd_forecasting.backtest.rolling import roll

DATA = Path(__file__).parents[1] / "data"
TRACE = DATA / "azure2024-conv-tokens-60s.csv.gz"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.timeout(60)  # matplotlib may have to build its list of fonts first
def test_the_command_writes_the_measures_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    arguments = ["backtest", str(TRACE), "--column", "requests", "--horizons", "1,5", "--warmup", "300"]
    arguments += ["--models", "moving_average", "--json", str(out), "--html", str(page)]
    assert command.main(arguments) == 0
    summary = json.loads(out.read_text())
    assert (summary["column"], summary["bin_seconds"]) == ("requests", 60)
    assert set(summary["horizons"]) == {"1", "5"}
    average = summary["horizons"]["5"]["moving_average"]
    assert set(average) >= {"mae", "mae_vs_last", "ci95", "coverage_90", "pinball_vs_last"}
    assert average["ci95"][0] < average["mae_vs_last"] < average["ci95"][1]
    assert average["mae_vs_last"] < 1
    assert average["coverage_90"] == pytest.approx(0.9, abs=0.07)
    assert summary["horizons"]["1"]["last_value"]["mae_vs_last"] == 1
    assert summary["update_ms"]["max"] >= summary["update_ms"]["mean"] > 0
    assert "<img" in page.read_text()
    assert "moving_average" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the file is empty"),
        ("t_s,load\n0,1\n60,2\n", ":1: there is no column 'requests'; the columns are t_s, load"),
        ("t_s,requests\n0,1\n60,x\n", ":3: requests is 'x': expected a number"),
        ("t_s,requests\n0,1\n60,-2\n", ":3: requests is '-2': expected a load of zero or more"),
        ("t_s,requests\n0,1\nsoon,2\n", ":3: t_s is 'soon': expected seconds"),
        ("t_s,requests\n0,1\n60\n120,2\n", ":3: expected 2 cells"),
        ("t_s,requests\n0,1\n60,1,9\n", ":3: expected 2 cells"),
        ("t_s,requests\n0,1\n", "only 1 rows"),
        ("t_s,requests\n0,1\n600,2\n1200,3\n", "use --bin 600"),
    ],
)
def test_a_bad_file_is_refused_with_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = write(tmp_path / "bad.csv", text)
    assert command.main(["backtest", str(path), "--column", "requests"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("values", [[0] * 60, [7] * 60, [5, 6, 7, 6] * 5], ids=["zeros", "constant", "twenty points"])
def test_measures_that_do_not_exist_are_null(tmp_path: Path, values: list[int]) -> None:
    rows = "".join(f"{60 * number},{value}\n" for number, value in enumerate(values))
    path = write(tmp_path / "load.csv", "t_s,requests\n" + rows)
    out = tmp_path / "out.json"
    arguments = ["backtest", str(path), "--column", "requests", "--horizons", "1,3,50", "--models", "moving_average"]
    assert command.main([*arguments, "--json", str(out)]) == 0

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    horizons = json.loads(out.read_text(), parse_constant=refuse)["horizons"]
    assert horizons["50" if len(values) == 20 else "1"]["last_value"]["ci95"] == [None, None]


def test_a_file_that_is_not_there_or_not_gzip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        read_series(tmp_path / "none.csv", "requests", 60)
    with pytest.raises(BadFile, match="cannot be read"):
        read_series(write(tmp_path / "plain.csv.gz", "t_s,requests\n0,1\n"), "requests", 60)
    contents = gzip.compress(b"t_s,requests\n0,1\n" * 50)
    damaged = tmp_path / "damaged.csv.gz"
    damaged.write_bytes(contents[:10] + b"\xff" * 8 + contents[18:])
    with pytest.raises(BadFile, match="cannot be read"):
        read_series(damaged, "requests", 60)
    packed = tmp_path / "packed.csv"
    packed.write_bytes(contents)
    with pytest.raises(BadFile, match=r"named \.gz"):
        read_series(packed, "requests", 60)


def test_empty_cells_and_absent_rows_are_missing_and_zeros_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "holes.csv", "t_s,requests\n0,1\n60,\n120,0\n180,nan\n300,5\n360,6\n")
    np.testing.assert_allclose(
        read_series(path, "requests", 60).values, [1, np.nan, 0, np.nan, np.nan, 5, 6], equal_nan=True
    )


def test_iso_times_and_longer_bins_are_understood(tmp_path: Path) -> None:
    rows = "".join(f"2024-05-12T00:{minute:02}:00,{minute}\n" for minute in range(6))
    series = read_series(write(tmp_path / "iso.csv", "time,load\n" + rows), "load", 120)
    np.testing.assert_allclose(series.values, [0.5, 2.5, 4.5])
    assert series.start_seconds == 1715472000


def test_a_request_log_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "arrival_s,input_tokens\n0,100\n1,50\n25,30\n31,10\n")
    np.testing.assert_allclose(read_series(path, "requests", 10).values * 10, [2, 0, 1])
    np.testing.assert_allclose(read_series(path, "input_tokens", 10).values * 10, [150, 0, 30])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--models", "oracle", "oracle"), ("--horizons", "0", "bins such as"), ("--bin", "-1", "positive")],
)
def test_bad_options_are_refused(option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["backtest", str(TRACE), "--column", "requests", option, value])
    assert message in capsys.readouterr().err


def test_origins_never_keep_step_with_five_minutes() -> None:
    with pytest.raises(ValueError, match="five"):
        roll(read_series(TRACE, "requests", 60), {}, (1,), stride=10, warmup=20)


def test_pinball_is_least_at_the_true_quantile() -> None:
    values = np.random.default_rng(1).exponential(1, 20_000)
    losses = {q: pinball(values, np.full_like(values, q), 0.9).mean() for q in (1.5, -np.log(0.1), 3.5)}
    assert min(losses, key=losses.__getitem__) == -np.log(0.1)


def test_the_interval_holds_the_ratio_and_narrows_with_data() -> None:
    generator = np.random.default_rng(1)
    errors, baseline = generator.exponential(0.8, 2000), generator.exponential(1.0, 2000)
    low, high = ratio_interval(errors, baseline)
    assert low < 0.8 < high
    low_few, high_few = ratio_interval(errors[:100], baseline[:100])
    assert high_few - low_few > high - low
