"""A run's slides on the workers of a Dask cluster (extra ``cluster``)."""
