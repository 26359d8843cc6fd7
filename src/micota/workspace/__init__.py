"""The front door: a store and a machine joined, finished artifacts, plans, and bars while something runs."""

from micota.workspace.artifact import Artifact
from micota.workspace.planning import Plan
from micota.workspace.workspace import Workspace

__all__ = ["Artifact", "Plan", "Workspace"]
