"""A laboratory's acceptance test of the models."""
