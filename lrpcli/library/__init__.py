"""The Python face: images of any kind in, results that show themselves out; the same code as the command's."""
