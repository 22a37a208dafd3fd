"""Measurements of features, gradients and attributions, without files, devices or probes."""
