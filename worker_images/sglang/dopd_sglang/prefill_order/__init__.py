"""dopd's order of prompts in the scheduler of an SGLang prefill engine.

hooks         what SGLang calls, and which of its methods they surround
control       one scheduler: a pass from its plan to its admission; any error ends in the engine's own order
planner       rank 0: settings, order, learned times -> a decision
decision      what was decided, as numbers; the same on all ranks of a tensor parallel group
requests      a request of SGLang as a prompt: arrival, uncached tokens, duplicates of a prefix
settings      the file that the operator writes
learned_times how long passes really take
refusal       ending a prompt early that can not be on time
conditions    which engines it is safe for
guard         errors: logged, counted, and after several the plugin is off for good
metrics       on the engine's own /metrics
"""
