"""Experiments on the models, outside the wheel; add_subtypes also made a layer of the shipped second reader."""
