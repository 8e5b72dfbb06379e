"""Weights and KV cache against the memory of a GPU."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd_sglang.preflight import memory
from dopd_sglang.preflight.findings import Level
from dopd_sglang.preflight.flags import EngineFlags
from dopd_sglang.preflight.gpus import Gpu
from dopd_sglang.preflight.model import (
    INDEX,
    Folder,
    check,
    kv_bytes_per_token,
    read_folder,
    weights_bytes,
    weights_in_memory_bytes,
)

GIB = 2**30
LLAMA_8B = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
H100 = Gpu(0, "H100", 79 * GIB, 80 * GIB)


def folder(gib, **config):
    return Folder("/model", readable=True, config=LLAMA_8B | config, weights_bytes=int(gib * GIB))


def test_a_token_of_llama_8b_takes_128_kib():
    assert kv_bytes_per_token(LLAMA_8B, EngineFlags()) == 128 * 1024


@pytest.mark.parametrize(
    ("flags", "share"),
    [
        (EngineFlags(tp_size=2), 1 / 2),
        (EngineFlags(pp_size=4), 1 / 4),
        (EngineFlags(tp_size=16), 1 / 8),  # a GPU holds at least one head
        (EngineFlags(kv_cache_dtype="fp8_e4m3"), 1 / 2),
    ],
)
def test_heads_and_layers_are_split_among_gpus(flags, share):
    assert kv_bytes_per_token(LLAMA_8B, flags) == share * 128 * 1024


def test_latent_attention_is_not_split():
    deepseek = LLAMA_8B | {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_hidden_layers": 61}
    assert kv_bytes_per_token(deepseek, EngineFlags(tp_size=8)) == 576 * 61 * 2


def test_a_multimodal_models_text_part_counts():
    assert kv_bytes_per_token({"text_config": LLAMA_8B}, EngineFlags()) == 128 * 1024


def test_a_config_that_does_not_say_leaves_it_open():
    assert kv_bytes_per_token({"architectures": ["X"]}, EngineFlags()) is None


def test_weights_count_as_they_are_on_disk_unless_sglang_converts_them():
    assert weights_in_memory_bytes(folder(16), EngineFlags()) == (16 * GIB, 16 * GIB)
    assert weights_in_memory_bytes(folder(16), EngineFlags(tp_size=4)) == (4 * GIB, 4 * GIB)
    assert weights_in_memory_bytes(folder(32, torch_dtype="float32"), EngineFlags()) == (16 * GIB, 16 * GIB)
    assert weights_in_memory_bytes(folder(16), EngineFlags(dtype="float32")) == (32 * GIB, 32 * GIB)
    assert weights_in_memory_bytes(folder(16), EngineFlags(quantization="fp8")) == (4 * GIB, 8 * GIB)
    quantized = folder(8, quantization_config={"quant_method": "fp8"})
    assert weights_in_memory_bytes(quantized, EngineFlags(quantization="fp8")) == (8 * GIB, 8 * GIB)


def test_a_model_that_fits_is_told_with_its_tokens():
    finding = memory.check(H100, folder(15), EngineFlags(mem_fraction_static=0.88))
    assert finding.level is Level.OK
    assert "446627 tokens of KV cache" in str(finding)


def test_weights_that_do_not_fit_are_refused_with_the_fraction_that_would_do():
    finding = memory.check(H100, folder(40), EngineFlags(mem_fraction_static=0.5))
    assert finding.level is Level.REFUSED
    assert "--mem-fraction-static above 0.506" in str(finding)
    assert "fix: --mem-fraction-static 0.61" in str(finding)


def test_weights_larger_than_the_gpu_want_more_gpus():
    finding = memory.check(H100, folder(141), EngineFlags())
    assert finding.level is Level.REFUSED
    assert "more GPUs (--tp-size)" in finding.fix
    assert memory.check(H100, folder(141), EngineFlags(tp_size=2)).level is not Level.REFUSED


def test_a_pool_shorter_than_the_context_is_warned_of():
    finding = memory.check(Gpu(0, "L40S", 44 * GIB, 45 * GIB), folder(30), EngineFlags(mem_fraction_static=0.88))
    assert finding.level is Level.WARNING
    assert "131072 tokens of the context length" in str(finding)
    short = EngineFlags(mem_fraction_static=0.88, context_length=8192)
    assert memory.check(Gpu(0, "L40S", 44 * GIB, 45 * GIB), folder(30), short).level is Level.OK


def test_more_tokens_than_fit_are_warned_of():
    finding = memory.check(H100, folder(15), EngineFlags(mem_fraction_static=0.88, max_total_tokens=10**6))
    assert "--max-total-tokens 1000000" in finding.expected


def test_a_size_that_is_not_known_is_not_judged():
    assert memory.check(H100, Folder(""), EngineFlags()).level is Level.SKIPPED


@given(
    free=st.floats(GIB, 200 * GIB),
    weights=st.floats(0, 300 * GIB),
    fraction=st.floats(0.05, 0.99),
)
def test_the_fraction_that_is_asked_for_is_the_one_at_which_the_pool_begins(free, weights, fraction):
    flags = EngineFlags(mem_fraction_static=fraction)
    pool = memory.pool_bytes(free, free, weights, flags)
    needed = memory.fraction_needed(free, weights)
    assert pool == pytest.approx((fraction - needed) * free, abs=1)


@given(gib=st.floats(1, 200), fraction=st.floats(0.1, 0.95), tp=st.sampled_from([1, 2, 4, 8]))
def test_more_gpus_never_make_it_worse(gib, fraction, tp):
    def bad(size):
        found = memory.check(H100, folder(gib), EngineFlags(mem_fraction_static=fraction, tp_size=size))
        return [Level.OK, Level.WARNING, Level.REFUSED].index(found.level)

    assert bad(2 * tp) <= bad(tp)


def write(path, config, files, index=None):
    (path / "config.json").write_text(json.dumps(config))
    for name, size in files.items():
        (path / name).write_bytes(b"x" * size)
    if index:
        (path / INDEX).write_text(json.dumps({"weight_map": index}))
    return read_folder(str(path))


def test_the_files_of_the_index_count(tmp_path):
    found = write(tmp_path, LLAMA_8B, {"a.safetensors": 3, "b.safetensors": 4, "old.bin": 9}, {"x": "a.safetensors"})
    assert found.weights_bytes == 3
    assert check(found, EngineFlags(model_path=str(tmp_path))).level is Level.OK


def test_a_missing_or_empty_part_is_named(tmp_path):
    index = {"x": "a.safetensors", "y": "b.safetensors", "z": "c.safetensors"}
    found = write(tmp_path, LLAMA_8B, {"a.safetensors": 3, "b.safetensors": 0}, index)
    finding = check(found, EngineFlags(model_path=str(tmp_path)))
    assert finding.level is Level.REFUSED
    assert "lacks 2 of the files in model.safetensors.index.json: b.safetensors, c.safetensors" in finding.found


def test_an_index_that_is_none_is_as_good_as_no_index(tmp_path):
    assert write(tmp_path, LLAMA_8B, {"a.safetensors": 3}, ["a.safetensors"]).weights_bytes == 3


def test_a_path_below_a_folder_that_is_closed_cannot_be_read(monkeypatch):
    def closed(*_, **__):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.exists", closed)
    assert check(read_folder("/closed/model"), EngineFlags(model_path="/closed/model")).level is Level.REFUSED


def test_weights_that_are_published_twice_count_once():
    assert weights_bytes({"consolidated.safetensors": 9, "model-1.safetensors": 5}, set()) == 5
    assert weights_bytes({"consolidated.safetensors": 9}, set()) == 9
    assert weights_bytes({"model.bin": 5, "notes.txt": 7}, set()) == 5


@pytest.mark.parametrize(
    ("path", "level"), [("/no/such/folder", Level.REFUSED), ("org/model", Level.SKIPPED), (None, Level.REFUSED)]
)
def test_a_path_has_to_be_there_and_a_name_is_left_to_the_engine(path, level):
    assert check(read_folder(path), EngineFlags(model_path=path)).level is level


def test_weights_may_be_absent_where_dummies_are_asked_for(tmp_path):
    found = write(tmp_path, LLAMA_8B, {})
    assert check(found, EngineFlags(model_path="/m")).level is Level.REFUSED
    assert check(found, EngineFlags(model_path="/m", load_format="dummy")).level is Level.OK
