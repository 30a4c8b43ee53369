// Answers with the port of the connection it was asked on.
const http = require("http");
http
  .createServer((request, response) => response.end(String(request.socket.remotePort)))
  .listen(Number(process.argv[2]), "127.0.0.1");
