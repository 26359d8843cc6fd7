"""The lab: a tiny world and tiny models that show the paper's effect on two CPU cores."""
