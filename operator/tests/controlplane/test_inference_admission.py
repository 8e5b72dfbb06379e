"""Bad resources are refused by the API server, with a message that names the field and the fix."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.router import DecodeRouting, PrefillRouting
from dopd.cluster import kinds

from .admission import GONE, INFERENCE, changed, missing_words, send

ROOT = Path(__file__).parents[3]
STATIC = {"spec.scaling": GONE, "spec.prefill.replicas": 2, "spec.decode.replicas": 0}
SWITCHING = {"spec.roleSwitching": {"enabled": True}}
RACKS = {"domainKey": "topology.kubernetes.io/rack", "domains": [{"name": "a.b_c-1", "gpus": 8}]}
NIGHT = {"name": "night", "timeZone": "Europe/Berlin", "start": "0 22 * * *", "end": "0 6 * * *"}
LAUNCH = {"name": "launch", "timeZone": "Europe/Berlin", "start": "0 20 * * 5", "duration": "2h", "factor": 3}
ONCE = {"name": "sale", "timeZone": "Etc/UTC", "at": "2026-12-24T18:00", "duration": "1d", "factor": 0.5}
A_SECRET = {"secretKeyRef": {"name": "hf", "key": "token"}}


def template(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A change: the pod template of the prefill workers."""
    return {"spec.prefill.template": {"spec": {"containers": list(containers), **spec}}}


def engine_port(**port: Any) -> dict[str, Any]:
    """The engine's container with a port."""
    return {"name": "engine", "ports": [port]}


def several_nodes(**decode: Any) -> dict[str, Any]:
    """A change: decode workers of several nodes."""
    return {"spec.decode": {"gpus": 16, "nodes": 2, **decode}, "spec.scaling.gpuBudget": {"max": 64}}


