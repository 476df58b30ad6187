// A WebSocket client that tries texts, bytes, pings and both ways to close; `ws` of npm.

const assert = require("node:assert");
const { once } = require("node:events");
const WebSocket = require("ws");

async function main() {
  const url = `ws://${process.argv[2]}/chat`;
  const connection = new WebSocket(url, ["chat"]);
  await once(connection, "open");
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

  const second = new WebSocket(url, ["chat"]);
  await once(second, "open");
  second.send("close");
  const [code, reason] = await once(second, "close");
  assert.deepStrictEqual([code, reason.toString()], [4001, "as you wish"]);
  console.log("all passed");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
