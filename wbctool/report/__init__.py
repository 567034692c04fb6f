"""Reports, the index and the CSV files as text; nothing is written to disk here."""
