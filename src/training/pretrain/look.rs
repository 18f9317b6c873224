//! The newest matched pair of graphs as JSON that a page can draw.

use candle_core::Tensor;
use serde_json::{Value, json};

use super::feed::Batch;
use crate::domain::Preprocessing;
use crate::domain::backbone::ChannelOrder;
use crate::imaging::{Picture, Samples, render_png};
use crate::training::objective::MatchedPair;
use crate::training::run::error::TrainingError;

/// Side of the thumbnails in pixels.
const SIDE: u32 = 48;

/// `{nodes: [{first, second}], partners, affinity, first_edges, second_edges}`: each node with a
/// thumbnail of both its views (PNG, as data URLs), the rest as in [`MatchedPair`].
pub(super) fn picture(
    pair: &MatchedPair,
    batch: &Batch,
    preprocessing: &Preprocessing,
) -> Result<Value, TrainingError> {
    let images = batch.images();
    let mut nodes = Vec::with_capacity(pair.images.len());
    for image in &pair.images {
        let of = |view: usize| thumbnail(&batch.large.get(view * images + image)?, preprocessing);
        nodes.push(json!({"first": of(0)?, "second": of(1)?}));
    }
    Ok(json!({
        "nodes": nodes,
        "partners": pair.partners,
        "affinity": pair.affinity,
        "first_edges": pair.first_edges,
        "second_edges": pair.second_edges,
    }))
}

/// A prepared view `[3, side, side]` as people see it.
fn thumbnail(view: &Tensor, preprocessing: &Preprocessing) -> Result<String, TrainingError> {
    let (_, height, width) = view.dims3()?;
    let values = view.flatten_all()?.to_vec1::<f32>()?;
    let planes: Vec<Vec<f32>> = values
        .chunks(width * height)
        .zip(preprocessing.mean.iter().zip(&preprocessing.std))
        .map(|(plane, (mean, std))| plane.iter().map(|value| value * std + mean).collect())
        .collect();
    let [first, second, third] = planes.as_slice() else {
        return Err(candle_core::Error::Msg("a view has three channels".to_owned()).into());
    };
    let (red, blue) = match preprocessing.channel_order {
        ChannelOrder::Rgb => (first, third),
        ChannelOrder::Bgr => (third, first),
    };
    let pixels = red.iter().zip(second).zip(blue);
    let byte = |value: &f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let picture = Picture {
        width: width as u32,
        height: height as u32,
        samples: Samples::Rgb(pixels.flat_map(|((r, g), b)| [byte(r), byte(g), byte(b)]).collect()),
        range: (0.0, 255.0),
        window: None,
        modality: None,
    };
    let png = render_png(&picture, None, Some(SIDE)).map_err(std::io::Error::other)?;
    Ok(format!("data:image/png;base64,{}", base64(&png)))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            let is_padding = digit > three.len();
            text.push(if is_padding { '=' } else { char::from(ALPHABET[value as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{base64, picture};
    use crate::domain::Preprocessing;
    use crate::training::objective::{Crop, MatchedPair};
    use crate::training::pretrain::feed::Batch;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn each_node_shows_its_own_two_views() {
        let preprocessing =
            Preprocessing { mean: [0.0; 3], std: [1.0; 3], ..Preprocessing::imagenet() };
        let shades = (0..4_u8).flat_map(|image| vec![f32::from(image) / 4.0; 3 * 32 * 32]);
        let large = Tensor::from_vec(shades.collect(), (4, 3, 32, 32), &Device::Cpu);
        let crop = Crop { top: 0.0, left: 0.0, height: 1.0, width: 1.0, flipped: false };
        let batch =
            Batch { large: large.expect("views"), small: None, crops: vec![vec![crop; 2]; 2] };
        let pair = MatchedPair {
            images: vec![1, 0],
            partners: vec![Some(0), None],
            affinity: vec![vec![0.5; 2]; 2],
            first_edges: vec![(0, 1)],
            second_edges: vec![(1, 0)],
        };

        let shown = picture(&pair, &batch, &preprocessing).expect("a picture");

        let text = |node: usize, view: &str| shown["nodes"][node][view].to_string();
        assert!(text(0, "first").contains("data:image/png;base64,iVBORw0KGgo"));
        let all: std::collections::BTreeSet<String> =
            [text(0, "first"), text(0, "second"), text(1, "first"), text(1, "second")].into();
        assert_eq!(all.len(), 4, "each view has a shade of its own");
        assert_eq!(shown["partners"], serde_json::json!([0, null]));
        assert_eq!(shown["first_edges"], serde_json::json!([[0, 1]]));
    }
}
