//! The query APIs: Jaeger's and our own.
