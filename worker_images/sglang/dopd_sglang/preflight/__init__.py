"""Checks before an SGLang worker starts: what would fail after minutes of loading is refused at once.

Each check is a pure function of facts, and each fact is read by one probe::

    findings    what a check says: fine, a warning, a refusal
    flags       the engine's flags, out of its command line
    model       what the model's folder says of its size
    memory      weights, KV pool and --mem-fraction-static against each GPU
    gpus        number, driver, peer access; `gpu_probe` asks torch in a process of its own
    transfer    RDMA devices, where the transfer backend wants them
    host        ports and folders
    checks      all of them, in order
"""
