//! `pathNormalization`.

use crate::view::{Shape, View};

/// The form that the paths of requests are brought into before rules are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathNormalization {
    /// `NONE`: they stay as they are.
    None,
    /// `BASE`, which is the default: RFC 3986, with `\` as `/`.
    #[default]
    Base,
    /// `MERGE_SLASHES`: slashes that follow each other are one, too.
    MergeSlashes,
    /// `DECODE_AND_MERGE_SLASHES`: so are escaped ones.
    DecodeAndMergeSlashes,
}

impl PathNormalization {
    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const SHAPE: Shape = Shape {
            known: &["normalization"],
            refused: &[],
        };
        let object = view.object(&SHAPE)?;
        let wanted = object.optional("normalization", |view| {
            view.choice(&[
                ("DEFAULT", Self::Base),
                ("NONE", Self::None),
                ("BASE", Self::Base),
                ("MERGE_SLASHES", Self::MergeSlashes),
                ("DECODE_AND_MERGE_SLASHES", Self::DecodeAndMergeSlashes),
            ])
        });
        Some(wanted?.unwrap_or_default())
    }
}