GOOD: list[dict[str, Any]] = [
    {},
    STATIC,
    {"spec.scaling.ratio": {"min": "1:4", "max": "4:1"}},
    {"spec.scaling.ratio": {"min": "1:1", "max": "1:1"}, "spec.scaling.mode": "Advise"},
    {"spec.scaling.gpuBudget": {"max": 4}},
    {"spec.scaling.gpuBudget": {"min": 8, "max": 8}},
    {"spec.scaling.idle": {"after": "30m"}},
    {"spec.scaling.schedules": [{**NIGHT, "prefill": {"min": 1, "max": 2}}]},
    {
        "spec.scaling.schedules": [
            {**NIGHT, "start": "*/30 22,23 1-7 JAN-mar Mon", "end": "0 6 L * 0", "gpuBudget": {"min": 4, "max": 12}},
            {"name": "week", "timeZone": "UTC", "start": "0 0 * * 1", "duration": "5d", "decode": {"min": 2, "max": 6}},
        ]
    },
    {"spec.rollout": {"decode": {"maxUnavailable": 0, "maxSurgeGPUs": 8}, "onFailure": "RollBack"}},
    SWITCHING,
    {"spec.topology": RACKS},
    {"spec.topology": {"domainKey": "nvidia.com/gpu.clique", "policy": "Preferred"}, **SWITCHING},
    {**SWITCHING, "spec.engine.transferBackend": "mori"},
    {"spec.roleSwitching": {"enabled": False}, "spec.engine.transferBackend": "nixl", "spec.decode.gpus": 1},
    {"spec.prefill.template": {"spec": {"nodeSelector": {"a": "b"}, "anything": [1]}}},
    {"spec.prefill.parallelism": {"tensor": 2}, "spec.prefill.gpuResource": "amd.com/gpu"},
    {"spec.prefill.gpuResource": "nvidia.com/mig-1g.5gb", "spec.apiKey": {"name": "a.b-c", "key": ".key"}},
    {"spec.telemetry": {"prometheusURL": "http://[fd00::1]:9090/select/0/prometheus"}},
    {"spec.telemetry": {"prometheusURL": "https://my_prometheus.monitoring.svc.cluster.local./"}},
    {"spec.engine.command": ["tini", "--", "bash", "-c", 'exec sglang serve "$@"', "engine"]},
    {"spec.prefill.parallelism": {"pipeline": 2}, "spec.decode.parallelism": {"data": 2}},
    {"spec.decode.parallelism": {"data": 2, "dataAttention": True}},
    several_nodes(parallelism={"data": 16, "dataAttention": True, "expert": 16}),
    several_nodes(nodes=4, parallelism={"pipeline": 2}, ports={"rendezvous": 25000}),
    {"spec.prefill.gpus": 4, "spec.prefill.nodes": 2, "spec.scaling.gpuBudget.max": 16},
    {"spec.prefill.ports": {"engine": 30001, "bootstrap": 8999}, "spec.decode.ports": {"engine": 30002}},
    {
        "spec.scaling.profileRef": GONE,
        "spec.prefill.profileRef": {"name": "p"},
        "spec.decode.profileRef": {"name": "d"},
    },
    {"spec.prefill.profileRef": {"name": "p"}},
    {"spec.apiKey": {"name": "llama-key"}, "spec.ipFamily": "IPv6"},
    {"spec.apiKey": {"name": "llama-key", "key": "api.key_1"}},
    template(engine_port(containerPort=30000, protocol="TCP")),
    template(engine_port(containerPort=30000, name="http"), engine_port(containerPort=5600, name="nixl")),
    template({"name": "engine", "livenessProbe": None, "env": None}, nodeSelector={"a": "b"}),
    {"spec.prefill.template": {"metadata": {"labels": {"a": "b"}}}},
    {"spec.router.service": {"portName": "http-openai"}},
    {"spec.engine.command": ["bash", "-c", '. /env; exec sglang serve "$@"', "engine"]},
    {"spec.engine.command": ["python3", "-c", "import x; x.main()"]},
    {"spec.engine.command": ["sglang"]},
    {"spec.router.args": ["--disable-retries", "--prefill-max-inflight-requests-per-worker", "4", "--policy=random"]},
    {"spec.scaling.forecast": {"bin": "1m", "history": "30d"}},
    {"spec.scaling.forecast": {"bin": "1s"}},  # as many bins as there may be, and not four weeks
    {"spec.scaling.forecast": {"events": [LAUNCH, {**ONCE, "name": "b"}]}},
    {"spec.telemetry": {"historyURL": "https://thanos.monitoring.svc:10902"}},
    {"spec.engine.env": [{"name": "HF_TOKEN", "valueFrom": A_SECRET}, {"name": "LEVEL", "value": ""}]},
    {"spec.engine.args": ["--mem-fraction-static", "0.85", "--trust-remote-code", "--json-model-override-args"]},
    {
        "spec.engine.args": [
            '--json-model-override-args={"a": 1}',
            '{"a": 1}',
            "-1",
            "",
            "--tokenizer-mode=auto",
            "--config",
        ]
    },
    {"spec.engine.sharedMemory": "1.5Gi", "spec.engine.imagePullSecrets": ["registry"]},
    {"spec.scaling.behavior": {"interval": "1m30s", "drainDeadline": "2h", "scaleDownStabilization": "0m1s"}},
    {"spec.router.service": {"type": "NodePort", "nodePort": 30080, "annotations": {"a": "b"}}},
    {"spec.slo": {"ttftSeconds": 2, "itlSeconds": 0.03, "attainment": 0.5}},
    {"spec.scheduling": {}},
    {"spec.scheduling": {"policy": "ShortestFirst", "lateShare": 0, "latePrompts": "Refuse", "mostUnfinished": 8}},
    {"spec.scheduling": {"policy": "EngineDefault", "lateShare": 1}},
    *({"spec.router.prefillPolicy": policy} for policy in PrefillRouting),
    *({"spec.router.decodePolicy": policy} for policy in DecodeRouting),
    {"metadata.name": "a" * 46},
]

