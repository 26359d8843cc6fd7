"""The worlds of the lab: problems that a program draws, and their workings in several styles."""
