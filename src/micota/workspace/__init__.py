"""The front door: plan, make, evaluate and compare."""