BAD_FIELDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"spec.model": GONE}, ["spec.model: Required"]),
    ({"spec.model": "bad name"}, ["spec.model:", '"bad name"', "such as meta-llama/"]),
    ({"spec.model": "qwen3:8b"}, ["spec.model:", '"qwen3:8b"', "that clients ask for", "in engine.modelPath"]),
    ({"spec.model": "/models/llama"}, ["spec.model:", '"/models/llama"', "engine.modelPath where the weights are"]),
    ({"spec.slo": {"ttftSeconds": 1500}}, ["spec.slo.ttftSeconds:", "1500", "at most 120", "1500 ms are 1.5"]),
    ({"spec.slo": {"itlSeconds": 50}}, ["spec.slo.itlSeconds:", "50", "at most 5", "50 ms are 0.05"]),
    ({"spec.scaling.behavior": {"interval": "1ms"}}, ["behavior.interval:", '"1ms"', "must be 1s to 10m"]),
    ({"spec.scaling.behavior": {"interval": "1d"}}, ["behavior.interval:", '"1d"', "must be 1s to 10m"]),
    ({"spec.scaling.behavior": {"queueInterval": "1ms"}}, ["behavior.queueInterval:", "must be 500ms to 1m"]),
    ({"spec.scaling.behavior": {"drainDeadline": "10ms"}}, ["behavior.drainDeadline:", "must be 1s to 24h"]),
    ({"spec.scaling.behavior": {"scaleDownStabilization": "300d"}}, ["scaleDownStabilization:", "must be 1s to 24h"]),
    ({"spec.scaling.forecast": {"history": "9999999d"}}, ["forecast.history:", '"9999999d"', "must be 1m to 60d"]),
    ({"spec.scaling.forecast": {"history": "99999999999999999999d"}}, ["forecast.history:", "such as 90s"]),
    ({"spec.scaling.forecast": {"events": [{**ONCE, "at": "9:00"}]}}, ["events[0].at:", "2026-12-24T18:00"]),
    ({"spec.scaling.forecast": {"events": [{**LAUNCH, "timeZone": "Mars/Base"}]}}, ["events[0].timeZone:"]),
    ({"spec.scaling.forecast": {"events": [{**LAUNCH, "factor": 0}]}}, ["events[0].factor:"]),
    ({"spec.telemetry": {"historyURL": "thanos:10902"}}, ["telemetry.historyURL:", "http://"]),
    ({"spec.scaling.forecast": {"bin": "1ms"}}, ["forecast.bin:", "must be 1s to 1h"]),
    (
        {"spec.scaling.fallback": {"after": "1ms", "prefill": 1, "decode": 1}},
        ["fallback.after:", "must be 10s to 7d"],
    ),
    ({"spec.engine.terminationGracePeriod": "900000h"}, ["terminationGracePeriod:", "must be 1s to 24h"]),
    ({"spec.engine.sharedMemory": "16"}, ["spec.engine.sharedMemory:", "must be 1Mi to 16Ti", "counts bytes"]),
    ({"spec.engine.sharedMemory": "99999999Ti"}, ["spec.engine.sharedMemory:", "must be 1Mi to 16Ti"]),
    (
        {"spec.engine.env": [{"name": "A", "valueFrom": {"secretRef": {"name": "s"}}}]},
        ['unknown field "spec.engine.env[0].valueFrom.secretRef"'],
    ),
    ({"spec.engine.env": [{"name": "A", "value": 1}]}, ["spec.engine.env[0].value:", "must be of type string"]),
    (
        {"spec.prefill.template": {"nodeSelector": {"a": "b"}}},
        ['unknown field "spec.prefill.template.nodeSelector"'],
    ),
    ({"spec.apiKey": {"key": "k"}}, ["spec.apiKey.name: Required"]),
    ({"spec.engine.command": []}, ["spec.engine.command:", "at least 1"]),
    ({"spec.engine.modelPath": "--x"}, ["spec.engine.modelPath:", "not beginning with '-'"]),
    ({"spec.engine.modelPath": "a b"}, ["spec.engine.modelPath:", "without blanks"]),
    ({"spec.ipFamily": "ipv6"}, ["spec.ipFamily:", '"IPv4", "IPv6"']),
    ({"spec.prefill.ports": {"engine": 0}}, ["spec.prefill.ports.engine:", "or equal to 1"]),
    (
        {"spec.scaling.schedules": [{**NIGHT, "timeZone": "Europe/Berlim", "prefill": {"min": 1, "max": 2}}]},
        ["schedules[0].timeZone:", "Europe/Berlim", "such as Europe/Berlin"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "timeZone": "Local", "prefill": {"min": 1, "max": 2}}]},
        ["schedules[0].timeZone:", "such as Europe/Berlin"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "end": "0 0 30 2 *", "prefill": {"min": 1, "max": 2}}]},
        ["schedules[0].end:", "never comes", "correct day of month or month"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "start": "0 0 31 NOV *", "prefill": {"min": 1, "max": 2}}]},
        ["schedules[0].start:", "never comes"],
    ),
    ({"spec.engine.image": GONE}, ["spec.engine.image: Required"]),
    ({"spec.engine.image": "two words"}, ["spec.engine.image:", "an image without blanks"]),
    ({"spec.engine.transferBackend": "carrier-pigeon"}, ["spec.engine.transferBackend:", '"mooncake"']),
    ({"spec.engine.imagePullPolicy": "Sometimes"}, ["spec.engine.imagePullPolicy:", '"IfNotPresent"']),
    ({"spec.engine.imagePullSecrets": ["My_Secret"]}, ["spec.engine.imagePullSecrets[0]:", "lower-case letters"]),
    ({"spec.engine.sharedMemory": "16 GB"}, ["spec.engine.sharedMemory:", "such as 16Gi"]),
    ({"spec.engine.sharedMemory": 16}, ["spec.engine.sharedMemory:", "must be of type string"]),
    ({"spec.engine.terminationGracePeriod": "ten minutes"}, ["terminationGracePeriod:", "such as 90s, 1h30m"]),
    ({"spec.engine.terminationGracePeriod": "0s"}, ["terminationGracePeriod:", "above zero"]),
    ({"spec.engine.env": [{"name": "9-LIVES", "value": "1"}]}, ["spec.engine.env[0].name:", "not beginning with"]),
    ({"spec.prefill.gpus": GONE}, ["spec.prefill.gpus: Required"]),
    ({"spec.prefill.gpus": 0}, ["spec.prefill.gpus:", "greater than or equal to 1"]),
    ({"spec.prefill.gpus": "two"}, ["spec.prefill.gpus:", "must be of type integer"]),
    ({"spec.engine.imagePullSecrets": ["a..b"]}, ["spec.engine.imagePullSecrets[0]:", "single '.'"]),
    ({"spec.apiKey": {"name": "a..b"}}, ["spec.apiKey.name:", "single '.'"]),
    ({"spec.apiKey": {"name": "a", "key": ".."}}, ["spec.apiKey.key:", "not '..' at its beginning"]),
    ({"spec.prefill.gpuResource": "a..b/c"}, ["spec.prefill.gpuResource:", "such as nvidia.com/gpu"]),
    ({"spec.prefill.gpuResource": "gpu"}, ["spec.prefill.gpuResource:", "such as nvidia.com/gpu"]),
    ({"spec.decode.nodes": 0}, ["spec.decode.nodes:", "greater than or equal to 1"]),
    ({"spec.router.replicas": 0}, ["spec.router.replicas:", "greater than or equal to 1"]),
    ({"spec.router.prefillPolicy": "best"}, ["spec.router.prefillPolicy:", '"power_of_two"']),
    ({"spec.router.decodePolicy": "bucket"}, ["spec.router.decodePolicy:", '"bucket"', '"least_load"']),
    ({"spec.scheduling": {"policy": "Fastest"}}, ["spec.scheduling.policy:", '"OnTimeFirst", "ShortestFirst"']),
    ({"spec.scheduling": {"lateShare": 1.5}}, ["spec.scheduling.lateShare:", "less than or equal to 1"]),
    ({"spec.scheduling": {"lateShare": -0.1}}, ["spec.scheduling.lateShare:", "greater than or equal to 0"]),
    ({"spec.scheduling": {"latePrompts": "drop"}}, ["spec.scheduling.latePrompts:", '"Serve", "Refuse"']),
    ({"spec.scheduling": {"mostUnfinished": 0}}, ["mostUnfinished:", "greater than or equal to 1"]),
    ({"spec.scheduling": {"mostUnfinished": 9}}, ["mostUnfinished:", "less than or equal to 8"]),
    ({"spec.scheduling": {"mostUnfinished": 1.5}}, ["mostUnfinished:", "must be of type integer"]),
    ({"spec.scheduling": {"lateshare": 0.2}}, ['unknown field "spec.scheduling.lateshare"']),
    ({"spec.router.service": {"port": 70000}}, ["spec.router.service.port:", "less than or equal to 65535"]),
    ({"spec.slo": {"ttftSeconds": 0}}, ["spec.slo.ttftSeconds:", "at least 0.001"]),
    ({"spec.slo": {"attainment": 99}}, ["spec.slo.attainment:", "at most 0.9999"]),
    ({"spec.scaling.mode": "auto"}, ["spec.scaling.mode:", '"Auto", "Advise", "Paused"']),
    ({"spec.scaling.decode.min": 0}, ["spec.scaling.decode.min:", "greater than or equal to 1"]),
    ({"spec.scaling.decode.max": GONE}, ["spec.scaling.decode.max: Required"]),
    ({"spec.scaling.ratio": {"min": "0.25", "max": "1:2"}}, ["spec.scaling.ratio.min:", "such as 1:4 or 3:2"]),
    ({"spec.scaling.behavior": {"interval": "30"}}, ["spec.scaling.behavior.interval:", "such as 90s"]),
    ({"spec.scaling.behavior": {"maxStep": 0}}, ["spec.scaling.behavior.maxStep:", "greater than or equal to 1"]),
    (
        {"spec.scaling.schedules": [{**NIGHT, "timeZone": "Mars Time", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].timeZone:", '"Mars Time"', "such as Europe/Berlin"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "start": "0 25 * * *", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].start:", '"0 25 * * *"', "five cron fields", "such as 0 7 * * 1-5"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "end": "@daily", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].end:", '"@daily"', "five cron fields"],
    ),
    ({"spec.telemetry": {"prometheusURL": "prometheus:9090"}}, ["prometheusURL:", "begins with http://"]),
    ({"spec.prefil": {"gpus": 1}}, ['unknown field "spec.prefil"']),
    ({"spec.scaling.behaviour": {}}, ['unknown field "spec.scaling.behaviour"']),
]

