"""The models on labelled data: accuracy, calibration, detection, super-resolution, out-of-distribution probes."""
