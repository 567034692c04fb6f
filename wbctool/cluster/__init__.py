"""The Dask executor (extra `cluster`)."""
