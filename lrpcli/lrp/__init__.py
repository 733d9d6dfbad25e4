"""The engine: layer-wise relevance propagation over a torch.fx graph; torch and the standard library alone."""
