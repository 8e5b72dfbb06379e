"""What dopd adds to an SGLang worker: the plugin that orders prompts, and the preflight.

SGLang loads the plugin by its entry point; nothing here imports torch or sglang before it is used.
"""
