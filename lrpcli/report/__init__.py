"""A page of an output folder's results, made of its records: a gallery that needs no server and no network."""
