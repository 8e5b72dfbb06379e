"""Scaling policies: dopd, its peers and two bounds on what any policy can do."""
