//! Writing ONNX files: the messages we need, and the export of each architecture.
