"""The models on labeled data: accuracy, calibration, detection, super-resolution, out-of-distribution probes."""
