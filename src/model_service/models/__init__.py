"""What a model is when it decides: features, artifact, calibration, metrics."""
