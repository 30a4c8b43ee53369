// Answers with whether the connection's session was resumed, and the connection's port.
const fs = require("fs");
const [port, cert, key, limit] = process.argv.slice(2);
const server = require("https").createServer(
  { cert: fs.readFileSync(cert), key: fs.readFileSync(key) },
  (request, response) => {
    request.resume();
    request.on("end", () => {
      response.end(`${request.socket.isSessionReused() ? "r" : "."} ${request.socket.remotePort}`);
    });
  },
);
if (limit) server.keepAliveTimeout = Number(limit);
server.listen(Number(port), "127.0.0.1");
