import subprocess
import sys
from types import SimpleNamespace

from dopd_sglang import plugin


class Scheduler:
    def run_event_loop(self):
        pass


def resolve(path):
    return {"sglang.srt.managers.scheduler.Scheduler": Scheduler}[path]


def test_a_known_sglang_with_the_methods_as_they_were():
    assert plugin.obstacle("0.5.23", [plugin.RUN], resolve) is None


def test_an_unknown_version_is_left_alone():
    assert "SGLang 9.9.9 is not one of those" in plugin.obstacle("9.9.9", [plugin.RUN], resolve)


def test_a_method_that_is_gone_is_named():
    reason = plugin.obstacle("0.5.23", [plugin.RECORD], resolve)
    assert "Scheduler._record_step_counters is not there" in reason


def test_a_name_that_is_no_method_any_more_is_named():
    changed = SimpleNamespace(run_event_loop="gone")
    assert "run_event_loop is not there" in plugin.obstacle("0.5.23", [plugin.RUN], lambda path: changed)


def test_a_method_that_takes_something_else_is_named():
    changed = SimpleNamespace(run_event_loop=lambda self, more: None)
    reason = plugin.obstacle("0.5.23", [plugin.RUN], lambda path: changed)
    assert "takes self, more, not self" in reason


def test_the_plugin_is_imported_without_sglang_torch_or_prometheus():
    script = """
import sys, dopd_sglang.plugin, dopd_sglang.prefill_order.hooks
assert not {"sglang", "torch", "prometheus_client"} & set(sys.modules), sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
