//! The control plane: files to index to xDS resources.
