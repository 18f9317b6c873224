//! The output of the frozen part of a network for each image, computed once and kept on disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::example::Key;
use crate::training::run::error::TrainingError;

/// Activations by image, as 32-bit floats in one temporary file without a name: it is gone with the
/// process.
pub(in crate::training) struct Activations {
    file: File,
    /// The places where the activations of an image begin, once they are written.
    places: HashMap<Key, u64>,
    /// Their shape for one image, once the first is known.
    shape: Vec<usize>,
    /// Bytes that may still be written.
    room: u64,
    end: u64,
    /// Images that found no room.
    left_out: bool,
}

impl Activations {
    /// In `folder`, at most `room` bytes.
    pub(in crate::training) fn new(folder: &Path, room: u64) -> Result<Self, TrainingError> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            places: HashMap::new(),
            shape: Vec::new(),
            room,
            end: 0,
            left_out: false,
        })
    }

    /// Whether some image found no room.
    pub(in crate::training) fn is_full(&self) -> bool {
        self.left_out
    }

    /// The activations of an image as values, from the file or else from `compute`, which is given
    /// one image alone: what it gives does not depend on the images beside it.
    pub(in crate::training) fn get(
        &mut self,
        image: Key,
        compute: impl FnOnce() -> Result<Tensor, TrainingError>,
    ) -> Result<Vec<f32>, TrainingError> {
        if let Some(place) = self.places.get(&image) {
            return Ok(self.read(*place)?);
        }
        let tensor = compute()?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        self.shape = tensor.dims()[1..].to_vec();
        let bytes = size_of_val(values.as_slice()) as u64;
        if bytes > self.room {
            self.left_out = true;
            return Ok(values);
        }
        self.room -= bytes;
        self.file.seek(SeekFrom::Start(self.end))?;
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.write_all(&raw)?;
        self.places.insert(image, self.end);
        self.end += bytes;
        Ok(values)
    }

    /// A batch of the values of several images.
    pub(in crate::training) fn stack(
        &self,
        images: usize,
        values: Vec<f32>,
    ) -> Result<Tensor, TrainingError> {
        let mut shape = vec![images];
        shape.extend(&self.shape);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn read(&mut self, place: u64) -> std::io::Result<Vec<f32>> {
        let count: usize = self.shape.iter().product();
        self.file.seek(SeekFrom::Start(place))?;
        let mut raw = vec![0; count * size_of::<f32>()];
        BufReader::new(&self.file).read_exact(&mut raw)?;
        let fours = raw.chunks_exact(size_of::<f32>());
        Ok(fours.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::Activations;
    use crate::domain::Sha256;

    #[test]
    fn an_image_is_computed_once_as_long_as_there_is_room() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut kept = Activations::new(folder.path(), 2 * 8).expect("a file");
        let mut computed = [0; 3];

        for round in 0..3 {
            for at in [1, 0, 2] {
                let values = kept.get((Sha256::of(b"image"), at as u32), || {
                    computed[at] += 1;
                    Ok(Tensor::from_vec(vec![at as f32, 0.5], (1, 2, 1), &Device::Cpu)?)
                });
                assert_eq!(values.expect("values"), [at as f32, 0.5], "round {round}");
            }
        }

        assert_eq!(computed, [1, 1, 3]);
        assert!(kept.is_full());
        assert_eq!(kept.stack(1, vec![1.0, 2.0]).expect("a batch").dims(), [1, 2, 1]);
    }
}
