"""Caffe nets: .caffemodel (binary V1 and V2, HDF5), .prototxt and mean images, made into torch.fx graphs."""
