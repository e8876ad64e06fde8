//! The parts of an image's reference, as Docker and Fly read them.

use midge_machines::wire::ImageRef;

/// Takes `registry/repository:tag@digest` apart.
pub(crate) fn image_ref(image: &str) -> ImageRef {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    // A colon before a slash belongs to a port.
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, ""),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", name),
    };
    ImageRef {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_s_reference_is_taken_apart() {
        let parts = |image| {
            let parts = image_ref(image);
            [parts.registry, parts.repository, parts.tag, parts.digest]
        };
        assert_eq!(parts("registry.fly.io/app:v1@sha256:ab"), ["registry.fly.io", "app", "v1", "sha256:ab"]);
        assert_eq!(parts("localhost:5000/app"), ["localhost:5000", "app", "", ""]);
        assert_eq!(parts("debian:12"), ["docker.io", "debian", "12", ""]);
    }
}
