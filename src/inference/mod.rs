//! ONNX Runtime sessions, and the queues in front of them.
