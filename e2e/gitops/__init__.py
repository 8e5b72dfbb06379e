"""GitOps tools against the kind cluster, where pods are real."""
