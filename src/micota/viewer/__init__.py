"""The local web page of a store: responses, tables, data, lineage and what runs now. It reads and never writes."""