MISPLACED: list[tuple[dict[str, Any], list[str]]] = [
    ({"spec.engine.env": [{"name": "A", "valueFrom": {"secretRef": {}}}]}, ["[0].valueFrom:", "one of secretKeyRef"]),
    (
        {"spec.prefill.template": {"nodeSelector": {"a": "b"}}},
        ["spec.prefill.template:", "neither metadata nor spec", "template.spec.nodeSelector"],
    ),
]
BAD_URLS = ["http://p:9090/api/v1/query", "http://p:9090?x=1", "http://p/#a", "http://me:word@p:9090"]
NO_HOSTS = [
    "http://*.x",
    "http://a..b",
    "http://[::1",
    "http://x:",
    "http://x:0",
    "http://a;b",
    "http://ü",
    "http://a\\b",
]
BAD_TOGETHER: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"spec.scaling.forecast": {"events": [{**LAUNCH, "at": "2026-12-24T18:00"}]}},
        ["events[0]:", "either at (once) or"],
    ),
    ({"spec.prefill.replicas": 1}, ["replicas and scaling exclude each other", "remove spec.scaling"]),
    ({"spec.scaling": GONE}, ["both spec.prefill.replicas and spec.decode.replicas are needed", "add spec.scaling"]),
    ({"spec.scaling": GONE, "spec.prefill.replicas": 1}, ["both spec.prefill.replicas and spec.decode.replicas"]),
    ({"spec.scaling.prefill": {"min": 3, "max": 2}}, ["spec.scaling.prefill.min:", "lower min or raise max"]),
    ({"spec.scaling.gpuBudget.max": 3}, ["spec.scaling.gpuBudget.max:", "raise it, or lower a min"]),
    ({"spec.scaling.gpuBudget.min": 9}, ["spec.scaling.gpuBudget.min:", "lower min or raise max"]),
    ({"spec.scaling.gpuBudget": {"min": 17, "max": 20}}, ["spec.scaling.gpuBudget.min:", "lower it, or raise a max"]),
    ({"spec.scaling.idle": {"after": "30s"}}, ["spec.scaling.idle.after:"]),
    (
        {"spec.scaling.idle": {"after": "30m"}, "spec.scaling.gpuBudget": {"min": 8, "max": 8}},
        ["spec.scaling.idle:", "gpuBudget.min holds GPUs at all times"],
    ),
    ({"spec.scaling.schedules": [NIGHT]}, ["spec.scaling.schedules[0]:", "limits nothing; set prefill, decode or"]),
    (
        {"spec.scaling.schedules": [{**NIGHT, "duration": "8h", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0]:", "either end or duration"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "end": NIGHT["start"], "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].end:", "must differ from start"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "decode": {"min": 4, "max": 4}}]},
        ["spec.scaling.schedules:", "raise gpuBudget.max, or lower a min"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "decode": {"min": 1, "max": 2}}] * 2},
        ["spec.scaling.schedules[1]: Duplicate value"],
    ),
    ({"spec.scaling.ratio": {"min": "2:1", "max": "1:2"}}, ["spec.scaling.ratio.min:", "lower min or raise max"]),
    ({"spec.scaling.profileRef": GONE}, ["spec.scaling:", "names no EngineProfile", "spec.decode.profileRef"]),
    (
        {"spec.scaling.profileRef": GONE, "spec.prefill.profileRef": {"name": "p"}},
        ["spec.scaling:", "names no EngineProfile", "set spec.scaling.profileRef"],
    ),
    ({"spec.prefill.parallelism": {"tensor": 4}}, ["spec.prefill.parallelism:", "must equal gpus"]),
    ({"spec.prefill.parallelism": {"tensor": 2, "data": 2}}, ["spec.prefill.parallelism:", "must equal gpus"]),
    ({"spec.prefill.parallelism": {"pipeline": 3}}, ["spec.prefill.parallelism:", "must equal gpus"]),
    (
        {"spec.prefill.parallelism": {"dataAttention": True, "data": 4}},
        ["spec.prefill.parallelism.data:", "must divide the tensor size"],
    ),
    ({"spec.prefill.nodes": 3}, ["spec.prefill.gpus:", "must be a multiple of nodes"]),
    (
        {"spec.rollout": {"decode": {"maxUnavailable": 0}}},
        ["spec.rollout.decode.maxUnavailable:", "no worker could ever be replaced", "maxSurgeGPUs"],
    ),
    ({**SWITCHING, "spec.decode.gpus": 1}, ["spec.roleSwitching:", "equal gpus and nodes", "enabled to false"]),
    ({**SWITCHING, "spec.decode.nodes": 2}, ["spec.roleSwitching:", "equal gpus and nodes"]),
    ({**SWITCHING, "spec.topology": RACKS}, ["spec.topology.domains:", "exclude each other"]),
    ({"spec.topology": {"domainKey": "a rack"}}, ["spec.topology.domainKey", "label of nodes"]),
    ({"spec.topology": {"domainKey": "rack", "policy": "Always"}}, ["spec.topology.policy", "Required"]),
    ({"spec.topology": {**RACKS, "domains": RACKS["domains"] * 2}}, ["spec.topology.domains[1]", "Duplicate"]),
    (
        {"spec.topology": {**RACKS, "domains": [{"name": "a", "gpus": 0}]}},
        ["spec.topology.domains[0].gpus", "greater than or equal to 1"],
    ),
    ({**SWITCHING, "spec.engine.transferBackend": "nixl"}, ["spec.engine.transferBackend:", "choose one"]),
    ({"spec.router.service": {"nodePort": 30080}}, ["spec.router.service.nodePort:", "set type, or remove nodePort"]),
    ({"spec.engine.env": [{"name": "A", "value": "1", "valueFrom": A_SECRET}]}, ["spec.engine.env[0]:", "remove one"]),
    ({"spec.engine.env": [{"name": "A", "valueFrom": {}}]}, ["spec.engine.env[0].valueFrom:", "one of secretKeyRef"]),
    ({"spec.engine.env": [{"name": "A"}, {"name": "A"}]}, ["spec.engine.env[1]: Duplicate value"]),
    (
        {"spec.engine.env": [{"name": "HOST_IP"}]},
        ["spec.engine.env[0].name:", "operator sets", "spec.prefill.template"],
    ),
    ({"spec.engine.command": ["bash", "-c", "sglang serve"]}, ["spec.engine.command:", "a shell drops the flags"]),
    ({"spec.engine.command": ["/bin/sh", "-ec", 'x "$@"']}, ["spec.engine.command:", "give it a word for $0"]),
    ({"spec.engine.command": ["tini", "--", "sh", "-c", "x"]}, ["spec.engine.command:", "a shell drops the flags"]),
    ({"spec.engine.command": ["env", "bash5", "-lc", "x"]}, ["spec.engine.command:", "a shell drops the flags"]),
    ({"spec.engine.imagePullSecrets": ["a", "a"]}, ["spec.engine.imagePullSecrets[1]: Duplicate value"]),
    ({"spec.decode.ports": {"engine": 8998}}, ["spec.decode.ports:", "need two ports"]),
    (several_nodes(parallelism={"data": 2}), ["spec.decode.parallelism.data:", "set dataAttention"]),
    (
        several_nodes(nodes=4, parallelism={"pipeline": 8, "expert": 3}),
        ["spec.decode.parallelism.expert:", "tensor size"],
    ),
    (
        several_nodes(gpus=12, nodes=3, parallelism={"pipeline": 2}),
        ["spec.decode.parallelism.pipeline:", "whole stages"],
    ),
    (several_nodes(ports={"rendezvous": 30000}), ["spec.decode.ports.rendezvous:", "choose another"]),
    (template(engine_port(name="http", containerPort=9000)), ["spec.prefill.template:", "named http", "another name"]),
    (template({"image": "x"}), ["template.spec.containers[0].name: Required"]),
    (template(engine_port(name="x", containerPort=30000)), ["spec.prefill.template:", "leave out the name"]),
    (template(engine_port(name="bootstrap", containerPort=1)), ["spec.prefill.template:", "named bootstrap"]),
    (
        template({"name": "proxy", "ports": [{"name": "http", "containerPort": 8080}]}),
        ["spec.prefill.template:", "named http", "another name"],
    ),
    (
        {"spec.router.template": {"spec": {"containers": [{"name": "router", "ports": [{"name": "metrics"}]}]}}},
        ["spec.router.template:", "named metrics"],
    ),
    ({"spec.scaling.forecast": {"bin": "50m", "history": "1h"}}, ["spec.scaling.forecast.bin:", "half of history"]),
    ({"spec.scaling.forecast": {"history": "1m"}}, ["spec.scaling.forecast.bin:", "raise history"]),
    ({"spec.scaling.forecast": {"bin": "1s", "history": "60d"}}, ["spec.scaling.forecast.history:", "raise bin"]),
    ({"metadata.name": "a" * 47}, ["metadata.name:", "at most 46", "choose another name"]),
    ({"metadata.name": "8b"}, ["metadata.name:", "beginning with a letter"]),
    ({"metadata.name": "a.b"}, ["metadata.name:", "lower-case letters, digits and '-'"]),
]


