//! Bookinfo, the sample application, as one program with roles.
