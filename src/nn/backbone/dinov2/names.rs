//! Names of DINOv2's tensors in checkpoints, brought to those of the authors' releases.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use crate::nn::tape::params::Tensors;

/// The prefixes that classification checkpoints of Hugging Face put in front of names.
const PREFIXES: [&str; 2] = ["dinov2.", "dinov2_with_registers."];
/// The names that only training has: the token of masked patches and the heads of the objectives; and
/// a classifier.
const TRAINING: [&str; 4] = ["mask_token", "dino_head.", "ibot_head.", "classifier."];
/// Parts of the names of Hugging Face's `Dinov2Model` and what the authors call them.
const PARTS: [(&str, &str); 12] = [
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.register_tokens", "register_tokens"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    (".attention.attention.", ".attn."),
    (".attention.output.dense.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    ("layernorm.", "norm."),
    (TIMM_REGISTERS, "register_tokens"),
];
/// The registers in timm's files.
const TIMM_REGISTERS: &str = "reg_token";
/// Layers that are one in the authors' releases, in the order of their rows.
const QKV: [&str; 3] = ["query", "key", "value"];

/// Whether a tensor is of training alone.
pub(super) fn is_of_training(name: &str) -> bool {
    let name = bare(name);
    let name = name.strip_prefix("embeddings.").unwrap_or(name);
    TRAINING.iter().any(|part| name.starts_with(part))
}

fn bare(name: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// The authors' name of a tensor.
fn renamed(name: &str) -> String {
    let mut name = bare(name).to_owned();
    for (part, own) in PARTS {
        name = match name.strip_prefix(part) {
            Some(rest) => format!("{own}{rest}"),
            None if part.starts_with('.') => name.replace(part, own),
            None => name,
        };
    }
    without_chunk(&name)
}

/// `blocks.1.7.…` of networks whose blocks were kept in chunks is `blocks.7.…`.
fn without_chunk(name: &str) -> String {
    let inner = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    match inner {
        Some((_, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("blocks.{rest}")
        }
        _ => name.to_owned(),
    }
}

/// A checkpoint's tensors by the authors' names, without those of training; and what was changed.
pub(super) fn adopt(tensors: Tensors) -> Result<(Tensors, Vec<String>)> {
    let mut notices = Vec::new();
    let (dropped, kept): (Tensors, Tensors) =
        tensors.into_iter().partition(|(name, _)| is_of_training(name));
    if let Some(first) = dropped.keys().next() {
        let more = match dropped.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        notices.push(format!("dropped what only training uses: {first}{more}"));
    }
    let is_cut = kept.contains_key(TIMM_REGISTERS);
    let mut own = Tensors::new();
    for (name, tensor) in kept {
        // Of two tensors that would have one name the second keeps its own, and is told as unknown.
        let renamed = renamed(&name);
        let name = if own.contains_key(&renamed) { name } else { renamed };
        own.insert(name, tensor);
    }
    if join(&mut own)? {
        notices.push("joined queries, keys and values of Hugging Face's names".to_owned());
    }
    let positions = own.get("pos_embed").filter(|table| is_cut && is_square(table));
    if let Some(positions) = positions {
        // timm has added the class token's own position to it already.
        let (_, _, channels) = positions.dims3()?;
        let none = Tensor::zeros((1, 1, channels), positions.dtype(), positions.device())?;
        own.insert("pos_embed".to_owned(), Tensor::cat(&[&none, positions], 1)?);
    }
    Ok((own, notices))
}

/// Whether positions `[1, n², D]` are those of a map alone.
fn is_square(positions: &Tensor) -> bool {
    match positions.dims() {
        [1, count, _] => *count > 0 && count.isqrt().pow(2) == *count,
        _ => false,
    }
}

/// Makes one layer of queries, keys and values where all three are there; whether any were.
fn join(tensors: &mut Tensors) -> Result<bool> {
    let mut parts: BTreeMap<(String, String), [Option<Tensor>; 3]> = BTreeMap::new();
    for (name, tensor) in tensors.iter() {
        for (number, part) in QKV.iter().enumerate() {
            if let Some((block, end)) = name.split_once(&format!(".attn.{part}.")) {
                let key = (block.to_owned(), end.to_owned());
                parts.entry(key).or_default()[number] = Some(tensor.clone());
            }
        }
    }
    let mut is_any = false;
    for ((block, end), found) in parts {
        let [Some(q), Some(k), Some(v)] = found else { continue };
        let rest = |tensor: &Tensor| tensor.dims().get(1..).map(<[usize]>::to_vec);
        let types = [q.dtype(), k.dtype(), v.dtype()];
        let fit = rest(&q).is_some() && rest(&q) == rest(&k) && rest(&q) == rest(&v);
        if !fit || types.iter().any(|own| *own != types[0]) {
            continue;
        }
        for part in QKV {
            tensors.remove(&format!("{block}.attn.{part}.{end}"));
        }
        tensors.insert(format!("{block}.attn.qkv.{end}"), Tensor::cat(&[q, k, v], 0)?);
        is_any = true;
    }
    Ok(is_any)
}

#[cfg(test)]
mod tests {
    use super::{is_of_training, renamed};

    #[test]
    fn names_of_hugging_face_and_of_chunks_become_the_authors() {
        let cases = [
            ("embeddings.cls_token", "cls_token"),
            ("dinov2.embeddings.position_embeddings", "pos_embed"),
            ("embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias"),
            ("encoder.layer.3.norm1.weight", "blocks.3.norm1.weight"),
            ("encoder.layer.3.attention.attention.key.bias", "blocks.3.attn.key.bias"),
            ("encoder.layer.3.attention.output.dense.weight", "blocks.3.attn.proj.weight"),
            ("encoder.layer.11.layer_scale2.lambda1", "blocks.11.ls2.gamma"),
            ("encoder.layer.0.mlp.fc1.bias", "blocks.0.mlp.fc1.bias"),
            ("layernorm.weight", "norm.weight"),
            ("blocks.3.23.ls2.gamma", "blocks.23.ls2.gamma"),
            ("blocks.7.ls2.gamma", "blocks.7.ls2.gamma"),
        ];
        for (given, own) in cases {
            assert_eq!(renamed(given), own);
        }
        assert!(is_of_training("embeddings.mask_token") && is_of_training("dino_head.mlp.0.bias"));
        assert!(is_of_training("classifier.weight") && !is_of_training("cls_token"));
    }
}
