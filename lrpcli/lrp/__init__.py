"""The engine: layer-wise relevance propagation over a torch.fx graph. It uses torch and the standard library only."""