SPELLINGS: list[tuple[str, list[str], str]] = [
    ("engine", ["--tp", "4"], "parallelism.tensor"),
    ("engine", ["--tp-size=4"], "parallelism.tensor"),
    ("engine", ["--tensor-parallel-size=4"], "parallelism.tensor"),
    ("engine", ["--model", "x"], "spec.engine.modelPath"),
    ("engine", ["--mo=x"], "spec.engine.modelPath"),
    ("engine", ["--port", "1"], "ports.engine"),
    ("engine", ["--data-parallel-size", "4"], "parallelism.data"),
    ("engine", ["--enable-dp-attention"], "parallelism.dataAttention"),
    ("engine", ["--api-key", "secret"], "spec.apiKey"),
    ("engine", ["--ssl-certfile=/x"], "plain HTTP"),
    ("engine", ["--tp-size 4"], "two items"),
    ("engine", ["--trust-remote-code --tp 4"], "two items"),
    ("engine", ["--trust-remote-code\t--tp"], "two items"),
    ("engine", ["--", "--tp-size"], "no single flag or value"),
    ("decode", ["--disaggregation-mod", "null"], "spec.prefill and of spec.decode"),
    ("prefill", ["--disaggregation-b", "1"], "spec.prefill.ports.bootstrap"),
    ("router", ["--model-path", "x"], "spec.engine.modelPath"),
    ("router", ["--model=x"], "spec.engine.modelPath"),
    ("router", ["--service-disc"], "labels"),
    ("router", ["--po", "1"], "spec.router.service.port"),
    ("router", ["--control-plane-api-keys", "a:b:admin:c"], "spec.apiKey"),
]


