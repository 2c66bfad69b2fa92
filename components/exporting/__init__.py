"""Networks as files that other programs can run: ONNX graphs, smaller variants of them, and what they cost."""
