use std::sync::Arc;

use crate::connection::Connection;
use crate::stats::ListenerStats;
use crate::tcp::Session;

use super::serve_http;

fn size_of_run<'a, T: 'a, F: Future>(_: fn(&'a mut T) -> F) -> usize {
    size_of::<F>()
}

fn size_of_task<F: Future>(_: fn(Connection, Arc<ListenerStats>) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_connection_takes_little_memory() {
    let (state, run) = (size_of::<Connection>(), size_of_run(Connection::run));
    assert!(state <= 700 && run <= 1200, "{state} and {run} bytes");
    let task = size_of_task(serve_http);
    assert!(task <= state + run + 100, "{task} bytes");
}

#[test]
fn a_tcp_connection_takes_little_memory() {
    let task = size_of::<Session>() + size_of_run(Session::run);
    assert!(task <= 1100, "{task} bytes");
}
