"""What is missing and needed, and the running of its stages."""
