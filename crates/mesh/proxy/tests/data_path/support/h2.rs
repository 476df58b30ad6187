//! A client and an origin of HTTP/2 on the `h2` crate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use super::DEADLINE;

/// Runs a test's client side.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let ended = tokio::time::timeout(DEADLINE, test).await;
        ended.expect("the test ends in time")
    })
}

/// A message as it came: its fields, its body, its trailers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.fields, name)
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        text(self.trailers.as_ref()?, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.to_str().expect("text"))
}

/// Reads a body and its trailers, giving the window back as it goes.
pub(crate) async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

/// Sends a body as fast as the window allows.
pub(crate) async fn write(
    send: &mut SendStream<Bytes>,
    body: &[u8],
    end: bool,
) -> Result<(), h2::Error> {
    let mut rest = Bytes::copy_from_slice(body);
    while !rest.is_empty() {
        send.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
        let room = room.ok_or(h2::Error::from(h2::Reason::CANCEL))??;
        let part = rest.split_to(room.min(rest.len()));
        send.send_data(part, end && rest.is_empty())?;
    }
    if body.is_empty() && end {
        send.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// A connection to the proxy.
#[derive(Clone)]
pub(crate) struct H2Client {
    pub(crate) send: SendRequest<Bytes>,
    authority: String,
}

impl H2Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with(address, &mut h2::client::Builder::new()).await
    }

    pub(crate) async fn with(address: SocketAddr, builder: &mut h2::client::Builder) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the proxy accepts");
        stream.set_nodelay(true).expect("no delay");
        let (send, connection) = builder.handshake(stream).await.expect("a handshake");
        tokio::spawn(async move {
            // Its end is seen at the streams.
            let _ = connection.await;
        });
        Self {
            send,
            authority: "h.example".to_owned(),
        }
    }

    /// A request to be sent.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request<()> {
        let uri = format!("http://{}{path}", self.authority);
        let request = Request::builder().method(method).uri(uri);
        request
            .version(http::Version::HTTP_2)
            .body(())
            .expect("a request")
    }

    /// A gRPC call.
    pub(crate) fn call(&self, path: &str) -> Request<()> {
        let mut request = self.request("POST", path);
        let fields = request.headers_mut();
        fields.insert("content-type", "application/grpc".parse().expect("a value"));
        fields.insert("te", "trailers".parse().expect("a value"));
        request
    }

    /// Sends a request and reads its response.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<()>,
        body: &[u8],
    ) -> Result<Message, h2::Error> {
        self.send = self.send.clone().ready().await?;
        let (response, mut send) = self.send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            write(&mut send, body, true).await?;
        }
        finish(response).await
    }

    /// Sends the head of a request whose body follows.
    pub(crate) async fn begin(
        &mut self,
        request: Request<()>,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        self.send = self.send.clone().ready().await.expect("ready");
        self.send.send_request(request, false).expect("sent")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Message {
        let request = self.request("GET", path);
        self.exchange(request, b"").await.expect("a response")
    }
}

/// Reads a whole response.
pub(crate) async fn finish(response: h2::client::ResponseFuture) -> Result<Message, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let (body, trailers) = read(&mut body).await?;
    Ok(Message {
        status: head.status.as_u16(),
        fields: head.headers,
        body,
        trailers,
    })
}

/// A stream as it reached the origin.
pub(crate) struct Incoming {
    pub(crate) head: Request<()>,
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
}

impl Incoming {
    /// Answers with a head.
    pub(crate) fn answer(&mut self, response: Response<()>, end: bool) -> SendStream<Bytes> {
        self.respond
            .send_response(response, end)
            .expect("the stream is open")
    }

    /// Answers with 200 and a body.
    pub(crate) async fn say(&mut self, body: &[u8]) {
        let mut send = self.answer(Response::new(()), body.is_empty());
        if !body.is_empty() {
            // A client that has gone is part of some tests.
            let _ = write(&mut send, body, true).await;
        }
    }
}

/// An origin that speaks HTTP/2 with prior knowledge.
#[derive(Clone)]
pub(crate) struct H2Origin {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<Request<()>>>>,
    connections: Arc<AtomicUsize>,
}

impl H2Origin {
    /// Hands each stream to `serve`.
    pub(crate) fn new<F>(serve: impl Fn(Incoming) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(h2::server::Builder::new(), serve)
    }

    pub(crate) fn with<F>(
        builder: h2::server::Builder,
        serve: impl Fn(Incoming) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let origin = Self {
            address: listener.local_addr().expect("an address"),
            heads: Arc::default(),
            connections: Arc::default(),
        };
        let this = origin.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    this.connections.fetch_add(1, Ordering::SeqCst);
                    let (heads, serve) = (this.heads.clone(), serve.clone());
                    let builder = builder.clone();
                    tokio::spawn(async move {
                        let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
                            return;
                        };
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            let (head, body) = request.into_parts();
                            let head = Request::from_parts(head, ());
                            heads.lock().expect("lock").push(head.clone());
                            tokio::spawn(serve(Incoming {
                                head,
                                body,
                                respond,
                            }));
                        }
                    });
                }
            });
        });
        origin
    }

    /// Says what it got back: the body, and the fields of the trailer section.
    pub(crate) fn echo() -> Self {
        Self::new(|mut incoming| async move {
            let Ok((body, trailers)) = read(&mut incoming.body).await else {
                return;
            };
            let mut send = incoming.answer(Response::new(()), false);
            if write(&mut send, &body, trailers.is_none()).await.is_ok()
                && let Some(trailers) = trailers
            {
                let _ = send.send_trailers(trailers);
            }
        })
    }

    pub(crate) fn heads(&self) -> Vec<Request<()>> {
        self.heads.lock().expect("lock").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Waits until `check` holds.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let wait = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let ended = tokio::time::timeout(DEADLINE, wait).await;
    assert!(ended.is_ok(), "waited too long for {what}");
}