@pytest.mark.parametrize(("part", "args", "way_out"), SPELLINGS)
def test_no_spelling_of_a_reserved_flag_passes(api: httpx.Client, crds: None, part: str, args: list[str], way_out: str):
    answer = send(api, kinds.INFERENCE, changed(INFERENCE, {f"spec.{part}.args": args}))
    assert not missing_words(answer, [f"spec.{part}.args:", args[0], way_out])


@pytest.mark.parametrize("url", BAD_URLS)
def test_only_a_base_url_is_taken_for_prometheus(api: httpx.Client, crds: None, url: str):
    answer = send(api, kinds.INFERENCE, changed(INFERENCE, {"spec.telemetry": {"prometheusURL": url}}))
    assert not missing_words(answer, ["spec.telemetry.prometheusURL:", url, "base URL"])


@pytest.mark.parametrize("url", NO_HOSTS)
def test_a_url_without_a_host_that_can_be_is_refused(api: httpx.Client, crds: None, url: str):
    manifest = changed(INFERENCE, {"spec.telemetry": {"prometheusURL": url}})
    assert not missing_words(send(api, kinds.INFERENCE, manifest), ["spec.telemetry.prometheusURL:", "and a host"])
    with pytest.raises(ValidationError):
        DisaggregatedInferenceSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize("changes", GOOD)
