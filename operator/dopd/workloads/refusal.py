"""A part of a spec that can not become a pod, with the reason: declared, so that it ends as a condition."""


class Refusal(ValueError):
    """The spec asks for what can not be done.

    Attributes:
        field: path in the resource, such as spec.prefill.template.spec.containers[engine].env[A].
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
