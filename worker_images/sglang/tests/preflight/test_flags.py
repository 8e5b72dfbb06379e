"""Flags are read as SGLang reads them."""

import pytest

from dopd_sglang.preflight.flags import EngineFlags, FlagError, engine_arguments, parse, tokens

LAUNCH = ["python3", "-m", "sglang.launch_server"]


def flags(*words):
    return parse([*LAUNCH, *words])


def test_without_flags_sglangs_defaults_hold():
    assert flags() == EngineFlags()


@pytest.mark.parametrize(
    "words",
    [
        ["--tp-size", "4"],
        ["--tp-size=4"],
        ["--tensor-parallel-size", "4"],
        ["--tp", "4"],
        ["--tensor=4"],
        ["--tp-size", "2", "--tp", "4"],
    ],
)
def test_every_spelling_of_a_flag_is_read(words):
    assert flags(*words).tp_size == 4


@pytest.mark.parametrize("words", [["--model", "/m"], ["--model-path=/m"], ["--model-p", "/m"]])
def test_the_model_has_two_names(words):
    assert flags(*words).model_path == "/m"


def test_flags_that_are_not_checked_pass_with_their_values():
    read = flags(
        "--served-model-name", "x", "--enable-metrics", "--json-model-override-args", '{"a": 1}', "--port", "31000"
    )
    assert read.port == 31000


def test_sglang_serve_takes_the_model_without_a_flag():
    assert parse(["/usr/bin/sglang", "serve", "org/model", "--tp=2"]).model_path == "org/model"


def test_a_file_of_flags_comes_before_the_command_line(tmp_path):
    file = tmp_path / "flags.yaml"
    file.write_text("tp_size: 2\nport: 31000\nmodel-path: /m\nenable-metrics: true\nlora-paths: [a, b]\n")
    read = flags("--config", str(file), "--port", "32000")
    assert (read.tp_size, read.port, read.model_path) == (2, 32000, "/m")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "http"], "--port"),
        (["--disaggregation-b"], "expected one argument"),
        (["--m", "x"], "ambiguous"),
        (["--config", "/nowhere.yaml"], "--config /nowhere.yaml"),
    ],
)
def test_what_sglang_would_refuse_names_the_flag(words, said):
    with pytest.raises(FlagError, match=said):
        flags(*words)


def test_a_config_that_is_no_text_is_told(tmp_path):
    file = tmp_path / "flags.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FlagError, match=f"--config {file}"):
        flags("--config", str(file))


def test_another_command_is_not_guessed_at():
    with pytest.raises(FlagError, match="sglang"):
        engine_arguments(["vllm", "serve", "model"])


@pytest.mark.parametrize(("text", "number"), [("32768", 32768), ("32k", 32000), ("32Ki", 32768), ("25.6k", 25600)])
def test_numbers_of_tokens_have_suffixes(text, number):
    assert tokens(text) == number
    assert flags("--context-length", text).context_length == number


@pytest.mark.parametrize(
    ("words", "gpus"),
    [
        ([], 1),
        (["--tp", "4", "--pp-size", "2"], 8),
        (["--tp", "8", "--nnodes", "2"], 4),
        (["--tp", "2", "--dp-size", "2"], 4),
        (["--tp", "2", "--dp-size", "2", "--enable-dp-attention"], 2),
    ],
)
def test_gpus_of_this_node(words, gpus):
    assert flags(*words).gpus == gpus
