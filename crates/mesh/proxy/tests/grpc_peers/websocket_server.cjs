// A WebSocket server that says back what it is told; `ws` of npm.

const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  perMessageDeflate: true,
  handleProtocols: () => "chat",
});
server.on("listening", () => console.log(server.address().port));
server.on("connection", (connection) => {
  connection.on("message", (message, isBinary) => {
    if (!isBinary && message.toString() === "close") {
      connection.close(4001, "as you wish");
    } else {
      connection.send(message, { binary: isBinary });
    }
  });
});
