"""A checkpoint becomes files that run without this project: ONNX, ``torch.export``'s ``.pt2``, TorchScript."""
