//! The xDS transport protocol (ADS): server and client.
