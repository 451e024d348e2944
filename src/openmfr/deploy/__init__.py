"""A trained network at work: as an ONNX file, on photos, within limits of time and memory."""
