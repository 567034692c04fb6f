"""A laboratory's own classifier: the label page and what readers called its cells."""
