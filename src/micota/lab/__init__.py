"""The lab: a tiny world and three tiny models in which the paper's effect can be watched on two CPU cores."""
