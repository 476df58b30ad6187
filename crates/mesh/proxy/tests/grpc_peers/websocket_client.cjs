// A WebSocket client that tries texts, bytes, pings and both ways to close; `ws` of npm. With the certificate of an
// authority behind the address it speaks TLS, to who is called a.example; with `h2` it is a stream of HTTP/2 (RFC 8441).

const assert = require("node:assert");
const { once } = require("node:events");
const { readFileSync } = require("node:fs");
const http2 = require("node:http2");
const WebSocket = require("ws");

const [address, how] = process.argv.slice(2);
let session;

async function open() {
  if (how === "h2") return openStream();
  const tls = how ? { ca: readFileSync(how), servername: "a.example" } : {};
  const connection = new WebSocket(`${how ? "wss" : "ws"}://${address}/chat`, ["chat"], tls);
  await once(connection, "open");
  return connection;
}

// A connection of `ws` on a stream: of itself it speaks HTTP/1.1 only.
async function openStream() {
  if (!session) {
    session = http2.connect(`http://${address}`);
    await once(session, "remoteSettings");
    assert(session.remoteSettings.enableConnectProtocol);
  }
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": "/chat",
    "sec-websocket-protocol": "chat",
    "sec-websocket-version": "13",
  });
  const [head] = await once(stream, "response");
  assert.strictEqual(head[":status"], 200);
  const connection = new WebSocket(null, undefined, { autoPong: true });
  connection._isServer = false;
  connection._protocol = head["sec-websocket-protocol"];
  connection.setSocket(stream, Buffer.alloc(0), { maxPayload: 0 });
  return connection;
}

async function main() {
  const connection = await open();
  assert.strictEqual(connection.protocol, "chat");
  const bytes = Buffer.alloc(2 * 1024 * 1024, 7);
  for (const message of ["hello", "", "é".repeat(1000), Buffer.from([0, 255]), bytes]) {
    const answer = once(connection, "message");
    connection.send(message);
    const [data, isBinary] = await answer;
    assert.strictEqual(isBinary, typeof message !== "string");
    assert.deepStrictEqual(isBinary ? data : data.toString(), message);
  }
  const pong = once(connection, "pong");
  connection.ping();
  await pong;
  connection.close(1000);
  assert.strictEqual((await once(connection, "close"))[0], 1000);

  const second = await open();
  second.send("close");
  const [code, reason] = await once(second, "close");
  assert.deepStrictEqual([code, reason.toString()], [4001, "as you wish"]);
  if (session) session.close();
  console.log("all passed");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
