"""Problem sets and rows of training data, read as tables."""
