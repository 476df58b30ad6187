//! Istio resources: types, parsing with positions, validation.
