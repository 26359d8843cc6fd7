"""The commands, one file for a group, and what they print."""
