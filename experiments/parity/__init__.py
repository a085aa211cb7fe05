"""Equality with Keras, tensor by tensor and step by step."""
