"""The command line: SGLang's flags and our own."""

import pytest

from dopd_simulator.options import parse_options

MODEL = ["--model-path", "org/model"]


def test_sglang_flags_keep_their_names():
    options = parse_options(
        [
            *MODEL, "--served-model-name", "m", "--host", "0.0.0.0", "--port", "31000",
            "--disaggregation-mode", "decode", "--disaggregation-transfer-backend", "mori",
            "--enable-pd-role-switch", "--enable-metrics", "--tp-size", "4", "--max-running-requests", "32",
            "--max-total-tokens", "9000", "--chunked-prefill-size", "-1", "--stream-interval", "8",
            "--bucket-time-to-first-token", "1.5", "0.5", "--extra-metric-labels", '{"team": "search"}',
        ],
        {},
    )  # fmt: skip
    assert (options.served_model_name, options.port, options.disaggregation_mode) == ("m", 31000, "decode")
    assert (options.tp_size, options.max_running_requests, options.max_total_tokens) == (4, 32, 9000)
    assert options.bucket_time_to_first_token == (0.5, 1.5)
    assert options.extra_metric_labels == {"team": "search"}
    assert options.enable_pd_role_switch
    assert options.ignored == ()


def test_the_served_name_defaults_to_the_model():
    assert parse_options(MODEL, {}).served_model_name == "org/model"


def test_unknown_flags_of_sglang_are_kept_for_the_log():
    options = parse_options([*MODEL, "--mem-fraction-static", "0.8", "--trust-remote-code", "--port", "1234"], {})
    assert options.ignored == ("--mem-fraction-static", "0.8", "--trust-remote-code")
    assert options.port == 1234


def test_settings_of_the_simulator_come_from_the_environment_and_flags_win():
    environment = {"DOPD_SIM_SPEEDUP": "4", "DOPD_SIM_STALE_RANK_CACHE": "false", "DOPD_SIM_KV_BYTES_PER_TOKEN": "1"}
    options = parse_options([*MODEL, "--sim-speedup", "8"], environment)
    assert (options.sim_speedup, options.sim_stale_rank_cache, options.sim_kv_bytes_per_token) == (8.0, False, 1)


def test_timeouts_and_address_are_sglang_s_own_variables():
    environment = {
        "SGLANG_DISAGGREGATION_WAITING_TIMEOUT": "7",
        "SGLANG_DISAGGREGATION_HEARTBEAT_MAX_FAILURE": "3",
        "SGLANG_HOST_IP": "10.0.0.1",
    }
    options = parse_options(MODEL, environment)
    assert (options.timeouts.waiting_seconds, options.timeouts.bootstrap_seconds) == (7.0, 300.0)
    assert (options.timeouts.heartbeat_failures, options.advertised_host) == (3, "10.0.0.1")


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        ([], {}, "--model-path"),
        ([*MODEL, "--sim-speedup", "0"], {}, "--sim-speedup 0.0"),
        ([*MODEL, "--stream-interval", "0"], {}, "--stream-interval 0"),
        ([*MODEL, "--chunked-prefill-size", "0"], {}, "--chunked-prefill-size 0"),
        ([*MODEL, "--sim-startup-seconds", "-1"], {}, "--sim-startup-seconds -1.0"),
        ([*MODEL, "--disaggregation-mode", "prefill", "--disaggregation-transfer-backend", "fake"], {}, "fake"),
        (MODEL, {"SGLANG_DISAGGREGATION_WAITING_TIMEOUT": "soon"}, "SGLANG_DISAGGREGATION_WAITING_TIMEOUT='soon'"),
    ],
)
def test_wrong_values_are_named(arguments, environment, named):
    with pytest.raises(ValueError, match=r".") as error:
        parse_options(arguments, environment)
    assert named in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [["--disaggregation-mode", "both"], ["--extra-metric-labels", "[]"], ["--sim-stale-rank-cache", "maybe"]],
)
def test_malformed_values_end_the_program(arguments, capsys):
    with pytest.raises(SystemExit):
        parse_options([*MODEL, *arguments], {})
    assert arguments[0] in capsys.readouterr().err
