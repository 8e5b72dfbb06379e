"""Real SGLang on this machine, GPU or not: installed once into the cache, a tiny model, engines and a gateway.

    with Fleet() as fleet:
        pair = start_pair(fleet)
        gateway = start_gateway(fleet, pair.prefill, pair.decode)
        fleet.wait_until_ready()

`python -m e2e.sglang up` does the same for people. What runs is the released SGLang with the operator's rendered flags;
what a machine without a GPU lacks is stood in for by `worker_images/sglang/cpu`.
"""
