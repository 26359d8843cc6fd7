"""The report: tables made of the artifacts that are there, anew at every call."""
