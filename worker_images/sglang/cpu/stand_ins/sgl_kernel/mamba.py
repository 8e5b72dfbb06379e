"""Names that SGLang imports at its start and never calls for a plain Llama."""

from . import missing

causal_conv1d_fn_cpu = missing("mamba.causal_conv1d_fn_cpu")
causal_conv1d_update_cpu = missing("mamba.causal_conv1d_update_cpu")
chunk_gated_delta_rule_cpu = missing("mamba.chunk_gated_delta_rule_cpu")
