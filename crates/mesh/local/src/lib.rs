//! A mesh of processes on one machine: supervisor and demo.
