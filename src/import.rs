//! Importing a backbone: from a file to stored weights, an ONNX file, a parity check and a row.