def test_good_resources_are_accepted_as_they_are(api: httpx.Client, crds: None, changes: dict[str, Any]):
    manifest = changed(INFERENCE, changes)
    answer = send(api, kinds.INFERENCE, manifest)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"] == manifest["spec"], "nothing is filled in"
    DisaggregatedInferenceSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize(("changes", "words"), BAD_FIELDS)
def test_a_bad_field_is_refused_by_the_api_server_and_by_the_model(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    manifest = changed(INFERENCE, changes)
    assert not missing_words(send(api, kinds.INFERENCE, manifest), words)
    with pytest.raises(ValidationError):
        DisaggregatedInferenceSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize(("changes", "words"), BAD_TOGETHER)
def test_fields_that_do_not_go_together_are_refused(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    assert not missing_words(send(api, kinds.INFERENCE, changed(INFERENCE, changes)), words)


@pytest.mark.parametrize(("changes", "words"), MISPLACED)
def test_what_a_lax_client_loses_is_refused_all_the_same(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    answer = send(api, kinds.INFERENCE, changed(INFERENCE, changes), validation="Ignore")
    assert not missing_words(answer, words)


def documented() -> list[Any]:
    """Manifests in the repository and in fenced blocks of its pages."""
    texts = [path.read_text() for path in (ROOT / "e2e" / "manifests").rglob("*.yaml")]
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        texts += [block.partition("```")[0] for block in page.read_text().split("```yaml\n")[1:]]
    found = [document for text in texts for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    return [document for document in found if document.get("kind") == kinds.INFERENCE.kind]


def test_what_the_documentation_shows_is_accepted(api: httpx.Client, crds: None):
    manifests = documented()
    assert manifests
    for manifest in manifests:
        answer = send(api, kinds.INFERENCE, manifest)
        assert answer.status_code == 201, answer.text
