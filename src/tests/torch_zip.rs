//! A torch checkpoint written by hand: the zip file and pickle of `torch.save`, protocol 2.

use std::io::{Cursor, Write};

use candle_core::{DType, Tensor};
use lvmed::nn::Tensors;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The bytes that `torch.save(state)` writes, `state` being the tensors, or a dictionary that holds
/// them under `key` beside an epoch and a learning rate.
pub(crate) fn torch_zip(tensors: &Tensors, key: Option<&str>) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut put = |name: &str, bytes: &[u8]| {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(format!("archive/{name}"), stored).expect("an entry starts");
        archive.write_all(bytes).expect("an entry is written");
    };
    put("data.pkl", &pickle(tensors, key));
    for (at, tensor) in tensors.values().enumerate() {
        put(&format!("data/{at}"), &raw(tensor));
    }
    put("version", b"3\n");
    archive.finish().expect("an archive ends").into_inner()
}

/// The state on its own, as PyTorch wrote it before 1.6: a bare pickle.
pub(crate) fn legacy_pickle(tensors: &Tensors) -> Vec<u8> {
    pickle(tensors, None)
}

fn pickle(tensors: &Tensors, key: Option<&str>) -> Vec<u8> {
    let mut code = Pickle(vec![0x80, 2]);
    if let Some(key) = key {
        code.op(b"}(");
        code.text("epoch");
        code.int(17);
        code.text("lr");
        code.op(b"G");
        code.op(&0.001_f64.to_be_bytes());
        code.text(key);
    }
    code.global("collections", "OrderedDict");
    code.op(b")R(");
    for (at, (name, tensor)) in tensors.iter().enumerate() {
        code.text(name);
        code.tensor(at, tensor);
    }
    code.op(b"u");
    if key.is_some() {
        code.op(b"u");
    }
    code.op(b".");
    code.0
}

fn raw(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.flatten_all().expect("flat");
    if tensor.dtype() == DType::I64 {
        let values = flat.to_vec1::<i64>().expect("integers");
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    } else {
        let values = flat.to_vec1::<f32>().expect("32-bit floats");
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// Opcodes of Python's `pickletools`.
struct Pickle(Vec<u8>);

impl Pickle {
    fn op(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.op(b"X");
        self.op(&(text.len() as u32).to_le_bytes());
        self.op(text.as_bytes());
    }

    fn int(&mut self, value: i32) {
        self.op(b"J");
        self.op(&value.to_le_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.op(format!("c{module}\n{name}\n").as_bytes());
    }

    fn tuple(&mut self, values: &[usize]) {
        self.op(b"(");
        values.iter().for_each(|value| self.int(*value as i32));
        self.op(b"t");
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`
    fn tensor(&mut self, at: usize, tensor: &Tensor) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.op(b"((");
        self.text("storage");
        self.global(
            "torch",
            if tensor.dtype() == DType::I64 { "LongStorage" } else { "FloatStorage" },
        );
        self.text(&at.to_string());
        self.text("cpu");
        self.int(tensor.elem_count() as i32);
        self.op(b"tQ");
        self.int(0);
        self.tuple(tensor.dims());
        self.tuple(tensor.stride());
        self.op(&[0x89]);
        self.global("collections", "OrderedDict");
        self.op(b")RtR");
    }
}
