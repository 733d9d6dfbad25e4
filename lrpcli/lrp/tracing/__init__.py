"""A torch.nn.Module in, a graph of named layers out."""
