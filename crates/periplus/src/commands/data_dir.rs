use std::path::PathBuf;

use anyhow::Context as _;

/// Where spans are kept when nobody says where: the place for a user's data, by the XDG Base
/// Directory Specification.
pub(super) fn default() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        // A relative path is to be ignored, says the specification.
        path.is_absolute().then_some(path)
    };
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.context(
        "there is no home directory to keep spans in: name a directory with --data, or keep them in \
         memory with --memory",
    )?;
    Ok(data.join("periplus"))
}
