//! How far a pull is, from the lines that the engine sends for its layers. Pure.

use bollard::models::{CreateImageInfo, ProgressDetail};
use std::collections::BTreeMap;

/// Layers that are followed: an image has at most 127.
const LAYERS_MAX: usize = 256;

/// The layers of one pull.
pub(super) struct Layers {
    image: String,
    layers: BTreeMap<String, Layer>,
}

#[derive(Default)]
struct Layer {
    is_here: bool,
    /// Bytes downloaded, and bytes in all, as far as they are known.
    bytes: (u64, u64),
}

impl Layers {
    pub(super) fn new(image: &str) -> Self {
        Self { image: image.into(), layers: BTreeMap::new() }
    }

    /// Takes a line of the pull, and says in words how far it is when that has changed.
    pub(super) fn take(&mut self, line: CreateImageInfo) -> Option<String> {
        let CreateImageInfo { id, status, progress_detail, .. } = line;
        let (id, status) = (id?, status?);
        let (is_here, is_downloading) = match status.as_str() {
            "Pull complete" | "Already exists" => (true, false),
            "Downloading" => (false, true),
            "Pulling fs layer" | "Waiting" | "Verifying Checksum" | "Download complete" | "Extracting" => {
                (false, false)
            }
            // "Pulling from library/nginx", "Digest: …": lines about the whole image.
            _ => return None,
        };
        if self.layers.len() >= LAYERS_MAX && !self.layers.contains_key(&id) {
            return None;
        }
        let layer = self.layers.entry(id).or_default();
        layer.is_here |= is_here;
        if is_downloading && let Some(ProgressDetail { current, total }) = progress_detail {
            let bytes = |it: Option<i64>| it.and_then(|it| u64::try_from(it).ok()).unwrap_or_default();
            layer.bytes = (bytes(current), bytes(total));
        } else if status == "Download complete" || is_here {
            layer.bytes.0 = layer.bytes.1;
        }
        Some(self.words())
    }

    fn words(&self) -> String {
        let here = self.layers.values().filter(|layer| layer.is_here).count();
        let (now, all) = self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.bytes.0, sum.1 + layer.bytes.1));
        let of = format!("pulling {}: {here} of {} layers", self.image, self.layers.len());
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        if all == 0 { of } else { format!("{of}, {:.1} of {:.1} MB", megabytes(now), megabytes(all)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, status: &str, bytes: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: bytes
                .map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn a_pull_counts_its_layers_and_bytes() {
        let mut layers = Layers::new("web:2");
        let mut say = |id, status, bytes| layers.take(line(id, status, bytes));
        assert_eq!(say("2", "Pulling from library/web", None), None);
        assert_eq!(say("a", "Pulling fs layer", None).as_deref(), Some("pulling web:2: 0 of 1 layers"));
        say("b", "Already exists", None);
        let words = say("a", "Downloading", Some((1_500_000, 4_000_000)));
        assert_eq!(words.as_deref(), Some("pulling web:2: 1 of 2 layers, 1.5 of 4.0 MB"));
        say("a", "Download complete", None);
        let words = say("a", "Pull complete", None);
        assert_eq!(words.as_deref(), Some("pulling web:2: 2 of 2 layers, 4.0 of 4.0 MB"));
    }

    #[test]
    fn an_image_of_endless_layers_is_followed_no_further() {
        let mut layers = Layers::new("web");
        for id in 0..2 * LAYERS_MAX {
            layers.take(line(&id.to_string(), "Waiting", None));
        }
        assert_eq!(layers.layers.len(), LAYERS_MAX);
    }
}
