"""ONNX files, made into torch.fx graphs whose layers have the names of the file's nodes."""
