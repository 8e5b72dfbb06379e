"""How the operator's cost grows with the number of resources: `python -m e2e.scale`, results in docs/scale.md."""
