"""Networks as files that other programs run: ONNX graphs, smaller variants of them, and what they cost."""
