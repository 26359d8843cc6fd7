"""Out of a store: a model as a folder that serves, training data as rows, each with a card; and onto the Hub."""
