"""Training and export of wbctool's models. torch lives here and nowhere else."""
